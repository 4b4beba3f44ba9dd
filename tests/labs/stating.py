"""An authority that makes statements for a partner, and the partner, who has public keys and any JWT library."""

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import jwt

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.policy.file import read_policy
from capx.tokens.binding import HttpRequest

ORIGIN = "https://partner.example"
POLICY = f"""
[audience]
crm = "https://crm.example"
partner = "{ORIGIN}"

[statement]
partner = "60s"
"""


class StatementRefused(Exception):
    """The partner does not take a statement; says why."""


class Partner:
    """A third party without a key of capx, as the guide tells it to verify statements."""

    def __init__(self, jwks: Mapping[str, Any], issuer: str) -> None:
        self.keys = {key["kid"]: jwt.PyJWK(key) for key in jwks["keys"]}
        self.issuer = issuer
        self.seen: set[str] = set()

    def take(
        self, statement: str, action: str, args: Mapping[str, Any], request: HttpRequest | None = None
    ) -> dict[str, Any]:
        """The claims of a statement about exactly this call."""
        try:
            head = jwt.get_unverified_header(statement)
            if head.get("typ") != "capx-statement+jwt" or head.get("kid") not in self.keys:
                raise StatementRefused("its head")
            claims: dict[str, Any] = jwt.decode(
                statement,
                self.keys[head["kid"]],
                algorithms=["EdDSA"],
                audience=ORIGIN,
                issuer=self.issuer,
                options={"require": ["exp", "iat", "jti", "aud", "iss"]},
            )
        except jwt.PyJWTError as error:
            raise StatementRefused(type(error).__name__) from None
        if claims["action"] != action or claims["args_sha256"] != b64u(sha256(canonical(args)).digest()):
            raise StatementRefused("another call")
        if "request" in claims and (request is None or claims["request"] != request.digest()):
            raise StatementRefused("another request")
        if claims["jti"] in self.seen:
            raise StatementRefused("used before")
        self.seen.add(claims["jti"])
        return claims


def stating(**settings: Any) -> Authority:
    """An authority with statements for the partner."""
    return Authority.temporary(policy=read_policy(POLICY), **settings)


def partner_of(authority: Authority) -> Partner:
    return Partner(authority.statements.jwks(), f"capx/{authority.epoch()}")


def soon(seconds: int) -> int:
    return int(time.time()) + seconds
