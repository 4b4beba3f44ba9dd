"""Whatever the policy, the intent, the delegations and the ask: a grant is what a naive model of the design says.

So it never allows a call that the policy under that intent would not, or that some delegator's bound excluded, and
never outlives, out-spends or out-hops its asker; and what the model says is granted, and allowed, is.
"""

# A key is read out of the library here, to be given to the model; and what JSON holds has no types to be strict about.
# pyright: basic
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capx.asking import Granted, Pending, Refused
from capx.bundle import Bundle
from capx.capability import Capability
from capx.chain import b64u
from capx.decision import Denied
from capx.errors import InvalidRequest
from capx.keys import RootKey
from capx.present import ToolCall
from capx_caveats import DEFAULT, Allow, Call, Caveat, Entry, Facts, Refusal, budget
from tests import naive
from tests.granting_lab import NOW, GrantingLab, Offer, policy, rule
from tests.lab import Clock, appended, codes
from tests.naive_grants import ASK, Chain, Grant
from tests.strategies import one_in, spelled

OTHER, SOON = "another task", 60
"""In caveats: the id of a task that may end, and seconds from when the task was opened."""
NONCES = ("AgICAgICAgI", "AwMDAwMDAwM", "BAQEBAQEBAQ")


class Region(Caveat, frozen=True, tag="acme.region"):
    """A caveat of a service's own, which the authority does not know."""

    name: str

    def refusal(self, facts: Facts) -> Refusal | None:
        if facts.call.attributes.get("region") == self.name:
            return None
        return Refusal("wrong_region", f"is for {self.name}")

    def sentence(self) -> str:
        return f"in {self.name}"


OWN = DEFAULT.extended(Region)
one_of = st.sampled_from

ENTRIES: Any = one_of(
    [
        *(["crm", ["crm.read"]], ["crm", ["crm.*"]], ["crm", ["crm.*"]], ["warehouse", ["warehouse.*"]]),
        *(["crm", ["crm.read", [["id", ["in", [1, 2]]]]]], ["crm", ["crm.read", []]], ["warehouse", ["crm.read"]]),
        ["crm", ["crm.*", [["id", ["eq", "{intent.id}"]], ["*", ["anything"]]]]],
        ["warehouse", ["warehouse.query", [["id", ["range", 0, 1]]]]],
    ]
)
BUDGETS: Any = one_of([[], [], [["calls", "2"]], [["eur", "5"]], [["calls", "1"], ["eur", "8"]]])
RULES: Any = st.lists(
    st.fixed_dictionaries(
        {
            "how": one_of(["at_open", "on_request", "on_request", "ask"]),
            "allow": st.lists(ENTRIES, min_size=1, max_size=3),
            "budgets": BUDGETS,
        }
    ),
    min_size=1,
    max_size=3,
)
MAYBE = ["any", [["absent"], ["anything"]]]
BOUNDS: Any = st.tuples(
    one_of([*[["anything"]] * 4, ["eq", "crm"], ["in", ["crm", "warehouse"]]]),
    one_of([*[["anything"]] * 4, ["prefix", "crm."], ["any", [["prefix", "warehouse."], ["eq", "crm.read"]]]]),
    one_of([*[MAYBE] * 5, ["fields", [["id", ["in", [1]]]]], ["fields", []], ["fields", [["*", ["anything"]]]]]),
).map(lambda parts: [ASK, [["audience", parts[0]], ["action", parts[1]], ["args", parts[2]]]])
CAVEATS: Any = st.lists(
    one_in(
        one_of([["expires", SOON], ["expires", SOON], ["expires", 10 * SOON]]),
        one_of([["budget", "calls", "1"], ["budget", "calls", "2"], ["budget", "calls", "3"], ["budget", "eur", "7"]]),
        one_of([["where", "args.id", ["in", [1]]], ["where", "region", ["eq", "eu"]], ["acme.region", "eu"]]),
        one_of([["max_hops", 0], ["max_hops", 1], ["max_hops", 2], ["max_hops", 3]]),
        one_of([["until_completed", OTHER], ["until_completed", OTHER], ["not_before", 0], ["fresh", 5]]),
        one_of([["tenant", "Acme"], ["tenant", "Acme"], ["not_before", 1], ["tenant", "Globex"], ["near", 1]]),
    ),
    max_size=3,
)
STEPS: Any = st.lists(
    st.tuples(one_of([True, True, False]), st.lists(BOUNDS, max_size=2), CAVEATS).filter(any), max_size=3
)
ASKS: Any = st.fixed_dictionaries(
    {
        "audience": one_of(["crm", "crm", "crm", "warehouse"]),
        "action": one_of(["crm.read", "crm.read", "crm.read", "crm.write", "warehouse.query"]),
    },
    optional={
        "args": one_of([{}, *[{"id": 1}] * 4, {"id": 2, "to": "a"}, {"*": 1}, {"id": [[1]]}, {"id": {}}, {"id": ""}])
    },
)
AS_ASKED: Any = None
"""The action that was asked for; the arguments to which it was pinned, or some."""
CALLS: Any = st.fixed_dictionaries(
    {
        "action": one_of([*[AS_ASKED] * 6, "crm.read", "crm.write", "warehouse.query"]),
        "args": one_of([*[AS_ASKED] * 6, {}, {"id": 1}, {"id": 1.0}, {"id": 2}, {"id": 1, "to": "a"}]),
        "tenant": one_of([*["Acme"] * 6, "Globex", None]),
        "attributes": one_of([*[{"region": "eu"}] * 6, {"region": "us"}, {}]),
        "cost": one_of([*[{"eur": "3"}] * 6, {}]),
    }
)
DEATHS: Any = one_of(["task", "other", "kid", "instant", "node 0", "node -1", "node 1", "id 0", "id 1", "id -1"])
MEANWHILE: Any = one_of([None, None, None, None, "task", "other", "id 1", "node -1", "wait"])
"""What happens before a person agrees."""
EVENTS: Any = st.lists(
    one_in(
        *[st.tuples(st.just("call"), CALLS, st.integers(0, 2), one_of([0, 0, 0, 1, 2]))] * 7,
        *[st.tuples(st.just("ask"), ASKS, MEANWHILE)] * 2,
        st.tuples(st.just("wait"), one_of([1, SOON, SOON])),
        st.tuples(st.just("death"), DEATHS),
    ),
    min_size=6,
    max_size=10,
)


class World:
    """The real authority, and what the model knows of the world: the time, who died, and what was spent."""

    def __init__(self, rules: Any, said: Any) -> None:
        self.lab = GrantingLab(clock=Clock(NOW + 0.999))
        self.said = said
        self.rules = rules
        self.lab.policy = policy(
            *(
                rule(
                    one["how"],
                    *(Offer(audience, entry_of(filled)) for audience, filled in self._filled(one["allow"])),
                    budgets=[budget(unit, limit) for unit, limit in one["budgets"]],
                )
                for one in rules
            ),
            names=said,
            tenant=True,
        )
        self.other = self.lab.authority.open(allow=["x.y"]).id
        self.task = self.lab.open(parameters=said)
        self.grants: list[tuple[Grant, Capability]] = []
        self.texts: dict[str, str] = {}
        self.deaths: dict[Any, str] = {}
        self.spent: dict[Any, Any] = {}
        self.capability = next(one for one in self.task.bundle if one.audience == "authority")

    def _filled(self, allowed: Any) -> Any:
        return naive.json.loads(naive.json.dumps(allowed).replace('"{intent.id}"', naive.json.dumps(self.said["id"])))

    @property
    def now(self) -> int:
        return int(self.lab.clock.now)

    def delegate(self, hop: bool, bounds: Any, caveats: Any, depth: int) -> None:
        meant = {OTHER: self.other}
        block = [["hop", f"agent-{depth}", NONCES[depth]]] if hop else []
        block += [["allow", bounds]] if bounds else []
        for tag, *fields in caveats:
            timed = tag in {"expires", "not_before"}
            block.append([tag, *([NOW + fields[0]] if timed else [meant.get(str(field), field) for field in fields])])
        self.capability = appended(self.capability, spelled(block))

    @property
    def chain(self) -> Chain:
        return Chain(self.capability.text, self._secret(self.capability))

    def _secret(self, capability: Capability) -> bytes:
        key = self.lab.authority.keyring.get(capability.kid)
        assert key is not None
        return key.audience_key(capability.audience)._secret

    def may_ask(self, ask: Any) -> bool:
        """Whether the model lets this be asked."""
        call = {"action": ASK, "args": ask, "tenant": "Acme", "attributes": {}}
        received = {"profile": "tool", "action": ASK, "args": ask}
        token = self.capability.present(ToolCall(ASK, ask), now=self.now).text
        keys = {self.capability.kid: self._secret(self.capability)}
        return not naive.codes(token, "authority", keys, received, call, now=self.now, deaths=self.deaths, age=0)

    def lives(self) -> bool:
        """Whether the model says that the asker lives."""
        chain = self.chain
        tasks = [caveat[1] for caveat in chain.caveats if caveat[0] == "until_completed"]
        mortal = {*tasks, *chain.ids, *chain.nodes(), f"kid:{chain.kid}", f"issued:{NOW}"}
        expires = min(caveat[1] for caveat in chain.caveats if caveat[0] == "expires")
        return mortal.isdisjoint(self.deaths) and self.now < expires

    def ask(self, ask: Any, meanwhile: str | None) -> None:
        """What is really answered to an ask is what the model says; what is granted is kept, with its model."""
        model, answer = Grant.of(self.chain, self.rules, self.said, ask), self._ask(ask)
        if not self.may_ask(ask):
            assert answer is None
            SEEN["denied"] += 1
        elif model is None:
            assert isinstance(answer, Refused)
            SEEN["refused"] += 1
        elif model.rule["how"] == "ask" and request_of(ask) not in self.texts:
            assert isinstance(answer, Pending)
            self._consent(ask, model, answer, meanwhile)
        else:
            self._keep(ask, model, answer)

    def _ask(self, ask: Any) -> Any:
        try:
            return self.lab.ask(Bundle([self.capability]), ask["action"], ask.get("args"), ask["audience"])
        except Denied:
            return None

    def _consent(self, ask: Any, model: Grant, pending: Pending, meanwhile: str | None) -> None:
        verdict = self.lab.verdict(pending.request)
        if meanwhile == "wait":
            self.lab.clock.now += SOON
        elif meanwhile is not None:
            self.die(meanwhile)
        if self.lives():
            assert self.lab.authority.decide(verdict).state == "approved"
            self._keep(ask, model, self._ask(ask))
            SEEN["agreed"] += 1
        else:
            with pytest.raises(InvalidRequest):
                self.lab.authority.decide(verdict)
            assert self._ask(ask) is None
            SEEN["died before a person agreed"] += 1

    def _keep(self, ask: Any, model: Grant, answer: Any) -> None:
        assert isinstance(answer, Granted)
        assert self.texts.setdefault(request_of(ask), answer.capability.text) == answer.capability.text
        self.grants.append((model, answer.capability))
        SEEN["granted"] += 1

    def call(self, call: Any, which: int, hops: int) -> None:
        """A call on some grant, made by an agent so many delegations below, is really allowed as the model says."""
        if not self.grants:
            return
        model, capability = self.grants[which % len(self.grants)]
        asked = {"action": model.ask["action"], "args": model.ask.get("args", {"id": 1})}
        call = {name: asked[name] if value is AS_ASKED and name in asked else value for name, value in call.items()}
        for depth in range(hops):
            capability = capability.delegate(to=f"below-{depth}")
        verifier = self.lab.authority.verifier(capability.audience, vocabulary=OWN)
        sent = ToolCall(call["action"], call["args"])
        token = capability.present(sent, now=self.now).text
        allowed = codes(verifier.decide(token, sent, Call(**call))) == ()
        assert allowed == (not model.refuses(call, hops, now=self.now, deaths=self.deaths, spent=self.spent))
        SEEN["allowed" if allowed else "not allowed"] += 1

    def die(self, what: str) -> None:
        """A death, in both worlds."""
        authority, chain = self.lab.authority, self.chain
        kind, _, at = what.partition(" ")
        if kind in {"task", "other"}:
            task = self.task.id if kind == "task" else self.other
            authority.complete(task)
            self.deaths[task] = "task_completed"
        elif kind == "kid":
            authority.revoke(kid=chain.kid)
            self.deaths[f"kid:{chain.kid}"] = "revoked"
        elif kind == "instant":
            authority.revoke(issued=NOW)
            self.deaths[f"issued:{NOW}"] = "revoked"
        else:
            among = chain.nodes() if kind == "node" else chain.ids
            killed = among[min(int(at), len(among) - 1)]
            authority.revoke(b64u(killed))
            self.deaths[killed] = "revoked"


def entry_of(written: Any) -> Entry:
    (found,) = DEFAULT.decode(spelled([["allow", [written]]]))
    assert isinstance(found, Allow)
    return found.entries[0]


def request_of(ask: Any) -> str:
    """Equal for what is the same request."""
    return naive.json.dumps(ask, sort_keys=True)


SEEN: Counter[str] = Counter()
"""How often what was generated came to what, in this process."""


@given(RULES, STEPS, ASKS, EVENTS)
@settings(max_examples=150, deadline=None)
def test_a_grant_is_what_the_model_says(rules: Any, steps: Any, ask: Any, events: Any) -> None:
    world = World(rules, {"id": 1})
    with world.lab.authority:
        for depth, step in enumerate(steps):
            world.delegate(*step, depth)
        # Minted later and under another key than what asks, so that it does not die with that by chance.
        world.lab.clock.now += 5
        fresh = RootKey.generate()
        world.lab.authority.rekey(world.lab.authority.keyring.added(fresh).activated(fresh.kid))
        world.ask(ask, None)
        for kind, *said in events:
            if kind == "wait":
                world.lab.clock.now += said[0]
            elif kind == "death":
                world.die(said[0])
            elif kind == "ask":
                world.ask(*said)
            else:
                world.call(*said)
