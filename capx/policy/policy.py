"""A policy: who may ask for what kinds of work, and what each of them needs, gets at once, on request, or by asking.

    Policy --terms(intent)--> Terms --match(action, audience, args)--> the rule that decides

Laws: what no rule lists is never given. Of the rules of a purpose, those that give at open come first, then those that
give on request, then those that ask a person, each in the order of the file; the first that matches decides. Terms are
concrete: what a rule takes from the intent was put in as a whole value, and nothing of it is read again.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from msgspec import UNSET, Struct

from capx.errors import InvalidRequest
from capx.intents.intent import Intent
from capx.policy.fit import problems
from capx.policy.terms import Rule, Terms, in_order
from capx_caveats import shown


class Principal(Struct, frozen=True, kw_only=True):
    """A person: the public key of their signature (Ed25519, 32 bytes), for whom they ask, and what groups they are in.

    Without a key they cannot sign, and only a login that the operator checked speaks for them.
    """

    name: str
    key: bytes | None = None
    tenants: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Purpose(Struct, frozen=True, kw_only=True):
    """A kind of work: for how long (seconds), what an intent must say, and what it needs, once the intent is known.

    `tenant` tells that it is for one tenant, whose name every grant carries. `names` are the parameters that it takes.
    """

    name: str
    ttl: int
    require: tuple[str, ...]
    tenant: bool
    names: frozenset[str]
    rules: Callable[[Intent], tuple[Rule, ...]]

    def demand(self, intent: Intent, principal: Principal) -> None:
        """Raise InvalidRequest unless the intent says all that this takes, and nothing else, for a tenant of theirs."""
        if not self.tenant and intent.tenant is not UNSET:
            raise InvalidRequest(
                f"{self.name} is for no tenant, and the intent says {shown(intent.tenant)}: leave it out"
            )
        missing = [name for name in self._needed() if not _says(intent, name)]
        unknown = [name for name in intent.parameters if name not in self.names]
        if missing or unknown:
            # Together: what is missing was often mistyped.
            lacks = [f"{self.name} needs {_listed(missing)}, which the intent does not say"] if missing else []
            raise InvalidRequest("; ".join([*lacks, *map(self._not_taken, unknown)]))
        if self.tenant and intent.tenant not in principal.tenants:
            may = f"asks for {_listed(principal.tenants)}" if principal.tenants else "asks for no tenant"
            raise InvalidRequest(f"{shown(principal.name)} {may}, by this policy, and not for {shown(intent.tenant)}")

    def _not_taken(self, name: str) -> str:
        takes = f"it takes {_listed(sorted(self.names))}" if self.names else "it takes none"
        return f"the intent says {shown(name)}, which {self.name} does not take: {_meant(name, self.names) or takes}"

    def _needed(self) -> tuple[str, ...]:
        named = {*self.require, *self.names, *(("tenant",) if self.tenant else ())}
        return (*self.require, *sorted(named - set(self.require)))


class Policy(Struct, frozen=True, kw_only=True):
    """What an authority goes by; `digest` is the SHA-256 of its file, base64url, by which the log names it."""

    digest: str = ""
    audiences: Mapping[str, str] = MappingProxyType({})
    principals: Mapping[str, Principal] = MappingProxyType({})
    purposes: Mapping[str, Purpose] = MappingProxyType({})

    def terms(self, intent: Intent) -> Terms:
        """What this intent gets; InvalidRequest says why it gets nothing, and what would do.

        It takes the intent at its word: whether its principal signed it is for others to tell, and to tell before.
        """
        principal = self.principals.get(intent.principal)
        if not self.purposes:
            raise InvalidRequest(
                "this authority has no policy that takes an intent: write one, policy.toml in its home"
            )
        if principal is None:
            raise InvalidRequest(
                f"the policy knows no principal {shown(intent.principal)}: it takes none of their intents"
            )
        purpose = self._purpose(intent.purpose, principal)
        purpose.demand(intent, principal)
        tenant = intent.tenant if purpose.tenant and intent.tenant is not UNSET else None
        terms = Terms(purpose=purpose.name, ttl=purpose.ttl, tenant=tenant, rules=in_order(purpose.rules(intent)))
        if lines := tuple(problems(terms)):
            raise InvalidRequest("; ".join(lines))
        return terms

    def _purpose(self, name: str, principal: Principal) -> "Purpose":
        """The purpose of this name; what the principal may not ask for is as if it was not there."""
        if name in principal.purposes and name in self.purposes:
            return self.purposes[name]
        may = f"may ask for {_listed(principal.purposes)}" if principal.purposes else "may ask for nothing"
        raise InvalidRequest(f"{shown(principal.name)} {may}, by this policy, and not for {shown(name)}")

    def members(self, group: str) -> tuple[str, ...]:
        """The principals that are, or are in, this group."""
        return tuple(
            principal.name
            for principal in self.principals.values()
            if group == principal.name or group in principal.groups
        )


def _says(intent: Intent, name: str) -> bool:
    own = {"tenant": intent.tenant, "agent": intent.agent}
    return own[name] is not UNSET if name in own else name in intent.parameters


def _meant(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches  # for what went wrong alone

    return "".join(f"did you mean {near}?" for near in get_close_matches(name, list(names), 1))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(shown, names))


NO_POLICY: Final = Policy()
"""What an authority goes by that has none: it takes no intent, and grants nothing that is asked for."""
MAX_TTL: Final = 86_400
"""How far ahead a task may expire, in seconds, unless its authority says otherwise."""
