"""The states of a task and the moves between them, as one table.

Laws: a task is active until it ends. An end is final: if somebody ends a task again, nothing changes, and they learn
how it ended first.
"""

from collections.abc import Mapping
from typing import Final, Literal

State = Literal["active", "completed", "withdrawn", "expired", "revoked"]
"""The state of a task. `active` is not final, nor is `revoked`: as what an active one is shown, if its root is dead."""
Move = Literal["complete", "withdraw", "expire"]

FIRST: Final[State] = "active"

MOVES: Final[Mapping[tuple[State, Move], State]] = {
    ("active", "complete"): "completed",
    ("active", "withdraw"): "withdrawn",
    ("active", "expire"): "expired",
}

MEANING: Final[Mapping[Move, str]] = {
    "complete": "the work is done",
    "withdraw": "it is no longer wanted",
    "expire": "its time ran out",
}

DEATH: Final[Mapping[State, str]] = {
    "completed": "task_completed",
    "withdrawn": "task_withdrawn",
    "expired": "task_expired",
}
"""The reason code with which every token of a task is denied once the task has ended in this state."""

Lapse = Literal["unanswered", "task_ended", "agent_revoked", "replaced"]
"""Why nobody can answer a request any more."""

LAPSES: Final[Mapping[Lapse, str]] = {
    "unanswered": "nobody answered in time",
    "task_ended": "its task has ended",
    "agent_revoked": "its agent was revoked",
    "replaced": "its agent asked again, and the policy has another offer now",
}


def after(state: State, move: Move) -> State:
    """The state of a task after `move`; a task that has ended keeps its state."""
    # No entry for a final state: two processes may end a task at the same time, and that is not an error.
    end = MOVES.get((state, move))
    return end or state


def is_final(state: State) -> bool:
    """Whether a task in `state` has ended."""
    return state in DEATH


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    ends = dict.fromkeys(state for state in MOVES.values() if is_final(state))
    return "\n".join(
        [
            "stateDiagram-v2",
            f"    [*] --> {FIRST}: open",
            *(f"    {state} --> {end}: {move}, {MEANING[move]}" for (state, move), end in MOVES.items()),
            *(f"    {state} --> [*]" for state in ends),
        ]
    )
