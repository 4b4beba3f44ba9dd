"""A policy: who may ask for what kinds of work, and what each kind gets at once, on request, or by asking a person.

    Policy --terms(intent)--> Terms --match(action, audience, args)--> the rule that decides

Laws: a task gets only what a rule lists. Rules that give at open decide first, then those that give on request, then
those that ask a person; rules of one kind decide in the order of the file. The first rule that matches decides. Terms
are concrete: a rule takes each value of the intent as a whole, and never parses it again.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Final

from msgspec import UNSET, Struct

from capx.errors import InvalidRequest
from capx.intents.intent import Intent
from capx.policy.fit import problems
from capx.policy.terms import Rule, Terms, in_order
from capx_caveats import shown

_MOST_KNOWN: Final = 256
"""How many intents a policy remembers the terms of."""


class Principal(Struct, frozen=True, kw_only=True):
    """A person or program that asks for work or consents to it.

    `key` is the public key of their signature (Ed25519, 32 bytes); `tenants` and `purposes` are those that they may ask
    for. A principal without a key cannot sign: only a login that the operator checked can speak for them.
    `max_waiting` is how many requests may wait for people at once, in all tasks on their intents.
    """

    name: str
    key: bytes | None = None
    tenants: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    max_waiting: int = 1_000


class Purpose(Struct, frozen=True, kw_only=True):
    """A kind of work: its longest time (`ttl`, seconds), what an intent must have, and its rules for an intent.

    `tenant` says whether it is for one tenant, whose name every grant then carries. `names` are the parameters that it
    uses.
    """

    name: str
    ttl: int
    require: tuple[str, ...]
    tenant: bool
    names: frozenset[str]
    rules: Callable[[Intent], tuple[Rule, ...]]

    def demand(self, intent: Intent, principal: Principal) -> None:
        """Raise InvalidRequest unless the intent fits this purpose and the principal.

        It must have all that the purpose needs, no other parameters, and a tenant that the principal may ask for.
        """
        if not self.tenant and intent.tenant is not UNSET:
            raise InvalidRequest(f"{self.name} has no tenant: remove {shown(intent.tenant)} from the intent")
        missing = [name for name in self._needed() if not _has(intent, name)]
        unknown = [name for name in intent.parameters if name not in self.names]
        if missing or unknown:
            # Report both together: the missing name was often mistyped.
            lacks = [f"{self.name} needs {_listed(missing)}, which the intent does not have"] if missing else []
            if "agent_key" in missing:
                lacks.append("the principal must name the agent's key in it and sign that: capx intent new --agent-key")
            raise InvalidRequest("; ".join([*lacks, *map(self._not_taken, unknown)]))
        if self.tenant and intent.tenant not in principal.tenants:
            raise _may_not_ask(principal, f"the tenant {shown(intent.tenant)}", principal.tenants)

    def _not_taken(self, name: str) -> str:
        uses = f"it uses {_listed(sorted(self.names))}" if self.names else "it uses no parameters"
        hint = _did_you_mean(name, self.names) or uses
        return f"the intent has {shown(name)}, which {self.name} does not use: {hint}"

    def _needed(self) -> tuple[str, ...]:
        named = {*self.require, *self.names, *(("tenant",) if self.tenant else ())}
        return (*self.require, *sorted(named - set(self.require)))


class Policy(Struct, frozen=True, kw_only=True, dict=True):
    """The rules of an authority; `digest` is the SHA-256 of its file in base64url, and the log names it by that.

    `audiences` maps each audience to its origin; `principals` and `purposes` are by name. `statements` has the
    audiences for which the authority makes statements, and for how many seconds each is good.
    """

    digest: str = ""
    audiences: Mapping[str, str] = MappingProxyType({})
    statements: Mapping[str, int] = MappingProxyType({})
    principals: Mapping[str, Principal] = MappingProxyType({})
    purposes: Mapping[str, Purpose] = MappingProxyType({})

    def terms(self, intent: Intent) -> Terms:
        """Return the terms of this intent; InvalidRequest says why it gets nothing, and what to change.

        It does not check that the principal signed the intent: the caller must do that first.
        """
        known = self._known_terms
        terms = known.get(intent.digest)
        if terms is None:
            terms = self._terms(intent)
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known[intent.digest] = terms
        return terms

    @cached_property
    def _known_terms(self) -> dict[str, Terms]:
        # The agents of a task ask again and again, and the terms of its intent stay the same.
        return {}

    def _terms(self, intent: Intent) -> Terms:
        principal = self.principals.get(intent.principal)
        if not self.purposes:
            raise InvalidRequest(
                "the policy has no purposes, so it refuses every intent: write policy.toml in its home"
            )
        if principal is None:
            raise InvalidRequest(f"the policy has no principal {shown(intent.principal)}: add them to it")
        purpose = self._purpose(intent.purpose, principal)
        purpose.demand(intent, principal)
        tenant = intent.tenant if purpose.tenant and intent.tenant is not UNSET else None
        terms = Terms(purpose=purpose.name, ttl=purpose.ttl, tenant=tenant, rules=in_order(purpose.rules(intent)))
        # Again, now with the real values: they may be longer than the probes.
        if lines := tuple(problems(terms)):
            raise InvalidRequest("; ".join(lines))
        return terms

    def _purpose(self, name: str, principal: Principal) -> "Purpose":
        """Return the purpose.

        One that the principal may not ask for gets the same answer as one that does not exist.
        """
        if name in principal.purposes and name in self.purposes:
            return self.purposes[name]
        raise _may_not_ask(principal, f"the purpose {shown(name)}", principal.purposes)

    def members(self, group: str) -> tuple[str, ...]:
        """Return the names of the principals in this group, or the principal of this name."""
        return tuple(
            principal.name
            for principal in self.principals.values()
            if group == principal.name or group in principal.groups
        )


def _may_not_ask(principal: Principal, what: str, lets: Iterable[str]) -> InvalidRequest:
    may = f"only for {_listed(lets)}" if lets else "for none"
    return InvalidRequest(f"{shown(principal.name)} may not ask for {what}: the policy lets them ask {may}")


def _has(intent: Intent, name: str) -> bool:
    own = {"tenant": intent.tenant, "agent": intent.agent, "agent_key": intent.agent_key}
    return own[name] is not UNSET if name in own else name in intent.parameters


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches  # only errors need it

    return "".join(f"did you mean {near}?" for near in get_close_matches(name, list(names), 1))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(shown, names))


NO_POLICY: Final = Policy()
"""The policy of an authority without a policy file: it refuses every intent, and grants no ask."""
MAX_TTL: Final = 86_400
"""How far ahead a task may expire by default, in seconds."""
