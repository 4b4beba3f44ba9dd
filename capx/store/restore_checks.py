"""Checks before one store takes over everything that another one holds.

Laws:

- The log and the deaths of the other store must be whole.
- Somebody else may have written the file. So each of its rows must be one that capx could have written: an invalid
  name, amount, state or time is refused, with its place in the store, before anything uses the value.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from capx.crypto.base64url import is_bytes
from capx.crypto.canonical_json import canonical
from capx.crypto.keys import is_kid
from capx.errors import InvalidCaveat, InvalidRequest, KeyProblem, StoreProblem
from capx.intents.epoch import began, is_epoch
from capx.intents.intent import parse_intent
from capx.store import lifecycle
from capx.store.events import CapabilityMinted, archived_until
from capx.store.log import GENESIS, START, Event, check
from capx.store.protocols import Reading
from capx.store.records import (
    ATTESTED,
    AskedArguments,
    Counter,
    Damaged,
    Death,
    Head,
    IntentRecord,
    SignedAnswer,
    TaskRecord,
)
from capx.tokens.revocation_key import ISSUED, KID, of_public
from capx_caveats import SAFE_INTEGER, amount, is_id, is_label

CLOCKS_APART = 300
"""Seconds by which a time in the store may be ahead of the clock here."""

_KIND = re.compile(r"[a-z][a-z_]{0,63}")
_SECONDS = re.compile(r"0|[1-9][0-9]{0,15}")
_REASONS = frozenset({"revoked", *lifecycle.DEATH.values()})


def demand_empty(taking: Reading) -> None:
    """Refuse to take over another store into one that is not empty."""
    head = taking.head()
    if head.position or head.deaths or taking.tasks() or taking.intents() or taking.counters():
        raise StoreProblem("the store is not empty: restore into a new one")


def whole_log(reading: Reading) -> Iterator[Event]:
    """All events, each checked as it is given; BrokenLog if they do not lead to the head."""
    reached, archived = START, archived_until(reading)
    for event in reading.events():
        reached = check((event,), after=reached, archived=archived)
        yield event
    check((), after=reached, head=reading.head().place)


def whole_deaths(reading: Reading) -> Iterator[Death]:
    """All kept deaths; StoreProblem after the last one if one is missing."""
    head, found = reading.head(), 0
    for death in reading.deaths():
        # A lasting death may have a forgotten number; the head does not count it among those that are kept.
        found += death.seq > head.forgotten
        yield death
    if found != head.deaths - head.forgotten:
        raise StoreProblem(f"the store counts {head.deaths - head.forgotten} deaths and holds {found}: it is damaged")


def demand_possible(reading: Reading, now: int) -> None:
    """Refuse a store with a row that capx cannot have written until `now` (Unix seconds); Damaged says which and why.

    This checks each row by itself. Whether the rows fit each other is checked by `check_store`.
    """
    head = reading.head()
    _demand_head(head, now)
    minted = 0
    for event in reading.events():
        _demand_event(event)
        if event.kind == CapabilityMinted.kind:
            minted = max(minted, event.at)
    for nth, task in enumerate(reading.tasks(), 1):
        _demand_task(task, nth, head)
    for nth, intent in enumerate(reading.intents(), 1):
        _demand_intent(intent, nth)
    for answer in reading.answers():
        _demand_answer(answer, head)
    for asked in reading.asks():
        _demand_ask(asked, head)
    for death in reading.deaths():
        _demand_death(death, minted)
    for nth, counter in enumerate(reading.counters(), 1):
        _demand_counter(counter, nth)


def _demand_head(head: Head, now: int) -> None:
    _demand("its head", "is not an epoch", head.epoch, is_epoch(head.epoch))
    # The next restoration has to begin a later epoch than this one: a time far ahead would use up the digits for it.
    has_begun = began(head.epoch) <= now + CLOCKS_APART
    _demand("its head", "is an epoch that has not begun yet: is the clock here behind?", head.epoch, has_begun)
    for count in (head.position, head.deaths, head.forgotten):
        _demand("its head", "is not a count", count, _is_count(count))
    _demand("its head", "is more than it has had", head.forgotten, head.forgotten <= head.deaths)
    # Only an empty log has the hash that comes before the first event.
    fits = _is_raw(head.hash, 32) and (head.position == 0) == (head.hash == GENESIS)
    _demand("its head", "is not the hash of an event", head.hash, fits)


def _demand_event(event: Event) -> None:
    where = f"event {event.position!a:.20}"
    _demand(where, "is not a position", event.position, _is_count(event.position))
    _demand(where, "is not a time", event.at, _is_count(event.at))
    _demand(where, "is not a kind of event", event.kind, _matches(_KIND, event.kind))
    _demand(where, "is not a body", event.body, type(event.body) is bytes)
    _demand(where, "is not a hash", event.hash, _is_raw(event.hash, 32))


def _demand_task(task: TaskRecord, nth: int, head: Head) -> None:
    where = f"task {nth}"
    _demand(where, "is not an id", task.id, is_id(task.id))
    _demand(where, "is not the id of a root", task.root, is_id(task.root))
    for at in (task.opened, task.expires):
        _demand(where, "is not a time", at, _is_count(at))
    for name in (task.tenant, task.purpose, task.principal):
        _demand(where, "is not a name", name, name is None or is_label(name))
    _demand(
        where,
        "is not the digest of an intent",
        task.intent,
        task.intent is None or is_bytes(task.intent, 32),
    )
    _demand(where, "is not an agent's key", task.holder, task.holder is None or _is_agent_key(task.holder))
    _demand(where, "is not a state", task.state, task.state == lifecycle.FIRST or lifecycle.is_final(task.state))
    if lifecycle.is_final(task.state):
        _demand(where, "is not a time", task.ended, _is_count(task.ended))
        _demand(where, "is not a position", task.position, _is_count(task.position, head.position))
    else:
        _demand(where, "is the end of an active task", task.ended, task.ended is None and task.position is None)


def _demand_answer(answer: SignedAnswer, head: Head) -> None:
    where = f"answer {answer.position!a:.20}"
    _demand(where, "is not a position", answer.position, _is_count(answer.position, head.position))
    for id_ in (answer.request, answer.node):
        _demand(where, "is not an id", id_, is_id(id_))
    for at in (answer.at, answer.signed):
        _demand(where, "is not a time", at, _is_count(at))
    _demand(where, "is not a round", answer.round, _is_count(answer.round) and answer.round > 0)
    for name in (answer.approver, *answer.labels):
        _demand(where, "is not a name", name, is_label(name))
    _demand(where, "is not canonical JSON", answer.shown, _is_canonical(answer.shown))
    signed = is_bytes(answer.signature, 64) if answer.approval is None else is_bytes(answer.approval, 16)
    _demand(where, "is not what a person signs", answer.signature or answer.approval, signed)


def _demand_ask(asked: AskedArguments, head: Head) -> None:
    where = f"ask {asked.position!a:.20}"
    _demand(where, "is not a position", asked.position, _is_count(asked.position, head.position))
    _demand(where, "is not a salt", asked.salt, _is_raw(asked.salt, 32))
    _demand(where, "is not canonical JSON", asked.args, _is_canonical(asked.args))


def _demand_intent(intent: IntentRecord, nth: int) -> None:
    where = f"intent {nth}"
    _demand(where, "is not a digest", intent.digest, is_bytes(intent.digest, 32))
    _demand(where, "is not a time", intent.withdrawn, intent.withdrawn is None or _is_count(intent.withdrawn))
    if intent.document is None:
        unknown = (intent.principal, intent.proof, intent.opened)
        _demand(where, "belongs to an intent without a document", unknown, unknown == (None, None, 0))
        _demand(where, "is not a time", intent.withdrawn, intent.withdrawn is not None)
        return
    try:
        intended = parse_intent(intent.document.encode())
    except InvalidRequest:
        raise Damaged(f"capx does not write such a store: {where} holds an invalid intent") from None
    # Both: the digest covers the meaning of the document, and the text must be exactly the one that capx writes.
    is_its_own = intended.digest == intent.digest and canonical(intended.document()) == intent.document.encode()
    _demand(where, "is the digest of another document", intent.digest, is_its_own)
    _demand(where, "is not the principal of its document", intent.principal, intent.principal == intended.principal)
    _demand(where, "is not a proof of an intent", intent.proof, _is_proof(intent.proof))
    _demand(where, "is not a number of tasks it allows", intent.opened, _is_count(intent.opened, intended.max_tasks))


def _demand_death(death: Death, minted: int) -> None:
    """`minted` is the latest time at which anything was minted: later than the death, if a clock was ahead."""
    where = f"death {death.seq!a:.20}"
    for count in (death.seq, death.position):
        _demand(where, "is not a number", count, _is_count(count))
    _demand(where, "is not a time", death.at, _is_count(death.at))
    _demand(where, "is not a key of a revocation", death.key, _is_key(death.key))
    _demand(where, "is not a reason for a revocation", death.reason, death.reason in _REASONS)
    if isinstance(death.key, str) and death.key.startswith(ISSUED):
        reached = int(death.key[len(ISSUED) :])
        _demand(where, "is later than all that it could revoke", death.key, reached <= max(death.at, minted))


def _demand_counter(counter: Counter, nth: int) -> None:
    where = f"counter {nth}"
    # Any text is valid: resources choose the names of counters, and a strange name must not prevent a restoration.
    _demand(where, "is not text", counter.counter, _is_text(counter.counter) and _is_text(counter.unit))
    _demand(where, "is not a time", counter.last, _is_count(counter.last))
    try:
        amount(counter.spent)
    except InvalidCaveat:
        # The value is not shown: `1E+999999999` written out has a billion digits.
        raise Damaged(f"capx does not write such a store: {where} holds an invalid amount") from None


def _is_key(key: object) -> bool:
    if not isinstance(key, str):
        return _is_raw(key, 16)
    if key.startswith(KID):
        return is_kid(key[len(KID) :])
    return _matches(_SECONDS, key[len(ISSUED) :]) if key.startswith(ISSUED) else is_id(key)


def _is_agent_key(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(of_public(text))
    except KeyProblem:
        return False


def _is_canonical(text: object) -> bool:
    """Whether this is an object as canonical JSON."""
    try:
        value = msgspec.json.decode(text, type=dict[str, Any]) if isinstance(text, str) else None
        return value is not None and canonical(value) == str(text).encode()
    except (msgspec.MsgspecError, RecursionError, InvalidCaveat):
        return False


def _is_proof(proof: object) -> bool:
    if isinstance(proof, str) and proof.startswith(ATTESTED):
        return is_label(proof[len(ATTESTED) :])
    return is_bytes(proof, 64)


def _is_count(value: object, most: int = SAFE_INTEGER) -> bool:
    # `type`, not isinstance: True is an int too, and capx never writes it.
    return type(value) is int and 0 <= value <= most


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_raw(value: object, size: int) -> bool:
    return type(value) is bytes and len(value) == size


def _matches(form: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and form.fullmatch(text) is not None


def _demand(where: str, fault: str, value: object, holds: bool) -> None:
    if not holds:
        # The value is somebody else's: ASCII keeps its control characters off the terminal, and to write down a number
        # of a million digits would take too long.
        shown = ascii(value) if not isinstance(value, int) or abs(value) < 10**18 else "a huge number"
        raise Damaged(f"capx does not write such a store: in {where} {shown:.60} {fault}")
