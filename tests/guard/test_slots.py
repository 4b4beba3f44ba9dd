"""Slots for requests over HTTP: strangers get half of them, and each is given back."""

from contextlib import ExitStack
from typing import Any

import pytest

from capx.api.jsonrpc import Request
from capx.guard.mcp.slots import NoSlot, RequestSlots, is_judged

PRESENTED = Request(1, "tools/call", {"_meta": {"dev.capx/presentation": "x"}})
BARE = Request(1, "tools/call")


def test_strangers_get_half_of_the_slots() -> None:
    slots = RequestSlots(4)
    with ExitStack() as held:
        for request in (BARE, BARE):
            held.enter_context(slots.one(request))
        with pytest.raises(NoSlot, match="2 requests without a presentation"), slots.one(BARE):
            pass
        for request in (PRESENTED, PRESENTED):
            held.enter_context(slots.one(request))
        with pytest.raises(NoSlot, match="4 requests are"), slots.one(PRESENTED):
            pass
    with slots.one(BARE), slots.one(BARE), slots.one(PRESENTED), slots.one(PRESENTED):
        pass
    few = RequestSlots(2)
    with few.one(BARE), pytest.raises(NoSlot, match="1 requests without a presentation"), few.one(BARE):
        pass


def test_who_presents_may_take_all_slots() -> None:
    slots = RequestSlots(1)
    with slots.one(PRESENTED), pytest.raises(NoSlot), slots.one(BARE):
        pass
    with slots.one(BARE):
        pass


@pytest.mark.parametrize(
    ("method", "params", "judged"),
    [
        ("tools/call", {"_meta": {"dev.capx/presentation": "x"}}, True),
        ("initialize", {"_meta": {"dev.capx/presentation": "x"}}, False),
        ("tools/call", {"_meta": {"dev.capx/presentation": 1}}, False),
        ("tools/call", {"_meta": 1}, False),
        ("tools/call", {}, False),
        ("tools/call", None, False),
    ],
)
def test_a_presentation_counts_where_the_gate_judges_it(method: str, params: Any, judged: bool) -> None:
    assert is_judged(Request(1, method, params)) is judged
