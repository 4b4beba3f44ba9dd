"""What an approval adds to a verification: the contenders, and their table.

The same chain is timed without a demand, and with a demand behind the authority's block. Every presentation is fresh.
The approvals permit any number of calls, so no budget is counted here.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from capx import Capability, PrincipalKey, RootKey, approval
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.discharge import Discharge
from capx.verify.protocols import Liveness
from tests.bench import ours, workload
from tests.bench.measuring import Contender, Run
from tests.bench.report import Report
from tests.bench.table import NONE, Table, beside, bold, by_length, names, short

OP: Final = "approvals"
LENGTHS: Final = (1, 8)
"""The hops of the chains."""
WITHOUT: Final = "no demand"
MET: Final = "one approval, met before"
NEW: Final = "one approval, first met"
MET_OF_TWO: Final = "2 of 3 people, met before"
NEW_OF_TWO: Final = "2 of 3 people, first met"
COLD_WITHOUT: Final = "no demand, cold"
COLD: Final = "one approval, cold"
BASES: Final[Mapping[str, str]] = dict.fromkeys((MET, NEW, MET_OF_TWO, NEW_OF_TWO), WITHOUT) | {COLD: COLD_WITHOUT}
"""What each contender with an approval is compared with."""
MOST_MORE: Final[Mapping[str, float]] = {MET: 40, MET_OF_TWO: 40, NEW: 150}
"""The most µs by which an approval may make a verification longer, on a machine where one check takes about 60 µs."""
_LASTS: Final = 3600
_PEOPLE: Final = tuple(PrincipalKey.generate(name) for name in ("lea", "ben", "cleo"))


def contenders(hops: int, root: RootKey, liveness: Liveness) -> list[Contender]:
    """All of them at one length, and one check of a signature."""
    now = int(time.time())

    def demanding(*people: PrincipalKey, count: int) -> Capability:
        terms = approval(by=[one.public for one in people], count=count, lasts=_LASTS)
        return workload.chain_of(hops, root, now, demand=terms)

    def verify(capability: Capability, approvals: Callable[[], Iterable[Discharge]], *, warm: bool = True) -> Run:
        bench = ours.Bench(capability, root, liveness, approvals)
        return bench.verify(bench.verifier(warm=warm))

    bearer, one, two = workload.chain_of(hops, root, now), demanding(_PEOPLE[0], count=1), demanding(*_PEOPLE, count=2)
    by_one, by_two = approved(one, *_PEOPLE[:1]), approved(two, *_PEOPLE[:2])
    runs: dict[str, Run] = {
        ours.CHECK: ours.signature_check(),
        WITHOUT: verify(bearer, tuple),
        MET: verify(one, lambda: [by_one]),
        NEW: verify(one, lambda: [approved(one, *_PEOPLE[:1])]),
        MET_OF_TWO: verify(two, lambda: [by_two]),
        NEW_OF_TWO: verify(two, lambda: [approved(two, *_PEOPLE[:2])]),
        COLD_WITHOUT: verify(bearer, tuple, warm=False),
        COLD: verify(one, lambda: [by_one], warm=False),
    }
    # Each beside the same chain without a demand.
    to = {who: {base: (OP, hops, base)} for who, base in BASES.items()}
    return [Contender(OP, hops, who, run, to.get(who, {})) for who, run in runs.items()]


def approved(capability: Capability, *people: PrincipalKey) -> Discharge:
    """A new approval of the call of the bench, for any number of calls; the first of the people states, all sign."""
    now = int(time.time())
    request = ApprovalRequest.of(
        capability.demands[0],
        audience=capability.audience,
        node=capability.node or b"",
        action=workload.ACTION,
        args=workload.ALLOWED,
        task=capability.task or "",
        intent=capability.intent,
        now=now,
    )
    first, *others = people
    found = first.approve(request, uses=None, lasts=_LASTS, now=now)
    for person in others:
        found = person.cosign(request, found, now=now)
    return found


def table(report: Report) -> Table:
    """Each contender, and how much longer it takes than without a demand; no rows if none was measured."""
    ats = report.ats(OP)
    rows: list[list[str]] = []
    for who in names(report.of(OP)):
        rows.append([who, NONE, *(beside(report.row(OP, at, who), BASES.get(who, "")) for at in ats)])
        if who in BASES:
            most = MOST_MORE.get(who, math.inf)
            bar = NONE if who not in MOST_MORE else f"≤ {most:g} µs"
            rows.append([f"{who}: more", bar, *(_more(report, at, who, most) for at in ats)])
    return Table(
        "Approvals",
        "From the text to *allowed*, with a fresh presentation each time, by the same chain without a demand and with "
        "one. The demand stands behind the authority's block. *First met*: the verifier has seen the chain before, and "
        "never this approval. *Met before*: it has seen both, as when an agent uses an approval again. *Cold*: it "
        "remembers nothing. The approvals permit any number of calls; one that permits *once* also spends a budget, "
        "which takes what a meter takes. *More* is the difference in µs, and in checks of one signature. It is made of "
        "the lower quartiles. The bars are for a machine on which a check takes about 60 µs. **Bold** is beyond the "
        "bar.",
        by_length(ats, "bar"),
        rows,
    )


def _more(report: Report, at: int, who: str, most: float) -> str:
    row, base, check = (report.row(OP, at, name) for name in (who, BASES[who], ours.CHECK))
    if row is None or base is None or check is None:
        return NONE
    # As for signed tokens: what else runs on the machine shows least in the lower quartiles.
    more = row.quartiles[0] - base.quartiles[0]
    told = f"{short(more)} µs, {short(more / check.quartiles[0])} checks"
    return bold(told, is_good=more <= most)
