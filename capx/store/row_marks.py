"""The marks of rows: what the authority mints from bears a MAC under one of its root keys.

    mark    = kid (8 bytes) ‖ MAC (32 bytes)
    MAC     = HMAC(row key of that kid, table, id, kid, fields), each with its length before it

Laws:

- A mark covers a task, an intent and a request with its state and its consent, because the authority mints from them;
  an answer, because proofs show it; and a grant, because `store check` compares it. An ask has none: its event commits
  to it. The end of a task has none: that is a death.
- No key comes into the store. Whoever reads or writes gives a row guard, which has the keys.
- With a row guard, `task`, `intent`, `request`, `requests`, `requests_for` and `answers` give no row whose mark is
  wrong or missing, and no intent or request that the rest of the store contradicts: an older row has a right mark. The
  lists of tasks and of intents, and `rooted`, are not checked: nothing is minted from them.
- A transaction marks a row anew only after it has read it with a row guard. `put_mark` alone marks other rows: when a
  key is retired, or a copy adopted.
"""

from collections.abc import Iterable
from typing import Final, Literal, Protocol

from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.crypto.hashing import sized
from capx.crypto.keys import KID_BYTES
from capx.errors import StoreProblem
from capx.store.records import GrantRecord, IntentRecord, RequestRecord, SignedAnswer, TaskRecord
from capx.tokens.revocation_key import RevocationKey

Table = Literal["tasks", "intents", "requests", "answers", "grants"]
"""A table whose rows have marks."""
TABLES: Final[tuple[Table, ...]] = ("tasks", "intents", "requests", "answers", "grants")

ADOPTED: Final[tuple[Table, ...]] = ("tasks", "intents", "answers")
"""Those of them that a store takes over from a backup."""

MARK_BYTES: Final = KID_BYTES + 32


class ChangedRow(StoreProblem):
    """Nothing is minted from this row.

    Its mark is wrong, missing or of a key that is not live, or the rest of the store contradicts it. `marked` is the
    intent of a row that is contradicted, and has a right mark.
    """

    marked: IntentRecord | None = None


class MarkedRow(Struct, frozen=True):
    """One row as its mark covers it: its table, its id, its fields as bytes, and the mark, if it has one."""

    table: Table
    id: str
    fields: bytes
    mark: bytes | None

    @property
    def kid(self) -> str | None:
        """The kid under which the row is marked; None if there is no mark."""
        mark = self.mark
        return None if mark is None or len(mark) != MARK_BYTES else b64u(mark[:KID_BYTES])


class RowGuard(Protocol):
    """A row guard: what a transaction asks of the authority, which has the keys and remembers deaths."""

    def mark(self, table: Table, id_: str, fields: bytes) -> bytes:
        """The mark for a row: 40 bytes."""
        ...

    def demand(self, row: MarkedRow) -> None:
        """Raise ChangedRow unless the row bears a right mark."""
        ...

    def demand_deaths(self, missing: Iterable[RevocationKey]) -> None:
        """Raise StateLost if one of these keys, which the store holds as alive, was dead before."""
        ...

    @property
    def revoked_until(self) -> int:
        """The last second (Unix) up to which all that was issued is known to be dead; -1 if there is none."""
        ...


def changed_row(table: str, id_: str, fault: str, *, marked: IntentRecord | None = None) -> ChangedRow:
    """The error for a row that somebody changed."""
    error = ChangedRow(
        f"the row {id_:.60} of the table {table} {fault}, so nothing is minted from it: somebody changed the store "
        "behind capx; run capx store check, then restore the store from a backup"
    )
    error.marked = marked
    return error


def task_fields(task: TaskRecord) -> bytes:
    """The fields of a task that never change."""
    named = (task.tenant, task.purpose, task.principal, task.intent, task.holder)
    return _fields(task.root, task.opened, task.expires, *named)


def intent_fields(intent: IntentRecord) -> bytes:
    """All fields of an intent, and how often it was opened."""
    return _fields(intent.principal, intent.document, intent.proof, intent.opened, intent.withdrawn)


def body_fields(body: str) -> bytes:
    """The text of a request or of an answer as the store keeps it, which holds all of it."""
    return _field(body)


def request_columns(request: RequestRecord) -> dict[str, str | int]:
    """The columns beside the text of a request, for which queries look."""
    names = ("id", "task", "node", "call", "state", "asked", "until", "principal", "asks")
    return {name: getattr(request, name) for name in names}


def demand_columns(request: RequestRecord, *columns: object) -> None:
    """Raise ChangedRow unless the columns beside the text of a request say what the text says."""
    if columns != tuple(request_columns(request).values()):
        raise changed_row("requests", str(columns[0]), "is found by other values than its own")


def demand_answer_columns(answer: SignedAnswer, position: int, task: str) -> None:
    """Raise ChangedRow unless the columns beside the text of an answer say what the text says."""
    if (answer.position, answer.task) != (position, task):
        raise changed_row("answers", str(position), "is found by other values than its own")


def grant_fields(grant: GrantRecord) -> bytes:
    """All fields of a grant; the order of its ids does not matter."""
    return _fields(grant.kid, grant.issued, grant.at, *sorted(grant.ids))


def _fields(*values: str | int | bytes | None) -> bytes:
    return b"".join([_NONE if value is None else _field(value) for value in values])


def _field(value: str | int | bytes) -> bytes:
    if isinstance(value, str):
        return sized(b"t" + value.encode())
    return sized(b"b" + value) if isinstance(value, bytes) else sized(b"i%d" % value)


_NONE: Final = sized(b"")
