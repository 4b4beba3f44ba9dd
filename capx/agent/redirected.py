"""The error of a client whose service answered with a redirect, which no client follows."""

from capx.api import remote_text
from capx.errors import CapxError


class Redirected(CapxError):
    """A service answered with a redirect to `url`. The client did not follow it. The text shows only its beginning."""

    def __init__(self, url: str) -> None:
        shown = remote_text.text(url, remote_text.DETAIL)
        super().__init__(
            f"the service redirects to {shown}, which this client does not follow: if it is right, call it"
        )
        self.url = url
