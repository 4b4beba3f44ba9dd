"""A meter that is gone, that fails, or that is not there refuses what has a budget."""

from collections.abc import Sequence
from decimal import Decimal

import pytest

from capx.store.records import Counter
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import ToolCall
from capx.verify.meter import Payer, Spend, Tally
from capx_caveats import budget
from tests.labs.lab import Lab, codes, minted
from tests.labs.spending import refused, spend

READ = ToolCall("a.read")


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


class Contradicting:
    """A meter that says that a budget is exhausted, and that nothing was spent from it."""

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        return Tally((Decimal(0),) * len(spends), (0,))

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        return (Decimal(0),) * len(counters)


def test_a_meter_that_contradicts_itself_allows_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same sentence is written at most once a minute.
    monkeypatch.setattr("capx.diagnostics._said", dict[str, float]())
    assert refused(Lab(meter=Contradicting()), minted(budget("calls", 5))) == ("unavailable",)
    assert "the meter says that a budget is exhausted, and its totals do not" in caplog.text


def test_a_presentation_that_another_process_had_paid_is_refused(lab: Lab, store: SQLiteStore) -> None:
    # Two processes of one service, each with a memory of presentations of its own.
    other = Lab(meter=store)
    token = lab.present(minted(budget("calls", 5)))
    assert codes(lab.decide(token)) == ()
    assert codes(other.decide(token)) == ("unavailable",)
    assert sum(held.spent for held in counters(store)) == 1


def counters(store: SQLiteStore) -> list[Counter]:
    with store.read() as reading:
        return reading.counters()


class Failing:
    """A meter that fails as no store may."""

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        raise ZeroDivisionError

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        raise ZeroDivisionError


def test_a_meter_that_fails_oddly_keeps_no_slot_of_the_record() -> None:
    lab = Lab(meter=Failing())
    with pytest.raises(ZeroDivisionError):
        spend(lab, minted(budget("calls", 5)))
    assert lab.records.slots == 0
    assert [codes(decision) for decision in lab.records.decisions] == [("unavailable",)]
