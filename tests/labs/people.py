"""People who dial a served authority: each with a client of their own, and what they send as anybody could write it."""

import os
import time
from typing import Any

import httpx

from capx.api.person_auth import SCHEME, prove
from capx.authority.people.client import PersonClient
from capx.crypto.base64url import b64u
from capx.intents.epoch import authority_of
from capx.intents.intent import Intent, SignedIntent
from capx.intents.person_message import PersonRequest
from capx.intents.principal_key import PrincipalKey
from tests.labs.office import Office
from tests.server.conftest import Served

JSON = "application/json"


class People:
    """The people of an office, at one served authority."""

    def __init__(self, office: Office, served: Served) -> None:
        self.office = office
        self.served = served
        self.origin = served.url
        with httpx.Client(base_url=self.origin, trust_env=False) as http:
            self.epoch: str = http.get("/people/authority").json()["epoch"]

    def client(self, key: PrincipalKey, **settings: Any) -> PersonClient:
        """The client of a person who trusts the authority."""
        return PersonClient(self.origin, key, trust=authority_of(self.epoch), trust_env=False, **settings)

    def intent(self, key: PrincipalKey | None = None, **said: Any) -> SignedIntent:
        """An intent, of ana unless another key is given."""
        key = key or self.office.ana
        meant: dict[str, Any] = {
            "principal": key.name,
            "authority": self.epoch,
            "purpose": "refund",
            "statement": "refund what they ask for",
            "tenant": "Acme",
            "now": int(time.time()),
        }
        return key.sign_intent(Intent.written(**(meant | said)))

    def proof(self, key: PrincipalKey, method: str, target: str, body: bytes = b"", /, **other: Any) -> str:
        """The header of a request; `other` says what else is signed than what is sent."""
        signed: dict[str, Any] = {
            "origin": self.origin,
            "epoch": self.epoch,
            "method": method,
            "target": target,
            "body": body,
            "at": int(time.time()),
        }
        return prove(key, **(signed | other))

    def sent(self, method: str, target: str, header: str | None, body: bytes = b"", **headers: str) -> httpx.Response:
        """What is answered to a request with this proof."""
        proof = {} if header is None else {"authorization": header}
        kind = {"content-type": JSON} if method == "POST" else {}
        with httpx.Client(base_url=self.origin, trust_env=False, timeout=20) as http:
            content = body if body or method == "POST" else None
            return http.request(method, target, content=content, headers={**kind, **proof, **headers})

    def asked(self, key: PrincipalKey, method: str, target: str, body: bytes = b"") -> httpx.Response:
        """What is answered to an honest request."""
        return self.sent(method, target, self.proof(key, method, target, body), body)


def signed_header(key: PrincipalKey, request: PersonRequest, name: str | None = None) -> str:
    """The header of a request under any name, which need not be that of the key."""
    named = b64u((name or request.principal).encode())
    signature = key.sign(request.message())
    nonce, body = b64u(request.nonce), b64u(request.body_digest)
    return f"{SCHEME} principal={named}, at={request.at}, nonce={nonce}, body={body}, sig={signature}"


def nonce() -> bytes:
    return os.urandom(16)
