"""The life of a task."""

from typing import get_args

import pytest

from capx.store.lifecycle import DEATH, FIRST, MEANING, MOVES, Move, State, after, diagram, is_final

STATES: tuple[State, ...] = get_args(State)
ALL_MOVES: tuple[Move, ...] = get_args(Move)
ENDS: list[State] = [state for state in STATES if state not in (FIRST, "revoked")]


def test_a_task_ends_in_three_ways_and_each_has_its_reason() -> None:
    assert {after(FIRST, move) for move in ALL_MOVES} == set(ENDS)
    assert set(ENDS) == {"completed", "withdrawn", "expired"}
    assert all(DEATH[state] == f"task_{state}" for state in ENDS)
    assert not is_final(FIRST)
    assert not is_final("revoked")
    assert all(map(is_final, ENDS))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("move", ALL_MOVES)
def test_ends_are_final_and_ending_twice_is_the_same_end(end: State, move: Move) -> None:
    assert after(end, move) == end


def test_the_diagram_shows_the_table_and_nothing_else() -> None:
    lines = [line.strip() for line in diagram().splitlines()]
    assert lines[0] == "stateDiagram-v2"
    assert lines[1] == "[*] --> active: open"
    arrows = [f"{state} --> {end}: {move}, {MEANING[move]}" for (state, move), end in MOVES.items()]
    assert lines[2:] == [*arrows, *(f"{end} --> [*]" for end in ENDS)]
