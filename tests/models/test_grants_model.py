"""Whatever the policy, the intent, the delegations and the ask: a grant is what a naive model of the design says.

So it never allows a call that the policy under that intent would not, or that some delegator's bound excluded, and
never outlives, out-spends or out-hops its asker; and what the model says is granted, and allowed, is.
"""

import json
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capx.crypto.base64url import b64u
from capx.crypto.keys import RootKey
from capx.errors import InvalidRequest
from capx.policy.terms import Offer
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.verify.ask import Granted, Pending, Refused
from capx.verify.decision import Denied
from capx_caveats import DEFAULT, Allow, Call, Entry, budget
from tests.labs.counts import repeated
from tests.labs.granting_lab import GrantingLab, policy, rule
from tests.labs.lab import NOW, Clock, appended, codes
from tests.labs.own_constraints import Region
from tests.labs.strategies import spelled
from tests.models import naive
from tests.models.naive_grants import ASK, Chain, Grant, Kept

OTHER, SOON = "another task", 60
"""In caveats: the id of a task that may end, and seconds from when the task was opened."""
NONCES = ("AgICAgICAgI", "AwMDAwMDAwM", "BAQEBAQEBAQ")


OWN = DEFAULT.extended(Region)
ENTRIES: Any = [
    *(["crm", ["crm.read"]], ["crm", ["crm.*"]], ["crm", ["crm.*"]], ["warehouse", ["warehouse.*"]]),
    *(["crm", ["crm.read", [["id", ["in", [1, 2]]]]]], ["crm", ["crm.read", []]], ["warehouse", ["crm.read"]]),
    ["crm", ["crm.*", [["id", ["eq", "{intent.id}"]], ["*", ["anything"]]]]],
    ["warehouse", ["warehouse.query", [["id", ["range", 0, 1]]]]],
]
BUDGETS: Any = [[], [], [], [["calls", "2"]], [["calls", "12"]], [["eur", "20"]], [["calls", "9"], ["eur", "8"]]]
MAYBE = ["any", [["absent"], ["anything"]]]
BOUNDS: Any = {
    "audience": [*[["anything"]] * 4, ["eq", "crm"], ["in", ["crm", "warehouse"]]],
    "action": [*[["anything"]] * 4, ["prefix", "crm."], ["any", [["prefix", "warehouse."], ["eq", "crm.read"]]]],
    "args": [*[MAYBE] * 5, ["fields", [["id", ["in", [1]]]]], ["fields", []], ["fields", [["*", ["anything"]]]]],
}
CAVEATS: Any = [
    [["expires", SOON], ["expires", SOON], ["expires", SOON], ["expires", 10 * SOON]],
    [["budget", "calls", "2"], ["budget", "calls", "6"], ["budget", "calls", "9"], ["budget", "eur", "20"]],
    [["where", "args.id", ["in", [1]]], ["where", "region", ["eq", "eu"]], ["acme.region", "eu"]],
    [["max_hops", 1], ["max_hops", 2], ["max_hops", 3], ["max_hops", 4]],
    [*[["until_completed", OTHER]] * 4, ["not_before", 0], ["fresh", 5]],
    [*[["tenant", "Acme"]] * 9, ["not_before", 9], ["tenant", "Globex"], ["near", 1]],
]
ASKS: Any = [
    {"audience": "crm", "action": "crm.read", "args": {"id": 1}},
    {"audience": "crm", "action": "crm.read"},
    {"audience": "warehouse", "action": "warehouse.query", "args": {"id": 1}},
    {"audience": "crm", "action": "crm.write", "args": {"id": 2, "to": "a"}},
    {"audience": "warehouse", "action": "crm.read"},
]
PINS: Any = [
    *({}, {"*": 1}, {"id": [[1]]}, {"id": [""]}, {"id": ""}, {"id": []}, {"id": {}}, {"id": None}, {"id": [1, "a"]}),
    *({"id": {"a": ""}}, {"id": {"a": 1, "b": {}}}, {"id": {"*": 1}}, {"id": 1, "to": "a"}, {"id": 1, "to": "b"}),
]
"""What else is asked to be pinned to."""
AS_ASKED: Any = None
"""The action that was asked for; the arguments to which it was pinned, or some."""
CALL: Any = {
    "action": AS_ASKED,
    "args": AS_ASKED,
    "tenant": "Acme",
    "attributes": {"region": "eu"},
    "cost": {"eur": "3"},
}
CHANGES: Any = [
    *({"attributes": {"region": "us"}}, {"args": {"id": 2}}, {"tenant": "Globex"}, {"cost": {}}, {"tenant": None}),
    *({"action": "crm.write", "args": {"id": 3}}, {"args": {}}, {"args": {"id": 1.0}}, {"args": {"id": 1, "to": "a"}}),
    *({"action": "crm.write"}, {"action": "warehouse.query"}, {"attributes": {}}, {"args": {"id": 1, "to": "b"}}),
    *({"args": {"id": ""}}, {"args": {"id": []}}, {"args": {"id": {}}}, {"args": {"id": None}}, {"args": {"to": "a"}}),
    *({"args": {"id": {"a": ""}}}, {"args": {"id": {"a": []}}}, {"args": {"id": {"a": 1, "b": {}}}}),
]
"""How a call differs from the one that was asked for."""
HAPPENS = ["wait", "other", "node -1", "id -1", "id 1", "kid", "instant", "task", "node 1", "node 0", "id 0"]
"""What may happen: a minute goes by, or something dies; nodes and ids are counted from the root, or from the asker."""


class Dice(Random):
    """What is generated, each choice apart from all others: so a few hundred cases meet what few of them do."""

    def rules(self) -> Any:
        return [self.rule() for _ in range(self.randint(1, 3))]

    def rule(self) -> Any:
        how = self.choice(["at_open", "on_request", "ask", "ask"])
        return {
            "how": how,
            "allow": self.choices(ENTRIES, k=self.randint(1, 3)),
            "budgets": self.choice(BUDGETS),
            "uses": self.choice([1, 1, 2, 9, None]) if how == "ask" else None,
            "pinned": self.choice([True, True, False, ["id"], ["to", "id"], ["to"]]) if how == "ask" else False,
        }

    def steps(self) -> Any:
        """Each whether it is a delegation, what may be asked for behind it, and caveats."""
        steps = [(self.random() < 0.7, self.bounds(), self.caveats()) for _ in range(self.randint(0, 3))]
        return [step for step in steps if any(step)]

    def bounds(self) -> Any:
        entries = [[ASK, [[name, self.choice(rules)] for name, rules in BOUNDS.items()]] for _ in range(2)]
        return self.choice([[], [], entries[:1], entries])

    def caveats(self) -> Any:
        return [self.choice(kind) for kind in self.sample(CAVEATS, self.choice([0, 1, 1, 2]))]

    def events(self) -> Any:
        calls = [("call", CALL | self.choice([{}, *CHANGES]), self.randint(0, 2)) for _ in range(self.randint(1, 4))]
        asked = [*ASKS, ASKS[0] | {"args": self.choice(PINS)}]
        asks = [("ask", self.choice(asked), self.choice([None, None, *HAPPENS])) for _ in range(self.randint(0, 2))]
        happens = [("happen", self.choice(HAPPENS))] if self.random() < 0.2 else []
        return self.sample(found := [*calls, *asks, *happens], len(found))


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
                    uses=one["uses"],
                    pinned=tuple(one["pinned"]) if isinstance(one["pinned"], list) else one["pinned"],
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
        self.kept = Kept()
        self.deaths: dict[Any, str] = {}
        self.capability = next(one for one in self.task.bundle if one.audience == "authority")

    def _filled(self, allowed: Any) -> Any:
        return json.loads(json.dumps(allowed).replace('"{intent.id}"', json.dumps(self.said["id"])))

    @property
    def now(self) -> int:
        return int(self.lab.clock.now)

    def delegate(self, hop: bool, bounds: Any, caveats: Any, depth: int) -> None:
        meant = {OTHER: self.other}
        block: list[Any] = [["hop", f"agent-{depth}", NONCES[depth]]] if hop else []
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
        answer = self._ask(ask)
        model = Grant.of(self.chain, self.rules, self.said, ask, self.kept)
        SEEN["asked again"] += answer is not None and model is not None and model.round > 1
        SEEN["pinned to a list"] += model is not None and model.names is not None
        if not self.may_ask(ask):
            assert answer is None
            SEEN["denied"] += 1
        elif model is None:
            assert isinstance(answer, Refused)
            SEEN["refused"] += 1
        elif model.rule["how"] == "ask" and not self.kept.granted(model) and not model.has_room(self.kept.spent):
            assert isinstance(answer, Refused)
            SEEN["nobody asked in vain"] += 1
        elif model.rule["how"] == "ask" and not self.kept.granted(model):
            assert isinstance(answer, Pending)
            self._consent(ask, model, answer, meanwhile)
        else:
            self._keep(model, answer)

    def _ask(self, ask: Any) -> Any:
        try:
            return self.lab.ask(Bundle([self.capability]), ask["action"], ask.get("args"), ask["audience"])
        except Denied:
            return None

    def _consent(self, ask: Any, model: Grant, pending: Pending, meanwhile: str | None) -> None:
        verdict = self.lab.verdict(pending.request)
        if meanwhile is not None:
            self.happen(meanwhile)
        if self.lives():
            assert self.lab.authority.answer(verdict).state == "approved"
            self._keep(model, self._ask(ask))
            SEEN["agreed"] += 1
        else:
            with pytest.raises(InvalidRequest):
                self.lab.authority.answer(verdict)
            assert self._ask(ask) is None
            SEEN["died before a person agreed"] += 1

    def _keep(self, model: Grant, answer: Any) -> None:
        assert isinstance(answer, Granted)
        # While it is the same request on the same terms, it is the same capability, byte for byte.
        if self.kept.granted(model):
            assert answer.capability.text == self.texts[model.request]
        self.texts[model.request] = answer.capability.text
        self.kept.keep(model)
        self.grants.append((model, answer.capability))
        SEEN["granted"] += 1
        for change in CHANGES:
            self.call(CALL | change, 0)
        for hops in (4, 3, 2, 1, 0):
            self.call(CALL, hops)

    def call(self, call: Any, hops: int, which: int = -1) -> None:
        """A call on some grant, made by an agent so many delegations below, is really allowed as the model says."""
        if not self.grants:
            return
        model, capability = self.grants[which]
        asked = {"action": model.ask["action"], "args": model.ask.get("args", {"id": 1})}
        call = {name: asked[name] if value is AS_ASKED and name in asked else value for name, value in call.items()}
        for depth in range(hops):
            capability = capability.delegate(to=f"below-{depth}")
        verifier = self.lab.authority.verifier(capability.audience, vocabulary=OWN)
        sent = ToolCall(call["action"], call["args"])
        token = capability.present(sent, now=self.now).text
        allowed = codes(verifier.decide(token, sent, Call(**call))) == ()
        assert allowed == (not model.refuses(call, hops, now=self.now, deaths=self.deaths, spent=self.kept.spent))
        SEEN["allowed" if allowed else "not allowed"] += 1

    def call_all(self) -> None:
        """A call that was asked for, on every grant."""
        for which in range(len(self.grants)):
            self.call(CALL, 0, which)

    def happen(self, what: str) -> None:
        """Something happens in both worlds."""
        authority, chain = self.lab.authority, self.chain
        kind, _, at = what.partition(" ")
        if kind == "wait":
            self.lab.clock.now += SOON
        elif kind in {"task", "other"}:
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


SEEN: Counter[str] = Counter()
"""How often what was generated came to what, in this process."""


@given(st.integers(0, 2**64))
@settings(max_examples=repeated(200), deadline=None)
def test_a_grant_is_what_the_model_says(seed: int) -> None:
    dice = Dice(seed)
    world = World(dice.rules(), {"id": 1})
    with world.lab.authority:
        # What is granted is minted later and under another key than what asks: it does not die with that by chance.
        world.lab.clock.now += 5
        fresh = RootKey.generate()
        world.lab.authority.rekey(world.lab.authority.keyring.added(fresh).activated(fresh.kid))
        for depth, (hop, bounds, caveats) in enumerate(dice.steps()):
            world.delegate(hop, bounds, caveats, depth)
            # Whoever delegates further has asked before, and shares what is below the same budgets.
            world.ask(dice.choice(ASKS[:3]), None)
        for ask in dice.sample(ASKS[:4], 2):
            world.ask(ask, None)
        for kind, *said in dice.events():
            getattr(world, kind)(*said)
        world.call_all()
        world.happen(dice.choice(["wait", "wait", "other", "other", *HAPPENS]))
        world.call_all()
