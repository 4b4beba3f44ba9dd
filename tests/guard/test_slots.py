"""Slots over HTTP: strangers get a part, one address half of it, and each is given back."""

from contextlib import ExitStack

import pytest

from capx.guard.asgi.slots import NoSlot, Sender, Slots, machine_at


def takes(slots: Slots, by: Sender, amount: int = 1) -> bool:
    """Whether somebody gets slots, which are given back at once."""
    try:
        with slots.taken(by, amount):
            return True
    except NoSlot:
        return False


def test_strangers_get_half_and_one_address_a_quarter() -> None:
    slots = Slots(8, "requests")
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(slots.taken("a"))
        with pytest.raises(NoSlot, match=r"^too many requests are being served already: wait"), slots.taken("a"):
            pass
        for _ in range(2):
            held.enter_context(slots.taken("b"))
        assert not takes(slots, "c")
        for by in (b"one", b"two"):
            for _ in range(2):
                held.enter_context(slots.taken(by))
        assert not takes(slots, b"three")
    assert takes(slots, b"one", 8)
    assert takes(slots, "a", 2)
    assert not takes(slots, "a", 3)


def test_who_is_proven_leaves_the_part_of_strangers() -> None:
    slots = Slots(4, "requests")
    with slots.taken("a") as proven:
        assert not takes(slots, "a")
        proven(b"one")
        proven(b"one")
        with slots.taken("a"), slots.taken("b"):
            assert not takes(slots, "c")
            assert takes(slots, b"one")
            assert takes(slots, b"two")
            assert not takes(slots, b"two", 2)
    assert takes(slots, b"one", 4)


def test_one_capability_locks_out_no_other() -> None:
    slots = Slots(8, "requests")
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(slots.taken(b"narrow"))
        assert not takes(slots, b"narrow")
        assert takes(slots, b"other", 4)
        proven = held.enter_context(slots.taken("a"))
        proven(b"narrow")
        assert not takes(slots, b"narrow")
        assert takes(slots, b"other", 3)
    # Others get half of what is left, or one thing.
    with slots.taken(b"one", 4), slots.taken(b"two"), slots.taken(b"two"):
        assert not takes(slots, b"two")
        assert takes(slots, b"three", 2)
    # What is larger than half is taken alone.
    with slots.taken(b"narrow", 5):
        assert not takes(slots, b"narrow")
        assert takes(slots, b"other", 3)


def test_callers_may_take_all_and_strangers_always_one() -> None:
    for made in (Slots(1, "requests"), Slots(2, "bytes", strangers=0.125)):
        with made.taken("a"):
            assert not takes(made, "b")
    slots = Slots(2, "requests")
    with slots.taken(b"one", 2):
        assert not takes(slots, "a")


@pytest.mark.parametrize(("most", "part", "all_of_them"), [(16, 0.5, 8), (16, 0.125, 2)])
def test_amounts_count_together(most: int, part: float, all_of_them: int) -> None:
    slots = Slots(most, "bytes", strangers=part)
    with slots.taken("a", all_of_them // 2), slots.taken("b", all_of_them // 2 - 1):
        assert takes(slots, "b")
        assert not takes(slots, "b", 2)
        assert takes(slots, "c")
        assert not takes(slots, "c", 2)


@pytest.mark.parametrize(
    ("host", "machine"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:8000::", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_a_machine_is_an_address_or_all_that_it_can_use(host: str, machine: str) -> None:
    assert machine_at(host) == machine


def test_a_block_that_fails_gives_back() -> None:
    slots = Slots(4, "requests")
    with pytest.raises(ZeroDivisionError), slots.taken("a") as proven:
        raise ZeroDivisionError
    # What comes too late counts nothing.
    proven(b"one")
    assert takes(slots, "a")
    assert takes(slots, b"one", 4)
