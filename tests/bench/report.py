"""What a run found, and what it says of the bars: how quick verification must be, as ratios within one run."""

import platform
import sys
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from tests.bench import ours, startup
from tests.bench.authority.figures import Figure, Limit
from tests.bench.earlier import Earlier
from tests.bench.measuring import Row


class Size(Struct, frozen=True):
    """The characters of a token's text at one length."""

    at: int
    who: str
    characters: int


class Report(Struct, frozen=True, kw_only=True):
    """One run: the machine in general terms, who took part, what could not be measured, and the rows."""

    python: str
    cpu: str
    pinned: bool
    rounds: int
    quick: bool
    versions: dict[str, str]
    missing: dict[str, str]
    rows: list[Row]
    sizes: list[Size]
    figures: list[Figure] = []
    file_system: str = ""
    cores: int = 0
    earlier: list[Earlier] = []

    def row(self, op: str, at: int, who: str) -> Row | None:
        """What that contender took, if it was measured."""
        return next((row for row in self.rows if (row.op, row.at, row.who) == (op, at, who)), None)

    def of(self, op: str) -> list[Row]:
        """All that were measured of an operation."""
        return [row for row in self.rows if row.op == op]

    def ats(self, op: str) -> list[int]:
        """The lengths, or amounts, at which an operation was measured."""
        return sorted({row.at for row in self.of(op)})


class Demand(Limit, frozen=True, kw_only=True):
    """How a contender must compare with another, wherever both were measured or at one length only."""

    op: str
    who: str
    to: str
    at: int | None = None


def _peer(who: str, cold: float, warm: float) -> tuple[Demand, Demand]:
    """How many times as long as capx a peer must take from the text, capx being cold, and knowing the prefix."""
    return (
        Demand(what=f"{who} to capx, cold", op="verify", who=who, to=ours.COLD, at_least=cold),
        Demand(what=f"{who} to capx, warm prefix", op="verify", who=who, to=ours.WARM, at_least=warm),
    )


DEMANDS: Final = (
    Demand(what="capx, cold, to the floor", op="verify", who=ours.COLD, to=ours.FLOOR, at_most=7, at=8),
    Demand(what="capx, warm prefix, to the floor", op="verify", who=ours.WARM, to=ours.FLOOR, at_most=2.5, at=8),
    *_peer("tenuo", 3.5, 9),
    *_peer("biscuit", 2, 5),
    *_peer("pymacaroons", 1, 2.5),
    Demand(what="capx, cold, many dead to none", op="deaths", who=ours.COLD, to="0", at_most=1.1),
    Demand(what="capx, warm prefix, many dead to none", op="deaths", who=ours.WARM, to="0", at_most=1.1),
    Demand(what="import capx, to the bare interpreter", op="start", who=startup.IMPORT, to=startup.BARE, at_most=6),
    Demand(what="capx --help, to the bare interpreter", op="start", who=startup.HELP, to=startup.BARE, at_most=5.5),
)


class Bar(Struct, frozen=True):
    """A demand, and the ratios that were measured, by where."""

    demand: Demand
    values: dict[str, float]

    @property
    def reached(self) -> bool | None:
        """Whether all are; None if nothing was measured."""
        return self.demand.are_within(self.values.values())


def bars(report: Report) -> list[Bar]:
    """Every bar, whether or not this run reached it."""
    return [
        Bar(
            demand,
            {
                _place(row): row.ratios[demand.to]
                for row in report.rows
                if (row.op, row.who) == (demand.op, demand.who)
                and demand.to in row.ratios
                and demand.at in (None, row.at)
            },
        )
        for demand in DEMANDS
    ]


def _place(row: Row) -> str:
    return {"verify": f"L = {row.at}", "deaths": f"{row.at:,} dead".replace(",", " ")}.get(row.op, "")


def machine() -> tuple[str, str]:
    """The interpreter and the kind of processor."""
    return f"{platform.python_implementation()} {platform.python_version()}", _cpu()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load(path: Path) -> Report:
    """A report from its file."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def save(report: Report, path: Path) -> None:
    """Write a report, readable and with one row a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = msgspec.to_builtins(report)
    lines: list[str] = []
    for name, value in fields.items():
        if isinstance(value, list):
            inner = ",\n  ".join(msgspec.json.encode(each).decode() for each in cast("list[object]", value))
            lines.append(f' "{name}": [\n  {inner}\n ]')
        else:
            lines.append(f' "{name}": {msgspec.json.encode(value).decode()}')
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
