"""What a task is to be allowed, as people write it: an action, at an audience.

    ACTION@AUDIENCE     without @AUDIENCE, the audience is the action's first label

Laws: an entry that constrains arguments is given as it is, or beside its audience when that is another. The authority's
own audience is reserved: nothing is granted there. The authority's block says what the task is, what it may do, until
when, and what restricts it further; its budgets are shared by the whole task.
"""

from collections.abc import Iterable

from msgspec import UNSET, Struct

from capx.errors import InvalidRequest
from capx.tokens.lineage import AUTHORITY
from capx_caveats import (
    Absent,
    Allow,
    AnyConstraint,
    AnyOf,
    Anything,
    Appendable,
    Budget,
    Caveat,
    ChainCaveat,
    Entry,
    Eq,
    Expires,
    Fields,
    Intent,
    InvalidCaveat,
    MaxHops,
    Pair,
    Prefix,
    Root,
    Task,
    Tenant,
    UntilCompleted,
    as_entry,
    is_audience,
    resolved,
)

ASK = "grant.request"
"""The action that asking for more is, at the authority."""
_MAYBE = AnyOf((Absent(), Anything()))
OWN_ENTRIES = (
    Entry("task.complete", ()),
    Entry("task.status", ()),
    Entry("node.revoke", (Pair("hops", Anything()),)),
    Entry(ASK, (Pair("audience", Anything()), Pair("action", Anything()), Pair("args", _MAYBE))),
)
"""What every task may do at the authority itself: end, look at itself, revoke what lies below a node, ask for more."""

Grant = str | Entry | tuple[str | Entry, str]
"""`"crm.accounts.read"`, `"accounts.read@crm"`, an entry, or one of these and its audience."""


class Given(Struct, frozen=True):
    """What one capability allows at one audience, and which budgets its calls count against."""

    audience: str
    allowed: tuple[Entry, ...]
    budgets: tuple[Budget, ...] = ()


def by_audience(granted: Iterable[Grant]) -> dict[str, tuple[Entry, ...]]:
    """What is granted at each audience; InvalidRequest for what cannot be meant."""
    if isinstance(granted, str):
        raise InvalidRequest(f"allow is a list of actions: write [{granted!r:.80}]")
    entries: dict[str, list[Entry]] = {}
    for one in granted:
        entry, audience = _parts(one)
        entries.setdefault(demand_audience(audience), []).append(entry)
    if not entries:
        raise InvalidRequest("nothing is allowed: name at least one action")
    return {audience: tuple(found) for audience, found in entries.items()}


def ask_entries(may_ask: Iterable[Grant]) -> tuple[Entry, ...]:
    """The entries that let a child ask for these, and nothing else; InvalidRequest for what cannot be meant.

    One entry for all that is named at an audience without arguments; one for each that constrains them, for which an
    ask must be pinned to arguments that it says yes to.
    """
    if isinstance(may_ask, str):
        raise InvalidRequest(f"may_ask is a list of actions: write [{may_ask!r:.80}]")
    free: dict[str, list[AnyConstraint]] = {}
    pinned: list[Entry] = []
    for one in may_ask:
        entry, audience = _parts(one)
        at = demand_audience(audience)
        named = _named(entry.pattern)
        if entry.args is UNSET:
            free.setdefault(at, []).append(named)
        else:
            pinned.append(_ask_entry(at, named, Fields(entry.args)))
    return (*(_ask_entry(at, AnyOf(tuple(named)), _MAYBE) for at, named in free.items()), *pinned)


def _named(pattern: str) -> AnyConstraint:
    return Prefix(pattern[:-1]) if pattern.endswith(".*") else Eq(pattern)


def _ask_entry(audience: str, action: AnyConstraint, args: AnyConstraint) -> Entry:
    return Entry(ASK, (Pair("audience", Eq(audience)), Pair("action", action), Pair("args", args)))


def audience_of(action: str) -> str:
    """The audience of an action, or pattern, at which no other is named: its first label."""
    return action.partition(".")[0]


def demand_audience(audience: str) -> str:
    """The audience itself; InvalidRequest if nothing may be granted at it."""
    if audience == AUTHORITY:
        raise InvalidRequest(f"the audience {AUTHORITY} is reserved: nothing is granted at it, and no key exported")
    if not is_audience(audience):
        raise InvalidRequest(
            f"{audience!r:.80} is not an audience: lower-case letters, digits, dots and dashes; "
            "write ACTION@AUDIENCE when the action's first label is not one"
        )
    return audience


class Claims(Struct, frozen=True):
    """What the authority's block says of a task: its id, that of its revocation root, and what it is for.

    `intent` is the digest of the intent that it was opened on, if it was opened on one.
    """

    task: str
    root: str
    tenant: str | None
    intent: str | None


def authority_block(
    claims: Claims, allowed: tuple[Entry, ...], expires: int, restricting: tuple[Caveat, ...]
) -> tuple[Caveat, ...]:
    """The authority's block of one capability; `expires` is in Unix seconds."""
    intent = () if claims.intent is None else (Intent(claims.intent),)
    tenant = () if claims.tenant is None else (Tenant(claims.tenant),)
    restricting = tuple([_shared(caveat, claims.task) for caveat in restricting])
    return (
        Task(claims.task),
        *intent,
        Root(claims.root),
        UntilCompleted(claims.task),
        *tenant,
        Allow(allowed),
        Expires(expires),
        *restricting,
    )


def _shared(caveat: Caveat, task: str) -> Caveat:
    """A budget that all capabilities of the task count against, so that several do not make several."""
    if isinstance(caveat, Budget) and caveat.counter is UNSET:
        return Budget(caveat.unit, caveat.limit, task)
    return caveat


def demand_restricting(caveats: Iterable[Appendable], now: int) -> tuple[Caveat, ...]:
    """The caveats, those that count from `now` resolved; InvalidRequest for marks that only the authority writes."""
    restricting = resolved(caveats, now)
    for caveat in restricting:
        if isinstance(caveat, ChainCaveat) and not isinstance(caveat, MaxHops):
            raise InvalidRequest(f"`{caveat.sentence()}` is for the authority to write: give caveats that restrict")
    return restricting


def _parts(granted: Grant) -> tuple[Entry, str]:
    what, audience = granted if isinstance(granted, tuple) else (granted, None)
    if isinstance(what, str) and "@" in what and audience is None:
        what, _, audience = what.partition("@")
        if not audience:
            raise InvalidRequest(f"no audience stands after the @ of {what!r:.80}@")
    try:
        entry = as_entry(what)
    except InvalidCaveat as error:
        raise InvalidRequest(str(error)) from error
    return entry, audience_of(entry.pattern) if audience is None else audience
