"""Makes docs/benchmarks.md from one report, and from nothing else."""

from typing import Final

from tests.bench import ours
from tests.bench.authority import figures
from tests.bench.authority.tables import BARS, LONG_LOG
from tests.bench.report import Report
from tests.bench.table import Table, short
from tests.bench.tables import tables

_HEAD: Final = """## How this was measured

`python -m tests.bench --write-docs` makes this page from [benchmarks.json](benchmarks.json), which one run of
`make bench` wrote. Compare only numbers of this page with each other. Another machine has other times, and other
ratios too, where its Python is slower beside C. What a change of capx costs, `make bench EARLIER=COMMIT` measures: both
commits in one run.

capx runs in one process on one core. The other libraries run in a second process, which waits while capx has its turn.
In each round every contender has one turn; tokens and their verification have at least 31 rounds. A time is the median
over the rounds, in µs by default, with quartiles in parentheses. A ratio is the median of the ratios within the rounds.
The time is that of the processor; if presentations are remembered in a store, it is that of the clock on the wall.
Python collects garbage as usual.

Each contender works on a chain of L hops. Each hop has five caveats: a `hop`, an `allow` of two entries, one of which
constrains two arguments, `expires`, `max_hops` and a `where`.

- The **floor** is bare MACs: the HMACs of the same bytes by Python's standard library, and one comparison.
- **Cold**: the verifier remembers nothing about the chain. **Warm prefix**: the verifier has seen the chain before, but
  not this presentation.
- A **bar** is a ratio that we aim at. If a bar is not reached, no test fails: the measured number is what capx costs.
  The bar stays, and work on speed begins there.
"""

_OPENING: Final = """\
The token of capx has three hops. Where no store is named, capx remembers presentations in memory. *Bare* is what the
work costs without capx: the MACs of the same bytes alone, or the same route without a guard. PyJWT checks one
signature, the audience and the expiry, but no argument and no revocation. The tables [Verify](#verify), [A guarded
request](#a-guarded-request) and [Until everybody refuses](#until-everybody-refuses) have more numbers of each.
"""

_VERIFY: Final = """![Time to verify, by hops](plots/verify.svg)

The contenders do not do equal work. This is what each does, and does not do:

- **capx** uses HMACs, so a service that verifies could also mint. Every verification compares the call with the
  presentation's digest, checks its window, burns it in the memory of presentations, looks for revocations in a store,
  and checks the shape of every block and every caveat of every hop.
- **bare MACs** (the floor): HMACs over the same bytes by the standard library, and one comparison. No text is decoded
  and no caveat is judged.
- **pymacaroons** reads exactly the same bytes, and checks only MACs: its predicate says yes to every caveat.
- **tenuo** checks Ed25519 signatures, and the holder's proof of possession. It judges the call only by the last
  warrant; the warrants before it only limit that one. It has no attributes of the environment, so `env` is a third
  argument. Its limit of depth is the library's own. No revocation list is installed. A memory of proofs is left to its
  caller, and left out here.
- **biscuit-python** checks Ed25519 signatures, and runs four checks for each hop in Datalog. Its token is a bearer
  token: nothing binds it to the call. It does not refuse arguments that no check names, and does not look up revocation
  ids.
- **PyJWT** checks one EdDSA signature, audience and expiry, which costs the same at any L. Nobody can narrow its token,
  and no library judges its claims about arguments.
"""


_AUTHORITY: Final = """# The authority

These figures are of several processes on {cores} cores, by the clock on the wall. Stores are on {file_system}. SQLite
is configured as `capx init` does it. PostgreSQL is a server of its own on the same machine, over its Unix socket, with
`fsync` and `synchronous_commit` on. `capx serve` is a process with a home and a SQLite store. Figures that are compared
were measured in turn, in the same run. A disk that reports a write as done before it is done makes all of this quicker.
"""


def page(report: Report) -> str:
    """The page in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    place = "pinned to one core" if report.pinned else "not pinned to a core"
    parts = [
        *_opening(report),
        _HEAD,
        f"{report.python}, {report.cpu}, {place}; {report.rounds} rounds. Compared with: {versions or 'nobody'}.\n",
    ]
    if report.missing:
        parts.append("Not measured:\n\n" + "\n".join(f"- {what}: {why}" for what, why in report.missing.items()) + "\n")
    for table in tables(report):
        if table.title == BARS:
            parts.append(_AUTHORITY.format(cores=report.cores, file_system=report.file_system or "some disk"))
        parts.append(_markdown(table))
        if table.title == "Verify, beside capx":
            parts.append(_VERIFY)
        elif table.title == "Size":
            parts.append("![Characters of text, by hops](plots/size.svg)\n")
        elif table.title == "Growth with caveats a hop":
            parts.append("![Time to verify, by caveats a hop](plots/caveats.svg)\n")
        elif table.title == LONG_LOG:
            parts.append("![Time of a step, by decisions in the log](plots/long_log.svg)\n")
    return "\n".join(parts)


def _opening(report: Report) -> list[str]:
    """What users of capx want to know first, of what was measured: of a token with three hops."""

    def us(op: str, at: int, who: str) -> str:
        row = report.row(op, at, who)
        return "-" if row is None else f"{short(row.us)} µs"

    def check(who: str) -> list[str]:
        return [us("verify", 3, who), us("verify", 3, ours.FLOOR), us("verify", 3, "PyJWT")]

    request = [us("request", 1, who) for who in ("in memory", "the same route without a guard", "PyJWT, a dependency")]
    request[0] += f"; {us('request', 1, 'SQLite')} with a store in SQLite"
    lag = {one.who: one.values for one in report.figures if (one.of, one.at) == (figures.LAG, 1)}
    dead = [f"{short(lag[who][figures.P50])} ms with {who}" for who in lag if figures.P50 in lag[who]]
    rows = [
        ["check a token whose chain the service has seen before (*warm*)", *check(ours.WARM)],
        ["check a token whose chain is new to the service (*cold*)", *check(ours.COLD)],
        ["answer a request to a FastAPI route with a guard", *request],
        ["deny after a revocation (median, one service)", "; ".join(dead) or "-", "-", "-"],
    ]
    lines = [_line(one) for one in (["how long it takes to", "capx", "bare", "PyJWT"], ["---"] * 4, *rows)]
    return ["# Benchmarks\n", "\n".join([*lines, ""]), _OPENING]


def _markdown(table: Table) -> str:
    lines = [
        f"## {table.title}\n",
        f"{table.note}\n",
        _line(table.head),
        _line(["---"] * len(table.head)),
        *map(_line, table.rows),
        "",
    ]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
