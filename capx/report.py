"""What the authority answers: what was opened, how it ended, what was revoked."""

import msgspec

from capx.bundle import Bundle
from capx.task import State


class OpenedTask(msgspec.Struct, frozen=True):
    """A task that was opened, and the bundle for its first agent: a secret; `expires` is in Unix seconds."""

    id: str
    root: str
    tenant: str | None
    purpose: str | None
    expires: int
    position: int
    bundle: Bundle


class Dying(msgspec.Struct, frozen=True):
    """What is known to die: node ids and capability ids. Everything below them dies too, seen or not."""

    nodes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


class Ended(msgspec.Struct, frozen=True):
    """How a task ended, and at which position of the log; `again` if it had ended before.

    Of a dry run: how it would end, no position, and what is known to die.
    """

    task: str
    end: State
    position: int | None
    again: bool = False
    dying: Dying | None = None


class Revoked(msgspec.Struct, frozen=True):
    """The node or capability id that is dead, and at which position it died; `again` if it was dead before.

    Of a dry run: what would die, no position, and what is known to die.
    """

    id: str
    is_root: bool
    position: int | None
    again: bool = False
    dying: Dying | None = None
