"""Checks the rows that the authority mints from, and marks those that it writes.

Laws:

- What is minted rests on rows with a right mark under a live root key, on the intent that the token of the asker names,
  and on signatures that are verified now. So whoever can write the store and has no root key gets nothing minted.
- The authority remembers the deaths that it has seen. It mints nothing while its store has lost one of them, has gone
  back to an earlier state, or is of an epoch that has ended. A death that the store has forgotten is not lost: no token
  that it ended is alive.
- To end something demands no mark, so a wrong mark hinders no end. But an end believes the root, the intent and the
  expiry of a task, and the rows of grants: whoever changes these can hide what is to be ended. check_rows finds that.
- A key leaves only after its rows have got marks of another one. The marks of a key that leaked are worth nothing.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from capx.crypto.base64url import b64u
from capx.crypto.hashing import equal
from capx.crypto.keys import KeyRing
from capx.errors import StoreProblem
from capx.resource.revocations import StoreLiveness
from capx.store.continuity import StateLost, demand_not_behind
from capx.store.events import CapabilityMinted
from capx.store.protocols import Reading, Writing
from capx.store.records import Head
from capx.store.row_marks import TABLES, ChangedRow, MarkedRow, Table, changed_row
from capx.tokens.revocation_key import RevocationKey, of_kid

_NOT_OURS: Final = "does not bear the mark of this authority"


class KeyedRowGuard:
    """The row guard of one transaction.

    Without `memory` it checks and makes marks, and remembers no deaths: for transactions that mint nothing.
    """

    def __init__(self, keyring: KeyRing, memory: StoreLiveness | None = None) -> None:
        self._keyring = keyring
        self._memory = memory

    def mark(self, table: Table, id_: str, fields: bytes) -> bytes:
        """The mark for a row, under the key that mints."""
        return self._keyring.active.row_mark(table, id_, fields)

    def demand(self, row: MarkedRow) -> None:
        """Raise ChangedRow unless the row bears a right mark under a live key."""
        mark, kid = row.mark, row.kid
        if mark is None or kid is None:
            raise changed_row(row.table, row.id, _NOT_OURS)
        key = self._keyring.get(kid)
        if key is None:
            raise ChangedRow(
                f"the row {row.id:.60} of the table {row.table} bears the mark of the key {kid}, which is not live "
                "here, so nothing is minted from it: restart what opened this home before its keys changed; if the key "
                "was retired because it leaked, open a new task, on a new intent"
            )
        if not equal(key.row_mark(row.table, row.id, row.fields), mark):
            raise changed_row(row.table, row.id, _NOT_OURS)

    def demand_deaths(self, missing: Iterable[RevocationKey]) -> None:
        """Raise StateLost if one of these keys, which the store holds as alive, was dead before."""
        if self._memory is None:
            return
        known = self._memory.deaths
        for key in missing:
            if key in known:
                shown = b64u(key) if isinstance(key, bytes) else key
                raise StateLost(
                    f"the store has lost the revocation of {shown}, so nothing is minted: somebody changed it behind "
                    "capx; run capx store check, then restore the store from a backup"
                )

    @property
    def revoked_until(self) -> int:
        """The last second (Unix) up to which all that was issued is known to be dead; -1 if there is none."""
        return -1 if self._memory is None else self._memory.revoked_until

    def demand_continues(self, head: Head, reached: Head | None) -> None:
        """Raise StateLost or another StoreProblem unless a store with this head continues what is remembered.

        In a transaction that only reads, what is remembered may be newer than what is read. `reached` is the head that
        this authority has left; its memory may be of a look before that.
        """
        memory = self._memory
        if memory is None:
            return
        known = memory.head
        # Only then there are deaths to learn, or another epoch: a look costs a transaction more.
        if known is None or memory.problem is not None or _deaths(known) != _deaths(head):
            memory.age()
            if memory.problem is not None:
                # A new error each time, because several threads may raise it.
                raise StoreProblem(str(memory.problem)) from memory.problem
        for before in (memory.head, reached):
            if before is not None and head.epoch == before.epoch:
                demand_not_behind(before, head)


def _deaths(head: Head) -> tuple[str, int, int]:
    return head.epoch, head.deaths, head.forgotten


def _rows(reading: Reading) -> Iterator[MarkedRow]:
    return chain.from_iterable(map(reading.marked_rows, TABLES))


def check_marks(reading: Reading, keyring: KeyRing) -> int:
    """Check the marks of all rows; ChangedRow for the first one that is wrong or missing.

    Gives how many rows bear the mark of a key that is not here: of one that was retired because it leaked. The log
    names such a key, as one that has minted or was revoked; else it is a wrong mark.
    """
    guard, others, of_other_keys = KeyedRowGuard(keyring), dict[str, MarkedRow](), 0
    for row in _rows(reading):
        if row.kid is not None and keyring.get(row.kid) is None:
            others.setdefault(row.kid, row)
            of_other_keys += 1
        else:
            guard.demand(row)
    if others:
        minted = {event.read(CapabilityMinted).kid for event in reading.events(kind=CapabilityMinted.kind)}
        for kid in others.keys() - minted:
            if reading.death(of_kid(kid)) is None:
                fault = (
                    f"bears the mark of {kid}, a key that the log does not name (if it was yours: capx revoke --kid)"
                )
                raise changed_row(others[kid].table, others[kid].id, fault)
    return of_other_keys


def replace_marks(transaction: Writing, keyring: KeyRing, *, of: str) -> None:
    """Give the rows that bear the mark of one key (its kid) the mark of the key that mints.

    A row with a wrong mark keeps it. `store check` finds it.
    """
    guard = KeyedRowGuard(keyring)
    for row in _rows(transaction):
        if row.kid != of:
            continue
        try:
            guard.demand(row)
        except ChangedRow:
            continue
        transaction.put_mark(row, guard.mark(row.table, row.id, row.fields))
