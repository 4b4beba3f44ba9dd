"""The clock: who goes by it, and that nobody on the agent's side still reads the real time."""

import ast
import time
from pathlib import Path

import pytest

import capx
from capx.authority.authority import Authority
from capx.crypto.instants import now_or
from capx.errors import InvalidRequest
from capx.testing import Clock, OpensByHand, denied
from capx.testing.clock import READ_BY_HOLDERS, StoppedTime
from capx_caveats import expires

CAPX = Path(capx.__file__).parent
HOLDERS = ("agent", "tokens", "crypto", "api", "intents")
"""The rooms of whoever holds tokens, and those that they stand on."""


def reads_time(path: Path) -> bool:
    """Whether a module reads the time of day: it calls `time.time`, or imports it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"time.time", "time.time_ns"}:
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "time" and node.names[0].name.startswith("time"):
            return True
    return False


def test_every_module_of_a_holder_that_reads_the_time_is_known() -> None:
    found = [
        ".".join(("capx", *path.relative_to(CAPX).with_suffix("").parts))
        for room in HOLDERS
        for path in sorted((CAPX / room).rglob("*.py"))
        if path.name != "__init__.py" and reads_time(path)
    ]
    assert sorted(found) == sorted(READ_BY_HOLDERS)


def test_a_clock_stands_still_until_it_is_moved() -> None:
    clock = Clock()
    assert abs(clock() - time.time()) < 5
    began = clock.now
    clock.move(90)
    assert (clock.now, clock()) == (began + 90, began + 90.0)


@pytest.mark.parametrize("by", [-1, float("nan"), True, "1m"])
def test_a_clock_moves_on_by_a_number_of_seconds(by: float) -> None:
    clock = Clock()
    with pytest.raises(InvalidRequest, match="`by` must be a number of seconds"):
        clock.move(by)


def test_a_clock_stands_for_the_time_of_day_only() -> None:
    clock = Clock()
    stopped = StoppedTime(clock)
    clock.move(1000)
    assert stopped.time() == clock.now
    assert stopped.monotonic is time.monotonic


def test_an_expiry_is_met_to_the_second(capx_authority: Authority, capx_bundle: OpensByHand, capx_clock: Clock) -> None:
    read = capx_authority.tool("crm.read")(lambda: "read")
    child = capx_bundle("crm.read").delegate(to="helper", caveats=[expires("10m")])
    capx_clock.move(599)
    with capx.acting(child):
        assert read() == "read"
    capx_clock.move(1)
    with capx.acting(child), denied("expired", hop=1):
        read()


def test_holders_go_by_the_clock_in_the_same_process(capx_clock: Clock) -> None:
    capx_clock.move(86_400)
    assert now_or(None) == capx_clock.now > time.time() + 80_000
