"""Statements: that a call is permitted, for a third party that holds no key of the authority.

    agent ──presentation──▶ authority, which judges as the third party would ──JWT──▶ agent ──▶ third party

    JWT (RFC 7519) in JWS compact form (RFC 7515), Ed25519 (RFC 8037)
    header    alg "EdDSA"   kid of the root key   typ "capx-statement+jwt"
    claims    iss capx/EPOCH   aud origin of the audience   iat, exp   jti id of the decision
              txn task   sub node   root   path   hops   principal   purpose   tenant   intent   until
              action   args_sha256 SHA-256 of the canonical JSON of the arguments   request   cnf {"jwk": {…}}

Laws:

- The authority admits, judges, burns, spends and records the call as the audience would. It knows only what is in the
  token and in the call, so what needs a fact of the service is denied.
- Statements are made only for audiences that the policy lists in `[statement]`. Their keys are never exported: nobody
  else could have seen the presentation.
- A statement says that the call was permitted. It does not say that it was made.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final, Protocol

import msgspec

from capx.authority.checkpoints import origin_of
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.canonical_json import canonical
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest
from capx.policy.policy import Policy
from capx.store.protocols import Store
from capx.tokens.binding import ToolCall
from capx.verify.decision import Allowed, Denied
from capx.verify.verifier import Authentic, Verifier
from capx_caveats import Call, Refusal

TYPE: Final = "capx-statement+jwt"
"""The `typ` of a statement."""


class _MakesVerifier(Protocol):
    def __call__(self, audience: str, *, stated: bool) -> Verifier: ...


class Statements:
    """Makes statements for the audiences in the policy. `verifier` makes the verifier of an audience."""

    def __init__(
        self, store: Store, keyring: Callable[[], KeyRing], policy: Callable[[], Policy], verifier: _MakesVerifier
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._policy = policy
        self._make_verifier = verifier
        self._verifiers: dict[str, Verifier] = {}

    def verifier(self, audience: str) -> Verifier:
        """The verifier that judges in the stead of this audience; InvalidRequest if there are no statements for it."""
        self._demand_listed(self._policy(), audience)
        return self._verifier(audience)

    def _demand_listed(self, policy: Policy, audience: str) -> None:
        if audience not in policy.statements:
            raise InvalidRequest(
                f"there are no statements for {audience!a:.80}: its operator would have to list it in [audience] and "
                "[statement] of the policy"
            )

    def _verifier(self, audience: str) -> Verifier:
        return self._verifiers.get(audience) or self._verifiers.setdefault(
            audience, self._make_verifier(audience, stated=True)
        )

    def make(self, authentic: Authentic, received: ToolCall, request: str | None = None) -> str:
        """Judge a call whose token is authentic, and return the statement that it is permitted; raises Denied.

        `request` is the digest of the HTTP request that the agent will send with it (`HttpRequest.digest`).
        InvalidRequest if there are no statements for the audience of the token any more.
        """
        # Read once: it may change meanwhile, and what was spent must lead to a statement.
        policy = self._policy()
        audience = authentic.frame.identifier.audience
        self._demand_listed(policy, audience)
        admitted = self._verifier(audience).admit(authentic, received)
        with self._store.read() as reading:
            task, epoch = reading.task(admitted.task), reading.head().epoch
        allowed = admitted.judge(Call(received.action, received.args, tenant=admitted.tenant), sent=True)
        claims: dict[str, Any] = {
            "iss": origin_of(epoch),
            "aud": policy.audiences[audience],
            "iat": allowed.decision.at,
            "exp": min(allowed.decision.at + policy.statements[audience], allowed.expires),
            "jti": allowed.decision.id,
            "txn": allowed.task,
            "sub": b64u(allowed.node),
            "root": allowed.root,
            "path": list(map(b64u, admitted.path)),
            "hops": list(allowed.hops),
            "principal": None if task is None else task.principal,
            "purpose": None if task is None else task.purpose,
            "tenant": allowed.tenant,
            "intent": allowed.intent,
            "until": allowed.expires,
            "action": received.action,
            "args_sha256": b64u(sha256(canonical(received.args)).digest()),
            "request": request,
            "cnf": _confirmation(allowed),
        }
        return self._signed({name: value for name, value in claims.items() if value is not None})

    def jwks(self) -> dict[str, Any]:
        """The public keys that sign statements, as a JWK Set (RFC 7517): one for each live root key."""
        keys = [
            {**_jwk(key.statement_signer().public), "kid": kid, "alg": "EdDSA", "use": "sig"}
            for kid in self._keyring().kids
            if (key := self._keyring().get(kid)) is not None
        ]
        return {"keys": keys}

    def _signed(self, claims: Mapping[str, Any]) -> str:
        key = self._keyring().active
        header = {"alg": "EdDSA", "kid": key.kid, "typ": TYPE}
        text = f"{b64u(msgspec.json.encode(header))}.{b64u(msgspec.json.encode(claims))}"
        return f"{text}.{b64u(key.statement_signer().sign(text.encode()))}"


def no_statements_for(verifier: Verifier, audience: str) -> Denied:
    """The denial of a presentation for an audience without statements; `verifier` is that of the authority."""
    wanted = "an audience of [statement] in the policy"
    return verifier.denial(Refusal("wrong_audience", f"there are no statements for {audience}", wanted))


def _confirmation(allowed: Allowed) -> dict[str, Any] | None:
    """The key of the agent that made the call (RFC 7800); None for a token of a bearer."""
    key = allowed.decision.key
    return None if key is None else {"jwk": _jwk(unb64u(key.removeprefix("ed25519:")))}


def _jwk(public: bytes) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": b64u(public)}
