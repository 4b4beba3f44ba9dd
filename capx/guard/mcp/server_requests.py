"""What a server over HTTP has asked its clients: only an answer to that passes.

Law: the oldest question of a session is forgotten for a new one, and the session that was asked longest ago for a new
session. So no session costs another one its questions, unless there are very many.
"""

from typing import Any, Final

from capx.api.jsonrpc import Id

MOST_OF_SESSION: Final = 64
MOST_SESSIONS: Final = 1024


class ServerRequests:
    """The requests of a server that wait for an answer, by session; None for clients without one."""

    def __init__(self) -> None:
        self._asked: dict[str | None, dict[tuple[type, Id], None]] = {}

    def note(self, session: str | None, id: Id) -> None:
        """Note that the server has asked."""
        asked = self._asked[session] = self._asked.pop(session, {})
        asked[type(id), id] = None
        _bound(asked, MOST_OF_SESSION)
        _bound(self._asked, MOST_SESSIONS)

    def take(self, session: str | None, id: Id | None) -> bool:
        """Whether the server has asked this and has no answer yet; from now on, it has one."""
        if id is None or (type(id), id) not in (asked := self._asked.get(session, {})):
            return False
        del asked[type(id), id]
        if not asked:
            del self._asked[session]
        return True

    def forget(self, session: str | None) -> None:
        """Forget a session that has ended."""
        self._asked.pop(session, None)


def _bound(kept: dict[Any, Any], most: int) -> None:
    if len(kept) > most:
        del kept[next(iter(kept))]
