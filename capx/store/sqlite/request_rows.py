"""The rows of a SQLite store about what people, and then agents, asked for: intents, requests and grants."""

import sqlite3
from typing import Any

from msgspec import structs

from capx.store.records import GrantRecord, IntentRecord, RequestCounts, RequestRecord
from capx.tokens.revocation_key import RevocationKey, instant_of, kid_of

_INTENT = "SELECT digest, principal, document, proof, opened, withdrawn FROM intents"
_REQUEST = "SELECT body FROM requests"
_ASKED = """
SELECT count(*) FILTER (WHERE node = ?1), count(*),
    count(*) FILTER (WHERE node = ?1 AND state = 'pending'), count(*) FILTER (WHERE state = 'pending')
FROM requests WHERE task = ?2
"""


class RequestRows:
    """Reading and writing them within one SQLite transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def intent(self, digest: str) -> IntentRecord | None:
        row = self._row(f"{_INTENT} WHERE digest = ?", digest)
        return row and IntentRecord(*row)

    def intents(self) -> list[IntentRecord]:
        return [IntentRecord(*row) for row in self._rows(f"{_INTENT} ORDER BY nth")]

    def request(self, id_: str) -> RequestRecord | None:
        row = self._row(f"{_REQUEST} WHERE id = ?", id_)
        return row and RequestRecord.parse(*row)

    def requests(
        self, *, task: str | None = None, node: str | None = None, pending: bool = False
    ) -> list[RequestRecord]:
        # Said as conditions of their own, or not at all, so that their indexes are used.
        said = [(f"{name} = ?", value) for name, value in (("task", task), ("node", node)) if value is not None]
        conditions = ["true", *(condition for condition, _ in said), *(["state = 'pending'"] if pending else [])]
        rows = self._rows(f"{_REQUEST} WHERE {' AND '.join(conditions)} ORDER BY nth", *(value for _, value in said))
        return [RequestRecord.parse(*row) for row in rows]

    def request_counts(self, task: str, node: str) -> RequestCounts:
        return RequestCounts(*self._row(_ASKED, node, task))

    def granted_by(self, key: RevocationKey) -> list[bytes]:
        if isinstance(key, bytes):
            rows = self._rows("SELECT capability FROM strengths WHERE id = ?", key)
        elif (kid := kid_of(key)) is not None:
            rows = self._rows("SELECT capability FROM grants WHERE kid = ?", kid)
        elif (instant := instant_of(key)) is not None:
            query = "SELECT capability FROM grants WHERE issued <= ?1 AND at > ?1"
            rows = self._rows(query, instant)
        else:
            rows = []
        return sorted(capability for (capability,) in rows)

    def keep_intent(self, intent: IntentRecord) -> None:
        self._db.execute(
            "INSERT INTO intents (digest, principal, document, proof, opened, withdrawn) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET principal = excluded.principal, document = excluded.document, "
            "proof = excluded.proof, opened = excluded.opened, withdrawn = excluded.withdrawn",
            structs.astuple(intent),
        )

    def keep_request(self, request: RequestRecord) -> None:
        self._db.execute(
            "INSERT INTO requests (id, task, node, state, asked, body) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET state = excluded.state, asked = excluded.asked, body = excluded.body",
            (request.id, request.task, request.node, request.state, request.asked, request.text()),
        )

    def keep_grant(self, grant: GrantRecord) -> None:
        row = (grant.capability, grant.kid, grant.issued, grant.at)
        self._db.execute("INSERT INTO grants VALUES (?, ?, ?, ?)", row)
        self._db.executemany("INSERT INTO strengths VALUES (?, ?)", [(id_, grant.capability) for id_ in grant.ids])

    def _forget_requests(self, before: int) -> int:
        """Forget requests and grants that are older; gives how many requests."""
        self._db.execute(
            "DELETE FROM strengths WHERE capability IN (SELECT capability FROM grants WHERE at < ?)", (before,)
        )
        self._db.execute("DELETE FROM grants WHERE at < ?", (before,))
        return self._db.execute("DELETE FROM requests WHERE asked < ?", (before,)).rowcount

    def _row(self, query: str, *values: object) -> Any:
        return self._db.execute(query, values).fetchone()

    def _rows(self, query: str, *values: object) -> list[Any]:
        return self._db.execute(query, values).fetchall()
