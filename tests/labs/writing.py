"""A process that writes to a store without end, and says what was acknowledged.

Each line is a JSON object, written when the store has answered and never before. Trouble with the store is waited out.
"""

import asyncio
import json
import os
import random
import time
from typing import Any

from msgspec import structs

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import StoreProblem, Unavailable
from capx.intents.intent import Intent
from capx.policy.policy import Policy, Principal, Purpose
from capx.policy.terms import Offer, Rule
from capx.resource.replay import StoreReplay
from capx.store.events import RequestApproved, RequestMade
from capx.store.factory import open_store
from capx.store.protocols import Store, Writing
from capx.store.records import DecisionRecord, GrantRecord, HookCursor, RequestRecord
from capx.verify.meter import Spend
from capx_caveats import Entry, amount
from tests.labs.payers import payer

COUNTER = ("shared", "eur")
RETURNED = ("returned", "eur")
"""A counter from which everything is given back."""
LIMIT = amount("1000000000")
COST = amount("0.1")
AUDIENCES = 3
CROWD = 16
_WHAT = (
    "open",
    "open on an intent",
    "end",
    "revoke",
    "spend",
    "give back",
    "record",
    "burn",
    "burn together",
    "ask",
    "approve",
    "tell a hook",
)
_OFFERS = (Offer("crm", Entry("crm.read")), Offer("slides", Entry("slides.write")))
_WORK = Purpose(
    name="work",
    ttl=3_600,
    require=(),
    tenant=False,
    names=frozenset(),
    rules=lambda _: (Rule(place="purpose.work.grant[1]", how="at_open", offers=_OFFERS),),
)
POLICY = Policy(principals={"ana": Principal(name="ana", purposes=("work",))}, purposes={"work": _WORK})


def acknowledge(**facts: Any) -> None:
    """Say that the store has answered; a line this short is written whole."""
    os.write(1, json.dumps(facts).encode() + b"\n")


def asked_for(store: Store) -> Intent:
    """What a person asked for, as often as there is time."""
    with store.read() as reading:
        epoch = reading.head().epoch
    return Intent.written(
        principal="ana",
        authority=epoch,
        purpose="work",
        statement="Work",
        now=int(time.time()),
        not_after="1d",
        max_tasks=1_000_000,
    )


def made(transaction: Writing, token: bytes, now: int) -> tuple[RequestRecord, int]:
    """Keep a request of an agent with this token, and give it with the position of its event."""
    record = RequestRecord(
        id=b64u(os.urandom(16)),
        task="task-1",
        audience="crm",
        action="crm.read",
        args=None,
        ids=(b64u(token),),
        kid="k1",
        issued=now,
        path=("node",),
        labels=(),
        block="[]",
        principal="ana",
        asked=now,
        until=now,
    )
    event = RequestMade(record.id, record.task, record.path, (), record.audience, record.action, now, (), record.round)
    position = event.write(transaction, at=now).position
    transaction.keep_request(record)
    return record, position


def ask(store: Store, chance: random.Random, now: int) -> None:
    """Write, as one thing, that an agent asked, and that it was granted on the strength of its token."""
    token, capability = (chance.randbytes(16) for _ in range(2))
    with store.write() as transaction:
        record, position = made(transaction, token, now)
        transaction.keep_grant(GrantRecord(capability, (token,), record.kid, now, now))
    acknowledge(what="ask", id=record.id, token=b64u(token), capability=b64u(capability), position=position)


def approve(store: Store, chance: random.Random, now: int) -> None:
    """Write that an agent asked; then, as another thing, that a person approved."""
    with store.write() as transaction:
        record, _ = made(transaction, chance.randbytes(16), now)
    with store.write() as transaction:
        RequestApproved(record.id, record.task, "ben", "signature").write(transaction, at=now)
        answer = {"state": "approved", "approver": "ben", "answered": now, "signature": "signature"}
        transaction.keep_request(structs.replace(record, **answer))
    acknowledge(what="approve", id=record.id)


def tell_a_hook(store: Store) -> None:
    """Keep that a hook of this process was told of one more event."""
    name = f"hook-{os.getpid()}"
    with store.write() as transaction:
        earlier = transaction.hook(name)
        position = 1 if earlier is None else earlier.position + 1
        transaction.move_hook(HookCursor(name, transaction.head().epoch, position))
    acknowledge(what="tell a hook", hook=name, position=position)


async def burn_together(replay: StoreReplay, presentations: list[bytes], now: int) -> None:
    """Burn, as concurrent requests of a service do; each is acknowledged by itself."""

    async def burn(presentation: bytes) -> None:
        assert await replay.burn_async(presentation, now + 60, now)
        acknowledge(what="burn", presentation=b64u(presentation), until=now + 60)

    ended = await asyncio.gather(*map(burn, presentations), return_exceptions=True)
    for problem in filter(None, ended):
        raise problem


def write(authority: Authority, intent: Intent, replay: StoreReplay, chance: random.Random, tasks: list[str]) -> None:
    """Do one thing, and acknowledge it."""
    store, now = authority.store, int(time.time())
    what = chance.choice(_WHAT)
    if what == "end" and tasks:
        task = tasks.pop(chance.randrange(len(tasks)))
        end = chance.choice([authority.complete, authority.withdraw])(task)
        acknowledge(what="end", task=task, end=end.end, position=end.position)
    elif what == "revoke":
        node = chance.randbytes(16)
        acknowledge(what="revoke", key=b64u(node), position=authority.revoke(node).position)
    elif what == "spend":
        total = store.spend(payer(), [Spend(*COUNTER, COST, LIMIT)], now=now).totals[0]
        acknowledge(what="spend", total=str(total))
    elif what == "give back":
        by = payer()
        store.spend(by, [Spend(*RETURNED, COST, LIMIT)], now=now)
        store.give_back(by, decision="d", reason="x", now=now)
        acknowledge(what="give back", presentation=b64u(by.presentation))
    elif what == "record":
        ids = [b64u(chance.randbytes(16)) for _ in range(3)]
        store.record([DecisionRecord(id_, now, json.dumps({"id": id_, "audience": "crm"}).encode()) for id_ in ids])
        acknowledge(what="record", ids=ids)
    elif what == "burn":
        presentation = chance.randbytes(16)
        store.burn(presentation, until=now + 60, now=now)
        acknowledge(what="burn", presentation=b64u(presentation), until=now + 60)
    elif what == "burn together":
        asyncio.run(burn_together(replay, [chance.randbytes(16) for _ in range(CROWD)], now))
    elif what == "ask":
        ask(store, chance, now)
    elif what == "approve":
        approve(store, chance, now)
    elif what == "tell a hook":
        tell_a_hook(store)
    else:
        by_hand: dict[str, Any] = {"allow": ["crm.read", "slides.write"], "tenant": "Acme"}
        on = None if what == "open" else intent
        opened = authority.open(**by_hand) if on is None else authority.open(on, attested="nobody")
        tasks.append(opened.id)
        acknowledge(what="open", task=opened.id, intent=on and on.digest, position=opened.position)


def main(place: str, seed: int) -> None:
    """Write until the end."""
    authority = Authority(open_store(place), KeyRing(RootKey.generate()), policy=POLICY)
    chance, tasks, intent = random.Random(seed), list[str](), asked_for(authority.store)
    replay = StoreReplay(authority.store)
    acknowledge(what="ready")
    while True:
        try:
            write(authority, intent, replay, chance, tasks)
        except (StoreProblem, Unavailable) as problem:
            acknowledge(what="problem", says=str(problem))
            time.sleep(0.02)
