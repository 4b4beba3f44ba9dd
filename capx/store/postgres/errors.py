"""What PostgreSQL's errors mean to who runs a capx store on it.

Laws: whatever psycopg raises becomes a StoreProblem with a sentence that says what to do: Unavailable where the same
may be tried again later and nothing was done, Unwritable where it never will be held. No sentence shows a password.
"""

import contextlib
from collections.abc import Generator

import psycopg

from capx.errors import StoreProblem, Unavailable
from capx.store.records import Unwritable


class Silent(psycopg.OperationalError):
    """The server said nothing for so long that the connection was given up."""


@contextlib.contextmanager
def explained(place: str) -> Generator[None]:
    """A block in which what psycopg raises becomes a StoreProblem about the store at `place`."""
    try:
        yield
    except psycopg.Error as error:
        raise _explanation(place, error) from error


@contextlib.contextmanager
def keeping(place: str) -> Generator[None]:
    """A block at whose end something is kept: when its answer is lost, that may have happened."""
    try:
        yield
    except psycopg.OperationalError as error:
        state = error.sqlstate
        if state is not None and (state[:2] not in _LOST or state == _CANCELLED):
            raise
        raise StoreProblem(
            f"the store {place} did not say whether it has kept this, so it may have: look before doing it again "
            f"({_words(error)})"
        ) from error


def _explanation(place: str, error: psycopg.Error) -> StoreProblem:
    state = error.sqlstate
    if isinstance(error, psycopg.DataError) or (state or "")[:2] in ("22", "54"):
        return Unwritable(f"the store {place} cannot hold this: {_words(error)}")
    if isinstance(error, Silent):
        return Unavailable(f"the store {place} does not answer: {error}; look at its server, then try again")
    if state is None:
        if isinstance(error, psycopg.OperationalError):
            return Unavailable(
                f"the store {place} cannot be reached: {_words(error)}; look at its server, then try again"
            )
        return StoreProblem(f"the store {place} failed: {_words(error)}")
    if meaning := _LATER.get(state) or _LATER.get(state[:2]):
        return Unavailable(f"the store {place} {meaning} ({_words(error)})")
    meaning = _MEANINGS.get(state) or _MEANINGS.get(state[:2]) or "failed"
    return StoreProblem(f"the store {place} {meaning}: {_words(error)}")


def _words(error: psycopg.Error) -> str:
    """What the server or the library said, in one line."""
    return error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__


# Classes of errors after which nobody knows what became of a COMMIT.
_LOST = ("08", "57")
_CANCELLED = "57014"

_LATER = {
    "08": "lost its connection: try again",
    "25P03": "gave up a transaction that stood still for too long, and nothing of it was kept: try again",
    "40": "was changed by others at the same time: try again",
    "53": "has no room: give its server what it lacks, then try again",
    "53100": "cannot grow: the disk of its server is full; free some space and try again",
    "53300": "takes no more connections: close some, or raise max_connections, then try again",
    "55P03": "is busy: another process held it for too long; try again",
    "57": "is being stopped or started: try again",
    _CANCELLED: "gave this up because it took too long or was cancelled: try again",
}

_MEANINGS = {
    "23505": "has this already",
    "25P02": "kept nothing of this: a part of it had failed before",
    "25006": "cannot be written: its server or database is read-only",
    "28": "lets this role not in: look at the role, its password and pg_hba.conf",
    "3D000": "is not there: create the database with createdb, then the store with capx init",
    "3F000": "is damaged: stop its services and restore it from a backup",
    "42501": "does not let this role do that",
    "42P01": "is damaged: stop its services and restore it from a backup",
    "42703": "is damaged: stop its services and restore it from a backup",
    "42883": "is damaged: stop its services and restore it from a backup",
    "58": "cannot be read or written: its server reports an error of the system",
    "P0002": "is damaged: stop its services and restore it from a backup",
    "XX001": "is damaged: stop its services and restore it from a backup",
    "XX002": "is damaged: stop its services and restore it from a backup",
}
