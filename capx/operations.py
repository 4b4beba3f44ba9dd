"""What an operator can have an authority do, wherever it runs.

    Authority            over a store and root keys in this process (capx.authority)
    RemoteAuthority      over the socket of `capx serve` (capx.operator_client)

Law: both do the same, answer with the same types and refuse with the same errors; whoever is given one of them cannot
tell which. What it did is durable once it has answered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Self

from capx.verifier import MAX_STALENESS

if TYPE_CHECKING:
    from capx.authority import OpenedTask
    from capx.bundle import Bundle
    from capx.ending import Ended
    from capx.grant import Grant
    from capx.graph import Graph
    from capx.log import Event, Place
    from capx.revoking import Revoked
    from capx.store import Counter, Pruned, Sighting, TaskRecord
    from capx_caveats import Appendable, When


class Operations(Protocol):
    """An authority, as its operators see it; `Authority` says what each of these means."""

    def open(
        self,
        *,
        allow: "Sequence[Grant]",
        tenant: str | None = None,
        expires: "When" = "1h",
        purpose: str | None = None,
        caveats: "Iterable[Appendable]" = (),
    ) -> "OpenedTask":
        """Open a task that may do what `allow` says."""
        ...

    def mint(
        self,
        task_id: str,
        *,
        allow: "Sequence[Grant]",
        expires: "When | None" = None,
        caveats: "Iterable[Appendable]" = (),
    ) -> "Bundle":
        """More for a task that is active, at its root."""
        ...

    def complete(self, task_id: str, *, dry_run: bool = False) -> "Ended":
        """End a task because its work is done."""
        ...

    def withdraw(self, task_id: str, *, dry_run: bool = False) -> "Ended":
        """End a task because it is no longer wanted."""
        ...

    def revoke(
        self,
        target: "str | bytes | Bundle | None" = None,
        *,
        kid: str | None = None,
        issued: "When | None" = None,
        where: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> "Revoked":
        """Kill what is named, and everything below it; exactly one thing is named."""
        ...

    def tasks(self) -> "list[TaskRecord]":
        """All tasks, in the order in which they were opened."""
        ...

    def task(self, task_id: str) -> "TaskRecord":
        """The task with this id."""
        ...

    def log(self, since: int = 0, limit: int | None = None) -> "Iterator[Event]":
        """The events after position `since` up to now, at most `limit` of them."""
        ...

    def newest_first(self) -> "Iterator[Event]":
        """The events up to now, the last one first."""
        ...

    def find(
        self,
        *,
        agent: str | None = None,
        tenant: str | None = None,
        action: str | None = None,
        task: str | None = None,
        denied: bool = False,
        since: int = 0,
        limit: int | None = None,
    ) -> "Iterator[Event]":
        """The events that recorded such decisions, in order; with `limit`, only so many of the newest."""
        ...

    def decision(self, decision_id: str) -> "Event | None":
        """The event that recorded a decision."""
        ...

    def graph(self, task_id: str | None = None) -> "Graph":
        """The execution graph of one task, or of all, as far as it was seen."""
        ...

    def kids(self) -> dict[str, int]:
        """The ids of the live root keys, the one that mints first; each with the live tasks that hold tokens of it."""
        ...

    def counters(self, ids: Sequence[str] | None = None) -> "list[Counter]":
        """What the counters of these ids hold, or all."""
        ...

    def unaware(self, *, within: float = MAX_STALENESS) -> "list[Sighting]":
        """The followers, heard of in the last `within` seconds, that have not yet seen all that is dead."""
        ...

    def prune(self) -> "Pruned":
        """Forget what protects nothing any more."""
        ...

    def check(self) -> "Place":
        """The place that the log reaches, followed from its beginning."""
        ...

    def close(self) -> None:
        """Let go of what it holds open."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
