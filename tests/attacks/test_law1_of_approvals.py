"""Law 1, told of approvals: what is appended, and what is demanded in it, only ever refuses more.

If C and a block B are allowed with the approvals D, then C alone is allowed with those of D that C demands. D are for
the node of C: an approval for a node below C is for that agent, and does not let C act.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from capx.tokens.capability import Capability
from capx.tokens.discharge import Discharge
from capx_caveats import Caveat, Expires, allow, budget, fresh, tenant, where
from tests.labs.approving import BEN, CLEO, LEA, ApprovalLab, approved, keyed
from tests.labs.lab import NONCES, NOW, minted

DEMANDS = {
    "lea": (keyed(LEA), (LEA,)),
    "ben": (keyed(BEN, nonce=b"b" * 16), (BEN,)),
    "two": (keyed(LEA, BEN, CLEO, count=2, nonce=b"2" * 16), (LEA, CLEO)),
}
NARROWED: tuple[tuple[Caveat, ...], ...] = (
    (),
    (allow("a.write"),),
    (allow("a.write", "a.read"),),
    (allow("a.read"),),
    (Expires(NOW + 60),),
    (fresh(5),),
    (where("args.amount", 40),),
    (budget("calls", 10_000),),
    (tenant("Acme"),),
)
CALLS: tuple[dict[str, Any], ...] = (
    {"args": {"amount": 40}},
    {"args": {"amount": 40}, "attributes": {"region": "eu"}},
    {"args": {"amount": 40}, "cost": {"eur": "1"}},
    {"args": {"amount": 41}},
)


def held(capability: Capability) -> list[Discharge]:
    """One approval of each demand here, for the node of a capability, good for any number of calls."""
    return [approved(capability, *people, said={"cid": demand.cid}, uses=None) for demand, people in DEMANDS.values()]


def for_it(capability: Capability, discharges: list[Discharge]) -> list[Discharge]:
    """Those that a capability demands."""
    return [one for one in discharges if one.cid in capability.demands]


def parents() -> Iterator[Capability]:
    yield minted()
    yield minted().demanding(DEMANDS["lea"][0])
    yield minted().demanding(DEMANDS["two"][0])
    yield minted().demanding(DEMANDS["lea"][0]).demanding(DEMANDS["ben"][0])
    yield minted().delegate(to="a", nonce=NONCES[0]).demanding(DEMANDS["ben"][0])


def children(parent: Capability) -> Iterator[Capability]:
    for caveats, demanded, hops in product(NARROWED, (None, "lea", "ben", "two"), (False, True)):
        child = parent
        if demanded is not None:
            child = child.demanding(DEMANDS[demanded][0])
        if hops:
            child = child.delegate(to="b", caveats=caveats, nonce=NONCES[1], now=NOW)
        elif caveats:
            child = child.attenuate(*caveats, now=NOW)
        yield child


def test_what_is_appended_only_refuses_more() -> None:
    lab = ApprovalLab()
    tried = passed = 0
    for parent in parents():
        given = held(parent)
        alone = {
            number: [lab.told(parent, *for_it(parent, given[:kept]), **call) for kept in range(len(given) + 1)]
            for number, call in enumerate(CALLS)
        }
        for child, (number, call), kept in product(children(parent), enumerate(CALLS), (1, 3)):
            # One of a demand that the chain has twice goes twice.
            presented = [one for cid in child.demands for one in given[:kept] if one.cid == cid]
            told = lab.told(child, *presented, **call)
            tried += 1
            passed += not told
            assert told or alone[number][kept] == (), (child, call, kept)
    # A law about what is never allowed would hold by itself.
    assert passed * 3 >= tried, (passed, tried)


def test_narrowing_an_approval_only_refuses_more() -> None:
    lab = ApprovalLab()
    parent = minted().demanding(DEMANDS["lea"][0])
    (whole, *_) = held(parent)
    seen = set[bool]()
    for caveats, call in product(NARROWED, CALLS):
        narrower = whole.attenuate(*caveats, now=NOW) if caveats else whole
        told = lab.told(parent, narrower, **call)
        seen.add(not told)
        assert told or lab.told(parent, whole, **call) == (), (caveats, call)
    assert seen == {True, False}


def test_an_approval_for_a_child_is_for_that_child() -> None:
    # Where law 1 as it is said of tokens alone would fail: the approval goes with the agent that asked.
    lab = ApprovalLab()
    parent = minted().demanding(DEMANDS["lea"][0])
    child = parent.delegate(to="a", nonce=NONCES[0])
    found = approved(child, uses=None)
    assert lab.told(child, found) == ()
    assert lab.told(parent, found) == ("bad_discharge",)
