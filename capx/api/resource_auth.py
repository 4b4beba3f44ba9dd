"""Proves to the authority that a request comes from a resource: a MAC under the key of the resource's audience.

    Authorization: Capx-Resource audience=AUDIENCE, kid=KID, at=SECONDS, body=BODY, mac=MAC

Laws: the MAC covers the audience, the method, the target as sent, the time and BODY, the SHA-256 of the body. So the
head alone proves who sends. What is under the MAC begins with a label that no token identifier begins with, so nobody
can make a token from a report, or a report from a token. A proof is good for a minute, and may be sent several times
in it: so its request must have the same effect when it comes twice.
"""

import re
from hashlib import sha256
from typing import Final

from msgspec import Struct

from capx.crypto.base64url import b64u, unb64u
from capx.crypto.hashing import digest, equal, mac
from capx.crypto.keys import AudienceKey, KeyRing
from capx.errors import InvalidRequest
from capx_caveats import SAFE_INTEGER

SCHEME: Final = "Capx-Resource"
WINDOW: Final = 60
"""Seconds for which a report is good, before and after its time."""

_LABEL = b"capx/1/report"
_HEADER = re.compile(
    rf"{SCHEME} audience=([a-z0-9][a-z0-9.-]{{0,62}}), kid=([A-Za-z0-9_-]{{10}}[AEIMQUYcgkosw048]), "
    r"at=(0|[1-9][0-9]{0,15}), body=([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]), mac=([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])"
)
_METHOD = re.compile(r"[A-Z]{1,16}")
_TARGET = re.compile(r"/[!-~]{0,8191}")
_UNSENT = "a report has a method in capitals, and a target of visible ASCII that begins with /"


class UnauthenticatedReport(InvalidRequest):
    """The request has no valid MAC of a resource, or an old one, or one under a revoked key.

    The message says why, and never shows the expected MAC.
    """


class AuthenticReport(Struct, frozen=True):
    """The audience whose resource made a request, and the root key from which the audience's key is derived.

    `body_digest` is the SHA-256 of the body that the head names.
    """

    audience: str
    kid: str
    body_digest: bytes

    def demand_body(self, body: bytes) -> None:
        """Raise UnauthenticatedReport for another body than the MAC covers."""
        if not equal(sha256(body).digest(), self.body_digest):
            raise UnauthenticatedReport("the body of the report is another one than its header proves")


def prove(key: AudienceKey, *, method: str, target: str, body: bytes, at: int) -> str:
    """Return the header that proves a request; `target` is path and query as sent, `at` in Unix seconds."""
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target):
        raise InvalidRequest(_UNSENT)
    if not 0 <= at <= SAFE_INTEGER:
        raise InvalidRequest("a report's time is in Unix seconds, 0 to 2^53 - 1")
    hashed = sha256(body).digest()
    proof = b64u(_mac(key, method, target, at, hashed))
    return f"{SCHEME} audience={key.audience}, kid={key.kid}, at={at}, body={b64u(hashed)}, mac={proof}"


def verify(header: str, ring: KeyRing, *, method: str, target: str, now: int) -> AuthenticReport:
    """Return which resource proved the head of this request; raises UnauthenticatedReport. `now` is in Unix seconds.

    Whoever has read the body then demands that it is the one that the head names.
    """
    parts = _HEADER.fullmatch(header)
    if parts is None:
        raise UnauthenticatedReport(f"a report is proven by: {SCHEME} audience=…, kid=…, at=…, body=…, mac=…")
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target):
        raise UnauthenticatedReport(f"no resource could have sent this request: {_UNSENT}")
    audience, kid, seconds, body, given = parts.groups()
    hashed = unb64u(body)
    root = ring.get(kid)
    # One answer for an unknown key and a wrong MAC, compared in constant time: a stranger learns nothing of the keys.
    # The clock comes last, so that only an authentic report learns how far the clocks are apart.
    if root is None or not equal(b64u(_mac(root.audience_key(audience), method, target, int(seconds), hashed)), given):
        raise UnauthenticatedReport(
            f"this is proven by no live key of the audience {audience}: export the keys again with capx keys export"
        )
    if (apart := abs(now - int(seconds))) > WINDOW:
        raise UnauthenticatedReport(
            f"the report was made {apart} seconds from now, and it is good for {WINDOW}: set the clock"
        )
    return AuthenticReport(audience, kid, hashed)


def _mac(key: AudienceKey, method: str, target: str, at: int, hashed: bytes) -> bytes:
    parts = key.audience.encode(), method.encode(), target.encode(), at.to_bytes(8), hashed
    return mac(key.mac_key, _LABEL + digest(_LABEL, *parts))
