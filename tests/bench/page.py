"""docs/benchmarks.md, made of one report and nothing else."""

from typing import Final

from tests.bench.authority.tables import BARS
from tests.bench.report import Report
from tests.bench.table import Table
from tests.bench.tables import tables

_HEAD: Final = """# Benchmarks

Generated from [benchmarks.json](benchmarks.json), which one run of `make bench` wrote: `python -m tests.bench
--write-docs`. Compare within this page only: another machine has other times, and the ratios are what should hold.

One process on one core, and one for the peers, which waits while others have their turn. In each round every contender
has its turn; a time is the median over rounds, quartiles in parentheses, in µs unless said otherwise; a ratio is
the median of the ratios within rounds. Time is that of the processor, and where presentations
are remembered in a store that of the clock on the wall. Garbage is collected as usual.

The work is a chain of L hops, each with five caveats: a `hop`, an `allow` of two entries of which one constrains two
arguments, `expires`, `max_hops` and a `where`.

- The **floor** is bare MACs: the HMACs of the same bytes by Python's standard library, and one comparison.
- **Cold**: nothing is remembered of the chain. **Warm prefix**: the chain was seen before, this presentation was not.
- A **bar** is a ratio that is aimed at. Where one is not reached, nothing fails: what was measured is what capx costs,
  the bar stays, and work on speed goes there first.
"""

_VERIFY: Final = """![Time to verify, by hops](plots/verify.svg)

Equal work is not to be had. What each does, and does not:

- **capx**: HMACs, so that whoever verifies could also mint. Every verification holds the call against the
  presentation's digest, checks its window, burns it in the memory of presentations, looks at deaths in a store, and
  judges the shape of every block and every caveat of every hop.
- **bare MACs** (the floor): HMACs over the same bytes by the standard library, and one comparison. No text is decoded
  and nothing is judged.
- **pymacaroons** reads the very same bytes, and checks MACs alone: its predicate says yes to every caveat.
- **tenuo**: Ed25519 signatures, and the holder's proof of possession. The last warrant alone meets the call, those
  before it only its narrowing. It has no attributes of the environment, so `env` goes as a third argument; its limit of
  depth is the library's own. No revocation list is installed; a memory of proofs is its caller's, and left out.
- **biscuit-python**: Ed25519 signatures, four checks a hop in Datalog. A bearer token: nothing binds it to the call.
  Arguments that no check names are not refused; revocation ids are not looked up.
- **PyJWT**: one EdDSA signature, audience and expiry, the same at any L: nobody can narrow it, and no library judges
  its claims about arguments.
"""


_AUTHORITY: Final = """# The authority

Several processes on {cores} cores, by the clock on the wall; stores are on {file_system}. SQLite is as `capx init`
makes it, PostgreSQL a server of its own on the same machine, reached by its Unix socket, with `fsync` and
`synchronous_commit` on; `capx serve` is a process over a home with a SQLite store. What is compared was measured in
turn, in the same run. A disk that says at once that it has written makes all of this quicker.
"""


def page(report: Report) -> str:
    """The page in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    place = "pinned to one core" if report.pinned else "on whatever core it was put"
    parts = [
        _HEAD,
        f"{report.python}, {report.cpu}, {place}; {report.rounds} rounds. Beside capx: {versions or 'nobody'}.\n",
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
    return "\n".join(parts)


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
