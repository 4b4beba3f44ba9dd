"""Proves to the authority that a request comes from a person: a signature of the key that the policy gives them.

    Authorization: Capx-Person principal=P, at=SECONDS, nonce=N, body=B, sig=S

Laws: the signature covers all that `capx.intents.person_message` lists. A proof is good from 5 seconds before its time
to 60 seconds after it, and once: the authority burns its message. Its form has one spelling. P is base64url of the name
in UTF-8, because names may have any characters. B is the SHA-256 of the body, so the head alone proves who sends.
"""

import os
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec import Struct

from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import is_signed_by
from capx.crypto.hashing import equal
from capx.errors import CapxError, InvalidRequest, MalformedToken
from capx.intents.person_message import PersonRequest
from capx.tokens.binding import WINDOW_AFTER, WINDOW_BEFORE
from capx_caveats import SAFE_INTEGER, is_label

if TYPE_CHECKING:
    from capx.intents.principal_key import PrincipalKey  # signatures are slow to import

SCHEME: Final = "Capx-Person"
UNPROVEN: Final = (
    "no person whom the policy knows has proven this for the place that was dialled: its operator compares what capx "
    "principal show says with the policy, and the place with --people of capx serve"
)
"""The one sentence for an unknown name, one without a key, and a wrong signature."""
_NONCE: Final = 16
_HEADER: Final = re.compile(
    rf"{SCHEME} principal=([A-Za-z0-9_-]{{2,1024}}), at=(0|[1-9][0-9]{{0,15}}), nonce=([A-Za-z0-9_-]{{22}}), "
    r"body=([A-Za-z0-9_-]{43}), sig=([A-Za-z0-9_-]{86})"
)
_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_TARGET: Final = re.compile(r"/[!-~]{0,8191}")
_ORIGIN: Final = re.compile(r"(https?)://([a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([1-9][0-9]{0,4}))?")
_PORTS: Final = {"http": "80", "https": "443"}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class UnprovenPerson(CapxError):
    """The request has no valid proof of a person, or an old one, or one that came before."""


class PersonClaim(Struct, frozen=True):
    """What a header says, which nobody has verified.

    A name, the time (Unix seconds), a nonce, the SHA-256 of the body, and a signature.
    """

    principal: str
    at: int
    nonce: bytes
    body_digest: bytes
    signature: str

    @classmethod
    def read(cls, header: str) -> "PersonClaim":
        """Return what the header of a request says; UnprovenPerson unless it has the one form."""
        if (parts := _HEADER.fullmatch(header)) is not None:
            principal, at, nonce, body, signature = parts.groups()
            try:
                name = unb64u(principal).decode()
                claim = cls(name, int(at), unb64u(nonce), unb64u(body), signature)
                unb64u(signature)
            except (MalformedToken, UnicodeDecodeError):
                pass
            else:
                if is_label(name):
                    return claim
        raise UnprovenPerson(f"a person's request is proven by: {SCHEME} principal=…, at=…, nonce=…, body=…, sig=…")

    def demand_timely(self, now: int) -> None:
        """Raise UnprovenPerson outside the window of the proof; it says so before any name is looked up."""
        if not self.at - WINDOW_BEFORE <= now <= self.at + WINDOW_AFTER:
            raise UnprovenPerson(
                f"the request was signed at {self.at}, and the authority's clock says {now}: it is good from "
                f"{WINDOW_BEFORE} seconds before to {WINDOW_AFTER} seconds after its time, so set the clock"
            )

    def demand_body(self, body: bytes) -> None:
        """Raise UnprovenPerson for another body than the header names."""
        if not equal(sha256(body).digest(), self.body_digest):
            raise UnprovenPerson("the body of the request is another one than its header proves")

    @property
    def until(self) -> int:
        """The last second in which the proof is good (Unix seconds)."""
        return self.at + WINDOW_AFTER

    def request(self, *, origin: str, epoch: str, method: str, target: str) -> PersonRequest:
        """Return the request that it would prove."""
        return PersonRequest(
            principal=self.principal,
            origin=origin,
            epoch=epoch,
            method=method,
            target=target,
            body_digest=self.body_digest,
            at=self.at,
            nonce=self.nonce,
        )

    def message_signed_by(
        self, key: bytes, origins: Iterable[str], *, epoch: str, method: str, target: str
    ) -> bytes | None:
        """Return the message of the request that a public key has signed for one of the origins; None without one."""
        requests = (self.request(origin=origin, epoch=epoch, method=method, target=target) for origin in origins)
        messages = (request.message() for request in requests)
        return next((message for message in messages if is_signed_by(key, message, self.signature)), None)


def prove(key: "PrincipalKey", *, origin: str, epoch: str, method: str, target: str, body: bytes, at: int) -> str:
    """Return the header that proves one request of this person, with a new nonce.

    `origin` and `target` are as they are sent, `at` is in Unix seconds. InvalidRequest for what cannot be sent.
    """
    demand_origin(origin)
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target):
        raise InvalidRequest("a request has a method in capitals, and a target of visible ASCII that begins with /")
    if not 0 <= at <= SAFE_INTEGER:
        raise InvalidRequest("the time of a request is in Unix seconds, 0 to 2^53 - 1")
    claim = PersonClaim(key.name, at, os.urandom(_NONCE), sha256(body).digest(), "")
    signature = key.sign(claim.request(origin=origin, epoch=epoch, method=method, target=target).message())
    principal, nonce = b64u(key.name.encode()), b64u(claim.nonce)
    return f"{SCHEME} principal={principal}, at={at}, nonce={nonce}, body={b64u(claim.body_digest)}, sig={signature}"


def demand_origin(origin: str) -> None:
    """Raise InvalidRequest unless this is an origin in its one spelling, with TLS unless it is this machine's."""
    parts = _ORIGIN.fullmatch(origin)
    if parts is None or parts[3] == _PORTS[parts[1]] or int(parts[3] or 0) > 65_535:
        raise InvalidRequest(
            f"{origin!r:.80} is no origin: write it like https://capx.example or https://capx.example:8443, in lower "
            "case, without a path and without the usual port"
        )
    if parts[1] == "http" and parts[2] not in _LOOPBACK:
        raise InvalidRequest(f"{origin:.80} has no TLS, which only an authority on this machine may do without")


def origin_of(url: str) -> str:
    """Return the origin of a URL as a person types it, in its one spelling; InvalidRequest if it has none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    named = f"[{host}]" if ":" in host else host
    usual = port is None or str(port) == _PORTS.get(parts.scheme)
    origin = f"{parts.scheme}://{named}" if usual else f"{parts.scheme}://{named}:{port}"
    if parts.username is not None or parts.query or parts.fragment or parts.path not in ("", "/"):
        scheme = "" if parts.netloc else "begin it with https://, and "
        raise InvalidRequest(f"{url!r:.80} is no origin: {scheme}leave out names, path and query")
    demand_origin(origin)
    return origin
