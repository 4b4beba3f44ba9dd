"""What became of ending or revoking something, as operators and agents are told."""

from typing import Literal

from msgspec import Struct


class Impact(Struct, frozen=True):
    """What is known to die: node ids and capability ids. Everything below them dies too, seen or not."""

    nodes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


class Ended(Struct, frozen=True):
    """How a task ended, and at which position of the log; `again` if it had ended before.

    Of a dry run: how it would end, no position, and what is known to die.
    """

    task: str
    end: Literal["active", "completed", "withdrawn", "expired"]
    position: int | None
    again: bool = False
    dying: Impact | None = None


class Killed(Struct, frozen=True):
    """What is dead: a node or capability id, `kid:KID` or `issued:SECONDS`; `again` if it was dead before.

    `position` is where its death stands in the log; of a dry run there is none.
    """

    key: str
    position: int | None
    is_root: bool = False
    again: bool = False


class Revocation(Struct, frozen=True):
    """All that one revocation was about; of a dry run, with what is known to die."""

    killed: tuple[Killed, ...]
    dying: Impact | None = None

    @property
    def position(self) -> int | None:
        """The last position in the log of what died, now or before; None of a dry run, and when nothing was found."""
        return max((one.position for one in self.killed if one.position is not None), default=None)
