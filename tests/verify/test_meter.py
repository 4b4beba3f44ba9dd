"""A meter that is gone, that fails, or that is not there refuses what has a budget."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.verify.admitted import Admitted
from capx.verify.decision import Allowed, Denied
from capx.verify.meter import Spend, Tally
from capx_caveats import Call, budget
from tests.labs.lab import Lab, codes, minted

READ = ToolCall("a.read")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore.create(tmp_path / "capx.db")
    yield made
    made.close()


@pytest.fixture
def lab(store: SQLiteStore) -> Lab:
    return Lab(meter=store)


def admitted(lab: Lab, capability: Capability) -> Admitted:
    return lab.verifier.admit(lab.present(capability), READ)


def spend(lab: Lab, capability: Capability, **cost: Any) -> Allowed:
    """The verdict on one more call, freshly presented, that costs this much."""
    return admitted(lab, capability).judge(Call("a.read", cost=cost))


def refused(lab: Lab, capability: Capability, **cost: Any) -> tuple[str, ...]:
    with pytest.raises(Denied) as denied:
        spend(lab, capability, **cost)
    return codes(denied.value)


def test_without_a_meter_every_budget_is_refused() -> None:
    lab = Lab()
    assert refused(lab, minted(budget("calls", 5))) == ("no_meter",)
    assert refused(lab, minted(budget("eur", 5)), eur=1) == ("no_meter",)


def test_store_gone_refuses_and_what_has_no_budget_goes_on(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("calls", 5))
    spend(lab, capability)
    store.close()
    assert refused(lab, capability) == ("unavailable",)
    assert spend(lab, minted()).remaining == {}


def test_a_store_whose_file_is_gone_refuses(lab: Lab, store: SQLiteStore) -> None:
    store.path.unlink()
    assert refused(lab, minted(budget("calls", 5))) == ("unavailable",)


class Failing:
    """A meter that fails as no store may."""

    def spend(self, spends: Sequence[Spend], *, now: int) -> Tally:
        raise ZeroDivisionError

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        raise ZeroDivisionError


def test_a_meter_that_fails_oddly_keeps_no_slot_of_the_record() -> None:
    lab = Lab(meter=Failing())
    with pytest.raises(ZeroDivisionError):
        spend(lab, minted(budget("calls", 5)))
    assert lab.records.slots == 0
    assert [codes(decision) for decision in lab.records.decisions] == [("unavailable",)]
