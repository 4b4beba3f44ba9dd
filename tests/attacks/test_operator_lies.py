"""Lies of an operator: who holds the root key, the store and the key of the log writes a proof of what never happened.

Each lie changes one honest proof: its events, and the parts beside them. The operator signs the result anew. The keys
of agents and people are not the operator's, but their signatures are: each lie may use what they have signed anywhere,
and a puppet, which is an agent that the operator has invented.

    LIES       in a task that is bound to a key: none reads consistent
    WORDS      in a task that is bound to a key, what docs/security-model.md leaves to the word of who writes the log
    KEYLESS    in a task that is bound to no key, what docs/security-model.md leaves to that word
"""

import copy
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.canonical_json import canonical
from capx.intents.principal_key import PrincipalKey
from capx.intents.verdict_message import verdict_message
from capx.proof import ProofBroken, Report, export
from capx.proof.document import AnsweredRequest, AskedPart, Disclosed, Proof
from capx.tokens import wire
from capx.tokens.binding import HttpRequest, Received, ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability, mint_block
from capx.tokens.chain_text import block_text
from capx.tokens.pins import offer_digest
from capx.tokens.uses_counter import uses_counter
from capx.verify.ask import Ask, Granted
from capx.verify.evidence import args_commitment, salt_of
from capx_caveats import JSON, expires, not_before
from tests.labs.granting_lab import policy, rule
from tests.labs.lab import NOW
from tests.labs.proving import ANA, BOB, CARA, PLANNER, READER, ProofLab, full_trust, read, told

PUPPET = AgentKey.generate("puppet")
END = NOW + 200
"""When the honest task ends."""


class Told:
    """One event of a log that may lie; `asked` are the salt and the arguments of the ask in it."""

    def __init__(
        self, at: int, kind: str, body: dict[str, Any], asked: tuple[str, dict[str, Any]] | None = None
    ) -> None:
        self.at, self.kind, self.body, self.asked = at, kind, body, asked


class Tale:
    """A proof that a lie changes: the events of the authority, the parts beside them, and who may sign what."""

    def __init__(self, lab: ProofLab, proof: Proof, agents: Mapping[str, Bundle]) -> None:
        self.lab, self.proof, self.agents = lab, proof, agents
        asked = {one.position: (one.salt, one.args) for one in proof.asked}
        self.events = [Told(*event, asked.get(at)) for at, event in enumerate(told(proof), 1)]
        self.requests = list(proof.requests)
        self.disclosed = list(proof.disclosed)
        self.at: int | None = None

    def told(self) -> Proof:
        """The proof of this tale, signed by the operator."""
        parts = [AskedPart(at, *one.asked) for at, one in enumerate(self.events, 1) if one.asked is not None]
        proof = msgspec.structs.replace(
            self.proof, asked=tuple(parts), requests=tuple(self.requests), disclosed=tuple(self.disclosed)
        )
        return self.lab.rewritten(proof, *[(one.at, one.kind, one.body) for one in self.events], at=self.at)

    def read(self) -> Report:
        """What a reader is told."""
        return read(self.told(), full_trust(self.lab))

    # Finding what the honest log has.

    def all(self, kind: str, **members: Any) -> list[Told]:
        """The events of this kind with these members."""
        return [
            one
            for one in self.events
            if one.kind == kind and all(one.body.get(name) == value for name, value in members.items())
        ]

    def one(self, kind: str, nth: int = 0, **members: Any) -> Told:
        """The nth event of this kind with these members."""
        return self.all(kind, **members)[nth]

    def grants(self, audience: str) -> list[Told]:
        """The run-time grants at an audience."""
        return [one for one in self.all("capability_minted", audience=audience) if "request" in one.body]

    def call(self, action: str, nth: int = 0, outcome: str = "allowed") -> Told:
        """The nth decision about an action."""
        return self.one("decision", nth, action=action, outcome=outcome)

    # Changing it.

    def drop(self, *gone: Told) -> None:
        """Leave events out."""
        self.events = [one for one in self.events if one not in gone]

    def add(self, *more: Told, behind: Told | None = None) -> None:
        """Write events in the order of their times, or behind this one."""
        for one in more:
            if behind is None:
                later = (nth for nth, each in enumerate(self.events) if each.kind != "decision" and each.at > one.at)
                self.events.insert(next(later, len(self.events)), one)
            else:
                self.events.insert(self.events.index(behind) + 1, one)
                behind = one

    def move(self, event: Told, at: int) -> None:
        """Date an event otherwise, and write it at the place of that time."""
        self.drop(event)
        event.at = at
        self.add(event)

    # Making it up: with the root key, whatever block an operator likes.

    def block(self) -> list[Any]:
        """The caveats of an honest grant to the reader at `files`, on which no call was made."""
        caveats: list[Any] = msgspec.json.decode(self.grants("files")[1].body["chain"]["blocks"][0])
        return caveats

    def minted(self, audience: str, block: list[Any], at: int = NOW) -> Capability:
        """A capability with this block, under the root key."""
        key = self.lab.authority.keyring.active.audience_key(audience)
        return mint_block(key, msgspec.json.encode(block), now=at, nonce=b64u(os.urandom(16)))

    def mint(self, capability: Capability, at: int, **more: Any) -> Told:
        """The event of a capability: minted by hand, or granted on a request that `more` names."""
        body = {
            "task": self.proof.task,
            "audience": capability.audience,
            "kid": capability.kid,
            "ids": list(map(b64u, capability.ids)),
            "allow": ["whatever"],
            "expires": NOW + 3600,
            "digest": b64u(capability.digest),
            "chain": msgspec.to_builtins(capability.chain_text),
        }
        return Told(at, "capability_minted", {**body, **more})

    def remint(self, event: Told, change: Callable[[list[Any]], None], audience: str | None = None) -> Capability:
        """Change the first block of a grant that the log has, and keep all else that the event says."""
        block = msgspec.json.decode(event.body["chain"]["blocks"][0])
        change(block)
        capability = self.minted(audience or event.body["audience"], block, event.at)
        made = self.mint(capability, event.at).body
        event.body.update({name: made[name] for name in ("ids", "digest", "chain")})
        return capability

    def own(self, who: str, audience: str = "authority") -> Capability:
        """What an agent was given for an audience, with its key: for the authority, unless another is said."""
        capability = next(one for one in self.agents[who] if one.audience == audience)
        key = PLANNER if who == "planner" else READER
        return capability if capability.holder_key is None else capability.with_key(key)

    def ask(
        self, asker: Capability, ask: Ask, at: int, *, names: list[str] | None = None, received: Received | None = None
    ) -> tuple[dict[str, Any], tuple[str, dict[str, Any]]]:
        """The evidence of an ask that the holder of this capability has signed, and the arguments beside it."""
        args = msgspec.json.decode(canonical(dict(ask.arguments())))
        presented = asker.present(received or ToolCall(ask.own_action, args), now=at)
        salt = os.urandom(32)
        evidence: dict[str, Any] = {
            "after": b64u(self.minted_part(asker)),
            "args": args_commitment(salt, canonical(args)),
            "blocks": [block_text(one) for one in asker.blocks[1:]],
            "presented": block_text(presented.blocks[-1]),
        }
        return evidence if names is None else {**evidence, "names": names}, (b64u(salt), args)

    def minted_part(self, asker: Capability) -> bytes:
        """D of the first block of a capability, which the authority has minted."""
        frame = wire.decode(asker.text)
        first = wire.Frame(frame.identifier, frame.identifier_bytes, frame.blocks[:1], bytes(32), b"")
        return Capability(first, wire.encode(frame.identifier, first.blocks, bytes(32))).digest

    def granted(
        self,
        asker: Capability,
        ask: Ask,
        at: int = NOW,
        *,
        allow: list[Any] | None = None,
        holder: str | None = None,
        steps: list[list[str]] | None = None,
        signed: int | None = None,
        names: list[str] | None = None,
        received: Received | None = None,
        asked: bool = True,
        round_: int = 1,
    ) -> tuple[Told, Capability]:
        """A grant on an ask, as the operator likes it: by default it is all that an honest authority would write."""
        block, own = self.block(), steps_of(asker)
        put(block, "root", [["root", part(block, "root")[1], *([own] if steps is None and own else [])]])
        if steps is not None:
            put(block, "root", [["root", part(block, "root")[1], *([steps] if steps else [])]])
        public = (holder or asker.holder_key or "").removeprefix("ed25519:")
        put(block, "holder", [["holder", public]] if public else [])
        pinned = msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(ask.entry(names))))
        offer = f"{ask.action.split('.', maxsplit=1)[0]}.*"
        allows = [["allow", [[offer]]], ["allow", [pinned]]] if allow is None else allow
        put(block, "allow", allows)
        capability = self.minted(ask.audience, block, at)
        counted = ask if names is None else ask.only(names)
        evidence, beside = self.ask(asker, ask, at if signed is None else signed, names=names, received=received)
        evidence["offer"] = offer_digest(allows[0])
        event = self.mint(
            capability,
            at,
            request=counted.request(asker.ids[-1], evidence["offer"]),
            round=round_,
            path=list(map(b64u, asker.path)),
            hops=list(asker.hops),
            asker=list(map(b64u, asker.ids)),
        )
        if asked:
            event.body["ask"], event.asked = evidence, beside
        return event, capability

    def called(
        self, capability: Capability, action: str, at: int = NOW, *, args: dict[str, JSON] | None = None, **more: Any
    ) -> Told:
        """A call that was allowed, signed with the key of this capability: what an honest resource would write."""
        args = args or {}
        presented = capability.present(ToolCall(action, args), now=at)
        opened = self.one("task_opened").body
        body: dict[str, Any] = {
            "id": f"d.{b64u(os.urandom(16))}",
            "at": at,
            "outcome": "allowed",
            "audience": capability.audience,
            "action": action,
            **{name: opened[name] for name in ("task", "tenant", "intent", "root")},
            "hops": list(capability.hops),
            "nonces": [nonce for _, nonce in steps_of(capability)],
            "ids": list(map(b64u, capability.ids)),
            "presentation": b64u(presented.id),
            "digest": b64u(capability.digest),
            "chain": msgspec.to_builtins(capability.chain_text),
        }
        if capability.holder_key is not None:
            body |= {"key": capability.holder_key, "presented": block_text(presented.blocks[-1])}
        return Told(at, "decision", {**body, **more})


def part(block: list[Any], tag: str) -> list[Any]:
    """The first caveat of this tag."""
    return next(one for one in block if one[0] == tag)


def put(block: list[Any], tag: str, caveats: list[Any]) -> None:
    """Put these caveats in the place of all of this tag."""
    at = next((nth for nth, one in enumerate(block) if one[0] == tag), len(block))
    rest = [one for one in block if one[0] != tag]
    block[:] = [*rest[:at], *caveats, *rest[at:]]


def caveats_in(capability: Capability) -> list[Any]:
    """The caveats of the first block of a capability, as JSON."""
    first = capability.blocks[0]
    assert isinstance(first, bytes)
    caveats: list[Any] = msgspec.json.decode(first)
    return caveats


def steps_of(capability: Capability) -> list[list[str]]:
    """The hops of a capability, as a grant to its holder has them at its root."""
    blocks = [msgspec.json.decode(one) for one in capability.blocks if isinstance(one, bytes)]
    first: list[list[str]] = next((one[2] for one in blocks[0] if one[0] == "root" and len(one) > 2), [])
    return [*first, *[[one[0][1], one[0][2]] for one in blocks[1:] if one[0][0] == "hop"]]


class Posing:
    """A key of the operator that poses as that of somebody else."""

    def __init__(self, public: str) -> None:
        self.public = public

    def sign(self, message: bytes) -> bytes:
        return PUPPET.sign(message)


def spare(capability: Capability) -> Capability:
    """The same capability in the hands of who has not its key."""
    return capability.with_key(Posing(capability.holder_key or ""))


def puppet_below(parent: Capability) -> Capability:
    """The puppet, as a delegate of this holder, who has not signed it."""
    return spare(parent).delegate(to="puppet", to_key=PUPPET, allow=["grant.request"], now=NOW).with_key(PUPPET)


def story(lab: ProofLab, **said: Any) -> Tale:
    """The honest task, and its proof: two agents, five asks, two consents, a denial, calls, a revocation, the end."""
    lab.policy = policy(
        rule("at_open", "crm.*", "slides.*"), rule("on_request", "files.*"), rule("ask", "billing.*", uses=1)
    )
    task, planner = lab.started(**said)
    keys = (PLANNER, READER) if planner.holder else (None, None)

    def richer(bundle: Bundle, answer: Any, key: AgentKey | None) -> Bundle:
        assert isinstance(answer, Granted), str(answer)
        return bundle.holding(answer.capability.with_key(key) if key else answer.capability, now=int(lab.clock.now))

    def refund() -> Bundle:
        lab.decide(lab.pending(planner, "billing.refund", {"amount": 40}).request)
        lab.clock.now += 5
        return richer(planner, lab.ask(planner, "billing.refund", {"amount": 40}), keys[0])

    lab.call(planner, "crm.read", {"id": 1})
    reader = planner.delegate(
        to="reader", to_key=keys[1], allow=["crm.read"], may_ask=["files.*"], now=int(lab.clock.now)
    )
    reader = reader.with_key(READER) if planner.holder else reader
    lab.call(reader, "crm.read", {"id": 2})
    lab.call(richer(reader, lab.ask(reader, "files.read", {"path": "a"}), keys[1]), "files.read", {"path": "a"})
    lab.granted(reader, "files.read", {"path": "b"})
    lab.slide(planner)
    lab.clock.now = NOW + 10
    lab.call(refund(), "billing.refund", {"amount": 40})
    lab.clock.now = NOW + 20
    refund()
    denied = lab.pending(planner, "billing.refund", {"amount": 41})
    lab.decide(denied.request, CARA, yes=False)
    lab.pending(planner, "billing.refund", {"amount": 42})
    lab.refused(planner, "nothing.here", {})
    lab.call(reader, "crm.export")
    lab.authority.revoke(reader.node)
    lab.clock.now = NOW + 150
    lab.call(reader, "crm.read", {"id": 3})
    lab.clock.now = END
    lab.authority.complete(task.id)
    lab.authority.flush()
    disclosed = {lab.decisions[0].id: {"id": 1}}
    made = export(lab.authority, task.id, parts=[lab.ledger_part(task.id)], disclose=disclosed, now=END)
    return Tale(lab, made, {"planner": planner, "reader": reader})


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tale]:
    """The honest proof of a task that is bound to a key."""
    lab = ProofLab(tmp_path_factory.mktemp("keyed"))
    yield story(lab)
    lab.close()


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tale]:
    """The honest proof of a task that is bound to no key."""
    lab = ProofLab(tmp_path_factory.mktemp("keyless"))
    yield story(lab, agent_key=None)
    lab.close()


def again(tale: Tale) -> Tale:
    """A tale that a lie may change."""
    return Tale(tale.lab, tale.proof, tale.agents)


def test_the_honest_proofs_are_consistent(keyed: Tale, keyless: Tale) -> None:
    for tale in keyed, keyless:
        report = again(tale).read()
        assert (report.result, report.contradictions, report.gaps) == ("consistent", (), ())


Lie = Callable[[Tale], None]
LIES: dict[str, Lie] = {}
WORDS: dict[str, Lie] = {}
KEYLESS: dict[str, Lie] = {}
FILE_C = Ask(audience="files", action="files.read", args={"path": "c"})
REFUND = Ask(audience="billing", action="billing.refund", args={"amount": 40})


def of(table: dict[str, Lie]) -> Callable[[Lie], Lie]:
    """Put a lie into this table, under its name."""

    def put_there(lie: Lie) -> Lie:
        table[lie.__name__] = lie
        return lie

    return put_there


lie, word, keyless_word = of(LIES), of(WORDS), of(KEYLESS)


def control(tale: Tale) -> None:
    """No lie: the reader asks once more, gets it, and calls. It shows that lies fail by what they change only."""
    event, capability = tale.granted(tale.own("reader"), FILE_C)
    call = tale.called(capability.with_key(READER), "files.read", args={"path": "c"})
    tale.add(event, call, behind=tale.grants("files")[1])


def test_what_these_tools_write_reads_as_honest(keyed: Tale) -> None:
    tale = again(keyed)
    control(tale)
    assert tale.read().result == "consistent"


# A puppet: an agent that the operator has invented.


@lie
def puppet_gets_a_grant_without_an_ask(tale: Tale) -> None:
    event, capability = tale.granted(
        tale.own("reader"), FILE_C, holder=PUPPET.public, steps=[["puppet", "AgICAgICAgI"]], asked=False
    )
    event.body |= {"path": list(map(b64u, capability.path)), "hops": list(capability.hops)}
    tale.add(event, tale.called(capability.with_key(PUPPET), "files.read", args={"path": "c"}))


@lie
def puppet_gets_a_grant_by_hand(tale: Tale) -> None:
    block = tale.block()
    put(block, "holder", [["holder", PUPPET.public.removeprefix("ed25519:")]])
    capability = tale.minted("files", block)
    tale.add(tale.mint(capability, NOW), tale.called(capability.with_key(PUPPET), "files.read", args={"path": "b"}))


@lie
def puppet_asks_below_a_hop_it_signed_itself(tale: Tale) -> None:
    event, capability = tale.granted(puppet_below(tale.own("planner")), FILE_C)
    tale.add(event, tale.called(capability.with_key(PUPPET), "files.read", args={"path": "c"}))


@lie
def puppet_asks_below_the_reader(tale: Tale) -> None:
    tale.add(tale.granted(puppet_below(tale.own("reader")), FILE_C)[0])


@lie
def puppet_poses_as_the_reader(tale: Tale) -> None:
    tale.add(tale.granted(spare(tale.own("reader")), FILE_C)[0])


@lie
def puppet_poses_as_the_planner_for_a_refund(tale: Tale) -> None:
    tale.add(tale.granted(spare(tale.own("planner")), REFUND)[0])


def puppets_own(tale: Tale) -> Capability:
    """A capability for the authority in the hands of the puppet."""
    block: list[Any] = caveats_in(tale.own("planner"))
    put(block, "holder", [["holder", PUPPET.public.removeprefix("ed25519:")]])
    return tale.minted("authority", block).with_key(PUPPET)


@lie
def puppet_asks_from_a_grant_of_its_own(tale: Tale) -> None:
    own = puppets_own(tale)
    tale.add(tale.mint(own, NOW), tale.granted(own, FILE_C)[0])


@lie
def puppet_asks_from_what_no_log_has_minted(tale: Tale) -> None:
    tale.add(tale.granted(puppets_own(tale), FILE_C)[0])


@lie
def puppet_asks_from_what_was_granted_on_a_request(tale: Tale) -> None:
    own, honest = puppets_own(tale), tale.grants("files")[1].body
    more = {name: honest[name] for name in ("request", "round", "path", "hops", "asker", "ask")}
    tale.add(tale.mint(own, NOW, **more), tale.granted(own, FILE_C)[0])


@lie
def puppet_gets_what_the_reader_asked_for(tale: Tale) -> None:
    tale.add(tale.granted(tale.own("reader"), FILE_C, holder=PUPPET.public)[0])


@lie
def puppet_takes_the_place_of_an_honest_grant(tale: Tale) -> None:
    public = PUPPET.public.removeprefix("ed25519:")
    tale.remint(tale.grants("files")[1], lambda block: put(block, "holder", [["holder", public]]))


@lie
def puppet_gets_what_a_person_agreed_to(tale: Tale) -> None:
    public = PUPPET.public.removeprefix("ed25519:")
    tale.remint(tale.grants("billing")[1], lambda block: put(block, "holder", [["holder", public]]))


@lie
def puppet_is_the_first_holder_of_the_task(tale: Tale) -> None:
    tale.one("task_opened").body["holder"] = PUPPET.public


@lie
def puppet_makes_a_request_that_waits(tale: Tale) -> None:
    honest = tale.one("request_made", -1)
    body = {**honest.body, "hops": ["puppet"], "path": [*honest.body["path"], "A" * 22], "request": "B" * 21 + "A"}
    del body["ask"]
    tale.add(Told(honest.at, "request_made", body))


@lie
def puppet_is_a_bearer(tale: Tale) -> None:
    tale.add(tale.granted(tale.own("reader"), FILE_C)[0])
    tale.remint(tale.grants("files")[2], lambda block: put(block, "holder", []))


@lie
def puppet_gets_a_bearers_grant_by_hand(tale: Tale) -> None:
    block = tale.block()
    put(block, "holder", [])
    tale.add(tale.mint(tale.minted("files", block), NOW))


@lie
def puppet_calls_under_what_nobody_minted(tale: Tale) -> None:
    _, capability = tale.granted(tale.own("reader"), FILE_C, holder=PUPPET.public)
    tale.add(tale.called(capability.with_key(PUPPET), "files.read", args={"path": "c"}))


@lie
def puppet_holds_a_grant_before_the_reader(tale: Tale) -> None:
    # Its chain goes on with a hop that the puppet has signed for the reader, at the reader's own node.
    asker = tale.own("reader")
    event, capability = tale.granted(asker, FILE_C, holder=PUPPET.public, steps=[])
    ((_, nonce),) = steps_of(asker)
    below = capability.with_key(PUPPET).delegate(to="reader", to_key=READER, nonce=nonce, now=NOW)
    made = tale.mint(below, NOW).body
    event.body |= {name: made[name] for name in ("ids", "digest", "chain")}
    tale.add(event)


# Grants that are wider than what was asked for.


def widened(*allow: Any, audience: str | None = None) -> Lie:
    """The reader's second grant, with these allowlists, or minted at this audience."""

    def changed(block: list[Any]) -> None:
        if allow:
            put(block, "allow", [["allow", one] for one in allow])

    def widen(tale: Tale) -> None:
        tale.remint(tale.grants("files")[1], changed, audience)

    return widen


LIES |= {
    "grant_is_for_any_arguments": widened([["files.*"]], [["files.read"]]),
    "grant_is_for_all_actions": widened([["files.*"]], [["files.*"]]),
    "grant_is_for_another_action": widened([["files.*"]], [["files.wipe", [["path", ["eq", "b"]]]]]),
    "grant_is_for_another_argument": widened([["files.*"]], [["files.read", [["path", ["eq", "c"]]]]]),
    "grant_is_for_a_prefix_of_it": widened([["files.*"]], [["files.read", [["path", ["prefix", "b"]]]]]),
    "grant_leaves_other_arguments_free": widened(
        [["files.*"]], [["files.read", [["path", ["eq", "b"]], ["...", ["anything"]]]]]
    ),
    "grant_has_a_second_entry": widened([["files.*"]], [["files.read", [["path", ["eq", "b"]]]], ["files.wipe"]]),
    "grant_is_not_pinned": widened([["files.*"]]),
    "grant_has_its_allowlists_the_other_way_round": widened([["files.read", [["path", ["eq", "b"]]]]], [["files.*"]]),
    "grant_has_a_third_allowlist": widened(
        [["files.*"]], [["files.read", [["path", ["eq", "b"]]]]], [["files.read", [["path", ["eq", "b"]]]]]
    ),
    "grant_is_at_another_audience": widened(audience="crm"),
}


@lie
def grant_is_at_another_audience_in_its_event_too(tale: Tale) -> None:
    event = tale.grants("files")[1]
    tale.remint(event, lambda block: None, "crm")
    event.body["audience"] = "crm"


@lie
def grant_outlives_the_task(tale: Tale) -> None:
    tale.remint(tale.grants("files")[1], lambda block: put(block, "expires", [["expires", NOW + 99_999]]))


@lie
def grant_is_in_another_task(tale: Tale) -> None:
    def moved(block: list[Any]) -> None:
        put(block, "task", [["task", "A" * 22]])
        put(block, "until_completed", [["until_completed", "A" * 22]])

    tale.remint(tale.grants("files")[1], moved)


@lie
def grant_is_for_another_tenant(tale: Tale) -> None:
    tale.remint(tale.grants("files")[1], lambda block: put(block, "tenant", [["tenant", "Globex"]]))


@lie
def grant_is_more_than_a_person_agreed_to(tale: Tale) -> None:
    block: list[Any] = [["allow", [["billing.*"]]], ["allow", [["billing.refund", [["amount", ["eq", 4000]]]]]]]
    tale.remint(tale.grants("billing")[1], lambda caveats: put(caveats, "allow", block))


@lie
def grant_has_more_uses_than_a_person_agreed_to(tale: Tale) -> None:
    event = tale.grants("billing")[1]
    counter = uses_counter(event.body["request"], 2)
    tale.remint(event, lambda block: put(block, "budget", [["budget", "calls", "9", counter]]))


@lie
def grant_is_for_some_names_and_one_more(tale: Tale) -> None:
    event, _ = tale.granted(tale.own("reader"), FILE_C, names=["path"], allow=[["allow", [["files.*"]]]])
    tale.add(event)


@lie
def grant_is_on_another_offer_than_its_request(tale: Tale) -> None:
    def offered(block: list[Any]) -> None:
        put(block, "allow", [["allow", [["files.read"]]], next(one for one in reversed(block) if one[0] == "allow")])

    tale.remint(tale.grants("files")[1], offered)


@lie
def request_is_on_another_offer_than_its_id(tale: Tale) -> None:
    asked_in(tale, 42).body["ask"]["offer"] = "A" * 43


@lie
def grant_leaves_all_arguments_free(tale: Tale) -> None:
    # The names of the arguments that count are the operator's: with none of them, any arguments are allowed.
    tale.add(tale.granted(tale.own("reader"), FILE_C, names=[])[0])


@lie
def grant_is_more_than_the_reader_may_ask_for(tale: Tale) -> None:
    # The planner has signed that the reader may ask for `files.*` only.
    tale.add(tale.granted(tale.own("reader"), REFUND)[0])


@lie
def grant_is_on_an_ask_that_is_not_yet_good(tale: Tale) -> None:
    asker = tale.own("reader").attenuate(not_before(NOW + 90)).with_key(READER)
    tale.add(tale.granted(asker, FILE_C)[0])


# Grants at another node than that of who asked.


@lie
def grant_is_at_the_root(tale: Tale) -> None:
    tale.remint(tale.grants("files")[1], lambda block: put(block, "root", [part(block, "root")[:2]]))


@lie
def grant_is_at_a_node_beside(tale: Tale) -> None:
    steps = [["reader", "AgICAgICAgI"]]
    tale.remint(tale.grants("files")[1], lambda block: put(block, "root", [[*part(block, "root")[:2], steps]]))


@lie
def grant_is_at_a_node_below(tale: Tale) -> None:
    steps = [*steps_of(tale.own("reader")), ["helper", "AgICAgICAgI"]]
    tale.remint(tale.grants("files")[1], lambda block: put(block, "root", [[*part(block, "root")[:2], steps]]))


@lie
def grant_is_at_a_node_beside_in_its_event_too(tale: Tale) -> None:
    event, steps = tale.grants("files")[1], [["reader", "AgICAgICAgI"]]
    capability = tale.remint(event, lambda block: put(block, "root", [[*part(block, "root")[:2], steps]]))
    event.body["path"] = list(map(b64u, capability.path))


@lie
def event_of_a_grant_names_another_node(tale: Tale) -> None:
    event = tale.grants("files")[1]
    event.body["path"] = event.body["path"][:1]
    event.body["hops"] = []


@lie
def event_of_a_grant_names_another_label(tale: Tale) -> None:
    tale.grants("files")[1].body["hops"] = ["auditor"]


@lie
def event_of_a_grant_names_another_asker(tale: Tale) -> None:
    event = tale.grants("files")[1]
    event.body["asker"] = event.body["asker"][:2]


@lie
def planner_gets_what_the_reader_asked_for(tale: Tale) -> None:
    tale.add(tale.granted(tale.own("reader"), FILE_C, holder=PLANNER.public, steps=[])[0])


@lie
def reader_gets_what_the_planner_asked_for(tale: Tale) -> None:
    steps = steps_of(tale.own("reader"))
    tale.add(tale.granted(tale.own("planner"), FILE_C, holder=READER.public, steps=steps)[0])


@lie
def request_names_another_agent(tale: Tale) -> None:
    honest = tale.grants("files")[1].body
    tale.one("request_made", -1).body.update(path=honest["path"], hops=honest["hops"])


@lie
def grant_gives_its_agent_another_label(tale: Tale) -> None:
    ((_, nonce),) = steps_of(tale.own("reader"))
    steps = [["auditor", nonce]]
    tale.remint(tale.grants("files")[1], lambda block: put(block, "root", [[*part(block, "root")[:2], steps]]))


@lie
def grant_by_hand_is_at_a_node_that_nobody_made(tale: Tale) -> None:
    block = tale.block()
    put(block, "root", [[*part(block, "root")[:2], [["auditor", "AgICAgICAgI"]]]])
    put(block, "holder", [["holder", PLANNER.public.removeprefix("ed25519:")]])
    tale.add(tale.mint(tale.minted("files", block), NOW))


@lie
def delegation_is_told_as_minted(tale: Tale) -> None:
    bundle = tale.agents["reader"]
    tale.add(tale.mint(next(one for one in bundle if one.audience == "crm"), NOW))


# Consents that are moved, bent or made up.


def asked_in(tale: Tale, amount: int) -> Told:
    """The request for a refund of this amount."""
    return next(one for one in tale.all("request_made") if one.asked and one.asked[1]["args"]["amount"] == amount)


def answered(tale: Tale, part: AnsweredRequest, request: str, at: int, *, yes: bool = True) -> Told:
    """The event of an answer."""
    body = {"request": request, "task": tale.proof.task, "approver": part.approver, "signature": part.signature}
    return Told(at, "request_approved" if yes else "request_denied", body)


def fooled(tale: Tale, nth: int, key: PrincipalKey = BOB, at: int | None = None, **shown: Any) -> None:
    """A person has signed the yes to a request that was shown otherwise: this is what the proof then has."""
    honest, event = tale.requests[nth], tale.all("request_approved")[nth]
    when, seen = honest.at if at is None else at, {**honest.shown, **shown}
    message = verdict_message(hashlib.sha256(canonical(seen)).digest(), key.name, yes=True, at=when)
    made = AnsweredRequest(seen, key.name, True, when, key.sign(message))
    tale.requests[nth] = made
    event.body |= {"approver": key.name, "signature": made.signature}


def agreed_grant(tale: Tale, request: Told, at: int) -> Told:
    """A grant on a request as it stands in the log, for which the planner has asked."""
    ask = Ask(audience="billing", action="billing.refund", args=request.asked[1]["args"]) if request.asked else REFUND
    event, _ = tale.granted(tale.own("planner"), ask, at)
    return event


@lie
def consent_is_moved_to_the_ask_that_was_denied(tale: Tale) -> None:
    request, part = asked_in(tale, 41), tale.requests[1]
    tale.drop(tale.one("request_denied"), tale.all("request_approved")[1])
    tale.requests = [one for one in tale.requests if one.yes]
    grant = agreed_grant(tale, request, NOW + 26)
    tale.drop(tale.grants("billing")[1])
    tale.add(answered(tale, part, request.body["request"], NOW + 26), grant)


@lie
def consent_is_moved_to_the_ask_that_waits(tale: Tale) -> None:
    request, consent = asked_in(tale, 42), tale.all("request_approved")[1]
    consent.body["request"] = request.body["request"]
    tale.move(consent, NOW + 27)
    tale.drop(tale.grants("billing")[1])
    tale.add(agreed_grant(tale, request, NOW + 27))


@word
def consent_is_missing_below_a_grant(tale: Tale) -> None:
    request = asked_in(tale, 42)
    tale.add(agreed_grant(tale, request, NOW + 28))


@lie
def consent_is_made_up(tale: Tale) -> None:
    request = asked_in(tale, 42)
    part = AnsweredRequest({**tale.requests[0].shown, "id": request.body["request"]}, "bob", True, NOW + 26, "A" * 86)
    tale.requests.append(part)
    tale.add(answered(tale, part, request.body["request"], NOW + 26), agreed_grant(tale, request, NOW + 28))


@lie
def consent_is_made_up_and_not_shown(tale: Tale) -> None:
    request = asked_in(tale, 42)
    made = msgspec.structs.replace(tale.requests[0], signature="A" * 86)
    tale.add(answered(tale, made, request.body["request"], NOW + 26), agreed_grant(tale, request, NOW + 28))


@lie
def consent_of_one_is_told_as_that_of_another(tale: Tale) -> None:
    tale.one("request_approved").body["approver"] = "cara"


@lie
def consent_of_one_is_shown_as_that_of_another(tale: Tale) -> None:
    tale.one("request_approved").body["approver"] = "cara"
    tale.requests[0] = msgspec.structs.replace(tale.requests[0], approver="cara")


@lie
def no_is_told_as_a_yes(tale: Tale) -> None:
    tale.one("request_denied").kind = "request_approved"


@lie
def no_is_shown_as_a_yes(tale: Tale) -> None:
    tale.one("request_denied").kind = "request_approved"
    tale.requests = [msgspec.structs.replace(one, yes=True) for one in tale.requests]


@lie
def no_is_overruled(tale: Tale) -> None:
    tale.add(agreed_grant(tale, asked_in(tale, 41), NOW + 30))


@lie
def grant_stands_before_its_consent(tale: Tale) -> None:
    consent, grant = tale.all("request_approved")[1], tale.grants("billing")[1]
    tale.drop(grant)
    tale.events.insert(tale.events.index(consent), grant)


@lie
def consent_stands_before_its_request(tale: Tale) -> None:
    request, consent = tale.one("request_made"), tale.one("request_approved")
    tale.drop(consent)
    tale.events.insert(tale.events.index(request), consent)


@lie
def consent_of_the_first_round_is_used_in_the_second(tale: Tale) -> None:
    second = tale.all("request_approved")[1]
    tale.requests.pop(1)
    second.body["signature"] = tale.requests[0].signature


@lie
def consent_of_the_second_round_is_left_out(tale: Tale) -> None:
    tale.drop(tale.all("request_approved")[1])
    tale.requests.pop(1)


@lie
def grant_of_the_second_round_says_it_is_of_the_first(tale: Tale) -> None:
    tale.grants("billing")[1].body["round"] = 1


@lie
def grant_of_the_second_round_is_that_of_the_first(tale: Tale) -> None:
    first, second = tale.grants("billing")
    second.body |= {name: first.body[name] for name in ("ids", "digest", "chain")}


@lie
def consent_of_the_first_round_is_left_out(tale: Tale) -> None:
    tale.requests.pop(0)
    tale.drop(tale.one("request_approved"))


@lie
def consent_is_not_shown(tale: Tale) -> None:
    tale.requests.pop(0)


@lie
def consent_is_shown_and_not_in_the_log(tale: Tale) -> None:
    tale.drop(tale.one("request_denied"))


@lie
def consent_is_shown_in_other_words(tale: Tale) -> None:
    part = tale.requests[0]
    tale.requests[0] = msgspec.structs.replace(part, shown={**part.shown, "action": "billing.view"})


@lie
def consent_was_signed_before_anybody_asked(tale: Tale) -> None:
    fooled(tale, 0, at=NOW - 500)


@lie
def consent_was_signed_after_the_log_has_it(tale: Tale) -> None:
    fooled(tale, 0, at=NOW + 500)


@lie
def consent_was_to_another_block(tale: Tale) -> None:
    fooled(tale, 0, block=tale.requests[0].shown["block"].replace("40", "4"))


@lie
def consent_that_nobody_used_was_on_another_offer(tale: Tale) -> None:
    tale.drop(tale.grants("billing")[1])
    fooled(tale, 1, block=tale.requests[1].shown["block"].replace('"billing.*"', '"billing.refund"'))


@lie
def consent_was_for_another_audience(tale: Tale) -> None:
    fooled(tale, 0, audience="crm")


@lie
def consent_was_in_another_task(tale: Tale) -> None:
    fooled(tale, 0, task="A" * 22)


@lie
def consent_was_on_another_intent(tale: Tale) -> None:
    fooled(tale, 0, intent="A" * 43)


@lie
def consent_was_to_an_ask_of_another_agent(tale: Tale) -> None:
    fooled(tale, 0, labels=["auditor"], path=[*tale.requests[0].shown["path"], "A" * 22])


@lie
def consent_was_to_another_action_in_words(tale: Tale) -> None:
    fooled(tale, 0, action="billing.view")


@lie
def consent_was_to_other_arguments_in_words(tale: Tale) -> None:
    fooled(tale, 0, args='{"amount":4}')


@lie
def consent_was_to_be_answered_by_others(tale: Tale) -> None:
    fooled(tale, 0, approvers=["legal"])


@lie
def consent_came_when_nobody_could_answer_any_more(tale: Tale) -> None:
    fooled(tale, 1, until=NOW + 21, at=NOW + 60)
    tale.move(tale.all("request_approved")[1], NOW + 60)
    tale.move(tale.grants("billing")[1], NOW + 61)


@lie
def consent_is_older_than_consents_may_be(tale: Tale) -> None:
    tale.move(tale.one("task_completed"), NOW + 900)
    tale.move(tale.all("request_approved")[1], NOW + 800)
    tale.move(tale.grants("billing")[1], NOW + 801)


@lie
def consent_is_of_who_cannot_consent(tale: Tale) -> None:
    fooled(tale, 0, ANA)


@lie
def consent_was_to_a_grant_that_demands_approvals(tale: Tale) -> None:
    fooled(tale, 0, approval={"count": 1, "by": ["legal"], "keys": [CARA.public], "lasts": 60})


@lie
def consent_follows_a_no(tale: Tale) -> None:
    request = tale.requests[0].shown["id"]
    event, shown = tale.one("request_approved"), tale.requests[0].shown
    message = verdict_message(hashlib.sha256(canonical(shown)).digest(), "cara", yes=False, at=event.at)
    no = AnsweredRequest(shown, "cara", False, event.at, CARA.sign(message))
    tale.requests.append(no)
    tale.events.insert(tale.events.index(event), answered(tale, no, request, event.at, yes=False))


@lie
def consent_follows_the_expiry_of_its_request(tale: Tale) -> None:
    event = tale.one("request_approved")
    gone = Told(event.at, "request_expired", {"request": event.body["request"], "task": tale.proof.task})
    tale.events.insert(tale.events.index(event), gone)


@lie
def two_grants_are_made_of_one_consent(tale: Tale) -> None:
    # The planner asked twice: once to make the request, once to get the grant.
    request, grant = tale.all("request_made")[1], tale.grants("billing")[1]
    more = Told(grant.at, grant.kind, copy.deepcopy(grant.body), request.asked)
    more.body["ask"] = request.body["ask"]
    tale.remint(more, lambda block: None)
    tale.add(more, behind=grant)


# Evidence that is borrowed, bent or left out.


def lend(tale: Tale, lender: Told, taker: Told, *names: str) -> None:
    """Take the evidence of an ask, or some of its members, from another event."""
    taken = lender.body["ask"]
    taker.body["ask"] = taken if not names else {**taker.body["ask"], **{name: taken[name] for name in names}}
    if not names or "args" in names:
        taker.asked = lender.asked


def strip(event: Told) -> None:
    """Leave out the evidence of an ask."""
    del event.body["ask"]
    event.asked = None


def lent(lender: Callable[[Tale], Told], taker: Callable[[Tale], Told], *names: str) -> Lie:
    return lambda tale: lend(tale, lender(tale), taker(tale), *names)


LIES |= {
    "evidence_is_that_of_another_ask": lent(lambda one: one.grants("files")[0], lambda one: one.grants("files")[1]),
    "evidence_is_that_of_another_agent": lent(lambda one: one.grants("billing")[0], lambda one: one.grants("files")[1]),
    "evidence_is_that_of_another_request": lent(lambda one: asked_in(one, 41), lambda one: one.all("request_made")[0]),
    "evidence_of_a_grant_is_that_of_another_request": lent(
        lambda one: asked_in(one, 42), lambda one: one.grants("billing")[0]
    ),
    "evidence_is_that_of_another_round": lent(
        lambda one: one.all("request_made")[0], lambda one: one.all("request_made")[1]
    ),
    "evidence_of_a_grant_is_that_of_another_round": lent(
        lambda one: one.all("request_made")[0], lambda one: one.grants("billing")[1]
    ),
    "evidence_of_two_grants_is_one": lent(lambda one: one.grants("billing")[0], lambda one: one.grants("billing")[1]),
    "presentation_is_that_of_another_ask": lent(
        lambda one: one.grants("files")[0], lambda one: one.grants("files")[1], "presented"
    ),
    "presentation_is_that_of_another_agent": lent(
        lambda one: one.grants("billing")[0], lambda one: one.grants("files")[1], "presented"
    ),
    "arguments_are_those_of_another_ask": lent(
        lambda one: one.grants("files")[0], lambda one: one.grants("files")[1], "args"
    ),
    "presentation_is_that_of_a_call": lambda one: (
        one.grants("files")[1].body["ask"].update(presented=one.call("crm.read", 1).body["presented"])
    ),
    "evidence_goes_on_from_another_audience": lambda one: (
        one.grants("files")[1].body["ask"].update(after=one.one("capability_minted", audience="crm").body["digest"])
    ),
    "evidence_goes_on_from_nothing": lambda one: one.grants("files")[1].body["ask"].update(after="A" * 43),
    "evidence_lacks_the_hop": lambda one: one.grants("files")[1].body["ask"].pop("blocks"),
    "evidence_lacks_the_presentation": lambda one: one.grants("files")[1].body["ask"].pop("presented"),
    "evidence_of_a_request_lacks_it_too": lambda one: asked_in(one, 42).body["ask"].pop("presented"),
    "grant_lacks_its_evidence": lambda one: strip(one.grants("files")[1]),
    "agreed_grant_lacks_its_evidence": lambda one: strip(one.grants("billing")[1]),
    "request_lacks_its_evidence": lambda one: strip(asked_in(one, 42)),
    "arguments_of_an_ask_are_not_shown": lambda one: setattr(one.grants("files")[1], "asked", None),
}


@lie
def arguments_of_an_ask_are_shown_as_others(tale: Tale) -> None:
    event = tale.grants("files")[1]
    assert event.asked is not None
    event.asked = (event.asked[0], {**event.asked[1], "args": {"path": "c"}})


@lie
def arguments_of_an_ask_are_committed_to_anew(tale: Tale) -> None:
    event = tale.grants("files")[1]
    assert event.asked is not None
    salt, args = event.asked[0], {**event.asked[1], "args": {"path": "c"}}
    event.asked = salt, args
    event.body["ask"]["args"] = args_commitment(unb64u(salt), canonical(args))
    tale.remint(event, lambda block: put(block, "allow", [["allow", [["files.*"]]], ["allow", [file_entry("c")]]]))
    event.body["request"] = Ask(**args).request(unb64u(event.body["asker"][-1]))


def file_entry(path: str) -> list[Any]:
    return ["files.read", [["path", ["eq", path]]]]


@lie
def evidence_is_of_long_ago(tale: Tale) -> None:
    tale.add(tale.granted(tale.own("reader"), FILE_C, NOW + 140, signed=NOW)[0])


@lie
def evidence_is_from_the_future(tale: Tale) -> None:
    tale.add(tale.granted(tale.own("reader"), FILE_C, NOW, signed=NOW + 140)[0])


@lie
def evidence_of_a_request_is_of_long_ago(tale: Tale) -> None:
    tale.move(asked_in(tale, 42), NOW + 140)


@lie
def evidence_is_of_an_expired_chain(tale: Tale) -> None:
    asker = tale.own("reader").attenuate(expires(NOW + 1)).with_key(READER)
    tale.add(tale.granted(asker, FILE_C, NOW + 60)[0])


@lie
def evidence_is_for_a_request_of_http(tale: Tale) -> None:
    received = HttpRequest(method="POST", target="/asks", body=canonical(dict(FILE_C.arguments())))
    tale.add(tale.granted(tale.own("reader"), FILE_C, received=received)[0])


@lie
def evidence_is_for_another_action_of_the_authority(tale: Tale) -> None:
    args = msgspec.json.decode(canonical(dict(FILE_C.arguments())))
    tale.add(tale.granted(tale.own("reader"), FILE_C, received=ToolCall("approval.request", args))[0])


@lie
def evidence_is_of_another_task(tale: Tale) -> None:
    bundle = tale.lab.open(agent_key=PLANNER.public).bundle
    own = next(one for one in bundle if one.audience == "authority").with_key(PLANNER)
    tale.add(tale.granted(own, FILE_C)[0])


@lie
def evidence_of_another_task_goes_on_from_this_one(tale: Tale) -> None:
    bundle = tale.lab.open(agent_key=PLANNER.public).bundle
    own = next(one for one in bundle if one.audience == "authority").with_key(PLANNER)
    event, _ = tale.granted(tale.own("planner"), FILE_C)
    evidence, _ = tale.ask(own, FILE_C, NOW)
    event.body["ask"]["presented"] = evidence["presented"]
    tale.add(event)


@lie
def one_ask_gets_two_grants(tale: Tale) -> None:
    event = tale.grants("files")[1]
    more = Told(event.at, event.kind, copy.deepcopy(event.body), event.asked)
    tale.remint(more, lambda block: None)
    tale.add(more)


@lie
def one_ask_gets_two_grants_of_two_rounds(tale: Tale) -> None:
    event = tale.grants("files")[1]
    more = Told(event.at, event.kind, copy.deepcopy(event.body) | {"round": 2}, event.asked)
    tale.remint(more, lambda block: None)
    tale.add(more)


@lie
def ask_for_a_grant_is_told_as_one_for_an_approval(tale: Tale) -> None:
    asked_in(tale, 42).body["call"] = True


@lie
def request_is_for_another_action_than_its_ask(tale: Tale) -> None:
    asked_in(tale, 42).body["action"] = "billing.wipe"


@lie
def request_is_at_another_audience_than_its_ask(tale: Tale) -> None:
    asked_in(tale, 42).body["audience"] = "crm"


@lie
def request_has_another_id_than_its_ask(tale: Tale) -> None:
    asked_in(tale, 42).body["request"] = "A" * 22


@lie
def ask_is_told_to_have_waited_for_a_late_grant(tale: Tale) -> None:
    event, _ = tale.granted(tale.own("reader"), FILE_C, NOW + 140, signed=NOW)
    names = ("task", "request", "round", "path", "hops", "audience", "ask")
    body = {**{name: event.body[name] for name in names}, "action": FILE_C.action, "approvers": ["finance"]}
    tale.add(Told(NOW, "request_made", {**body, "until": NOW + 1800}, event.asked), event)


@lie
def grant_stands_twice(tale: Tale) -> None:
    event = tale.grants("files")[1]
    tale.add(Told(event.at, event.kind, event.body, event.asked), behind=event)


@lie
def grant_is_of_a_round_that_never_was(tale: Tale) -> None:
    tale.grants("files")[1].body["round"] = 7


@lie
def request_says_that_others_may_answer(tale: Tale) -> None:
    asked_in(tale, 40).body["approvers"] = ["ana"]


@word
def ask_that_nobody_made_was_refused(tale: Tale) -> None:
    honest = tale.grants("files")[1].body
    body = {"task": tale.proof.task, "path": honest["path"], "hops": ["reader"], "audience": "crm"}
    tale.add(Told(NOW, "ask_refused", {**body, "action": "crm.wipe", "reasons": ["not_offered"]}))


@word
def ask_of_a_puppet_was_refused(tale: Tale) -> None:
    body = {"task": tale.proof.task, "path": ["A" * 22, "B" * 21 + "A"], "hops": ["puppet"], "audience": "crm"}
    tale.add(Told(NOW, "ask_refused", {**body, "action": "crm.wipe", "reasons": ["not_offered"]}))


# Calls of nobody, or other calls than were made.


@lie
def call_shows_no_presentation(tale: Tale) -> None:
    call = tale.called(tale.own("reader", "crm"), "crm.read")
    del call.body["presented"]
    tale.add(call)


@lie
def call_of_nobody_shows_no_chain(tale: Tale) -> None:
    call = tale.called(tale.own("reader", "crm"), "crm.read")
    for name in ("presented", "digest", "chain", "presentation"):
        del call.body[name]
    tale.add(call)


@lie
def call_is_signed_by_the_puppet(tale: Tale) -> None:
    tale.add(tale.called(spare(tale.own("reader", "crm")), "crm.read"))


@lie
def call_names_the_key_of_the_puppet(tale: Tale) -> None:
    tale.call("crm.read").body["key"] = PUPPET.public


@lie
def call_is_that_of_another_agent(tale: Tale) -> None:
    first, second = tale.call("crm.read"), tale.call("crm.read", 1)
    for name in ("presented", "presentation"):
        second.body[name] = first.body[name]


@lie
def call_stands_under_another_grant(tale: Tale) -> None:
    call, grant = tale.call("files.read"), tale.grants("files")[1].body
    call.body |= {name: grant[name] for name in ("ids", "digest", "chain")}


@lie
def call_is_dated_much_later(tale: Tale) -> None:
    call = tale.call("crm.read")
    call.body["at"] = NOW + 140
    tale.move(call, NOW + 140)


@lie
def call_is_dated_before_the_task(tale: Tale) -> None:
    call = tale.call("crm.read")
    call.at = call.body["at"] = NOW - 140


@lie
def call_is_dated_otherwise_than_its_event(tale: Tale) -> None:
    tale.call("crm.read").body["at"] = NOW + 20


@lie
def call_was_at_another_audience(tale: Tale) -> None:
    tale.call("crm.read").body["audience"] = "slides"


@lie
def call_was_of_an_action_beyond_its_chain(tale: Tale) -> None:
    tale.call("crm.read").body["action"] = "slides.write"


@lie
def denied_call_is_told_as_allowed(tale: Tale) -> None:
    tale.call("crm.export", outcome="denied").body["outcome"] = "allowed"


@lie
def call_of_a_dead_agent_is_told_as_allowed(tale: Tale) -> None:
    tale.call("crm.read", outcome="denied").body["outcome"] = "allowed"


@lie
def call_of_a_dead_agent_is_made_up_with_its_chain(tale: Tale) -> None:
    tale.add(tale.called(tale.own("reader", "crm"), "crm.read", NOW + 160))


@lie
def call_was_after_the_end_of_the_task(tale: Tale) -> None:
    tale.add(tale.called(tale.own("planner", "crm"), "crm.read", END + 100))


@lie
def call_stands_twice(tale: Tale) -> None:
    call = tale.call("crm.read")
    tale.add(Told(call.at, call.kind, copy.deepcopy(call.body)))


@lie
def call_is_told_twice_with_two_actions(tale: Tale) -> None:
    call = tale.call("crm.read")
    tale.add(Told(call.at, call.kind, {**call.body, "id": "d.AGsGroAr1nqD2MLkKjnEXg", "action": "crm.export"}))


@lie
def consent_for_one_call_is_used_for_two(tale: Tale) -> None:
    capability = minted_again(tale, tale.grants("billing")[1])
    calls = [tale.called(capability, "billing.refund", NOW + 25, args={"amount": 40}) for _ in range(2)]
    tale.add(*calls)


def minted_again(tale: Tale, event: Told) -> Capability:
    """The capability of a grant to the planner, from its chain in the log."""
    identifier = wire.Identifier.decode(event.body["chain"]["identifier"].encode())
    key = tale.lab.authority.keyring.active.audience_key(identifier.audience)
    block = event.body["chain"]["blocks"][0].encode()
    capability = mint_block(key, block, now=identifier.issued_at, nonce=identifier.nonce)
    return capability if capability.holder_key is None else capability.with_key(PLANNER)


@lie
def disclosed_arguments_are_not_those_of_the_call(tale: Tale) -> None:
    (one,) = tale.disclosed
    tale.disclosed = [Disclosed(one.decision, one.salt, {"id": 9})]


@lie
def disclosed_arguments_are_committed_to_anew(tale: Tale) -> None:
    (one,) = tale.disclosed
    call = tale.call("crm.read")
    call.body["args"] = args_commitment(unb64u(one.salt), canonical({"id": 9}))
    tale.disclosed = [Disclosed(one.decision, one.salt, {"id": 9})]


@lie
def disclosed_arguments_are_more_than_the_grant_allows(tale: Tale) -> None:
    call = tale.call("files.read")
    salt = salt_of(tale.lab.authority.keyring.active.audience_key("files"), call.body["id"])
    call.body["args"] = args_commitment(salt, canonical({"path": "z"}))
    tale.disclosed.append(Disclosed(call.body["id"], b64u(salt), {"path": "z"}))


@lie
def call_of_a_ledger_is_made_up(tale: Tale) -> None:
    bundle = tale.agents["planner"]
    capability = next(one for one in bundle if one.audience == "slides").with_key(PLANNER)
    tale.add(tale.called(capability, "slides.write"))


@lie
def call_of_a_ledger_is_told_otherwise(tale: Tale) -> None:
    ledger = tale.proof.sources[1].events[0]
    body = msgspec.json.decode(ledger.body) | {"outcome": "denied"}
    tale.add(Told(ledger.at, "decision", body))


@word
def call_is_told_twice_with_two_ids(tale: Tale) -> None:
    call = tale.call("crm.read")
    tale.add(Told(call.at, call.kind, {**call.body, "id": "d.AGsGroAr1nqD2MLkKjnEXg"}))


@lie
def arguments_in_the_clear_are_not_those_disclosed(tale: Tale) -> None:
    tale.call("crm.read").body["shown_args"] = {"id": 9}


@lie
def denial_is_made_up_for_an_agent_with_a_key(tale: Tale) -> None:
    call = tale.called(tale.own("reader", "crm"), "crm.wipe", outcome="denied")
    del call.body["presented"]
    tale.add(call)


@lie
def denial_is_signed_by_the_puppet(tale: Tale) -> None:
    tale.add(tale.called(spare(tale.own("reader", "crm")), "crm.wipe", outcome="denied"))


@lie
def denial_is_of_a_puppet_that_nobody_delegated_to(tale: Tale) -> None:
    below = spare(tale.own("planner", "crm")).delegate(to="puppet", to_key=PUPPET, allow=["crm.read"], now=NOW)
    tale.add(tale.called(below.with_key(PUPPET), "crm.wipe", outcome="denied"))


@lie
def denial_is_of_a_puppet_at_the_authority(tale: Tale) -> None:
    tale.add(tale.called(puppet_below(tale.own("planner")), "grant.request", outcome="denied"))


@lie
def denial_names_the_key_of_the_puppet(tale: Tale) -> None:
    tale.call("crm.export", outcome="denied").body["key"] = PUPPET.public


@word
def approval_of_a_call_is_made_up(tale: Tale) -> None:
    request = asked_in(tale, 42)
    body = {"request": request.body["request"], "task": tale.proof.task, "approver": "cara"}
    tale.add(Told(NOW + 26, "approval_made", {**body, "approval": "A" * 22, "digest": "A" * 43}))


@lie
def grant_is_told_as_given_by_hand(tale: Tale) -> None:
    # The request of round 2 and the consent to it stay; the grant names neither.
    event = tale.grants("billing")[1]
    for name in ("request", "round", "policy", "path", "hops", "asker", "ask"):
        event.body.pop(name, None)
    event.asked = None


@lie
def grant_by_hand_has_the_uses_of_a_request(tale: Tale) -> None:
    # Nobody was asked for this refund, and the budget says that it is the third round of a request.
    event = tale.grants("billing")[1]
    block: list[Any] = msgspec.json.decode(event.body["chain"]["blocks"][0])
    put(block, "budget", [["budget", "calls", "1", uses_counter(event.body["request"], 3)]])
    tale.add(tale.mint(tale.minted("billing", block), NOW + 26))


# Honest events that are left out, and times and ends that are bent.


LIES |= {
    "ledger_is_left_out": lambda one: setattr(
        one, "proof", msgspec.structs.replace(one.proof, sources=one.proof.sources[:1])
    ),
    "task_expires_before_what_it_was_given": lambda one: one.one("task_opened").body.update(expires=NOW + 900),
    "opening_is_left_out": lambda one: one.drop(one.one("task_opened")),
    "what_the_task_was_given_is_left_out": lambda one: one.drop(one.one("capability_minted", audience="crm")),
    "what_asks_go_on_from_is_left_out": lambda one: one.drop(one.one("capability_minted", audience="authority")),
    "grant_of_a_call_is_left_out": lambda one: one.drop(one.grants("files")[0]),
    "agreed_grant_of_a_call_is_left_out": lambda one: one.drop(one.grants("billing")[0]),
    "request_is_left_out_and_its_answer_is_not": lambda one: one.drop(asked_in(one, 41)),
    "requests_are_left_out_and_consents_are_not": lambda one: one.drop(*one.all("request_made")),
    "chain_of_a_grant_is_left_out": lambda one: one.grants("files")[1].body.pop("chain"),
    "digest_of_a_grant_is_left_out": lambda one: one.grants("files")[1].body.pop("digest"),
    "digest_of_a_grant_is_another_one": lambda one: one.grants("files")[1].body.update(digest="A" * 43),
    "task_is_for_another_principal": lambda one: one.one("task_opened").body.update(principal="bob"),
    "task_is_for_another_tenant": lambda one: one.one("task_opened").body.update(tenant="Globex"),
    "task_is_for_another_purpose": lambda one: one.one("task_opened").body.update(purpose="play"),
    "task_is_bound_to_no_key": lambda one: one.one("task_opened").body.update(holder=None),
    "task_is_on_no_intent": lambda one: one.one("task_opened").body.update(intent=None),
    "task_lives_longer_than_its_intent": lambda one: one.one("task_opened").body.update(expires=NOW + 999_999),
    "task_was_opened_before_its_intent": lambda one: setattr(one.one("task_opened"), "at", NOW - 400),
    "intent_was_attested": lambda one: one.one("task_opened").body.update(attested="somebody"),
    "intent_is_not_shown": lambda one: setattr(one, "proof", msgspec.structs.replace(one.proof, intent=None)),
    "grant_is_dated_before_what_stands_before_it": lambda one: setattr(one.grants("billing")[1], "at", NOW - 100),
    "log_says_that_this_is_all_before_it_is": lambda one: setattr(one, "at", NOW + 100),
    "grant_has_another_root_key": lambda one: one.grants("files")[1].body.update(kid="AAAAAAAAAAA"),
    "task_was_over_before_it_was_opened": lambda one: one.move(one.one("task_completed"), NOW - 70),
}


@lie
def grant_follows_the_end_of_the_task(tale: Tale) -> None:
    tale.at = END + 400
    tale.add(tale.granted(tale.own("planner"), FILE_C, END + 300)[0])


@lie
def grant_follows_the_revocation_of_its_agent(tale: Tale) -> None:
    tale.add(tale.granted(tale.own("reader"), FILE_C, NOW + 180)[0])


@lie
def consent_follows_the_end_of_the_task(tale: Tale) -> None:
    tale.drop(tale.grants("billing")[1])
    fooled(tale, 1, at=END + 300)
    tale.move(tale.all("request_approved")[1], END + 300)


@lie
def grant_was_issued_at_another_time(tale: Tale) -> None:
    event = tale.grants("files")[1]
    capability = tale.minted("files", tale.block(), NOW + 3000)
    made = tale.mint(capability, NOW).body
    event.body.update({name: made[name] for name in ("ids", "digest", "chain")})


@lie
def ask_is_told_as_another_call_of_its_agent(tale: Tale) -> None:
    # The log shows that the planner has signed `grant.request` with this very presentation.
    asks = [one for one in tale.all("decision", action="grant.request") if "hops" not in one.body]
    asks[0].body["action"] = "task.complete"


# Approvals of calls, in the proof of a task that has one.

APPROVALS: dict[str, Lie] = {}


def approved(tale: Tale) -> Told:
    """The call that a person has approved."""
    return next(one for one in tale.all("decision", action="crm.read") if "approvals" in one.body)


def unshown(tale: Tale) -> None:
    """Leave out what the person was shown: alone, it would break the proof."""
    tale.proof = msgspec.structs.replace(tale.proof, approvals=())


@of(APPROVALS)
def approval_is_left_out(tale: Tale) -> None:
    unshown(tale)
    del approved(tale).body["approvals"]


@of(APPROVALS)
def approval_shows_no_signature(tale: Tale) -> None:
    unshown(tale)
    approved(tale).body["approvals"] = [{"digest": approved(tale).body["approvals"][0]["digest"]}]


@of(APPROVALS)
def approval_is_used_for_a_second_call(tale: Tale) -> None:
    unshown(tale)
    call = approved(tale)
    tale.add(Told(call.at, call.kind, {**call.body, "id": "d.AGsGroAr1nqD2MLkKjnEXg", "presentation": "A" * 22}))


@of(APPROVALS)
def approval_is_used_for_another_action(tale: Tale) -> None:
    approved(tale).body["action"] = "crm.wipe"


@of(APPROVALS)
def approval_is_used_much_later(tale: Tale) -> None:
    unshown(tale)
    call = approved(tale)
    call.body["at"] = call.body["at"] + 99_999
    tale.move(call, call.body["at"])


@of(APPROVALS)
def approval_is_signed_by_the_puppet(tale: Tale) -> None:
    unshown(tale)
    (one,) = approved(tale).body["approvals"]
    one["blocks"][-1] = one["blocks"][-1].replace(one["blocks"][-1][-20:-10], "A" * 10)


@of(APPROVALS)
def approval_was_for_another_call_than_was_shown(tale: Tale) -> None:
    (document,) = tale.proof.approvals
    changed = {**document, "args": {"id": 9}}
    tale.proof = msgspec.structs.replace(tale.proof, approvals=(changed,))


@of(APPROVALS)
def request_for_an_approval_shows_no_ask(tale: Tale) -> None:
    strip(tale.one("request_made", call=True))


@of(APPROVALS)
def request_for_an_approval_is_told_as_one_for_a_grant(tale: Tale) -> None:
    del tale.one("request_made", call=True).body["call"]


# What stays the word of who writes the log, in a task that is bound to a key.


@word
def grant_by_hand_is_whatever_the_operator_likes(tale: Tale) -> None:
    block: list[Any] = caveats_in(tale.own("planner"))
    put(block, "allow", [["allow", [["billing.*"]]]])
    tale.add(tale.mint(tale.minted("billing", block), NOW))


@word
def grant_lacks_the_restrictions_of_its_asker(tale: Tale) -> None:
    asker = tale.own("reader").attenuate(expires(NOW + 600)).with_key(READER)
    tale.add(tale.granted(asker, FILE_C)[0])


@word
def grant_needed_no_person_by_another_policy(tale: Tale) -> None:
    # The planner has asked for it, and a person has denied it.
    request, denial = asked_in(tale, 41), tale.one("request_denied")
    grant = agreed_grant(tale, request, request.at)
    lend(tale, request, grant)
    tale.requests.pop()
    tale.drop(request, denial)
    tale.add(grant)


@word
def request_is_left_out_with_its_denial(tale: Tale) -> None:
    tale.requests.pop()
    tale.drop(asked_in(tale, 41), tale.one("request_denied"))


@word
def call_has_another_action_that_its_chain_allows(tale: Tale) -> None:
    call = tale.called(tale.own("planner", "crm"), "crm.read")
    call.body["action"] = "crm.wipe"
    tale.add(call)


@word
def call_of_nobody_was_denied(tale: Tale) -> None:
    call = tale.called(tale.own("reader", "crm"), "crm.wipe", outcome="denied", hops=["puppet"])
    for name in ("presented", "digest", "chain", "presentation", "key", "ids"):
        del call.body[name]
    tale.add(call)


@word
def call_gave_back_and_was_made_again(tale: Tale) -> None:
    capability = minted_again(tale, tale.grants("billing")[1])
    first, second = [tale.called(capability, "billing.refund", NOW + 25, args={"amount": 40}) for _ in range(2)]
    body = {"task": tale.proof.task, "audience": "billing", "decision": first.body["id"]}
    given = {**body, "presentation": first.body["presentation"], "given": [], "reason": "no effect"}
    tale.add(first, second, Told(NOW + 25, "given_back", given))


@word
def denial_is_dated_much_later(tale: Tale) -> None:
    call = tale.call("crm.export", outcome="denied")
    call.body["at"] = NOW + 140
    tale.move(call, NOW + 140)


@word
def task_is_told_as_withdrawn(tale: Tale) -> None:
    tale.one("task_completed").kind = "task_withdrawn"


@word
def ask_that_was_granted_is_told_as_denied(tale: Tale) -> None:
    tale.call("grant.request").body["outcome"] = "denied"


@word
def opening_was_asked_for_by_a_person(tale: Tale) -> None:
    tale.one("task_opened").body["by"] = {"principal": "bob", "key": BOB.public}


@word
def end_was_asked_for_by_an_agent(tale: Tale) -> None:
    tale.one("revoked").body["by"] = tale.grants("files")[1].body["path"][0]


@word
def end_was_asked_for_by_a_person(tale: Tale) -> None:
    event = tale.one("task_completed")
    event.kind = "task_withdrawn"
    event.body["by"] = {"principal": "ana", "key": ANA.public}


@word
def denial_is_left_out_with_its_text(tale: Tale) -> None:
    tale.drop(tale.one("request_denied"))
    tale.requests = [one for one in tale.requests if one.yes]


@word
def request_that_waits_is_for_others_and_another_time(tale: Tale) -> None:
    tale.all("request_made")[-1].body.update(until=NOW + 5, approvers=["mallory"])


@word
def revocation_is_of_another_id(tale: Tale) -> None:
    tale.one("revoked").body["id"] = b64u(bytes(16))
    tale.call("crm.read", outcome="denied").body.update(outcome="allowed")


WORDS |= {
    "call_is_left_out": lambda one: one.drop(one.call("crm.read", 1)),
    "call_is_told_as_denied": lambda one: one.call("files.read").body.update(outcome="denied"),
    "grant_without_calls_is_left_out": lambda one: one.drop(one.grants("files")[1]),
    "revocation_is_left_out": lambda one: one.drop(one.one("revoked")),
    "policy_is_another_one": lambda one: one.one("task_opened").body.update(policy="B" * 42 + "A"),
    "grant_is_dated_within_the_tolerance": lambda one: setattr(one.grants("files")[1], "at", NOW + 25),
}


# What stays the word of who writes the log, in a task that is bound to no key.


@keyless_word
def ask_and_its_grant_are_made_up(tale: Tale) -> None:
    control_of(tale, tale.own("reader"))


@keyless_word
def puppet_asks_and_calls(tale: Tale) -> None:
    control_of(tale, tale.own("planner").delegate(to="puppet", allow=["grant.request"], now=NOW))


def control_of(tale: Tale, asker: Capability) -> None:
    """This holder asks, gets what it asked for, and calls."""
    event, capability = tale.granted(asker, FILE_C)
    tale.add(event, tale.called(capability, "files.read", args={"path": "c"}))


@keyless_word
def puppet_calls_below_the_planner(tale: Tale) -> None:
    below = tale.own("planner", "crm").delegate(to="puppet", allow=["crm.read"], now=NOW)
    tale.add(tale.called(below, "crm.read"))


@keyless_word
def call_is_made_up(tale: Tale) -> None:
    tale.add(tale.called(tale.own("reader", "crm"), "crm.read"))


@keyless_word
def ask_is_dated_otherwise(tale: Tale) -> None:
    tale.move(asked_in(tale, 42), NOW + 140)


@keyless_word
def grant_shows_no_ask(tale: Tale) -> None:
    strip(tale.grants("files")[1])


@keyless_word
def request_shows_no_ask(tale: Tale) -> None:
    strip(asked_in(tale, 42))


def test_an_honest_denial_of_an_unsigned_hop_is_no_lie(tmp_path: Path) -> None:
    # A thief without the planner's key delegates to its own. The service denies that, and shows no chain.
    lab = ProofLab(tmp_path)
    task, planner = lab.started()
    held = next(one for one in planner if one.audience == "crm")
    thief = spare(held).delegate(to="thief", to_key=PUPPET, allow=["crm.read"], now=NOW).with_key(PUPPET)
    assert [one.code for one in lab.call(Bundle([thief]), "crm.read").refusals] == ["hop_signature"]
    lab.authority.flush()
    report = read(export(lab.authority, task.id, now=NOW), lab.trust())
    assert (report.result, [one.outcome for one in report.decisions]) == ("consistent", ["denied"])
    assert [one.label for one in report.nodes] == ["task"]
    lab.close()


@pytest.mark.parametrize("name", LIES)
def test_no_lie_reads_consistent(keyed: Tale, name: str) -> None:
    tale = again(keyed)
    assert outcome(tale, LIES[name]) != "consistent"


@pytest.fixture(scope="module")
def approving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tale]:
    """The honest proof of a task with a call that a person approved."""
    lab = ProofLab(tmp_path_factory.mktemp("approving"))
    _, proof = lab.whole()
    tale = Tale(lab, proof, {})
    assert tale.read().result == "consistent"
    yield tale
    lab.close()


@pytest.mark.parametrize("name", APPROVALS)
def test_no_lie_about_approvals_reads_consistent(approving: Tale, name: str) -> None:
    assert outcome(again(approving), APPROVALS[name]) != "consistent"


def outcome(tale: Tale, lie: Lie) -> str:
    """What a lie reads as."""
    lie(tale)
    try:
        return tale.read().result
    except ProofBroken:
        return "broken"


@pytest.mark.parametrize("name", WORDS)
def test_the_word_of_the_operator_in_a_keyed_task(keyed: Tale, name: str) -> None:
    assert outcome(again(keyed), WORDS[name]) == "consistent"


@pytest.mark.parametrize("name", KEYLESS)
def test_the_word_of_the_operator_in_a_keyless_task(keyless: Tale, name: str) -> None:
    tale = again(keyless)
    assert outcome(tale, KEYLESS[name]) == "consistent"
    assert "of the authority: who asked for what was granted at run time" in tale.read().words


ABOUT_PEOPLE = [name for name in LIES if name.startswith(("consent_", "no_", "intent_", "task_is_for", "grant_is_for"))]


@pytest.mark.parametrize("name", ABOUT_PEOPLE)
def test_lies_about_people_fail_in_a_keyless_task(keyless: Tale, name: str) -> None:
    assert outcome(again(keyless), LIES[name]) != "consistent"


def test_the_first_holder_is_a_word_unless_signed(tmp_path: Path) -> None:
    # Ana's intent names no key. The operator binds the task to a puppet, which then does what it likes.
    lab = ProofLab(tmp_path)
    task = lab.authority.open(ANA.sign_intent(lab.intent()), agent_key=PUPPET.public)
    lab.call(task.bundle.with_key(PUPPET), "crm.read")
    lab.authority.flush()
    report = read(export(lab.authority, task.id, now=NOW), lab.trust())
    assert (report.result, report.holder) == ("consistent", PUPPET.public)
    assert report.intent is not None
    assert report.intent.agent_key is None
    lab.close()
