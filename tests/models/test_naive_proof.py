"""Two readers of proofs agree on proofs that are real, broken, and signed again by an operator who lies."""

import copy
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from capx.errors import InvalidRequest
from capx.proof import Proof, ProofBroken, Trust, export, verify
from capx.proof.document import AskedPart
from capx.tokens.approval_caveat import approval
from capx.verify.ask import Granted, Pending
from tests.labs.counts import repeated
from tests.labs.granting_lab import CARA, policy, rule
from tests.labs.proving import PLANNER, READER, ProofLab, Told, full_trust, told
from tests.models import naive_proof

SEEDS = range(repeated(100))
EACH = 7
"""The mutations in one case."""
Made = tuple[ProofLab, Proof, Trust]


def first(data: bytes, trust: Trust) -> str:
    """What the first reader says."""
    try:
        return verify(data, trust).result
    except (ProofBroken, InvalidRequest):
        return "broken"


def agreed(data: bytes, trust: Trust, how: str) -> str:
    """What both readers say."""
    said, other = first(data, trust), naive_proof.result(data, trust.text())
    assert said == other, (how, said, other)
    return said


# Real proofs.


def whole(folder: Path) -> Made:
    """A consent, an approval, a ledger, a witness, a disclosure, a revocation."""
    lab = ProofLab(folder, uses=1)
    return lab, lab.whole()[1], full_trust(lab)


def asking(folder: Path) -> Made:
    """Agents that ask: the first one and one below it, twice, at once and with people."""
    lab = ProofLab(folder, uses=1)
    lab.policy = policy(
        rule("at_open", "crm.*"),
        rule("ask", "billing.*", uses=1),
        rule("ask", "hr.*", pinned=("who",)),
        rule("on_request", "shop.*", uses=2),
    )
    task, planner = lab.started()
    below = planner.delegate(to="reader", to_key=READER, may_ask=["shop.*", "billing.*"]).with_key(READER)
    for bundle, key in ((planner, PLANNER), (below, READER), (planner, PLANNER)):
        for action, args in (("shop.look", {"n": 1}), ("billing.refund", {"amount": 40}), ("shop.look", None)):
            granted = answered(lab, bundle, action, args)
            lab.call(bundle.holding(granted.with_key(key), now=int(lab.clock.now)), action, args or {"n": 2})
            lab.clock.now += 5
    answered(lab, planner, "hr.read", {"who": "lea", "why": "I must"})
    lab.pending(planner, "billing.refund", {"amount": 41})
    lab.decide(lab.pending(below, "billing.refund", {"amount": 42}).request, yes=False)
    held = planner.delegate(
        to="reader", to_key=READER, allow=["crm.read"], approval=approval(by=[CARA.public]), now=int(lab.clock.now)
    ).with_key(READER)
    held = held.holding(lab.approved(held, "crm.read", {"id": 2}), now=int(lab.clock.now))
    lab.call(held, "crm.read", {"id": 2})
    lab.authority.flush()
    return lab, export(lab.authority, task.id, now=int(lab.clock.now)), lab.trust()


def bearing(folder: Path) -> Made:
    """A task that is bound to no key."""
    lab = ProofLab(folder, uses=1)
    task, bundle = lab.started(agent_key=None)
    lab.call(bundle, "crm.read", {"id": 1})
    granted = answered(lab, bundle, "billing.refund", {"amount": 40})
    lab.call(bundle.holding(granted, now=int(lab.clock.now)), "billing.refund", {"amount": 40})
    lab.authority.complete(task.id)
    lab.authority.flush()
    return lab, export(lab.authority, task.id, now=int(lab.clock.now)), lab.trust()


def answered(lab: ProofLab, bundle: Any, action: str, args: Any) -> Any:
    answer = lab.ask(bundle, action, args)
    if isinstance(answer, Pending):
        lab.decide(answer.request)
        answer = lab.ask(bundle, action, args)
    assert isinstance(answer, Granted), answer
    return answer.capability


MAKERS: dict[str, Callable[[Path], Made]] = {"whole": whole, "asking": asking, "bearing": bearing}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Made]]:
    open_labs = list[ProofLab]()

    @cache
    def once(name: str) -> Made:
        found = MAKERS[name](tmp_path_factory.mktemp(name))
        open_labs.append(found[0])
        return found

    yield once
    for lab in open_labs:
        lab.close()


@pytest.mark.parametrize("name", MAKERS)
def test_both_read_a_real_proof(made: Callable[[str], Made], name: str) -> None:
    _, proof, trust = made(name)
    assert agreed(proof.dump(), trust, name) == "consistent"


# Mutations.


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MAKERS)
def test_both_agree_on_what_was_changed(made: Callable[[str], Made], name: str, seed: int) -> None:
    _, proof, trust = made(name)
    chance, values, said = random.Random(seed), msgspec.json.decode(proof.dump()), set[str]()
    for nth in range(EACH):
        data = bytearray(proof.dump())
        if nth % 4 == 0:
            data[chance.randrange(len(data))] = chance.randrange(32, 127)
        else:
            changed = copy.deepcopy(values)
            change(chance, changed, chance.choice(list(places(changed))))
            data = bytearray(msgspec.json.encode(changed))
        said.add(agreed(bytes(data), trust, f"{name}, seed {seed}, {nth}"))
    assert "broken" in said


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MAKERS)
def test_both_agree_on_the_lies_of_an_operator(made: Callable[[str], Made], name: str, seed: int) -> None:
    lab, proof, trust = made(name)
    chance = random.Random(1_000 + seed)
    for nth in range(EACH):
        events, asked = lied(chance, proof)
        lie = lab.rewritten(replace(proof, asked=asked), *events)
        agreed(lie.dump(), trust, f"{name}, seed {seed}, {nth}")


def lied(chance: random.Random, proof: Proof) -> tuple[list[Told], tuple[AskedPart, ...]]:
    """The events of a log with some changes, and what was asked for, at its places there."""
    parts = {one.position: one for one in proof.asked}
    positions = [event.position for event in proof.sources[0].events]
    events = [(one, parts.get(at)) for one, at in zip(copy.deepcopy(told(proof)), positions, strict=True)]
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        nth = chance.randrange(len(events))
        (at, kind, body), part = events[nth]
        match chance.randrange(7):
            case 0:
                del events[nth]
            case 1:
                events.insert(chance.randrange(len(events) + 1), copy.deepcopy(events[nth]))
            case 2:
                events.insert(chance.randrange(len(events)), events.pop(nth))
            case 3:
                events[nth] = ((at + chance.choice([-100, -31, -1, 1, 31, 100]), kind, body), part)
            case _:
                change(chance, body, chance.choice(list(places(body))), [other for (_, _, other), _ in events])
        if not events:
            break
    asked = [replace(part, position=nth) for nth, (_, part) in enumerate(events, 1) if part is not None]
    return [one for one, _ in events], tuple(asked)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each place in JSON values."""
    if above:
        yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from places(one, (*above, name))


def change(chance: random.Random, values: Any, place: tuple[Any, ...], others: list[Any] | None = None) -> None:
    """Change what is at a place: take it out, retype it, put a like value there, or one from another event."""
    holder = values
    for step in place[:-1]:
        holder = holder[step]
    last, old = place[-1], holder[place[-1]]
    like = [other[last] for other in others or () if isinstance(last, str) and last in other and other[last] != old]
    match chance.randrange(5):
        case 0:
            del holder[last]
        case 1:
            holder[last] = chance.choice([None, True, 0, 1.5, 1e300, "", "x", [], {}, ["x"], {"x": 1}, "1"])
        case 2 if isinstance(holder, list):
            holder.insert(last, copy.deepcopy(old))
        case 3 if like:
            holder[last] = copy.deepcopy(chance.choice(like))
        case _:
            holder[last] = near(chance, old)


def near(chance: random.Random, value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + chance.choice([-1_000_000, -61, -1, 1, 61, 1_000_000])
        case str() if value:
            at = chance.randrange(len(value))
            return value[:at] + chance.choice("AbQ9_ \u2028") + value[at + 1 :]
        case list() if len(value) > 1:
            return chance.sample(value, len(value))
        case dict() if value:
            return {name: one for name, one in value.items() if name != chance.choice(list(value))} | {"more": 1}
        case _:
            return [value]
