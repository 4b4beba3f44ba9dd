"""The rows of a store for intents (what people want), requests (what agents ask for) and grants."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from msgspec import structs

from capx.store.records import GrantRecord, IntentRecord, RequestCounts, RequestRecord
from capx.tokens.revocation_key import RevocationKey, instant_of, kid_of

_INTENT = "SELECT digest, principal, document, proof, opened, withdrawn FROM capx.intents"
_REQUEST = "SELECT body FROM capx.requests"
_COUNTS = "SELECT node, count(*), count(*) FILTER (WHERE audience = ?) FROM capx.request_nodes"


class SqlRequestRows(ABC):
    """Reads and writes these rows within one transaction."""

    nth: ClassVar[str]
    """The column that numbers the rows of a table in the order of their insertion."""

    @abstractmethod
    def _execute(self, query: str, *values: object) -> Any:
        """Execute one statement, and give its cursor.

        The statements here use `?` for a value, and `capx.` before the name of a table. Each database replaces both by
        what it needs.
        """

    def intent(self, digest: str) -> IntentRecord | None:
        row = self._row(f"{_INTENT} WHERE digest = ?", digest)
        return row and IntentRecord(*row)

    def intents(self) -> list[IntentRecord]:
        return [IntentRecord(*row) for row in self._rows(f"{_INTENT} ORDER BY {self.nth}")]

    def request(self, id_: str) -> RequestRecord | None:
        row = self._row(f"{_REQUEST} WHERE id = ?", id_)
        return row and RequestRecord.parse(*row)

    def requests(
        self, *, task: str | None = None, nodes: Sequence[str] | None = None, pending: bool = False
    ) -> list[RequestRecord]:
        # One condition for each filter that is set. A single `(? IS NULL OR task = ?)` would not use the indexes.
        conditions, values = ["true"], list[str]()
        if task is not None:
            conditions.append("task = ?")
            values.append(task)
        if nodes is not None:
            conditions.append(f"node IN ({_places(nodes)})")
            values += nodes
        if pending:
            conditions.append("state = 'pending'")
        query = f"{_REQUEST} WHERE {' AND '.join(conditions)} ORDER BY {self.nth}"
        return [RequestRecord.parse(*row) for row in self._rows(query, *values)]

    def request_counts(self, path: Sequence[str], audience: str) -> list[RequestCounts]:
        rows = self._rows(f"{_COUNTS} WHERE node IN ({_places(path)}) GROUP BY node", audience, *path)
        counts = {node: RequestCounts(*numbers) for node, *numbers in rows}
        return [counts.get(node, RequestCounts()) for node in path]

    def granted_by(self, key: RevocationKey) -> list[bytes]:
        if isinstance(key, bytes):
            rows = self._rows("SELECT capability FROM capx.strengths WHERE id = ?", key)
        elif (kid := kid_of(key)) is not None:
            rows = self._rows("SELECT capability FROM capx.grants WHERE kid = ?", kid)
        elif (instant := instant_of(key)) is not None:
            # A grant made up to the instant (`at`) is dead by itself. Return later grants of tokens that were issued up
            # to it.
            rows = self._rows("SELECT capability FROM capx.grants WHERE issued <= ? AND at > ?", instant, instant)
        else:
            rows = []
        # Sorted, so that both databases give the same order.
        return sorted(capability for (capability,) in rows)

    def keep_intent(self, intent: IntentRecord) -> None:
        # On a conflict the row keeps its number, so that the order stays that of the first appearance.
        self._put_numbered(
            "intents",
            structs.asdict(intent),
            "ON CONFLICT (digest) DO UPDATE SET principal = excluded.principal, document = excluded.document, "
            "proof = excluded.proof, opened = excluded.opened, withdrawn = excluded.withdrawn",
        )

    def keep_request(self, request: RequestRecord) -> None:
        # The whole request is in `body`. Beside it are only the fields that queries look for.
        columns = {name: getattr(request, name) for name in ("id", "task", "node", "state", "asked")}
        self._put_numbered(
            "requests",
            {**columns, "body": request.text()},
            "ON CONFLICT (id) DO UPDATE SET state = excluded.state, asked = excluded.asked, body = excluded.body",
        )

    def count_request(self, request: RequestRecord) -> None:
        for depth, node in enumerate(request.path):
            self._put("request_nodes", (node, request.audience, request.id, depth))

    def uncount_requests(self, node: str) -> None:
        # Only above it, where somebody can still ask: a path can be long, and whoever revokes must not wait for that.
        self._execute(
            "DELETE FROM capx.request_nodes WHERE request IN (SELECT request FROM capx.request_nodes WHERE node = ?) "
            "AND depth < (SELECT max(depth) FROM capx.request_nodes WHERE node = ?)",
            node,
            node,
        )

    def keep_grant(self, grant: GrantRecord) -> None:
        self._put("grants", (grant.capability, grant.kid, grant.issued, grant.at))
        self._put_strengths(grant)

    def _put_strengths(self, grant: GrantRecord) -> None:
        for id_ in grant.ids:
            self._put("strengths", (id_, grant.capability))

    def _forget_requests(self, before: int) -> int:
        """Forget requests and grants that are older than `before`; gives the number of requests."""
        # The strengths first: they are found through their grants.
        self._execute(
            "DELETE FROM capx.strengths WHERE capability IN (SELECT capability FROM capx.grants WHERE at < ?)", before
        )
        self._execute("DELETE FROM capx.grants WHERE at < ?", before)
        self._execute(
            "DELETE FROM capx.request_nodes WHERE request IN (SELECT id FROM capx.requests WHERE asked < ?)", before
        )
        return int(self._execute("DELETE FROM capx.requests WHERE asked < ?", before).rowcount)

    def _put(self, table: str, row: tuple[object, ...]) -> None:
        """Write one whole row."""
        self._execute(f"INSERT INTO capx.{table} VALUES ({_places(row)})", *row)  # noqa: S608 - a table of ours

    def _put_numbered(self, table: str, row: Mapping[str, object], on_conflict: str = "") -> None:
        """Write one row with these columns, and the next number."""
        # Only one transaction writes at a time, so nobody else can take this number meanwhile.
        into = f"INSERT INTO capx.{table} ({self.nth}, {', '.join(row)})"
        number = f"(SELECT coalesce(max({self.nth}), 0) + 1 FROM capx.{table})"  # noqa: S608 - a table of ours
        self._execute(f"{into} VALUES ({number}, {_places(row)}) {on_conflict}", *row.values())

    def _row(self, query: str, *values: object) -> Any:
        return self._execute(query, *values).fetchone()

    def _rows(self, query: str, *values: object) -> list[Any]:
        rows: list[Any] = self._execute(query, *values).fetchall()
        return rows


def _places(row: Iterable[object]) -> str:
    return ", ".join("?" for _ in row)
