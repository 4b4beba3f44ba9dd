"""A budget by itself: what it refuses, and what it tells."""

from decimal import Decimal
from typing import Any

from capx_caveats import (
    Budget,
    Call,
    Facts,
    budget,
)

NOW = 1_000


def said(caveat: Budget, *, metered: bool = True, **cost: Any) -> str | None:
    refusal = caveat.refusal(Facts(Call("a.read", cost=cost), NOW, 0.0, metered))
    return refusal.code if refusal else None


def test_a_budget_alone_is_refused_only_where_no_spend_cures() -> None:
    assert said(budget("calls", 1)) is None
    assert said(budget("calls", 1), metered=False) == "no_meter"
    assert said(budget("calls", "0.999999")) == "budget_exhausted"
    assert said(budget("eur", 5)) == "attribute_missing"
    assert said(budget("eur", 5), usd=1) == "attribute_missing"
    assert said(budget("eur", 5), eur="5.000000") is None
    assert said(budget("eur", 5), eur="5.000001") == "budget_exhausted"
    assert said(budget("eur", 0), eur=0) is None


def test_a_budget_tells_whether_it_is_spent_and_not_how_far() -> None:
    caveat = budget("eur", 10)
    room = caveat.exhausted(Decimal("9.5"), Decimal("0.5"))
    assert room is None
    more, spent, over = (caveat.exhausted(Decimal(held), Decimal(1)) for held in ("9.25", "10", "11"))
    assert more is not None
    assert spent is not None
    assert over is not None
    assert (more.code, more.sentence) == (
        "budget_exhausted",
        "allows at most 10 eur, shared by everyone below, and this call costs more than is left",
    )
    assert spent == over
    assert spent.sentence == "allows at most 10 eur, shared by everyone below, and all of it is spent"
