"""The results of ending a task and of revoking, for operators and agents."""

from typing import Literal

from msgspec import Struct


class Impact(Struct, frozen=True):
    """The known nodes and capabilities that die, by id. Everything below them dies too, even if it was never seen."""

    nodes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


class Ended(Struct, frozen=True):
    """How a task ended, and the position of its end in the log; `again` if it had ended before.

    In a dry run, `end` is how the task would end, `position` is None, and `dying` lists what is known to die.
    """

    task: str
    end: Literal["active", "completed", "withdrawn", "expired", "revoked"]
    position: int | None
    again: bool = False
    dying: Impact | None = None


class Killed(Struct, frozen=True, gc=False):
    """One thing that is dead: a node or capability id, an agent's key, `kid:KID` or `issued:SECONDS`.

    `again` if it was dead before. An agent's key is `ed25519:` and 43 characters.
    `position` is the position of its death in the log. In a dry run it is None.
    """

    key: str
    position: int | None
    is_root: bool = False
    again: bool = False


class Revocation(Struct, frozen=True):
    """All that one revocation killed. In a dry run, `dying` lists what is known to die."""

    killed: tuple[Killed, ...]
    dying: Impact | None = None

    @property
    def position(self) -> int | None:
        """The last position of these deaths in the log, new or earlier; None in a dry run, or if nothing was found."""
        return max((one.position for one in self.killed if one.position is not None), default=None)
