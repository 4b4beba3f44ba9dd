"""A person with a signing key: they sign intents, and answer what waits for them.

Law: a person does in a test what they do elsewhere. They sign with their key, the authority checks the signature by its
policy, and whoever may not answer is refused.
"""

from collections.abc import Sequence

import msgspec

from capx.authority.authority import Authority
from capx.authority.requests.verdict import Verdict
from capx.crypto.instants import now_or
from capx.errors import InvalidRequest
from capx.intents.intent import Intent, SignedIntent
from capx.intents.principal_key import PrincipalKey
from capx.store.records import RequestRecord
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.approving import signatures_in
from capx.tokens.discharge import Discharge
from capx_caveats import Literal


class Person:
    """A person of this name, who signs with `key`, or with a new key, and answers at `authority`.

    A policy names the key, and an authority has its policy first. So make the person without an authority, put
    `in_policy` into the text of the policy, and call `at` with the authority. The person goes by the time of this
    process, or by `capx_clock`.
    """

    def __init__(self, name: str, key: PrincipalKey | None = None, authority: Authority | None = None) -> None:
        self.name = name
        self.key = PrincipalKey.generate(name) if key is None else key
        self._authority = authority
        if self.key.name != name:
            raise InvalidRequest(f"this is the key of {self.key.name}, and not of {name}: the policy knows one name")

    def __repr__(self) -> str:
        return f"Person({self.name!r})"

    def in_policy(
        self, *, purposes: Sequence[str] = (), tenants: Sequence[str] = (), groups: Sequence[str] = ()
    ) -> str:
        """Return the table of a policy (TOML) that makes this person a principal."""
        table = {"key": self.key.public, "purposes": purposes, "tenants": tenants, "groups": groups}
        lines = [f"{name} = {_toml(value)}" for name, value in table.items() if value]
        return "\n".join([f"[principal.{_toml(self.name)}]", *lines, ""])

    def at(self, authority: Authority) -> "Person":
        """Return the same person, with the same key, at this authority."""
        return Person(self.name, self.key, authority)

    def wants(
        self,
        purpose: str,
        tenant: str | None = None,
        /,
        *,
        statement: str = "Do the work.",
        agent_key: str | None = None,
        **parameters: Literal,
    ) -> SignedIntent:
        """Sign an intent for this purpose and tenant: `authority.open` opens a task on it.

        The parameters are those of the purpose, `agent_key` is the public key of the agent that may do the work.
        """
        return self.key.sign_intent(
            Intent.written(
                principal=self.name,
                authority=self._demand_authority().epoch(),
                purpose=purpose,
                statement=statement,
                now=now_or(None),
                tenant=tenant,
                parameters=parameters,
                agent_key=agent_key,
            )
        )

    def waiting(self) -> tuple[RequestRecord, ...]:
        """Return the requests that wait for an answer of this person, in the order in which agents first asked."""
        authority = self._demand_authority()
        policy = authority.policy
        return tuple(
            request
            for request in authority.requests(pending=True)
            if any(self.name in policy.members(group) for group in request.approvers) and not self._has_signed(request)
        )

    def approves(self) -> tuple[RequestRecord, ...]:
        """Approve all that waits for this person, and return these requests as they are now.

        InvalidRequest if the answer does not count, such as that of a person who requested the work.
        """
        return tuple(map(self._approve, self.waiting()))

    def denies(self) -> tuple[RequestRecord, ...]:
        """Deny all that waits for this person, and return these requests as they are now."""
        return tuple(self._answer(request, yes=False) for request in self.waiting())

    def _approve(self, request: RequestRecord) -> RequestRecord:
        if request.to_approve is None:
            return self._answer(request, yes=True)
        shown = ApprovalRequest.parse(request.to_approve)
        if request.discharge is None:
            signed = self.key.approve(shown)
        else:
            signed = self.key.cosign(shown, Discharge.parse(request.discharge))
        return self._demand_authority().approve(request.id, signed)

    def _answer(self, request: RequestRecord, *, yes: bool) -> RequestRecord:
        authority = self._demand_authority()
        return authority.answer(Verdict.sign(authority.inquiry(request.id), self.key, yes=yes, at=now_or(None)))

    def _has_signed(self, request: RequestRecord) -> bool:
        """Whether this person has signed an approval for which others must still sign."""
        if request.to_approve is None or request.discharge is None:
            return False
        people = ApprovalRequest.parse(request.to_approve).caveat.approvers
        signed = {people[number] for number in signatures_in(Discharge.parse(request.discharge))}
        return self.key.public in signed

    def _demand_authority(self) -> Authority:
        if self._authority is None:
            raise InvalidRequest(f"{self.name} is at no authority: call `at` with one first")
        return self._authority


def _toml(value: object) -> str:
    # A JSON text or array of names is one of TOML too: a name has no hidden characters, which TOML spells otherwise.
    return msgspec.json.encode(value).decode()
