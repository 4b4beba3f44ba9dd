"""What must hold before one store takes over everything that another one holds.

Laws: what is taken over is whole. Of what somebody else may have written, every row is one that capx could have
written: what is no name, no amount, no state and no time is refused by its place, before anything is made of it.
"""

import re
from collections.abc import Iterator

from capx.crypto.base64url import unb64u
from capx.crypto.canonical_json import canonical
from capx.crypto.keys import is_kid
from capx.errors import InvalidCaveat, InvalidRequest, MalformedToken, StoreProblem
from capx.intents.epoch import began, is_epoch
from capx.intents.intent import parse_intent
from capx.store import lifecycle
from capx.store.log import GENESIS, START, Event, check
from capx.store.protocols import Reading
from capx.store.records import ATTESTED, Counter, Damaged, Death, Head, IntentRecord, TaskRecord
from capx.tokens.revocation_key import ISSUED, KID
from capx_caveats import SAFE_INTEGER, amount, is_id, is_label

CLOCKS_APART = 300
"""Seconds by which a time may lie ahead of the clock here."""

_KIND = re.compile(r"[a-z][a-z_]{0,63}")
_SECONDS = re.compile(r"0|[1-9][0-9]{0,15}")
_REASONS = frozenset({"revoked", *lifecycle.DEATH.values()})


def demand_empty(taking: Reading) -> None:
    """Refuse a store that holds something already."""
    head = taking.head()
    if head.position or head.deaths or taking.tasks() or taking.intents() or taking.counters():
        raise StoreProblem("the store holds something already: restore into a new one")


def whole_log(reading: Reading) -> Iterator[Event]:
    """All events; BrokenLog where they are not those that lead to the head."""
    reached = START
    for event in reading.events():
        reached = check((event,), after=reached)
        yield event
    check((), after=reached, head=reading.head().place)


def whole_deaths(reading: Reading) -> Iterator[Death]:
    """All deaths that are kept; StoreProblem in the end if one is missing."""
    head, found = reading.head(), 0
    for death in reading.deaths():
        found += death.seq > head.forgotten
        yield death
    if found != head.deaths - head.forgotten:
        raise StoreProblem(f"the store counts {head.deaths - head.forgotten} deaths and holds {found}: it is damaged")


def demand_possible(reading: Reading, now: int) -> None:
    """Refuse a store with a row that capx cannot have written by `now` (Unix seconds); Damaged says which and why.

    Whether the rows fit each other is not looked at: see `check_store`.
    """
    head = reading.head()
    _demand_head(head, now)
    for event in reading.events():
        _demand_event(event)
    for nth, task in enumerate(reading.tasks(), 1):
        _demand_task(task, nth, head)
    for nth, intent in enumerate(reading.intents(), 1):
        _demand_intent(intent, nth)
    for death in reading.deaths():
        _demand_death(death)
    for nth, counter in enumerate(reading.counters(), 1):
        _demand_counter(counter, nth)


def _demand_head(head: Head, now: int) -> None:
    _demand("its head", "is no epoch", head.epoch, is_epoch(head.epoch))
    _demand("its head", "has not begun yet", head.epoch, began(head.epoch) <= now + CLOCKS_APART)
    for count in (head.position, head.deaths, head.forgotten):
        _demand("its head", "is no count", count, _is_count(count))
    _demand("its head", "is more than there were", head.forgotten, head.forgotten <= head.deaths <= head.position)
    fits = _is_bytes(head.hash, 32) and (head.position == 0) == (head.hash == GENESIS)
    _demand("its head", "is no hash of an event", head.hash, fits)


def _demand_event(event: Event) -> None:
    where = f"event {event.position!a:.20}"
    _demand(where, "is no position", event.position, _is_count(event.position))
    _demand(where, "is no time", event.at, _is_count(event.at))
    _demand(where, "is no kind", event.kind, _matches(_KIND, event.kind))
    _demand(where, "is no body", event.body, type(event.body) is bytes)
    _demand(where, "is no hash", event.hash, _is_bytes(event.hash, 32))


def _demand_task(task: TaskRecord, nth: int, head: Head) -> None:
    where = f"task {nth}"
    _demand(where, "is no id", task.id, is_id(task.id))
    _demand(where, "is no root", task.root, is_id(task.root))
    for at in (task.opened, task.expires):
        _demand(where, "is no time", at, _is_count(at))
    for name in (task.tenant, task.purpose, task.principal):
        _demand(where, "is no name", name, name is None or is_label(name))
    _demand(where, "is no digest of an intent", task.intent, task.intent is None or _size(task.intent) == 32)
    _demand(where, "is no state", task.state, task.state == lifecycle.FIRST or lifecycle.is_final(task.state))
    if lifecycle.is_final(task.state):
        _demand(where, "is no time", task.ended, _is_count(task.ended))
        _demand(where, "is no position", task.position, _is_count(task.position, head.position))
    else:
        _demand(where, "is an end of what is active", task.ended, task.ended is None and task.position is None)


def _demand_intent(intent: IntentRecord, nth: int) -> None:
    where = f"intent {nth}"
    _demand(where, "is no digest", intent.digest, _size(intent.digest) == 32)
    _demand(where, "is no time", intent.withdrawn, intent.withdrawn is None or _is_count(intent.withdrawn))
    if intent.document is None:
        unknown = (intent.principal, intent.proof, intent.opened)
        _demand(where, "is said of an intent that nobody has seen", unknown, unknown == (None, None, 0))
        _demand(where, "is no time", intent.withdrawn, intent.withdrawn is not None)
        return
    try:
        said = parse_intent(intent.document.encode())
    except InvalidRequest:
        raise Damaged(f"this is no store as capx writes it: {where} holds what is no intent") from None
    is_its_own = said.digest == intent.digest and canonical(said.document()) == intent.document.encode()
    _demand(where, "is the digest of another document", intent.digest, is_its_own)
    _demand(where, "is not who asked for it", intent.principal, intent.principal == said.principal)
    _demand(where, "is no proof", intent.proof, _is_proof(intent.proof))
    _demand(where, "is no number of tasks that it allows", intent.opened, _is_count(intent.opened, said.max_tasks))


def _demand_death(death: Death) -> None:
    where = f"death {death.seq!a:.20}"
    for count in (death.seq, death.position):
        _demand(where, "is no number", count, _is_count(count))
    _demand(where, "is no time", death.at, _is_count(death.at))
    _demand(where, "is nothing that can die", death.key, _is_key(death.key))
    _demand(where, "is no reason", death.reason, death.reason in _REASONS)
    if isinstance(death.key, str) and death.key.startswith(ISSUED):
        _demand(where, "lay ahead", death.key, int(death.key[len(ISSUED) :]) <= death.at)


def _demand_counter(counter: Counter, nth: int) -> None:
    where = f"counter {nth}"
    # Resources may count by any name, and none of them shall keep a store from being brought back.
    _demand(where, "is no text", counter.counter, _is_text(counter.counter) and _is_text(counter.unit))
    _demand(where, "is no time", counter.last, _is_count(counter.last))
    try:
        amount(counter.spent)
    except InvalidCaveat:
        # Not shown: written down, it may have a billion digits.
        raise Damaged(f"this is no store as capx writes it: {where} holds what is no amount") from None


def _is_key(key: object) -> bool:
    if not isinstance(key, str):
        return _is_bytes(key, 16)
    if key.startswith(KID):
        return is_kid(key[len(KID) :])
    return _matches(_SECONDS, key[len(ISSUED) :]) if key.startswith(ISSUED) else is_id(key)


def _is_proof(proof: object) -> bool:
    if isinstance(proof, str) and proof.startswith(ATTESTED):
        return is_label(proof[len(ATTESTED) :])
    return _size(proof) == 64


def _size(text: object) -> int:
    """How many bytes this text in base64url stands for; -1 for what is none."""
    try:
        return len(unb64u(text)) if isinstance(text, str) else -1
    except MalformedToken:
        return -1


def _is_count(value: object, most: int = SAFE_INTEGER) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_bytes(value: object, size: int) -> bool:
    return type(value) is bytes and len(value) == size


def _matches(form: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and form.fullmatch(text) is not None


def _demand(where: str, fault: str, value: object, holds: bool) -> None:
    if not holds:
        shown = ascii(value) if not isinstance(value, int) or abs(value) < 10**18 else "a huge number"
        raise Damaged(f"this is no store as capx writes it: in {where} {shown:.60} {fault}")
