"""Authority only shrinks: whatever block is appended, what the child may do its parent may do in the same state.

Small cases are enumerated, since random ones miss the block that cures the one defect its parent has. That the
enumeration sees is shown by verifiers that are wrong in one way each: it finds every one of them.
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

import capx_caveats as caveats
from capx.tokens import chain, lineage, wire
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.lineage import Demand, Lineage, Section
from capx.verify import evaluator, verifier
from capx.verify.protocols import NO_RECORDER
from capx_caveats import (
    DEFAULT,
    Allow,
    Call,
    Caveat,
    ChainCaveat,
    Expires,
    Facts,
    Fresh,
    Hop,
    Intent,
    MaxHops,
    NotBefore,
    Presented,
    Refusal,
    Root,
    Step,
    Task,
    Tenant,
    UntilCompleted,
    Vocabulary,
    Where,
    absent,
    action,
    allow,
    anything,
    each,
    encode_block,
    length,
    max_hops,
    not_,
    one_of,
    value_constraints,
    where,
)
from tests.labs.counts import repeated, sampled
from tests.labs.lab import KEY, NONCES, NOW, Lab, appended, grant, raw
from tests.models import naive

Bytes = tuple[bytes, ...]


class Noted(Caveat, frozen=True, tag="acme.noted"):
    """A service's own caveat: the call has a note, or has none."""

    wanted: bool

    def refusal(self, facts: Facts) -> Refusal | None:
        return None if ("note" in facts.call.args) == self.wanted else Refusal("noted", "has another note")

    def sentence(self) -> str:
        return "has a note" if self.wanted else "has no note"


OWN = DEFAULT.extended(Noted)
HOP = Hop("a", NONCES[0])
WHOLE = grant()
WHOLE_AGAIN = "the whole of an authority's block"
BLOCKS: dict[str, bytes] = {
    **{
        type(caveat).__name__ + f" {at}": encode_block((caveat,))
        for at, caveat in enumerate(
            (
                *WHOLE,
                Task("T2"),
                Root("R2"),
                Root("R2", (Step("b", NONCES[1]),)),
                Intent("A" * 43),
                UntilCompleted("T2"),
                Expires(NOW + 9_000_000),
                Expires(NOW),
                NotBefore(0),
                Tenant("Acme"),
                Tenant("Globex"),
                allow("a.*", "b.*", action("a.export")),
                allow(action("a.read", args={"*": anything()})),
                allow(action("a.read", id=one_of(1, 2))),
                MaxHops(0),
                MaxHops(9),
                HOP,
                Hop("a", NONCES[0], "A" * 43),
                where("region", "eu"),
                where("args.id", absent()),
                Presented("tool", "A" * 43, NOW, "A" * 16),
                Fresh(4),
                Fresh(60),
                allow(action("a.read", id=1, note=length(0, 0))),
                allow(action("a.read", args={"id": 1, "*": length(0, 9)})),
                where("args.note", length(0, 0)),
                where("args.note", absent()),
                Noted(True),  # as it stands on the wire
                Noted(False),  # as above
                where("args.id", each(1, min=0)),
            )
        )
    },
    WHOLE_AGAIN: encode_block(WHOLE),
    "a hop and the whole of it": encode_block((HOP, *WHOLE)),
    "a hop and a root": encode_block((HOP, Root("R2"))),
    "a hop and max_hops": encode_block((HOP, MaxHops(9))),
    "another task and its end": encode_block((Task("T2"), UntilCompleted("T2"))),
    "an unknown caveat": b'[["near",5]]',
    "nothing": b"",
    "an empty block": b"[]",
    "junk": b"junk",
}


def without(kind: type[Caveat]) -> Bytes:
    return (encode_block(tuple(caveat for caveat in WHOLE if not isinstance(caveat, kind))),)


def whole(*caveats: Caveat, **parts: Any) -> Bytes:
    return (encode_block(grant(*caveats, **parts)),)


PARENTS: dict[str, Bytes] = {
    "complete": whole(),
    "complete, with a tenant": whole(Tenant("Acme")),
    "complete, one hop down": (*whole(), encode_block((HOP,))),
    **{f"without {kind.__name__}": without(kind) for kind in (Task, Root, UntilCompleted, Expires, Allow)},
    "with the end of another task": whole(UntilCompleted("T2")),
    "ending with another task alone": (*without(UntilCompleted), encode_block((UntilCompleted("T2"),))),
    "expired": whole(expires=NOW),
    "expired further down": (*whole(), encode_block((Expires(NOW),))),
    "not yet": whole(NotBefore(NOW + 1)),
    "another action": whole(allowed=allow("b.*")),
    "another action further down": (*whole(), encode_block((allow("b.*"),))),
    "other arguments": whole(allowed=allow(action("a.read", id=2))),
    "an attribute that is missing": whole(where("zone", not_("eu"))),
    "too many hops": (*whole(max_hops(0)), encode_block((HOP,))),
    "too many hops further down": (*whole(), encode_block((max_hops(0),)), encode_block((HOP,))),
    "no more hops": whole(max_hops(0)),
    "fresher news": whole(Fresh(4)),
    "fresher news further down": (*whole(), encode_block((Fresh(4),))),
    "a tenant of a holder": (*whole(), encode_block((Tenant("Acme"),))),
    "a hop with a key": (*whole(), encode_block((Hop("a", NONCES[0], "A" * 43),))),
    "a task of a holder": (*whole(), encode_block((Task("T1"),))),
    "a hop that is not first": (*whole(), encode_block((Expires(NOW + 9), HOP))),
    "what is not understood": (*whole(), b'[["near",5]]'),
    "an empty block": (*whole(), b"[]"),
    "junk": (*whole(), b"junk"),
    "nothing but junk": (b"junk",),
    "an argument that is named": whole(allowed=allow(action("a.read", id=1))),
    "a note that an own caveat wants": whole(Noted(True)),  # as it stands on the wire
    "no note, by an own caveat": whole(Noted(False)),  # as above
    "no note, by an own caveat further down": (*whole(), encode_block((Noted(False),))),  # as above
    "a note by its default": whole(where("args.note", length(0, 0))),
    "questions about each value": whole(*[where("args.id", each(one_of(*range(150))))] * 2),
    "questions further down": (*whole(), *[encode_block((where("args.id", each(one_of(*range(150)))),))] * 3),
}
CALLS = {
    "plain": Call("a.read"),
    "with an argument": Call("a.read", {"id": 1}, attributes={"region": "eu"}),
    "of a tenant": Call("a.read", tenant="Acme"),
    "not allowed": Call("a.export"),
    "with a default": Call("a.read", {"id": 1}, defaults={"note": ""}),
    "by default alone": Call("a.read", defaults={"id": 1, "note": "x"}),
}
COSTLY = {"with many values": Call("a.read", {"id": [1] * 1000}, defaults={"note": ""})}
"""What the naive verifier judges, and we refuse if a token asks too much about each value."""
JUDGED = {**CALLS, **COSTLY}
STATES: dict[str, dict[bytes | str, str]] = {
    "all alive": {},
    "the task ended": {"T1": "task_completed"},
    "another task ended": {"T2": "task_completed"},
    "the root revoked": {Capability.parse(raw(*whole()).text).path[0]: "revoked"},
    "what was minted revoked": {raw(*whole()).ids[0]: "revoked"},
    "the hop revoked": {raw(*PARENTS["complete, one hop down"]).path[1]: "revoked"},
}
AGE = 5.0
"""Seconds since deaths were last heard of."""
SEVERAL = ("Root 6", "UntilCompleted 9", "Expires 10", "Tenant 13", "MaxHops 19", "Hop 20", WHOLE_AGAIN)
RECEIVED = {name: ToolCall(call.action, call.args) for name, call in JUDGED.items()}
token_of = functools.cache(raw)


@functools.cache
def presented(blocks: Bytes, call: str) -> str:
    """A presentation of a chain for a call. It is one for all judges: each has a memory of its own for each state."""
    return token_of(*blocks).present(RECEIVED[call], now=NOW).text


class Judge:
    """Allowed or not, for a chain, a call and a state; each asked once.

    One verifier judges in all states. Each state has a memory of presentations of its own.
    """

    def __init__(self, **options: Any) -> None:
        self.bearer = options.get("bearer", False)
        self.lab = Lab(recorder=NO_RECORDER, **options)
        self.lab.deaths.years = AGE
        self.memories = {state: Lab().replay for state in STATES}
        self.known: dict[tuple[Bytes, str, str], bool] = {}

    def allows(self, blocks: Bytes, call: str, state: str) -> bool:
        key = (blocks, call, state)
        if key not in self.known:
            self.lab.deaths.deaths = STATES[state]
            self.lab.verifier._replay = self.memories[state]
            token = token_of(*blocks).text if self.bearer else presented(blocks, call)
            self.known[key] = self.lab.verifier.decide(token, RECEIVED[call], JUDGED[call]).allowed
        return self.known[key]

    def widened(self, parents: Iterable[str] = PARENTS) -> Iterator[tuple[str, str, str, str]]:
        """Every parent, block, call and state where the child is allowed and its parent is not."""
        for parent in parents:
            blocks = PARENTS[parent]
            cases = list(product(JUDGED, STATES))
            denied = [(call, state) for call, state in cases if not self.allows(blocks, call, state)]
            for (name, block), (call, state) in product(BLOCKS.items(), denied):
                if self.allows((*blocks, block), call, state):
                    yield parent, name, call, state


OPTIONS: dict[str, dict[str, Any]] = {
    "as usual": {},
    "with a tenant": {"require": ["tenant"]},
    "bare tokens": {"bearer": True},
    "own caveats": {"vocabulary": OWN},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_no_block_cures_any_defect_of_its_parent(options: dict[str, Any]) -> None:
    judge = Judge(**options)
    assert list(judge.widened()) == []
    assert any(judge.known.values())


def test_no_two_blocks_cure_any_defect_of_their_parent() -> None:
    judge = Judge()
    for blocks, one, other in sampled(product(PARENTS.values(), SEVERAL, SEVERAL)):
        child = (*blocks, BLOCKS[one], BLOCKS[other])
        for call, state in product(("plain", "of a tenant"), STATES):
            assert not judge.allows(child, call, state) or judge.allows(blocks, call, state)


# The verifiers that are wrong

Read = Callable[..., Lineage]
Mutate = Callable[[pytest.MonkeyPatch], None]
real_read, real_claims, real_misplaced = lineage.read_lineage, lineage._claims, caveats.misplaced
C = TypeVar("C", bound=Caveat)


def all_of_kind(blocks: tuple[chain.Block, ...], kind: type[C]) -> list[C]:
    decoded = [DEFAULT.decode(block) for block in blocks if isinstance(block, bytes)]
    return [caveat for caveats in decoded for caveat in caveats if isinstance(caveat, kind)]


def reading(change: Callable[[Lineage, tuple[chain.Block, ...]], Lineage]) -> Read:
    def read(frame: wire.Frame, blocks: tuple[chain.Block, ...], vocabulary: Vocabulary, require: Any) -> Lineage:
        return change(real_read(frame, blocks, vocabulary, require), blocks)

    return read


def required_caveats_in_any_block(patch: pytest.MonkeyPatch) -> None:
    def read(frame: wire.Frame, blocks: tuple[chain.Block, ...], vocabulary: Vocabulary, require: Any) -> Lineage:
        anywhere = tuple(all_of_kind(blocks, Caveat))

        def claims(authority: tuple[Caveat, ...], _: Any) -> Any:
            return replace(real_claims(anywhere, require), tenant=real_claims(anywhere, frozenset()).tenant)

        patch.setattr(lineage, "_claims", claims)
        return real_read(frame, blocks, vocabulary, require)

    patch.setattr(verifier, "read_lineage", read)


def tenant_claim_of_any_block(patch: pytest.MonkeyPatch) -> None:
    def change(read: Lineage, blocks: tuple[chain.Block, ...]) -> Lineage:
        tenants = all_of_kind(blocks, Tenant)
        return replace(read, tenant=tenants[-1].name if tenants else None)

    patch.setattr(verifier, "read_lineage", reading(change))


def a_later_root_moves_the_nodes(patch: pytest.MonkeyPatch) -> None:
    def misplaced(block: tuple[Caveat, ...], *, authority: bool) -> Caveat | None:
        kept = tuple(caveat for caveat in block if authority or not isinstance(caveat, Root))
        return real_misplaced(kept, authority=authority)

    def change(read: Lineage, blocks: tuple[chain.Block, ...]) -> Lineage:
        root = all_of_kind(blocks, Root)[-1]
        nonces = [step.nonce for step in root.steps] + [hop.nonce for hop in all_of_kind(blocks, Hop)]
        path = chain.nodes(root.id, nonces)
        revocation_keys = (*(key for key in read.revocation_keys if key not in read.path), *path)
        return replace(read, path=path, revocation_keys=revocation_keys)

    patch.setattr(lineage, "misplaced", misplaced)
    patch.setattr(verifier, "read_lineage", reading(change))


def judging(read: Lineage, demands: Iterable[Demand]) -> Lineage:
    """The same lineage, where these are all that may refuse."""
    sections = tuple(Section(d.hop, d.name, (d.caveat,)) for d in demands)
    return replace(read, sections=sections, judged=sections)


def the_last_max_hops_wins(patch: pytest.MonkeyPatch) -> None:
    def change(read: Lineage, blocks: tuple[chain.Block, ...]) -> Lineage:
        limits = [at for at, block in enumerate(blocks) if all_of_kind((block,), MaxHops)]
        hops = len(all_of_kind(blocks[limits[-1] + 1 :], Hop)) if limits else 0
        refused = limits and hops > all_of_kind(blocks, MaxHops)[-1].n
        return replace(read, standing=tuple(r for r in read.standing if refused or r.code != "too_many_hops"))

    patch.setattr(verifier, "read_lineage", reading(change))


def the_last_until_completed_wins(patch: pytest.MonkeyPatch) -> None:
    def change(read: Lineage, blocks: tuple[chain.Block, ...]) -> Lineage:
        last = all_of_kind(blocks, UntilCompleted)[-1].task
        return replace(
            read, revocation_keys=tuple(key for key in read.revocation_keys if isinstance(key, bytes) or key == last)
        )

    patch.setattr(verifier, "read_lineage", reading(change))


def a_default_that_any_entry_names_is_seen_by_all(patch: pytest.MonkeyPatch) -> None:
    real = evaluator.caveat_refusals

    def seen(sections: Iterable[Section], facts: Facts) -> Iterator[Refusal]:
        sections, call = tuple(sections), facts.call
        allows = (caveat for section in sections for caveat in section.caveats if isinstance(caveat, Allow))
        pairs = (pair for one in allows for entry in one.entries if entry.args is not UNSET for pair in entry.args)
        named = {pair.name for pair in pairs}
        args = {**{name: value for name, value in call.defaults.items() if name in named}, **call.args}
        return real(sections, replace(facts, call=replace(call, args=args, defaults={})))

    patch.setattr(evaluator, "caveat_refusals", seen)


def the_work_of_the_last_block_alone_is_bounded(patch: pytest.MonkeyPatch) -> None:
    real = Lineage.is_too_much_work

    def is_too_much_work(read: Lineage, call: Call) -> bool:
        return real(replace(read, judged=read.judged[-1:]), call)

    patch.setattr(Lineage, "is_too_much_work", is_too_much_work)


def the_last_wins(kind: type[Caveat]) -> Mutate:
    def mutate(patch: pytest.MonkeyPatch) -> None:
        def change(read: Lineage, _: tuple[chain.Block, ...]) -> Lineage:
            demands = read.demands
            last: dict[bool, Demand] = {isinstance(demand.caveat, kind): demand for demand in demands}
            return judging(read, [d for d in demands if not isinstance(d.caveat, kind) or d is last[True]])

        patch.setattr(verifier, "read_lineage", reading(change))

    return mutate


def the_first_block_that_reads_is_the_authoritys(patch: pytest.MonkeyPatch) -> None:
    def read(frame: wire.Frame, blocks: tuple[chain.Block, ...], vocabulary: Vocabulary, require: Any) -> Lineage:
        readable = [b for b in blocks if isinstance(b, bytes) and b.startswith(b"[[")]
        return real_read(frame, tuple(readable), vocabulary, require)

    patch.setattr(verifier, "read_lineage", read)


MUTANTS: dict[str, tuple[Mutate, str]] = {
    "looks for required caveats in any block": (required_caveats_in_any_block, "complete"),
    "takes the tenant claim from any block": (tenant_claim_of_any_block, "complete"),
    "lets a later root move the nodes": (a_later_root_moves_the_nodes, "complete"),
    "lets the last max_hops win": (the_last_max_hops_wins, "too many hops"),
    "lets the last until_completed win": (the_last_until_completed_wins, "complete"),
    "lets the last allow win": (the_last_wins(Allow), "complete"),
    "lets the last expires win": (the_last_wins(Expires), "expired"),
    "lets the last not_before win": (the_last_wins(NotBefore), "not yet"),
    "takes the first block that reads for the authority's": (
        the_first_block_that_reads_is_the_authoritys,
        "nothing but junk",
    ),
    "shows all a default that one entry names": (
        a_default_that_any_entry_names_is_seen_by_all,
        "a note that an own caveat wants",
    ),
    "bounds the work of the last block alone": (
        the_work_of_the_last_block_alone_is_bounded,
        "questions about each value",
    ),
}
"""Each with the parent below which the enumeration finds it first."""


@pytest.mark.parametrize(("mutate", "parent"), MUTANTS.values(), ids=list(MUTANTS))
def test_the_enumeration_finds_a_verifier_that(mutate: Mutate, parent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    assert next(Judge(vocabulary=OWN).widened([parent]), None) is not None


# Generated chains, and the naive verifier

CAVEATS: tuple[Caveat, ...] = (
    *WHOLE,
    Task("T2"),
    Root("R2"),
    UntilCompleted("T2"),
    Expires(NOW),
    Expires(NOW + 1),
    NotBefore(NOW),
    Tenant("Acme"),
    Tenant("Globex"),
    allow("a.*"),
    allow("a.export", action("a.read", args={})),
    allow(action("a.read", id=1)),
    allow(action("a.read", args={"id": not_(one_of(True, "1")), "*": anything()})),
    MaxHops(0),
    MaxHops(1),
    HOP,
    Hop("b", NONCES[1]),
    where("region", "eu"),
    where("args.id", absent()),
    Where("args.id", one_of(1, True)),
)
NASTY = (
    b"junk",
    b"[]",
    b'[["near",5]]',
    b'[["expires",1e11]]',
    b'[["allow",[["a.read",[["id",["eq",1]],["id",["eq",2]]]]]]]',
)
holders = st.one_of(
    st.lists(st.sampled_from(CAVEATS), min_size=1, max_size=3).map(lambda caveats: encode_block(tuple(caveats))),
    st.sampled_from(NASTY),
)
authorities = st.lists(st.sampled_from(CAVEATS), max_size=2).map(lambda more: encode_block((*WHOLE, *more)))
chains = st.tuples(st.one_of(authorities, authorities, authorities, holders), st.lists(holders, max_size=4))


def naively(blocks: Bytes, name: str, state: str) -> bool:
    call = JUDGED[name]
    facts = {"action": call.action, "args": dict(call.args), "tenant": call.tenant, "attributes": dict(call.attributes)}
    facts["defaults"] = dict(call.defaults)
    received = {"profile": "tool", "action": call.action, "args": dict(call.args)}
    token, keys = presented(blocks, name), {KEY.kid: KEY._secret}
    return not naive.codes(token, "crm", keys, received, facts, now=NOW, deaths=STATES[state], age=AGE)


@given(chains, st.sampled_from(list(CALLS)), st.sampled_from(list(STATES)))
@settings(max_examples=repeated(400))
def test_along_any_chain_authority_only_shrinks(parts: tuple[bytes, list[bytes]], call: str, state: str) -> None:
    judge = Judge()
    blocks = (parts[0], *parts[1])
    verdicts = [judge.allows(blocks[:length], call, state) for length in range(1, len(blocks) + 1)]
    assert verdicts == sorted(verdicts, reverse=True)
    assert verdicts == [naively(blocks[:length], call, state) for length in range(1, len(blocks) + 1)]


SMALL = list(product(PARENTS.values(), BLOCKS.values(), CALLS, STATES))


def disagreements(judge: Judge, cases: Iterable[Any] = SMALL) -> Iterator[tuple[Bytes, str, str]]:
    """Every small case in which the verifier and the naive one differ."""
    for parent, block, call, state in cases:
        child = (*parent, block)
        if judge.allows(child, call, state) != naively(child, call, state):
            yield child, call, state


def test_the_naive_verifier_agrees_on_every_small_case(monkeypatch: pytest.MonkeyPatch) -> None:
    # It reads a block several times for each verdict, and the same few blocks again and again.
    monkeypatch.setattr(naive, "read", functools.cache(naive.read))
    judge = Judge()
    assert list(disagreements(judge, sampled(SMALL))) == []
    assert repeated(200) < sum(judge.known.values()) < len(judge.known) - repeated(200)


def what_is_not_understood_is_skipped(patch: pytest.MonkeyPatch) -> None:
    def change(read: Lineage, _: tuple[chain.Block, ...]) -> Lineage:
        return judging(read, [d for d in read.demands if not isinstance(d.caveat, caveats.NotUnderstood)])

    patch.setattr(verifier, "read_lineage", reading(change))


def only_the_last_id_is_looked_up(patch: pytest.MonkeyPatch) -> None:
    def change(read: Lineage, _: tuple[chain.Block, ...]) -> Lineage:
        return replace(read, revocation_keys=tuple(key for key in read.revocation_keys if key not in read.ids[:-1]))

    patch.setattr(verifier, "read_lineage", reading(change))


def fresh_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fresh, "refusal", ChainCaveat.refusal)


@pytest.mark.parametrize("mutate", [what_is_not_understood_is_skipped, only_the_last_id_is_looked_up, fresh_is_ignored])
def test_the_naive_verifier_finds_a_shared_error_of_two_blocks(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    assert next(disagreements(Judge()), None) is not None


LITERALS: list[Any] = [None, True, False, 0, 1, 1.0, 1.5, "1", "a", "/a", "/a/b", [1], [True], [1, 2], ["a"], [None]]
VALUES: list[Any] = [
    *LITERALS,
    *("", [], "/a/../b", "/ab", [[1]], {}, {"id": 1}, [1, "a"], 2**53 - 1, "\u00e9", "e\u0301", naive.MISSING),
]


def rules() -> Iterator[Any]:
    simple: list[Any] = [
        *(["eq", literal] for literal in LITERALS),
        *(["in", [one, other]] for one, other in product(LITERALS[::2], LITERALS[1::3])),
        *(["range", lo, hi] for lo, hi in ((0, 1), (None, 1), (1, None), (1.0, 1.5))),
        *(["prefix", "/a"], ["path", "/a"], ["path", "/"], ["anything"], ["glob", "/*"], ["regex", "a|/a.b"]),
        *(["contains", [1]], ["contains", ["a", 1]], ["length", 1, 2], ["length", None, 0], ["argv", ["a"]]),
        *(["fields", []], ["fields", [["id", ["eq", 1]]]], ["fields", [["id", ["absent"]], ["*", ["in", [1, "a"]]]]]),
    ]
    simple += [["not", rule] for rule in simple]
    yield from simple
    yield from (["each", rule, *least] for rule in simple for least in ([], [0], [2]))
    yield from (
        [tag, list(pair)] for tag in ("any", "all") for pair in product([*simple[::9], ["absent"]], simple[::7])
    )
    yield from (["absent"], ["not", ["absent"]])


def facts_of(value: Any) -> Facts:
    return Facts(Call("a.read", {} if value is naive.MISSING else {"id": value}), NOW, 0.0)


def misjudged() -> Iterator[tuple[Any, Any]]:
    """Every constraint and value on which the vocabulary and the naive verifier differ."""
    facts = [(value, facts_of(value)) for value in VALUES]
    for rule in rules():
        (caveat,) = DEFAULT.decode(json.dumps([["allow", [["a.read", [["id", rule]]]]]]).encode())
        assert isinstance(caveat, Allow), rule
        for value, seen in facts:
            if (caveat.refusal(seen) is not None) == (naive.judge(rule, value) is True):
                yield rule, value


def test_the_naive_verifier_agrees_on_every_constraint_and_value() -> None:
    assert list(misjudged()) == []


def test_the_naive_verifier_finds_an_eq_that_is_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(value: Any, literal: Any) -> bool:
        return bool((tuple(value) if hasattr(value, "append") else value) == literal)

    monkeypatch.setattr(value_constraints, "same", same)
    assert (["eq", True], 1) in misjudged()


def test_appending_goes_by_the_parents_tail_alone() -> None:
    parent = raw(*whole())
    assert appended(parent, b"x").text == raw(*whole(), b"x").text
