"""Grants as people write them for a new task: an action, at an audience.

    ACTION@AUDIENCE     without @AUDIENCE, the audience is the action's first label

Laws:

- An entry that constrains arguments is given as an `Entry`, or as a pair of it and its audience, if that is another.
- The authority's own audience is reserved: nothing can be granted there.
- The authority's block names the task, the key of its first holder if it has one, its allowed actions, its expiry and
  further restrictions. The whole task shares its budgets.
"""

from collections.abc import Collection, Iterable

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
    Holder,
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
"""The action at the authority by which an agent asks for more."""
ASK_APPROVAL = "approval.request"
"""The action at the authority by which an agent asks people to approve a call."""
_MAYBE = AnyOf((Absent(), Anything()))
OWN_ENTRIES = (
    Entry("task.complete", ()),
    Entry("task.status", ()),
    Entry("node.revoke", (Pair("hops", Anything()),)),
    Entry(ASK_APPROVAL),
    Entry(ASK, (Pair("audience", Anything()), Pair("action", Anything()), Pair("args", _MAYBE))),
)
"""The actions of every task at the authority itself: end it, read its status, revoke nodes below, ask for approvals and
for more."""
OWN_ACTIONS = tuple(entry.pattern for entry in OWN_ENTRIES if entry.pattern not in {ASK, ASK_APPROVAL})
"""Those that a delegator can name in `allow`."""

Grant = str | Entry | tuple[str | Entry, str]
"""`"crm.accounts.read"`, `"accounts.read@crm"`, an entry, or one of these and its audience."""


class ApprovalRule(Struct, frozen=True):
    """Whose approval each call needs, by names of a policy: of `count` of the principals and members of groups in `by`.

    If `principal`, the person who wanted the work is one of them. An approval is good for `lasts` seconds at most.
    """

    by: tuple[str, ...]
    count: int
    lasts: int
    principal: bool = False


class Given(Struct, frozen=True):
    """The entries that one capability allows at one audience, and the budgets that its calls count against.

    If it has an `approval`, each call also needs one.
    """

    audience: str
    allowed: tuple[Entry, ...]
    budgets: tuple[Budget, ...] = ()
    approval: ApprovalRule | None = None


def by_audience(granted: Iterable[Grant]) -> dict[str, tuple[Entry, ...]]:
    """The granted entries by audience; InvalidRequest for a grant that is not valid."""
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
    """The entries that let a child ask for these grants only; InvalidRequest for a grant that is not valid.

    All grants at an audience that do not constrain arguments make one entry. Each other grant makes its own: an ask for
    it must be pinned to arguments that satisfy it.
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
    """The audience of an action or pattern, if none is named: its first label."""
    return action.partition(".")[0]


def audience_meant(held: Collection[str], action: str) -> str:
    """The audience of a call by the holder of tokens for `held`, if none is named.

    The authority for its own actions, if it is held and no resource has that name; the only resource; or the first
    label of the action.
    """
    own = audience_of(action)
    if action in OWN_ACTIONS and AUTHORITY in held and own not in held:
        return AUTHORITY
    resources = [each for each in held if each != AUTHORITY] or list(held)
    return resources[0] if len(resources) == 1 else own


def demand_audience(audience: str) -> str:
    """The audience itself; InvalidRequest if nothing may be granted at it."""
    if audience == AUTHORITY:
        # A grant or a key for this audience would let its holder act at the authority itself.
        raise InvalidRequest(f"the audience {AUTHORITY} is reserved: nothing can be granted or exported for it")
    if not is_audience(audience):
        raise InvalidRequest(
            f"{audience!r:.80} is not an audience: lower-case letters, digits, dots and dashes; "
            "write ACTION@AUDIENCE when the action's first label is not one"
        )
    return audience


class Claims(Struct, frozen=True):
    """The claims of the authority's block: task id, id of the revocation root, tenant, intent and first holder.

    `intent` is the digest of the intent that the task was opened on; None if it was opened on none. `holder` is the
    public key of the first holder (`ed25519:` and 43 characters); None if anybody may use the tokens.
    """

    task: str
    root: str
    tenant: str | None
    intent: str | None
    holder: str | None = None


def authority_block(
    claims: Claims, allowed: tuple[Entry, ...], expires: int, restricting: tuple[Caveat, ...]
) -> tuple[Caveat, ...]:
    """The authority's block of one capability; `expires` is in Unix seconds."""
    intent = () if claims.intent is None else (Intent(claims.intent),)
    tenant = () if claims.tenant is None else (Tenant(claims.tenant),)
    holder = () if claims.holder is None else (Holder(claims.holder.partition(":")[2]),)
    restricting = tuple([_shared(caveat, claims.task) for caveat in restricting])
    return (
        Task(claims.task),
        *intent,
        Root(claims.root),
        UntilCompleted(claims.task),
        *tenant,
        *holder,
        Allow(allowed),
        Expires(expires),
        *restricting,
    )


def _shared(caveat: Caveat, task: str) -> Caveat:
    """The caveat; a budget without a counter gets the task's, so that all capabilities of the task share it."""
    if isinstance(caveat, Budget) and caveat.counter is UNSET:
        return Budget(caveat.unit, caveat.limit, task)
    return caveat


def demand_restricting(caveats: Iterable[Appendable], now: int) -> tuple[Caveat, ...]:
    """The caveats, with durations counted from `now`; InvalidRequest for marks that only the authority writes."""
    restricting = resolved(caveats, now)
    for caveat in restricting:
        if isinstance(caveat, ChainCaveat) and not isinstance(caveat, MaxHops):
            raise InvalidRequest(f"only the authority writes `{caveat.sentence()}`: give caveats that restrict")
    return restricting


def _parts(granted: Grant) -> tuple[Entry, str]:
    what, audience = granted if isinstance(granted, tuple) else (granted, None)
    if isinstance(what, str) and "@" in what and audience is None:
        what, _, audience = what.partition("@")
        if not audience:
            raise InvalidRequest(f"{what + '@'!r:.80} names no audience: write it after the @")
    try:
        entry = as_entry(what)
    except InvalidCaveat as error:
        raise InvalidRequest(str(error)) from error
    return entry, audience_of(entry.pattern) if audience is None else audience
