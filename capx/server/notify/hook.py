"""A hook: to whom an authority tells what happens, what of it, and how."""

from typing import Final

from msgspec import Struct

from capx.errors import CapxError

REQUEST_WAITS: Final = "request_waits"
"""An agent has asked for more, and people have to answer."""
REQUEST_LAPSES: Final = "request_lapses"
"""Nobody answered a request in time, or nobody has to any more."""
REQUEST_ANSWERED: Final = "request_answered"
"""Somebody answered a request, or the approval of a call is complete."""
TASK_DENIED: Final = "task_denied"
"""Many calls of one task were denied within a minute."""
KEY_CHANGED: Final = "key_changed"
"""A person signed with another key than the last time."""
TEST: Final = "test"
"""Nothing happened: `capx notify test` tries a hook. It goes to every hook, whatever its kinds."""

KINDS: Final = (REQUEST_WAITS, REQUEST_LAPSES, REQUEST_ANSWERED, TASK_DENIED, KEY_CHANGED)
"""What a hook can be told of."""
DENIALS: Final = 10
"""How many denials within a minute make a notice, unless the file says otherwise."""
SECONDS: Final = 10.0
"""Seconds for one delivery, from its beginning to its end."""


class NotTaken(CapxError):
    """A hook has not taken a notice; says why."""


class Hook(Struct, frozen=True, kw_only=True):
    """A hook. It has a URL and a secret, or a command, which begins with the full path of a program.

    With `private`, the URL may be http, and its host may be in a private network or this machine. With `values`,
    notices hold what agents and people wrote: labels, arguments, the statement, the tenant.
    """

    name: str
    url: str | None = None
    secret: bytes = b""
    command: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset(KINDS)
    private: bool = False
    values: bool = False
    denials: int = DENIALS

    def __repr__(self) -> str:
        # The URL of a chat program is a secret too.
        return f"Hook({self.name!r})"
