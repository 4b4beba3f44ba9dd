"""What a narrower token can no longer do."""

import pytest

from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.effective.difference import descends, losses
from capx.tokens.effective.effective import effective
from capx_caveats import Entry, action, allow, expires, not_, where
from tests.labs.lab import NOW, minted


def lost(parent: Capability, child: Capability) -> list[tuple[str, list[str]]]:
    found = losses(effective(parent, NOW), effective(child, NOW))
    assert found is not None
    return [(loss.entry.sentence(), [entry.sentence() for entry in loss.left]) for loss in found]


@pytest.fixture
def parent() -> Capability:
    return minted().attenuate(allow("a.read", action("a.write", deck="d1")))


def narrowed(parent: Capability, *entries: str | Entry) -> Capability:
    return parent.delegate(to="x", allow=entries, now=NOW)


def test_what_is_gone_and_what_is_left_of_the_rest(parent: Capability) -> None:
    child = narrowed(parent, action("a.read", page=1))
    assert lost(parent, child) == [("a.read", ["a.read where page is 1"]), ('a.write where deck is "d1"', [])]


def test_a_child_that_can_do_all_lost_nothing(parent: Capability) -> None:
    assert lost(parent, parent) == []
    assert lost(parent, narrowed(parent, "a.*")) == []
    assert lost(parent, parent.attenuate(expires("5m"), now=NOW)) == []


def test_a_child_that_can_do_nothing_lost_all_its_parent_had(
    parent: Capability,
) -> None:
    child = narrowed(parent, "b.read")
    assert [left for _, left in lost(parent, child)] == [[], []]
    assert lost(child, narrowed(child, "a.read")) == []


def test_what_is_demanded_of_every_call_counts(parent: Capability) -> None:
    child = parent.attenuate(where("args.deck", "d2"))
    assert ('a.write where deck is "d1"', []) in lost(parent, child)


def test_one_and_true_are_not_the_same_limit() -> None:
    top = minted()
    parent = top.attenuate(allow(action("a.read", page=1)))
    child = parent.attenuate(allow(action("a.read", page=True)))
    assert lost(parent, child) == [("a.read where page is 1", [])]


def test_tokens_with_too_many_entries_are_compared_by_what_stays() -> None:
    many = minted().attenuate(allow(*(action("a.read", page=not_(page)) for page in range(30))))
    more = many.attenuate(allow(*(action("a.read", page=not_(100 + page)) for page in range(30))))
    assert len(effective(more, NOW).entries) == 900
    assert losses(effective(more, NOW), effective(more.attenuate(where("args.page", not_(1000))), NOW)) is None
    assert lost(more, more.attenuate(expires("5m"), now=NOW)) == []


def test_a_child_descends_from_every_token_above_it_and_no_other(parent: Capability) -> None:
    child = narrowed(parent, "a.read")
    below = child.attenuate(expires("5m"), now=NOW)
    assert descends(child, parent)
    assert descends(below, parent)
    assert descends(parent, parent)
    assert not descends(parent, child)
    assert not descends(narrowed(parent, "a.read"), child)
    assert not descends(minted(), parent)
    (again,) = Bundle.parse(child.text)
    assert descends(again, parent)
