"""Opening a task and minting at its root, within one transaction.

Laws:

- The log gets each opening and each minting in the same transaction. It holds ids, never a token.
- No token lives longer than its task. No task lives longer than its intent allows, or than `max_ttl`.
- A revoked root key does not mint. A revoked key of an agent is named in nothing (capx.authority.agent_keys).
- If a task has a holder, each of its capabilities names the holder's key, also that for the authority itself.
- If the policy demands approvals of a grant, its capabilities carry the demand from the beginning.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from msgspec import UNSET, Struct

from capx.authority import agent_keys, intent_use
from capx.authority.ending import as_of, end_overdue, known_task, root_keys
from capx.authority.intent_use import Proven
from capx.authority.requests.approvers import approval_terms
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest
from capx.intents.intent import Intent
from capx.policy.fit import Unfit, fitting_block
from capx.policy.policy import Policy
from capx.policy.terms import Terms
from capx.store.events import By, CapabilityMinted, TaskOpened
from capx.store.lifecycle import FIRST, is_final
from capx.store.protocols import Reading, Writing
from capx.store.records import OF_ONE_TASK, TaskRecord
from capx.tokens.approval_caveat import KeyedCaveat
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability, mint_block
from capx.tokens.chain import root_node
from capx.tokens.grants import OWN_ENTRIES, ApprovalRule, Claims, Given, Grant, authority_block, by_audience
from capx.tokens.lineage import AUTHORITY
from capx.tokens.revocation_key import of_kid
from capx_caveats import Budget, Caveat, When, is_label, parse_instant, shown_duration, shown_instant

_OVERDUE_AT_OPEN = 20


Demands = Mapping[ApprovalRule, KeyedCaveat]
"""The demand for an approval that each rule of a policy makes."""
NO_DEMANDS: Final[Demands] = MappingProxyType({})


class Minting(Struct, frozen=True):
    """The transaction that mints, the root keys, and the time (Unix seconds).

    `added` are more caveats for each capability. No task lasts longer than `max_ttl` seconds.
    """

    transaction: Writing
    keyring: KeyRing
    added: tuple[Caveat, ...]
    now: int
    max_ttl: int


class OpenedTask(Struct, frozen=True):
    """A task that was opened, and the bundle for its first agent: a secret; `expires` is in Unix seconds.

    `holder` is the public key (`ed25519:` and 43 characters) that the bundle is bound to; None for a bearer bundle.
    """

    id: str
    root: str
    tenant: str | None
    purpose: str | None
    expires: int
    position: int
    bundle: Bundle
    principal: str | None = None
    intent: str | None = None
    holder: str | None = None


def open_by_hand(
    minting: Minting,
    given: Iterable[Given],
    *,
    tenant: str | None,
    purpose: str | None,
    expires: int,
    holder: str | None,
) -> OpenedTask:
    """Open a task that may do what `given` lists, until `expires` (Unix seconds); `holder` is a key or None."""
    task = TaskRecord(
        id=_fresh_id(),
        root=_fresh_id(),
        opened=minting.now,
        expires=expires,
        tenant=tenant,
        purpose=purpose,
        holder=holder,
    )
    return _open(minting, task, given)


def open_on_intent(
    minting: Minting,
    proven: Proven,
    policy: Policy,
    *,
    expires: When | None,
    holder: str | None,
    by: By | None = None,
) -> OpenedTask:
    """Open a task on an intent, with what the policy gives it. The opening is counted; `holder` is a key or None.

    `by` is the person who opens it over the network.
    """
    intent = proven.intent
    terms = intent_use.take(minting.transaction, proven, policy, now=minting.now)
    task = TaskRecord(
        id=_fresh_id(),
        root=_fresh_id(),
        opened=minting.now,
        expires=_expiry_on_intent(intent, terms, expires, now=minting.now, max_ttl=minting.max_ttl),
        tenant=terms.tenant,
        purpose=terms.purpose,
        principal=intent.principal,
        intent=intent.digest,
        holder=holder,
    )
    agent = None if intent.agent is UNSET else intent.agent
    holders = () if holder is None else (holder,)
    rules = dict.fromkeys(one.approval for one in terms.given_at_open if one.approval is not None)
    # One demand for all capabilities with the same rule, so one approval serves whichever of them it says.
    demands = {rule: approval_terms(policy, rule, intent, keys=holders).drawn() for rule in rules}
    return _open(
        minting,
        task,
        terms.given_at_open,
        agent=agent,
        policy=policy.digest,
        attested=proven.attested,
        demands=demands,
        by=by,
    )


def mint_more(minting: Minting, task_id: str, given: Iterable[Given], *, expires: When | None) -> Bundle:
    """Mint more at the root of a task; InvalidRequest if the task is not active."""
    transaction = minting.transaction
    demand_live_key(transaction, minting.keyring)
    task = as_of(known_task(transaction, task_id), minting.now)
    # Not `is_final`: the state has no mark, so it may be a word that says nothing.
    if task.state != FIRST:
        raise InvalidRequest(f"task {task.id} is {task.state}: it gets no more capabilities; open a new task")
    # A task stays `active` when only its root is revoked, so its state does not say this. That the task has not ended
    # is asked of its death, too, because the state has no mark.
    agent_keys.demand_living(transaction, task.holder)
    if transaction.deaths_of((task.id, root_node(task.root))):
        raise InvalidRequest(f"task {task.id} is revoked: it gets no more capabilities; open a new task")
    ends = task.expires if expires is None else expiry(expires, now=minting.now, max_ttl=minting.max_ttl)
    if ends > task.expires:
        raise InvalidRequest(
            f"task {task.id} expires at {shown_instant(task.expires)}, and a capability cannot expire later: choose an "
            "earlier time"
        )
    return _mint(minting, task, given, expires=ends)


def expiry(expires: When, *, now: int, max_ttl: int) -> int:
    """An expiry in Unix seconds; InvalidRequest if it is in the past, or more than `max_ttl` seconds ahead."""
    at = parse_instant(expires, now)
    if at <= now:
        raise InvalidRequest(f"{shown_instant(at)} has passed: an expiry must be in the future")
    if at > now + max_ttl:
        raise InvalidRequest(
            f"{shown_instant(at)} is too far ahead: a task here lasts at most {shown_duration(max_ttl)}"
        )
    return at


def _expiry_on_intent(intent: Intent, terms: Terms, expires: When | None, *, now: int, max_ttl: int) -> int:
    if terms.ttl > max_ttl:
        raise InvalidRequest(
            f"purpose {terms.purpose} has a ttl of {shown_duration(terms.ttl)}, and a task here lasts at most "
            f"{shown_duration(max_ttl)}: shorten the ttl in the policy"
        )
    latest = min(now + terms.ttl, intent.not_after)
    ends = latest if expires is None else expiry(expires, now=now, max_ttl=max_ttl)
    if ends > latest:
        raise InvalidRequest(
            f"a task on this intent expires at {shown_instant(latest)} at the latest: choose an earlier time"
        )
    return ends


def _open(
    minting: Minting,
    task: TaskRecord,
    given: Iterable[Given],
    *,
    agent: str | None = None,
    policy: str | None = None,
    attested: str | None = None,
    demands: Demands = NO_DEMANDS,
    by: By | None = None,
) -> OpenedTask:
    transaction = minting.transaction
    demand_live_key(transaction, minting.keyring)
    agent_keys.demand_living(transaction, task.holder)
    # Without `capx serve` nothing else ends overdue tasks regularly. A few at each opening keep up, and stay quick.
    end_overdue(transaction, now=task.opened, limit=_OVERDUE_AT_OPEN)
    transaction.open_task(task)
    opened = TaskOpened(
        task=task.id,
        root=task.root,
        node=b64u(root_node(task.root)),
        tenant=task.tenant,
        purpose=task.purpose,
        expires=task.expires,
        principal=task.principal,
        intent=task.intent,
        agent=agent,
        policy=policy,
        holder=task.holder,
        attested=attested,
        by=UNSET if by is None else by,
    )
    event = opened.write(transaction, at=task.opened)
    # Every task can ask for more, complete itself and revoke below itself: calls at the authority's own audience.
    everything = (*given, Given(AUTHORITY, OWN_ENTRIES))
    return OpenedTask(
        id=task.id,
        root=task.root,
        tenant=task.tenant,
        purpose=task.purpose,
        expires=task.expires,
        position=event.position,
        bundle=_mint(minting, task, everything, expires=task.expires, demands=demands),
        principal=task.principal,
        intent=task.intent,
        holder=task.holder,
    )


def _mint(
    minting: Minting, task: TaskRecord, given: Iterable[Given], *, expires: int, demands: Demands = NO_DEMANDS
) -> Bundle:
    _demand_lasting_names(minting)
    claims = Claims(task.id, task.root, task.tenant, task.intent, task.holder)
    minted: list[Capability] = []
    for one in given:
        carried = authority_block(claims, one.allowed, expires, (*one.budgets, *minting.added))
        # Before anything is minted: a token beyond the limits of the wire would be denied everywhere.
        try:
            block = fitting_block(carried)
        except Unfit as why:
            raise InvalidRequest(
                f"cannot mint the capability for {one.audience}, because no service would accept it: {why}"
            ) from None
        key = minting.keyring.active.audience_key(one.audience)
        capability = mint_block(key, block, now=minting.now, nonce=b64u(os.urandom(16)))
        if one.approval is not None:
            capability = capability.demanding(demands[one.approval])
        allowed = tuple([entry.sentence() for entry in one.allowed])
        event = CapabilityMinted.of(task.id, capability, allow=allowed, expires=expires)
        event.write(minting.transaction, at=minting.now)
        minted.append(capability)
    return Bundle(minted)


def _demand_lasting_names(minting: Minting) -> None:
    """Raise InvalidRequest for a named counter that `prune` would take for the counter of one task, and forget."""
    for caveat in minting.added:
        name = caveat.counter if isinstance(caveat, Budget) else UNSET
        if name is not UNSET and len(name) == OF_ONE_TASK and minting.transaction.task(name) is None:
            raise InvalidRequest(
                f"the counter {name} has a name of {OF_ONE_TASK} characters, as counters of single tasks have, which "
                "are forgotten with their task: give it a longer or a shorter name"
            )


def as_given(allow: Iterable[Grant]) -> tuple[Given, ...]:
    """The grants, sorted by audience; InvalidRequest for one that cannot be granted."""
    return tuple(Given(audience, entries) for audience, entries in by_audience(allow).items())


def demand_live_key(reading: Reading, keyring: KeyRing) -> None:
    """Raise InvalidRequest if the active root key was revoked."""
    kid = keyring.active.kid
    if reading.death(of_kid(kid)):
        raise InvalidRequest(
            f"the active root key {kid} was revoked: run capx keys add, then capx keys activate with the new key"
        )


def demand_label(what: str, text: str | None) -> None:
    """Raise InvalidRequest for a text that cannot be a task's tenant or purpose."""
    if text is not None and not is_label(text):
        raise InvalidRequest(
            f"{text!r:.80} is not a valid {what}: write 1 to 128 characters, without hidden or control characters"
        )


def live_tasks_by_kid(reading: Reading, kids: Sequence[str], *, now: int) -> dict[str, int]:
    """For each root key, how many tasks that are alive at `now` hold tokens that were minted with it."""
    tasks = [task for task in reading.tasks() if not is_final(as_of(task, now).state)]
    live = {task.id for task in tasks if not reading.deaths_of(root_keys(task))}
    holding: dict[str, set[str]] = {kid: set() for kid in kids}
    for event in reading.events(kind="capability_minted"):
        minted = event.read(CapabilityMinted)
        if minted.task in live and minted.kid in holding:
            holding[minted.kid].add(minted.task)
    return {kid: len(tasks) for kid, tasks in holding.items()}


def _fresh_id() -> str:
    return b64u(os.urandom(16))
