"""An authority that goes by a policy, people with keys, and a clock that a test moves: what is asked at run time."""

from collections.abc import Iterable, Mapping
from typing import Any

from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.authority.requests.verdict import Verdict
from capx.crypto.ed25519 import parse_public
from capx.crypto.keys import KeyRing, RootKey
from capx.intents.intent import Intent
from capx.intents.principal_key import PrincipalKey
from capx.policy.policy import Policy, Principal, Purpose
from capx.policy.terms import Offer, Rule
from capx.store.protocols import Store
from capx.store.records import RequestRecord
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.grants import audience_of
from capx.verify.ask import Granted, Pending, Refused
from capx_caveats import DEFAULT, JSON, Budget, Call, Entry, Vocabulary, as_entry
from tests.labs.lab import NOW, Clock, codes

ANA, BOB, CARA = (PrincipalKey.generate(name) for name in ("ana", "bob", "cara"))
PEOPLE = (ANA, BOB, CARA)
GROUPS = {"bob": ("finance",), "cara": ("finance", "legal")}


def offer(what: str | Entry, audience: str = "") -> Offer:
    """An offer at the audience that the action names, unless another is said."""
    entry = as_entry(what)
    return Offer(audience or audience_of(entry.pattern), entry)


def rule(how: Any, *offers: str | Entry | Offer, budgets: Iterable[Budget] = (), **more: Any) -> Rule:
    """A rule; one that asks asks `finance`, which has half an hour, and pins what the agent names."""
    asks: dict[str, Any] = {"approvers": ("finance",), "within": 1800, "pinned": False} if how == "ask" else {}
    given = tuple(one if isinstance(one, Offer) else offer(one) for one in offers)
    return Rule(place=f"a rule for {how}", how=how, offers=given, budgets=tuple(budgets), **(asks | more))


def people(**changed: Any) -> dict[str, Principal]:
    """Ana, who may ask for everything, and Bob and Cara, who consent; others, or others in their place."""
    known = {
        key.name: Principal(
            name=key.name,
            key=parse_public(key.public),
            tenants=("Acme", "Globex"),
            purposes=("work",),
            groups=GROUPS.get(key.name, ()),
        )
        for key in PEOPLE
    }
    return {name: one for name, one in (known | changed).items() if one is not None}


def policy(*rules: Rule, tenant: bool = True, names: Iterable[str] = (), **more: Any) -> Policy:
    """A policy with one purpose, `work`, and these rules."""
    work = Purpose(name="work", ttl=3600, require=(), tenant=tenant, names=frozenset(names), rules=lambda intent: rules)
    known: dict[str, Any] = {"principals": people()}
    return Policy(digest="A" * 43, purposes={"work": work}, **(known | more))


class GrantingLab:
    """One authority, over a store of its own or over this one; its policy is what `policy` is set to."""

    def __init__(
        self, *rules: Rule, clock: Clock | None = None, store: Store | None = None, keyring: KeyRing | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.policy = policy(*rules)
        if store is None:
            self.authority = Authority.temporary(policy=lambda: self.policy, clock=self.clock)
        else:
            keyring = keyring or KeyRing(RootKey.generate())
            self.authority = Authority(store, keyring, policy=lambda: self.policy, clock=self.clock)

    def intent(self, **said: Any) -> Intent:
        """An intent of Ana's for Acme, issued now."""
        meant: dict[str, Any] = {
            "principal": "ana",
            "authority": self.authority.epoch(),
            "purpose": "work",
            "statement": "Do the work.",
            "now": int(self.clock.now),
            "not_after": "1d",
            "tenant": "Acme",
        }
        return Intent.written(**(meant | said))

    def open(self, **said: Any) -> OpenedTask:
        """A task on an intent that says this."""
        return self.authority.open(ANA.sign_intent(self.intent(**said)))

    def ask(
        self, bundle: Bundle, action: str, args: Mapping[str, JSON] | None = None, audience: str | None = None
    ) -> Any:
        """The answer to an ask."""
        return self.authority.ask(bundle, action, audience=audience, args=args)

    def granted(
        self, bundle: Bundle, action: str, args: Mapping[str, JSON] | None = None, audience: str | None = None
    ) -> Capability:
        """The grant that this ask gets."""
        answer = self.ask(bundle, action, args, audience)
        assert isinstance(answer, Granted), str(answer)
        return answer.capability

    def pending(self, bundle: Bundle, action: str, args: Mapping[str, JSON] | None = None) -> Pending:
        """The request that waits when this is asked for."""
        answer = self.ask(bundle, action, args)
        assert isinstance(answer, Pending), str(answer)
        return answer

    def refused(self, bundle: Bundle, action: str, args: Mapping[str, JSON] | None = None) -> tuple[str, ...]:
        """Why this is refused, when it is asked for."""
        answer = self.ask(bundle, action, args)
        assert isinstance(answer, Refused), str(answer)
        return tuple(reason.code for reason in answer.reasons)

    def verdict(self, request: str, key: PrincipalKey = BOB, *, yes: bool = True, at: int | None = None) -> Verdict:
        """The answer of a person to a request as it is shown now."""
        when = int(self.clock.now) if at is None else at
        return Verdict.sign(self.authority.inquiry(request), key, yes=yes, at=when)

    def decide(self, request: str, key: PrincipalKey = BOB, *, yes: bool = True) -> RequestRecord:
        """The request, answered."""
        return self.authority.answer(self.verdict(request, key, yes=yes))

    def codes(
        self,
        capability: Capability,
        action: str,
        args: Mapping[str, JSON] | None = None,
        *,
        vocabulary: Vocabulary = DEFAULT,
        **facts: Any,
    ) -> tuple[str, ...]:
        """The reasons for which a call at the capability's own audience is refused; none if it is allowed."""
        verifier = self.authority.verifier(capability.audience, vocabulary=vocabulary)
        args = args or {}
        token = capability.present(ToolCall(action, args), now=int(self.clock.now)).text
        stated: dict[str, Any] = {"tenant": "Acme"}
        call = Call(action, args, **(stated | facts))
        return codes(verifier.decide(token, ToolCall(action, args), call))

    def kinds(self) -> list[str]:
        """The kinds of the events so far, but for decisions."""
        return [event.kind for event in self.authority.log() if event.kind != "decision"]


__all__ = ["ANA", "BOB", "CARA", "NOW", "GrantingLab", "offer", "people", "policy", "rule"]
