"""What can be wrong with TLS, for whoever connects: the certificates to trust, and that of the server.

Law: no sentence here names the server, whose name may be a secret. Who may tell it adds it.
"""

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from capx.errors import ConfigurationProblem

_OTHER_NAME: Final = frozenset({62, 64})
"""What OpenSSL calls a certificate for another name (X509_V_ERR_HOSTNAME_MISMATCH) or address (…_IP_ADDRESS_…)."""
_OTHER_TIME: Final = frozenset({9, 10})
"""And one that is not valid yet (X509_V_ERR_CERT_NOT_YET_VALID) or no longer (…_HAS_EXPIRED)."""


@contextmanager
def reads_certificates() -> Generator[None]:
    """A block that makes a client of httpx: ConfigurationProblem if the certificates to trust cannot be read."""
    try:
        yield
    except OSError as error:  # ssl.SSLError is one too
        why = "there is no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror or error
        raise ConfigurationProblem(
            f"the file of the certificates to trust cannot be used ({why}): write the full path of a file of PEM into "
            "SSL_CERT_FILE, or of a folder into SSL_CERT_DIR"
        ) from None


def tls_problem(error: BaseException) -> str | None:
    """Return what a server's TLS lacks, as the end of a sentence about it; None if a connection failed otherwise.

    `error` is what the library raised; the error of TLS may be its cause.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return "does not speak TLS as it should: is it served without TLS?"
    if cause.verify_code in _OTHER_NAME:
        return "has a certificate for another name: dial the name in it"
    if cause.verify_code in _OTHER_TIME:
        return "has a certificate that has expired, or is not valid yet: renew it, or set the clock"
    return (
        "has a certificate that is not trusted here: name the file of its certificate authority in SSL_CERT_FILE, with "
        "its full path"
    )
