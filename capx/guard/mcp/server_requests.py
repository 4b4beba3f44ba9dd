"""What a server over HTTP has asked its clients: only an answer to that passes.

Laws: outside a session, nobody can tell who was asked, so nothing is. The oldest question of a session is forgotten for
a new one, and the session that was asked longest ago for a new session, a stranger's first. So no session costs another
one its questions, unless there are very many.
"""

from collections.abc import Callable
from typing import Final

from capx.api.jsonrpc import Id

MOST_OF_SESSION: Final = 64
MOST_SESSIONS: Final = 1024


class ServerRequests:
    """The requests of a server that wait for an answer, by session; `is_of_caller` says whose a session is."""

    def __init__(self, is_of_caller: Callable[[str], bool]) -> None:
        self._is_of_caller = is_of_caller
        self._asked: dict[str, dict[tuple[type, Id], None]] = {}

    def note(self, session: str | None, id: Id) -> bool:
        """Note that the server has asked; whether somebody can answer."""
        if session is None:
            return False
        asked = self._asked[session] = self._asked.pop(session, {})
        asked[type(id), id] = None
        if len(asked) > MOST_OF_SESSION:
            del asked[next(iter(asked))]
        if len(self._asked) > MOST_SESSIONS:
            oldest = next(iter(self._asked))
            del self._asked[next((one for one in self._asked if not self._is_of_caller(one)), oldest)]
        return True

    def take(self, session: str | None, id: Id | None) -> bool:
        """Whether the server has asked this and has no answer yet; from now on, it has one."""
        if session is None or id is None or (type(id), id) not in (asked := self._asked.get(session, {})):
            return False
        del asked[type(id), id]
        if not asked:
            del self._asked[session]
        return True

    def forget(self, session: str | None) -> None:
        """Forget a session that has ended."""
        if session is not None:
            self._asked.pop(session, None)
