"""Explains the errors of PostgreSQL to an operator.

Laws: every error of psycopg becomes a StoreProblem that says what to do. It is Unavailable if nothing was done and the
caller may try again later, and Unwritable if the store can never hold the value. No error shows a password.
"""

import contextlib
from collections.abc import Generator

import psycopg

from capx.errors import StoreProblem, Unavailable
from capx.store.records import Unwritable


class Silent(psycopg.OperationalError):
    """The server was silent for too long, so the connection was given up."""


@contextlib.contextmanager
def explained(place: str) -> Generator[None]:
    """A block in which errors of psycopg become a StoreProblem about the store at `place`."""
    try:
        yield
    except psycopg.Error as error:
        raise _explanation(place, error) from error


def kept_nothing(error: psycopg.OperationalError) -> bool:
    """Whether the server said that it kept nothing; without an answer it may or may not have."""
    state = error.sqlstate
    return state is not None and (state[:2] not in _LOST or state == _CANCELLED)


def may_be_kept(place: str, why: psycopg.Error | str) -> StoreProblem:
    """The error for what a server may have kept, and may lose again."""
    why = why if isinstance(why, str) else _words(why)
    return StoreProblem(
        f"the store {place} did not confirm that it kept this, and it may have: look before you do it again ({why})"
    )


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
    # The exact state first, then its class: the two first characters.
    if meaning := _LATER.get(state) or _LATER.get(state[:2]):
        return Unavailable(f"the store {place} {meaning} ({_words(error)})")
    meaning = _MEANINGS.get(state) or _MEANINGS.get(state[:2]) or "failed"
    return StoreProblem(f"the store {place} {meaning}: {_words(error)}")


def _words(error: psycopg.Error) -> str:
    """The message of the server or the library, in one line."""
    return error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__


# Classes of errors (lost connection, server stopped) after which it is unknown whether a COMMIT was kept. A cancelled
# statement is of the same class, but was certainly not kept.
_LOST = ("08", "57")
_CANCELLED = "57014"

_LATER = {
    "08": "lost its connection: try again",
    "25P03": "ended a transaction that was idle for too long, and kept nothing of it: try again",
    "40": "was changed by others at the same time: try again",
    "53": "is out of resources: give its server what it lacks, then try again",
    "53100": "cannot grow: the disk of its server is full; free some space and try again",
    "53300": "takes no more connections: close some, or raise max_connections, then try again",
    "55P03": "is busy: another process held it for too long; try again",
    "57": "is being stopped or started: try again",
    _CANCELLED: "stopped this because it took too long or was cancelled: try again",
}

_MEANINGS = {
    "23505": "has this already",
    "25P02": "saved nothing of this transaction: an earlier statement failed",
    "25006": "cannot be written: its server or database is read-only",
    "28": "does not let this role in: look at the role, its password and pg_hba.conf",
    "3D000": "is not there: create the database with createdb, then the store with capx init",
    "3F000": "is damaged: stop its services and restore it from a backup",
    "42501": "does not let this role do that",
    "42P01": "is damaged: stop its services and restore it from a backup",
    "42703": "is damaged: stop its services and restore it from a backup",
    "42883": "is damaged: stop its services and restore it from a backup",
    "58": "cannot be read or written: its server reports a system error",
    "P0002": "is damaged: stop its services and restore it from a backup",
    "XX001": "is damaged: stop its services and restore it from a backup",
    "XX002": "is damaged: stop its services and restore it from a backup",
}
