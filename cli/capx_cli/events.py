"""Show events of the log to people and programs, one line each.

Law: what others chose, such as labels and purposes, is last on its line, after the columns that a script cuts.
"""

import re
from typing import TYPE_CHECKING, Any

import click
from msgspec import UNSET

from capx.store import events
from capx.store.decision_groups import Group
from capx.store.decision_query import Recorded
from capx.store.lifecycle import LAPSES
from capx.tokens import revocation_key
from capx.tokens.wording import label
from capx.verify.decision import NO_VALUES, is_decision_id
from capx.verify.spending import Spent
from capx_caveats import is_action, is_audience, shown, shown_amount, shown_instant
from capx_cli import phrases, screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from capx.store.log import Event


class Decided(Recorded, frozen=True, kw_only=True):
    """A decision as the log holds it, with its phrases for people.

    It cannot be read if a field that a line shows as it is could imitate a line, or another part of this one.
    """

    id: str
    audience: str
    ids: tuple[str, ...] = ()
    intent: str | None = None
    key: str | None = None
    spent: tuple[Spent, ...] = ()
    reasons: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        ids = (self.id.removeprefix("d."), *self.path)
        if not (
            self.outcome in {"allowed", "denied"}
            and all(map(_ID.fullmatch, ids))
            and (self.key is None or _KEY.fullmatch(self.key))
            and (self.action is None or is_action(self.action))
            and is_audience(self.audience)
        ):
            raise ValueError("no verifier has recorded this")

    @property
    def node(self) -> str | None:
        """The node that acted; None if the token could not be read that far."""
        return self.nodes[-1] if self.nodes else None

    @property
    def wanted(self) -> str:
        """The action and the audience of the call."""
        return f"{self.action or '(refused before an action was known)'} at {self.audience}"

    @property
    def line(self) -> str:
        """One line: outcome, id, the call, reasons, the node that acted, its path, and its key."""
        return self.line_after(0)

    def line_after(self, denials: int) -> str:
        """The same line, with the number of denials of the same call before this decision."""
        codes = ", ".join(dict.fromkeys(label(str(reason.get("code"))) for reason in self.reasons))
        why = f", {codes}" if codes else ""
        before = f", after {denials} denial{'s' if denials > 1 else ''}" if denials else ""
        node = f", node {self.node}" if self.node else ""
        key = f", key {self.key}" if self.key else ""
        what = f"{phrases.outcome(self.outcome, self.audience, self.action):7}  {self.id}  {self.wanted}{why}{before}"
        return f"{what}{node}, by {phrases.holder(self.hops)}{key}"


_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEY = re.compile(r"ed25519:[A-Za-z0-9_-]{43}")
UNREADABLE = "(not a decision as capx writes it: a resource wrote this, or somebody changed it)"

_STYLES = {
    "task_opened": screen.STRONG,
    "request_made": screen.STRONG,
    "request_approved": screen.GOOD,
    "request_denied": screen.BAD,
    "approval_signed": screen.STRONG,
    "approval_made": screen.GOOD,
    "ask_refused": screen.BAD,
    "given_back": screen.GOOD,
    "intent_withdrawn": screen.BAD,
    "revoked": screen.BAD,
    "restored": screen.LOUD,
    "capability_minted": screen.QUIET,
}


_ARCHIVED = "is in the archive"


def say_event(group: Group) -> None:
    """Show the last event of a group, of any kind: position, time, kind, and what it is about."""
    event = group.last
    line = f"{event.position:<6}  {shown_instant(event.at)}  {event.kind:17}  {_about(group)}"
    screen.say(line, _STYLES.get(event.kind, ""))


def tell_event(event: "Event", as_json: bool) -> None:
    """Write one event on a line of its own, as JSON or as `say_event` does."""
    if as_json:
        screen.as_json_line(event_as_json(event))
    else:
        say_event(Group((event,)))


def say_decision(group: Group) -> None:
    """Show the last decision of a group: time, outcome, id, who wanted what, and the node that acted."""
    event = group.last
    decision = event.read_if(Decided)
    style = "" if decision is not None and decision.outcome == "allowed" else screen.BAD
    line = f"position {event.position}  {UNREADABLE}" if decision is None else _line(decision, group)
    screen.say(f"{shown_instant(event.at)}  {line}", style)


def event_as_json(event: "Event") -> dict[str, Any]:
    """Return an event of any kind as JSON values."""
    from capx.crypto.base64url import b64u

    return {
        "position": event.position,
        "at": shown_instant(event.at),
        "kind": event.kind,
        "hash": b64u(event.hash),
        "facts": phrases.with_instants(event.read_if(dict[str, Any]) or {}),
    }


def decision_as_json(event: "Event") -> dict[str, Any]:
    """Return a decision as JSON values, with its path, the node that acted and its position in the log."""
    decision, facts = event.read_if(Decided), event.read_if(dict[str, Any]) or {}
    path = {} if decision is None else {"path": decision.nodes}
    return {
        **NO_VALUES,
        **phrases.with_instants({**facts, **path}),
        "node": None if decision is None else decision.node,
        "position": event.position,
    }


def last_as_json(group: Group) -> dict[str, Any]:
    """Return the last decision of a group as JSON values."""
    return decision_as_json(group.last)


def group_as_json(group: Group) -> dict[str, Any]:
    """Return the last decision of a group as JSON values, and the ids of all its decisions."""
    return {**last_as_json(group), "same_call": ids(group)}


def ids(group: Group) -> list[str]:
    """Return the ids of the decisions of a group; none for a decision that cannot be read."""
    return [decided.id for event in group.events if (decided := event.read_if(Decided)) is not None]


def demand_no_decision(typed: str | None) -> None:
    """Raise UsageError for the id of a decision where one of a node is meant."""
    # By its form alone. A resource writes decisions: what it wrote must not decide what a command does.
    if typed is not None and is_decision_id(typed):
        raise click.UsageError(f"{typed} is the id of a decision, not of a node: capx why {typed} names its node")


def _about(group: Group) -> str:
    event = group.last
    if event.kind == "decision":
        decision = event.read_if(Decided)
        unread = _ARCHIVED if event.is_archived else UNREADABLE
        return unread if decision is None else _line(decision, group)
    kind = _KINDS.get(event.kind)
    return shown(event.facts()) if kind is None else _SAID[kind](event.read(kind))


def _line(decision: Decided, group: Group) -> str:
    return decision.line_after(len(group.events) - 1)


def _opened(opened: events.TaskOpened) -> str:
    on = "" if opened.intent is None else f", on intent {opened.intent} of {label(opened.principal or '?')}"
    agent = "" if opened.agent is None else f", by {label(opened.agent)}"
    by = "" if opened.by is UNSET else f", opened by {label(opened.by.principal)}"
    return f"task {opened.task}{on}, tenant {opened.tenant or '-'}, purpose {opened.purpose or '-'}{agent}{by}"


def _by(person: events.By | None) -> str:
    return "" if person is None else f", by {label(person.principal)}"


def _minted(minted: events.CapabilityMinted) -> str:
    asked = "" if minted.request is None else f", as request {minted.request} of {phrases.holder(minted.hops)}"
    allowed = "; ".join(minted.allow)
    return f"capability {minted.ids[-1]} for task {minted.task} at {minted.audience}: {allowed}{asked}"


def _made(made: events.RequestMade) -> str:
    pinned = ", for certain arguments" if made.pinned else ""
    if made.call:
        pinned = ", one call to approve"
    approvers = " or ".join(map(label, made.approvers))
    wanted = f"{made.action} at {made.audience}{pinned}"
    return (
        f"request {made.request} in task {made.task}: {wanted}, waits for {approvers}, by {phrases.holder(made.hops)}"
    )


def _answered(answered: events.RequestApproved | events.RequestDenied) -> str:
    return f"request {answered.request} in task {answered.task}, by {label(answered.approver)}"


def _signed(signed: events.ApprovalSignature) -> str:
    request = f"request {signed.request} in task {signed.task}"
    return f"{request}: approval {signed.approval}, by {label(signed.approver)}"


def _refused(asked: events.AskRefused) -> str:
    wanted = f"{asked.action} at {asked.audience}"
    return f"in task {asked.task}: {wanted}, {', '.join(asked.reasons)}, by {phrases.holder(asked.hops)}"


def _given_back(returned: events.GivenBack) -> str:
    return f"decision {returned.decision} of {returned.audience}: {given_back(returned)}"


def given_back(returned: events.GivenBack) -> str:
    """What a call gave back, and why, as its resource says."""
    # A call costs the same in all counters of one unit.
    amounts = {one.unit: f"{shown_amount(one.cost)} of {one.unit}" for one in returned.given}
    return f"{', '.join(amounts.values())}; the resource says why: {label(returned.reason)}"


def _restored(restored: events.Restored) -> str:
    dead = phrases.of_key(revocation_key.of_instant(restored.issued))
    return f"from a backup that reached position {restored.backup}; {dead} is dead"


def _archived(archived: events.LogArchived) -> str:
    return f"events {archived.first} to {archived.until} are in {archived.file}, and their decisions only there"


def _revoked(revoked: events.Revoked) -> str:
    by = f", by the agent at node {revoked.by}" if revoked.by else _by(revoked.person)
    id_ = f"{'root of a task' if revoked.is_root else 'node or capability'} {revoked.id}"
    if revoked.others:
        id_ += f" and {len(revoked.others)} more of this task"
    if revoked.key is not None:
        return f"all that the agent's key {revoked.key} holds or has delegated{by}"
    dead = revoked.revocation_key
    everything = None if dead is None else phrases.of_key(dead)
    return f"{everything or id_}{by}"


_SAID: "dict[type[events.Fact], Callable[[Any], str]]" = {
    events.TaskOpened: _opened,
    events.CapabilityMinted: _minted,
    events.RequestMade: _made,
    events.RequestApproved: _answered,
    events.RequestDenied: _answered,
    events.ApprovalSigned: _signed,
    events.ApprovalMade: _signed,
    events.RequestExpired: lambda fact: f"request {fact.request} in task {fact.task}: {LAPSES[fact.because]}",
    events.AskRefused: _refused,
    events.GivenBack: _given_back,
    events.IntentWithdrawn: lambda fact: f"intent {fact.intent}{_by(fact.by)}",
    events.Revoked: _revoked,
    events.Restored: _restored,
    events.LogArchived: _archived,
    **dict.fromkeys(events.TASK_ENDS.values(), lambda fact: f"task {fact.task}"),
    events.TaskWithdrawn: lambda fact: f"task {fact.task}{_by(fact.by)}",
}
_KINDS = {fact.kind: fact for fact in _SAID}
