"""Which recorded decisions somebody looks for.

Laws: an event is decoded only as far as the question goes. What is asked for is compared exactly: labels are claims
of those who delegated, so a like-looking one is another.
"""

from typing import Final, TypedDict

from msgspec import Struct

from capx.errors import InvalidRequest
from capx.store.log import Event
from capx_caveats import Entry, is_id, is_label, is_pattern


class Recorded(Struct, frozen=True, kw_only=True):
    """A decision as the log holds it, as far as it is looked for; who reads more of it names what more it reads.

    A resource wrote it, and may have written anything: read it with `Event.read_if`.
    """

    outcome: str
    action: str | None = None
    task: str | None = None
    tenant: str | None = None
    hops: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    presentation: str | None = None


class QueryFields(TypedDict, total=False):
    """The fields of a `Query`, as keyword arguments."""

    agent: str | None
    tenant: str | None
    action: str | None
    task: str | None
    node: str | None
    presentation: str | None
    denied: bool
    since: int


class Query(Struct, frozen=True, kw_only=True):
    """What a decision must be to be found; InvalidRequest for what no decision can be.

    `agent` is a label anywhere on the path of who acted, `action` an action or a pattern such as `crm.*`, `since` in
    Unix seconds. `node` is the id of the node that acted or of one above it, `presentation` that of what was presented.
    """

    agent: str | None = None
    tenant: str | None = None
    action: str | None = None
    task: str | None = None
    node: str | None = None
    presentation: str | None = None
    denied: bool = False
    since: int = 0

    def __post_init__(self) -> None:
        for what, text, fits in (
            ("an agent's name", self.agent, is_label),
            ("a tenant", self.tenant, is_label),
            ("an action, or one followed by .*", self.action, is_pattern),
            ("a task id", self.task, is_id),
            ("the id of a node", self.node, is_id),
            ("the id of a presentation", self.presentation, is_id),
        ):
            if text is not None and not fits(text):
                raise InvalidRequest(f"{text!r:.80} is not {what}: no decision is found by it")

    def matches(self, event: Event) -> bool:
        """Whether the event recorded such a decision, or one that cannot be read: that is told, not missed."""
        if event.kind != "decision" or event.at < self.since:
            return False
        recorded = event.read_if(Recorded)
        return recorded is None or self._fits(recorded)

    def _fits(self, recorded: Recorded) -> bool:
        return (
            self.tenant in {None, recorded.tenant}
            and self.task in {None, recorded.task}
            and self.presentation in {None, recorded.presentation}
            and (self.node is None or self.node in recorded.path)
            and (self.agent is None or self.agent in recorded.hops)
            and (self.action is None or (recorded.action is not None and Entry(self.action).matches(recorded.action)))
            and not (self.denied and recorded.outcome == "allowed")
        )


ANY_DECISION: Final = Query()
"""All recorded decisions."""
