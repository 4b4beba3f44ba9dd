"""How a resource proves to the authority that a request is its own: a MAC under its audience's key.

    Authorization: Capx-Resource audience=AUDIENCE, kid=KID, at=SECONDS, mac=MAC

Laws: the MAC covers the audience, the method, the target as sent, the time and the SHA-256 of the body. What it is over
begins like no identifier of a token, so that no report makes a token, and no token a report. A report is good for a
minute, and as often as it is sent within it: what it asks for has to be the same when it is asked twice.
"""

import re
from hashlib import sha256
from typing import Final

from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.crypto.hashing import digest, equal, mac
from capx.crypto.keys import AudienceKey, KeyRing
from capx.errors import InvalidRequest
from capx_caveats import SAFE_INTEGER

SCHEME: Final = "Capx-Resource"
WINDOW: Final = 60
"""Seconds for which a report is good, to either side of its time."""

_LABEL = b"capx/1/report"
_HEADER = re.compile(
    rf"{SCHEME} audience=([a-z0-9][a-z0-9.-]{{0,62}}), kid=([A-Za-z0-9_-]{{10}}[AEIMQUYcgkosw048]), "
    r"at=(0|[1-9][0-9]{0,15}), mac=([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])"
)
_METHOD = re.compile(r"[A-Z]{1,16}")
_TARGET = re.compile(r"/[!-~]{0,8191}")
_UNSENT = "a report has a method in capitals, and a target of visible ASCII that begins with /"


class UnauthenticatedReport(InvalidRequest):
    """A request that no resource is known to have made; says why, and nothing of what would have been right."""


class AuthenticReport(Struct, frozen=True):
    """Whose resource made a request, and under which root key that of its audience is."""

    audience: str
    kid: str


def prove(key: AudienceKey, *, method: str, target: str, body: bytes, at: int) -> str:
    """The header that proves a request; `target` is path and query as sent, `at` in Unix seconds."""
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target):
        raise InvalidRequest(_UNSENT)
    if not 0 <= at <= SAFE_INTEGER:
        raise InvalidRequest("a report's time is in Unix seconds, 0 to 2^53 - 1")
    return f"{SCHEME} audience={key.audience}, kid={key.kid}, at={at}, mac={b64u(_mac(key, method, target, body, at))}"


def verify(header: str, ring: KeyRing, *, method: str, target: str, body: bytes, now: int) -> AuthenticReport:
    """Whose resource made this request; UnauthenticatedReport if none is known to have. `now` is in Unix seconds."""
    parts = _HEADER.fullmatch(header)
    if parts is None:
        raise UnauthenticatedReport(f"a report is proven by: {SCHEME} audience=…, kid=…, at=…, mac=…")
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target):
        raise UnauthenticatedReport(f"nobody could have proven this request: {_UNSENT}")
    audience, kid, seconds, given = parts.groups()
    root = ring.get(kid)
    if root is None or not equal(b64u(_mac(root.audience_key(audience), method, target, body, int(seconds))), given):
        raise UnauthenticatedReport(f"this is proven by no live key of the audience {audience}")
    if (apart := abs(now - int(seconds))) > WINDOW:
        raise UnauthenticatedReport(
            f"the report was made {apart} seconds from now, and it is good for {WINDOW}: set the clock"
        )
    return AuthenticReport(audience, kid)


def _mac(key: AudienceKey, method: str, target: str, body: bytes, at: int) -> bytes:
    parts = key.audience.encode(), method.encode(), target.encode(), at.to_bytes(8), sha256(body).digest()
    return mac(key.mac_key, _LABEL + digest(_LABEL, *parts))
