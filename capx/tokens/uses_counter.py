"""The names of the counters that count the uses of a consent.

Law: such a name is no id of 16 bytes, so it cannot be taken for the counter of a node or of a block. Only the
authority's block can name it.
"""

import re
from typing import Final

from capx.crypto.base64url import b64u
from capx.crypto.hashing import digest

_FORM: Final = re.compile(r"[A-Za-z0-9_-]{21}u")


def uses_counter(request: str, round_: int) -> str:
    """The name of the counter of a request's grant in one round."""
    # 16 bytes in base64url end with one of A, Q, g and w.
    return b64u(digest(b"capx/1/uses", request.encode(), round_.to_bytes(8))[:16])[:21] + "u"


def is_uses_counter(name: object) -> bool:
    """Whether this names such a counter."""
    return isinstance(name, str) and _FORM.fullmatch(name) is not None
