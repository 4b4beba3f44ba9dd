"""The rows of a store for intents (what people want), requests (what agents ask for), answers and grants."""

from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, ClassVar, Final, TypeVar

from msgspec import structs

from capx.crypto.base64url import b64u, unb64u
from capx.store.events import REQUEST_STATES
from capx.store.records import (
    AskedArguments,
    GrantRecord,
    IntentRecord,
    RequestCounts,
    RequestRecord,
    SignedAnswer,
    WaitingGroup,
)
from capx.store.row_marks import (
    MarkedRow,
    RowGuard,
    Table,
    body_fields,
    changed_row,
    demand_answer_columns,
    demand_columns,
    grant_fields,
    intent_fields,
    request_columns,
)
from capx.store.sql.statements import SqlStatements, places
from capx.tokens.chain import root_node
from capx.tokens.revocation_key import RevocationKey, instant_of, kid_of

_PAGE = 500
_AT_ONCE = 400
"""Queries in one: SQLite takes at most 500."""
# A literal, not a parameter: partial indexes fit only then.
_WAITS = "state = 'pending'"
_Key = TypeVar("_Key", bytes, str)

_INTENT = "SELECT digest, principal, document, proof, opened, withdrawn FROM capx.intents"
_REQUEST = "SELECT body FROM capx.requests"
# What the store says elsewhere about a row: a row from before has a right mark, too.
_SOUND_INTENT = (
    "SELECT i.digest, i.principal, i.document, i.proof, i.opened, i.withdrawn, i.mark, "
    "(SELECT count(*) FROM capx.tasks t WHERE t.intent = wanted.digest), "
    "EXISTS (SELECT 1 FROM capx.events e WHERE e.kind = 'intent_withdrawn' AND {of_intent} = {plain}wanted.digest) "
    "FROM (SELECT CAST(? AS text) AS digest) AS wanted LEFT JOIN capx.intents i ON i.digest = wanted.digest"
)
_NEWEST = (
    "(SELECT e.kind FROM capx.events e WHERE e.kind <> 'decision' AND {of_request} = {plain}{id} "
    "AND {of_request} IS NOT NULL ORDER BY e.position DESC LIMIT 1)"
)
_COLUMNS = "r.id, r.task, r.node, r.call, r.state, r.asked, r.until, r.principal, r.asks, r.body, r.mark"
_DEEPEST_OF = "SELECT request, max(depth) FROM capx.request_nodes"
_COUNTS = "SELECT node, count(*), count(*) FILTER (WHERE audience = ?) FROM capx.request_nodes"

_KEYS: Final[dict[Table, tuple[str, Callable[[str], str | int | bytes]]]] = {
    "tasks": ("id", str),
    "intents": ("digest", str),
    "requests": ("id", str),
    "answers": ("position", int),
    "grants": ("capability", unb64u),
}
"""The key column of each table with marks, and how it is read from the id of a row."""

RECOUNTED = "ON CONFLICT (node, audience, request) DO UPDATE SET call = excluded.call"


class SqlRequestRows(SqlStatements):
    """Reads and writes these rows within one transaction."""

    of_request: ClassVar[str]
    """The request that an event `e` is about, if it is no decision."""
    plain: ClassVar[str]
    """What goes before a column of text that an expression is compared with: without it SQLite uses no index."""
    task_of: ClassVar[str]
    """The task that an event `e` is about."""
    of_intent: ClassVar[str]
    """The intent whose withdrawal an event `e` is."""

    _guard: RowGuard | None
    """What checks the rows that are read, and marks those that are written; None if nothing is minted from them."""

    def intent(self, digest: str) -> IntentRecord | None:
        if self._guard is None:
            row = self._row(f"{_INTENT} WHERE digest = ?", digest)
            return row and IntentRecord(*row)
        *columns, mark, opened, withdrawn = self._row(
            _SOUND_INTENT.format(of_intent=self.of_intent, plain=self.plain), digest
        )
        if columns[0] is None:
            if opened or withdrawn:
                raise changed_row("intents", digest, "is missing")
            return None
        intent = IntentRecord(*columns)
        self._guard.demand(MarkedRow("intents", digest, intent_fields(intent), mark))
        if (intent.opened, intent.withdrawn is not None) != (opened, bool(withdrawn)):
            raise changed_row("intents", digest, "is an older one than its tasks and the log say", marked=intent)
        return intent

    def intents(self) -> list[IntentRecord]:
        return [IntentRecord(*row) for row in self._rows(f"{_INTENT} ORDER BY {self.nth}")]

    def request(self, id_: str) -> RequestRecord | None:
        if self._guard is None:
            row = self._row(f"{_REQUEST} WHERE id = ?", id_)
            return row and RequestRecord.parse(*row)
        newest = _NEWEST.format(of_request=self.of_request, plain=self.plain, id="wanted.id")
        wanted = "(SELECT CAST(? AS text) AS id) AS wanted LEFT JOIN capx.requests r ON r.id = wanted.id"
        row = self._row(f"SELECT {_COLUMNS}, {newest} FROM {wanted}", id_)  # noqa: S608 - columns of ours
        if row[0] is not None:
            return self._sound_request(row)
        # A request is forgotten only after its task has ended.
        if row[-1] is not None and self._is_of_active_task(id_):
            raise changed_row("requests", id_, "is missing")
        return None

    def _sound_request(self, row: Sequence[Any]) -> RequestRecord:
        """The request of a row that has the mark of the authority, and the state that the log says."""
        id_, *columns, body, mark, newest = row
        if self._guard is not None:
            self._guard.demand(MarkedRow("requests", id_, body_fields(body), mark))
        request = RequestRecord.parse(body)
        demand_columns(request, id_, *columns)
        if REQUEST_STATES.get(newest) != request.state:
            raise changed_row("requests", id_, "is an older one than the log says")
        return request

    def _is_of_active_task(self, id_: str) -> bool:
        made_for = "SELECT t.state FROM capx.tasks t JOIN capx.events e ON {of_task} = t.id "
        query = f"{made_for}WHERE e.kind <> 'decision' AND {{of_request}} = ? AND {{of_request}} IS NOT NULL LIMIT 1"
        row = self._row(query.format(of_task=self.task_of, of_request=self.of_request), id_)
        return row is not None and row[0] == "active"

    def requests(
        self, *, task: str | None = None, pending: bool = False, principal: str | None = None
    ) -> list[RequestRecord]:
        # One condition for each filter that is set. A single `(? IS NULL OR task = ?)` would not use the indexes.
        conditions, values = ["true"], list[str]()
        if task is not None:
            conditions.append("task = ?")
            values.append(task)
        if pending:
            conditions.append(_WAITS)
        if principal is not None:
            # Not `task IN`: of a person with many tasks, the database might look for the requests of each.
            conditions.append("EXISTS (SELECT 1 FROM capx.tasks t WHERE t.id = task AND t.principal = ?)")
            values.append(principal)
        which = f"WHERE {' AND '.join(conditions)} ORDER BY {self.nth}"
        if self._guard is None:
            return [RequestRecord.parse(*row) for row in self._rows(f"{_REQUEST} {which}", *values)]
        newest = _NEWEST.format(of_request=self.of_request, plain=self.plain, id="r.id")
        rows = self._rows(f"SELECT {_COLUMNS}, {newest} FROM capx.requests r {which}", *values)  # noqa: S608 - columns of ours
        return [self._sound_request(row) for row in rows]

    def requests_due(self, now: int) -> list[RequestRecord]:
        return [RequestRecord.parse(*row) for row in self._rows(f"{_REQUEST} WHERE {_WAITS} AND until <= ?", now)]

    def waiting_count(self, principal: str) -> int:
        (count,) = self._row("SELECT coalesce(sum(count), 0) FROM capx.waiting WHERE principal = ?", principal)
        return int(count)

    def waiting(self) -> tuple[WaitingGroup, ...]:
        one = f"{_REQUEST} WHERE {_WAITS} AND principal = w.principal AND asks = w.asks LIMIT 1"
        columns = f"({one}), principal, asks, count, changes"
        query = f"SELECT {columns} FROM capx.waiting w WHERE count > 0 ORDER BY 2, 3"  # noqa: S608 - columns of ours
        found = [row for row in self._rows(query) if row[0] is not None]
        # Requests with equal `asks` name the same approvers: one of each is parsed.
        bodies = {asks: body for body, _, asks, *_ in found}
        approvers = {asks: RequestRecord.parse(body).approvers for asks, body in bodies.items()}
        return tuple([WaitingGroup(principal, asks, approvers[asks], *counts) for _, principal, asks, *counts in found])

    def oldest_waiting(self, wanted: Sequence[tuple[Sequence[WaitingGroup], int]]) -> list[RequestRecord]:
        which = f"{_WAITS} AND principal = ? AND asks = ? ORDER BY 2 LIMIT ?"
        oldest = f"SELECT principal, {self.nth} AS nth FROM capx.requests WHERE {which}"  # noqa: S608 - columns of ours
        one = f"SELECT * FROM ({oldest}) AS one"  # noqa: S608 - columns of ours
        asked = [(group.principal, group.asks, most) for groups, most in wanted for group in groups]
        found = defaultdict[str, list[int]](list)
        for at in range(0, len(asked), _AT_ONCE):
            part = asked[at : at + _AT_ONCE]
            for principal, number in self._rows(" UNION ALL ".join([one] * len(part)), *chain.from_iterable(part)):
                found[principal].append(number)
        numbers = (sorted(found[groups[0].principal])[:most] for groups, most in wanted)
        return self._numbered(list(chain.from_iterable(numbers)))

    def _numbered(self, numbers: Sequence[int]) -> list[RequestRecord]:
        """The requests with these numbers, in their order."""
        if not numbers:
            return []
        query = f"{_REQUEST} WHERE {self.nth} IN ({places(numbers)}) ORDER BY {self.nth}"
        return [RequestRecord.parse(*row) for row in self._rows(query, *numbers)]

    def requests_for(self, nodes: Sequence[str], calls: Sequence[str]) -> list[RequestRecord]:
        which = f"node IN ({places(nodes)}) AND call IN ({places(calls)})"
        query = f"SELECT id FROM capx.requests WHERE {which} ORDER BY {self.nth}"  # noqa: S608 - only places for values
        ids = [id_ for (id_,) in self._rows(query, *nodes, *calls)]
        if self._guard is not None:
            # They are counted at their nodes, too. So none is hidden by a row that names another node or call.
            for id_ in self._counted_at(nodes, calls).difference(ids):
                raise changed_row("requests", id_, "is missing")
        found = map(self.request, ids)
        return [one for one in found if one is not None]

    def answers(self, task: str | None = None) -> list[SignedAnswer]:
        return [self._sound_answer(*row) for row in self._of_task("answers", "task, position, body, mark", task)]

    def asks(self, task: str | None = None) -> list[AskedArguments]:
        return [AskedArguments(*row) for row in self._of_task("asks", "position, task, salt, args", task)]

    def _of_task(self, table: str, columns: str, task: str | None) -> list[Any]:
        """The rows of a table about one task, or about all."""
        which, values = ("", ()) if task is None else (" WHERE task = ?", (task,))
        return self._rows(f"SELECT {columns} FROM capx.{table}{which} ORDER BY position", *values)  # noqa: S608 - ours

    def _sound_answer(self, task: str, position: int, body: str, mark: bytes | None) -> SignedAnswer:
        """The answer of a row that has the mark of the authority, and is found by its own values."""
        if self._guard is not None:
            self._guard.demand(MarkedRow("answers", str(position), body_fields(body), mark))
        answer = SignedAnswer.parse(body)
        demand_answer_columns(answer, position, task)
        return answer

    def _counted_at(self, nodes: Sequence[str], calls: Sequence[str]) -> set[str]:
        """The ids of the requests for these calls that count at one of these nodes, and at none below it."""
        below = "SELECT 1 FROM capx.request_nodes b WHERE b.request = n.request AND b.depth > n.depth"
        which = f"n.node IN ({places(nodes)}) AND n.call IN ({places(calls)}) AND NOT EXISTS ({below})"
        query = f"SELECT n.request FROM capx.request_nodes n WHERE {which}"  # noqa: S608 - only places for values
        return {request for (request,) in self._rows(query, *nodes, *calls)}

    def request_counts(self, path: Sequence[str], audience: str) -> list[RequestCounts]:
        rows = self._rows(f"{_COUNTS} WHERE node IN ({places(path)}) GROUP BY node", audience, *path)
        counts = {node: RequestCounts(*numbers) for node, *numbers in rows}
        return [counts.get(node, RequestCounts()) for node in path]

    def granted_by(self, keys: Iterable[RevocationKey]) -> dict[RevocationKey, list[bytes]]:
        wanted = list(dict.fromkeys(keys))
        ids = [key for key in wanted if isinstance(key, bytes)]
        held = self._held_in("strengths", "id", ids)
        found = self._rows_among("SELECT id, capability FROM capx.strengths WHERE id {among}", held)
        names = [key for key in wanted if isinstance(key, str)]
        found += [(name, capability) for name in names for capability in self._granted_under(name)]
        granted = defaultdict[RevocationKey, list[bytes]](list)
        # Sorted, so that both databases give the same order.
        for key, capability in sorted(found, key=itemgetter(1)):
            granted[key].append(capability)
        return dict(granted)

    def _granted_under(self, key: str) -> list[bytes]:
        if (kid := kid_of(key)) is not None:
            rows = self._rows("SELECT capability FROM capx.grants WHERE kid = ?", kid)
        elif (instant := instant_of(key)) is not None:
            # A grant made up to the instant (`at`) is dead by itself. Return later grants of tokens that were issued up
            # to it.
            rows = self._rows("SELECT capability FROM capx.grants WHERE issued <= ? AND at > ?", instant, instant)
        else:
            rows = []
        return [capability for (capability,) in rows]

    def keep_intent(self, intent: IntentRecord) -> None:
        # On a conflict the row keeps its number, so that the order stays that of the first appearance.
        self._put_numbered(
            "intents",
            {**structs.asdict(intent), "mark": self._mark("intents", intent.digest, intent_fields(intent))},
            "ON CONFLICT (digest) DO UPDATE SET principal = excluded.principal, document = excluded.document, "
            "proof = excluded.proof, opened = excluded.opened, withdrawn = excluded.withdrawn, mark = excluded.mark",
        )

    def keep_request(self, request: RequestRecord) -> None:
        # The whole request is in `body`. Beside it are only the fields that queries look for.
        body = request.text()
        self._put_numbered(
            "requests",
            {**request_columns(request), "body": body, "mark": self._mark("requests", request.id, body_fields(body))},
            "ON CONFLICT (id) DO UPDATE SET call = excluded.call, state = excluded.state, asked = excluded.asked, "
            "until = excluded.until, asks = excluded.asks, body = excluded.body, mark = excluded.mark",
        )

    def count_request(self, request: RequestRecord) -> None:
        for depth, node in enumerate(request.path):
            row = node, request.audience, request.id, depth, request.call
            self._put("request_nodes", row, RECOUNTED)

    def uncount_requests(self, nodes: Sequence[str]) -> None:
        # Only above it, where somebody can still ask: a path can be long, and whoever revokes must not wait for that.
        held = self._held_in("request_nodes", "node", nodes)
        for request, depth in self._rows_among(f"{_DEEPEST_OF} WHERE node {{among}} GROUP BY request", held):
            self._write("DELETE FROM capx.request_nodes WHERE request = ? AND depth < ?", request, depth)

    def keep_answer(self, answer: SignedAnswer) -> None:
        body = answer.text()
        mark = self._mark("answers", str(answer.position), body_fields(body))
        self._put("answers", (answer.position, answer.task, body, mark))

    def keep_ask(self, asked: AskedArguments) -> None:
        self._put("asks", structs.astuple(asked))

    def keep_grant(self, grant: GrantRecord) -> None:
        mark = self._mark("grants", b64u(grant.capability), grant_fields(grant))
        self._put("grants", (grant.capability, grant.kid, grant.issued, grant.at, mark))
        self._put_strengths(grant)

    def _put_strengths(self, grant: GrantRecord) -> None:
        for id_ in grant.ids:
            self._put("strengths", (id_, grant.capability))

    def marked_rows(self, table: Table) -> Iterator[MarkedRow]:
        if table == "tasks":
            yield from self._marked_tasks()
        elif table == "intents":
            for *columns, mark in self._rows(f"{_INTENT.replace(' FROM', ', mark FROM')} ORDER BY {self.nth}"):
                intent = IntentRecord(*columns)
                yield MarkedRow(table, intent.digest, intent_fields(intent), mark)
        elif table == "requests":
            yield from self._marked_bodies(table, self.nth, "id")
        elif table == "answers":
            yield from self._marked_bodies(table, "position", "position")
        else:
            ids = defaultdict[bytes, list[bytes]](list)
            for capability, id_ in self._rows("SELECT capability, id FROM capx.strengths"):
                ids[capability].append(id_)
            grants = self._rows("SELECT capability, kid, issued, at, mark FROM capx.grants")
            for capability, kid, issued, at, mark in grants:
                grant = GrantRecord(capability, tuple(ids[capability]), kid, issued, at)
                yield MarkedRow(table, b64u(capability), grant_fields(grant), mark)

    @abstractmethod
    def _marked_tasks(self) -> Iterator[MarkedRow]: ...

    def _marked_bodies(self, table: Table, order: str, id_: str) -> Iterator[MarkedRow]:
        """The rows of a table whose text is in `body`, by pages: the texts are long."""
        query = f"SELECT {order}, {id_}, body, mark FROM capx.{table} WHERE {order} > ? ORDER BY {order} LIMIT ?"  # noqa: S608
        reached = -1
        while rows := self._rows(query, reached, _PAGE):
            for _, found, body, mark in rows:
                yield MarkedRow(table, str(found), body_fields(body), mark)
            reached = rows[-1][0]

    def check_columns(self, revocations: Mapping[str, int]) -> None:
        for id_, root, *columns in self._rows("SELECT id, root, node, revocations FROM capx.tasks"):
            if columns != [root_node(root), revocations.get(id_, 0)]:
                raise changed_row("tasks", id_, "has another node than its root, or counts other revocations than made")
        for *columns, body, _ in self._rows(f"SELECT {_COLUMNS} FROM capx.requests r"):  # noqa: S608 - columns of ours
            demand_columns(RequestRecord.parse(body), *columns)
        for position, task, body in self._rows("SELECT position, task, body FROM capx.answers"):
            demand_answer_columns(SignedAnswer.parse(body), position, task)
        waiting = Counter((one.principal, one.asks) for one in self.requests(pending=True))
        rows = self._rows("SELECT principal, asks, count FROM capx.waiting WHERE count <> 0")
        for (principal, _), _ in waiting.items() ^ {((principal, asks), count) for principal, asks, count in rows}:
            raise changed_row("waiting", principal, "counts other requests than wait")

    def put_mark(self, row: MarkedRow, mark: bytes | None) -> None:
        key, read = _KEYS[row.table]
        self._write(f"UPDATE capx.{row.table} SET mark = ? WHERE {key} = ?", mark, read(row.id))  # noqa: S608 - a table of ours

    def _mark(self, table: Table, id_: str, fields: bytes) -> bytes | None:
        return None if self._guard is None else self._guard.mark(table, id_, fields)

    def _forget_requests(self, before: int) -> int:
        """Forget requests and grants that are older than `before`; gives the number of requests."""
        # The strengths first: they are found through their grants.
        self._write(
            "DELETE FROM capx.strengths WHERE capability IN (SELECT capability FROM capx.grants WHERE at < ?)", before
        )
        self._write("DELETE FROM capx.grants WHERE at < ?", before)
        self._write(
            "DELETE FROM capx.request_nodes WHERE request IN (SELECT id FROM capx.requests WHERE asked < ?)", before
        )
        return int(self._execute("DELETE FROM capx.requests WHERE asked < ?", before).rowcount)

    def _held_in(self, table: str, column: str, keys: Sequence[_Key]) -> Sequence[_Key]:
        """These keys; of very many keys, without those that a column lacks, if it has fewer rows.

        A resource can name very many keys. To look for each takes longer than to read a short table.
        """
        if len(keys) <= _PAGE:
            return keys
        rows = self._rows(f"SELECT {column} FROM capx.{table} LIMIT ?", len(keys))  # noqa: S608 - a table of ours
        if len(rows) == len(keys):
            return keys
        held = {value for (value,) in rows}
        return [key for key in keys if key in held]

    @abstractmethod
    def _rows_among(self, query: str, keys: Sequence[bytes] | Sequence[str]) -> list[Any]:
        """The rows of a query, where `{among}` after a column says that it holds one of these keys."""
