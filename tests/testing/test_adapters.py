"""What `conformance` makes of an adapter: a test that passes, fails, or holds it to what it does instead."""

import inspect
from collections.abc import Sequence
from pathlib import Path

import pytest

from capx.errors import InvalidRequest
from capx.testing import NotConformant, Tool, Turn, conformance
from capx.testing.adapters import KINDS
from capx.testing.rows import ROWS
from capx.verify.ask import Pending
from capx.verify.decision import Denied
from tests.labs.reference_adapter import Reference

test_the_reference = conformance(Reference())


class Silent(Reference):
    """Hides from the model why a call was refused."""

    def told(self, refusal: Denied | Pending) -> str:
        return "An error occurred."


test_silence_that_is_declared = conformance(
    Silent(),
    differs={
        "default_judged": "read 'An error occurred.'",
        "coerced_value_judged": "read 'An error occurred.'",
        "denied": "read 'An error occurred.'",
        "pending_then_approved": "read 'An error occurred.'",
        "asked_and_refused": "read 'An error occurred.'",
        "nobody_acts": "nobody acted, and the model read ['An error occurred.']",
        "delegated": "read 'An error occurred.'",
        "completed_in_the_run": "read 'An error occurred.'",
        "two_runs_at_once": "read 'An error occurred.'",
    },
)


def test_each_row_is_played_with_plain_and_async_tools() -> None:
    (mark,) = vars(conformance(Reference()))["pytestmark"]
    assert mark.args == ("case", tuple(f"{row}-{kind}" for row in ROWS for kind in KINDS))
    assert {*KINDS} == {"sync", "async"}


def test_a_row_that_is_declared_and_passes_fails() -> None:
    declared = conformance(Reference(), differs={"denied": "the model must read"})
    with pytest.raises(NotConformant, match=r"^denied-async passes: take it out of `differs`$"):
        declared("denied-async")


def test_a_row_that_differs_otherwise_than_declared_fails() -> None:
    declared = conformance(Silent(), differs={"denied": "export ran"})
    with pytest.raises(NotConformant, match="the model must read"):
        declared("denied-sync")


def test_a_row_may_differ_for_one_kind_of_tools_only() -> None:
    declared = conformance(Silent(), differs={"denied-sync": "read 'An error occurred.'"})
    declared("denied-sync")
    with pytest.raises(NotConformant):
        declared("denied-async")


def test_a_row_that_does_not_exist_cannot_differ() -> None:
    with pytest.raises(InvalidRequest, match="there is no row 'replay'"):
        conformance(Reference(), differs={"replay": "nothing is sent"})


async def broken(tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
    raise TypeError("this adapter has a mistake")


def test_a_mistake_of_an_adapter_is_no_difference() -> None:
    declared = conformance(broken, differs=dict.fromkeys(ROWS, ""))
    with pytest.raises(TypeError):
        declared("allowed-sync")


def test_every_row_says_what_must_hold(checkout: Path) -> None:
    guide = (checkout / "docs" / "integrations" / "testing.md").read_text("utf-8")
    assert [name for name, row in ROWS.items() if not inspect.getdoc(row) or f"\n| `{name}` |" not in guide] == []
