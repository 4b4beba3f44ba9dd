"""The index of decisions: which values are in a block of the log, and the latest time of a decision there.

A page of calls is found by it. A block is 128 positions that follow each other. So a tenant, an agent or an action that
is in every decision takes one row for each block.

Laws:

- The log is the truth. The index only says where to look: whoever reads a decision there compares it with the query.
- The authority makes the index from the log, from the first block on without gaps: with its own writes, in `capx serve`
  every second, and when somebody searches. So to record a decision takes no longer, and no resource writes it. What is
  behind its last block is searched in the log itself.
- Each decision of a block there is found. One that cannot be read, or that has too many values, gives its block the
  value `ANY`, by which it is found whatever is looked for. So each decision adds a few rows at most.
- `check_index` finds a row that is missing. A row too many costs time only.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Final

from msgspec import Struct

from capx.store.decision_query import Query, WholeRecorded
from capx.store.events import archived_until
from capx.store.log import Event
from capx.store.protocols import Reading
from capx.store.records import Damaged
from capx_caveats.names import ACTION_LENGTH, LABEL_LENGTH

BLOCK: Final = 128
"""The positions of one block."""
ANY: Final = "any"
"""The value of a block with a decision that may have any."""
_DENIED: Final = "denied"
_LONGEST: Final = max(ACTION_LENGTH, LABEL_LENGTH)
_MOST_LABELS: Final = 32
_MOST_DOTS: Final = 8
_MOST_ARGS: Final = 16
_LONGEST_ARG: Final = 300
"""The most characters of a shown argument that is looked up; those of a longer one are compared only."""


class Block(Struct, frozen=True):
    """What the index says of a block: the values in it, and the latest time of a decision (Unix seconds)."""

    number: int
    values: frozenset[str]
    latest: int = 0


def block_of(position: int) -> int:
    """The number of the block in which a position is; the first one is 0."""
    return (position - 1) // BLOCK


def sought(query: Query) -> list[str]:
    """The values that each decision has that matches, unless its block has `ANY`."""
    named = (("tenant", query.tenant), ("agent", query.agent), ("action", query.action))
    found = [f"{what}:{text}" for what, text in named if text is not None]
    return [
        *found,
        *(f"arg:{text}" for text in query.args if len(text) <= _LONGEST_ARG),
        *[_DENIED] * query.wants_denials,
    ]


def indexed(number: int, events: Iterable[Event]) -> Block:
    """What the index has to say of a block with these events."""
    latest = 0
    tenants, agents, actions, others = set[str](), set[str](), set[str](), set[str]()
    for event in events:
        if event.kind != "decision":
            continue
        latest = max(latest, event.at)
        recorded = event.read_if(WholeRecorded)
        if recorded is None or len(recorded.hops) > _MOST_LABELS or (recorded.action or "").count(".") > _MOST_DOTS:
            others.add(ANY)
            continue
        if len(recorded.shown_args) > _MOST_ARGS:
            others.add(ANY)
        else:
            others |= {f"arg:{text}" for text in recorded.args if len(text) <= _LONGEST_ARG and "\0" not in text}
        agents.update(recorded.hops)
        if recorded.tenant is not None:
            tenants.add(recorded.tenant)
        if recorded.action is not None:
            actions.add(recorded.action)
        if recorded.outcome != "allowed":
            others.add(_DENIED)
    # Each pattern that an action matches, because a query may name one.
    actions |= {action[: at + 1] + "*" for action in actions for at, sign in enumerate(action) if sign == "."}
    named = (("tenant", tenants), ("agent", agents), ("action", actions))
    others |= {f"{what}:{text}" for what, texts in named for text in texts if _can_be_named(text)}
    return Block(number, frozenset(others), latest)


def _can_be_named(text: str) -> bool:
    """Whether a query may name it. PostgreSQL could not even hold some others."""
    return 0 < len(text) <= _LONGEST and "\0" not in text


def check_index(reading: Reading) -> None:
    """Check that the index has what is in the log; Damaged names the first position of a block that lacks something."""
    full, archived = reading.indexed_blocks(), archived_until(reading)
    for number, events in groupby(reading.events(), lambda event: block_of(event.position)):
        if number == full:
            break
        if (number + 1) * BLOCK <= archived:
            # What its decisions said is in an archive.
            continue
        block = indexed(number, events)
        if not reading.has_indexed(number, block.values, block.latest):
            raise Damaged(
                f"the index of decisions lacks some from position {number * BLOCK + 1} on, so a search may not find "
                "them: make a backup, and restore the store from it"
            )
