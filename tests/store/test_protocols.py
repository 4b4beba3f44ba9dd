"""Both kinds of store answer alike, whatever is asked of them and in whatever order."""

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from capx.crypto.base64url import b64u
from capx.errors import StoreProblem
from capx.store.protocols import Reading, Store, Writing
from capx.store.records import (
    DecisionRecord,
    GrantRecord,
    HookCursor,
    IntentRecord,
    RequestRecord,
    RequestState,
    TaskRecord,
    call_of,
)
from capx.tokens.revocation_key import RevocationKey, of_instant, of_kid
from capx.verify.meter import Payer, Spend
from tests.labs.payers import payer
from tests.labs.store_writes import granted_by

STEPS = 120


class Question:
    """One thing to ask of a store, drawn by chance; the same chance draws the same."""

    def __init__(self, chance: random.Random, now: int) -> None:
        self._chance = chance
        self._now = now

    def ask(self, store: Store) -> object:
        """The answer; which problem there is may be worded in two ways."""
        weights: dict[Callable[[Store], object], int] = {
            self._burn: 3,
            self._spend: 2,
            self._give_back: 1,
            self._record: 1,
            self._sighted: 1,
            self._read: 1,
            self._write: 6,
        }
        (question,) = self._chance.choices(list(weights), list(weights.values()))
        try:
            return question(store)
        except StoreProblem:
            return StoreProblem

    def _presentation(self) -> bytes:
        return b"%016d" % self._chance.randrange(12)

    def _task(self) -> str:
        return f"task-{self._chance.randrange(5)}"

    def _name(self) -> str | None:
        return self._chance.choice([None, "ana", "ben"])

    def _digest(self) -> str | None:
        return self._chance.choice([None, "digest-0", "digest-1"])

    def _new_task(self) -> TaskRecord:
        id_ = self._task()
        expires = self._now + 9
        return TaskRecord(id_, f"root-{id_}", self._now, expires, principal=self._name(), intent=self._digest())

    def _cursor(self) -> HookCursor:
        epoch = f"origin.{self._chance.randrange(2)}"
        return HookCursor(self._chance.choice("hk"), epoch, self._chance.randrange(99))

    def _key(self) -> RevocationKey:
        keys: list[RevocationKey] = [
            self._presentation(),
            self._task(),
            of_kid("k1"),
            of_kid("k2"),
            of_instant(self._earlier()),
        ]
        return self._chance.choice(keys)

    def _earlier(self) -> int:
        return self._now - self._chance.randrange(100)

    def _node(self) -> str:
        return b64u(self._presentation())

    def _intent(self) -> IntentRecord:
        seen = self._chance.choice([(None, None, None), ("ana", "{}", "attested: ben")])
        return IntentRecord(f"digest-{self._chance.randrange(4)}", *seen, self._chance.randrange(3), self._earlier())

    def _call(self) -> str:
        return call_of("crm", "crm.read", self._args(), pins_some=False)

    def _args(self) -> str | None:
        return self._chance.choice([None, "{}"])

    def _request(self) -> RequestRecord:
        states: list[RequestState] = ["pending", "pending", "approved", "granted", "denied", "expired"]
        return RequestRecord(
            id=f"request-{self._chance.randrange(9)}",
            task=self._task(),
            audience="crm",
            action="crm.read",
            args=self._args(),
            ids=(self._node(),),
            kid="k1",
            issued=self._now,
            path=tuple(b64u(b"%016d" % node) for node in self._chance.sample(range(12), 2)),
            labels=(),
            block="[]",
            principal="ana",
            asked=self._earlier(),
            until=self._now,
            state=self._chance.choice(states),
        )

    def _grant(self) -> GrantRecord:
        chain = {self._presentation(), self._presentation()}
        kid, at = self._chance.choice(["k1", "k2"]), self._earlier()
        return GrantRecord(self._presentation(), tuple(sorted(chain)), kid, at - self._chance.randrange(20), at)

    def _burn(self, store: Store) -> object:
        chance, now = self._chance, self._now
        remembered = chance.choice([None, (self._presentation(), now + chance.randrange(-100, 60))])
        if chance.random() < 0.3:
            several = [(self._presentation(), now + chance.randrange(-10, 66)) for _ in range(chance.randrange(1, 6))]
            return store.burn_all(several, now=now, remembered=remembered)
        return store.burn(self._presentation(), until=now + chance.randrange(-10, 66), now=now, remembered=remembered)

    def _spend(self, store: Store) -> object:
        def amount(*choices: str) -> Decimal:
            return Decimal(self._chance.choice(choices))

        counters = self._chance.sample("abcd", self._chance.randrange(4))
        spends = [
            Spend(
                counter,
                self._chance.choice("xy"),
                amount("0", "0.1", "0.10", "2", "1e3"),
                amount("0", "0.3", "5", "1e4"),
            )
            for counter in counters
        ]
        by = payer() if not spends or self._chance.random() < 0.5 else self._payer()
        return store.spend(by, spends, now=self._now)

    def _payer(self) -> Payer:
        """One of a few who pay again and give back."""
        id_ = b"payer-%010d" % self._chance.randrange(5)
        return Payer(id_, id_, b"c" * 16, "crm", "")

    def _give_back(self, store: Store) -> object:
        return store.give_back(self._payer(), decision="d", reason="x", now=self._now)

    def _record(self, store: Store) -> None:
        ids = [f"dec-{self._chance.randrange(8)}" for _ in range(self._chance.randrange(4))]
        bodies = [msgspec.json.encode({"id": id_, "task": self._task()}) for id_ in ids]
        store.record([DecisionRecord(id_, self._now, body) for id_, body in zip(ids, bodies, strict=True)])

    def _sighted(self, store: Store) -> None:
        store.sighted(self._chance.choice("fg"), self._chance.randrange(9), now=self._now)

    def _read(self, store: Store) -> object:
        chance, task = self._chance, self._task()
        with store.read() as reading:
            return (
                list(reading.events(task=task, kind=chance.choice([None, "decision", "noted"]))),
                list(reading.events(after=chance.randrange(20), limit=chance.randrange(5))),
                reading.overdue(self._now, 3),
                reading.counters(chance.sample("abcd", 2)),
                reading.decision("dec-1"),
                reading.intent("digest-1"),
                reading.request("request-1"),
                reading.requests(task=task, pending=chance.choice([False, True])),
                reading.requests(pending=True),
                reading.requests(pending=chance.choice([False, True]), principal=self._name()),
                reading.task_page(
                    limit=chance.randrange(4),
                    before=chance.choice([None, self._task()]),
                    after=chance.choice([None, None, self._task()]),
                    alive_at=chance.choice([None, self._now]),
                    principal=self._name(),
                    intent=self._digest(),
                ),
                reading.hook(chance.choice("hk")),
                reading.requests_for([self._node(), self._node()], [self._call()]),
                reading.request_counts([self._node(), self._node()], chance.choice(["crm", "mail"])),
                reading.deaths_of([self._key() for _ in range(3)]),
                granted_by(reading, self._key()),
            )

    def _write(self, store: Store) -> object:
        acts: list[Callable[[Writing], Any]] = [
            lambda writing: writing.append("noted", msgspec.json.encode({"task": self._task()}), at=self._now),
            lambda writing: writing.kill(self._key(), "revoked", at=self._now, position=writing.head().position),
            lambda writing: writing.append_all("noted", [b"{}"] * self._chance.randrange(3), at=self._now),
            lambda writing: self._kill_all(writing, {self._key(): 1, self._key(): 2}),
            lambda writing: writing.forget(self._now - self._chance.randrange(100)),
            lambda writing: writing.open_task(self._new_task()),
            lambda writing: writing.move_hook(self._cursor()),
            lambda writing: writing.end_task(self._task(), "completed", at=self._now, position=1),
            lambda writing: writing.count_revocation(self._task(), self._chance.randbytes(1) * 16, now=self._now),
            lambda writing: writing.keep_intent(self._intent()),
            lambda writing: writing.keep_request(self._request()),
            lambda writing: writing.count_request(self._request()),
            lambda writing: writing.uncount_requests([self._node(), self._node()]),
            lambda writing: writing.keep_grant(self._grant()),
            lambda writing: writing.begin_epoch(f"origin.{self._now}"),
        ]
        with store.write() as writing:
            return [act(writing) for act in self._chance.sample(acts, 2)]

    def _kill_all(self, writing: Writing, positions: dict[RevocationKey, int]) -> None:
        dead = writing.deaths_of(positions)
        alive = {key: position for key, position in positions.items() if key not in dead}
        writing.kill_all(alive, "revoked", at=self._now)


def everything(reading: Reading) -> list[object]:
    head = reading.head()
    return [
        (head.position, head.hash, head.deaths, head.forgotten),
        list(reading.events()),
        list(reading.deaths()),
        reading.tasks(),
        reading.counters(),
        reading.follower_acks(),
        [reading.hook(name) for name in "hk"],
        reading.intents(),
        reading.requests(),
        [granted_by(reading, key) for key in (b"%016d" % 1, of_kid("k1"), of_kid("k2"), of_instant(10_000))],
    ]


@pytest.mark.parametrize("seed", range(6))
def test_both_kinds_of_store_answer_alike(of_kind: Callable[[str], Store], seed: int) -> None:
    chance, now = random.Random(seed), 10_000
    one, other = of_kind("sqlite"), of_kind("postgres")
    for step in range(STEPS):
        # A clock that goes on, stands still, steps back, and now and then is far off.
        now += chance.choice([0, 0, 1, 5, 30, -20]) if chance.random() < 0.97 else chance.choice([3_000, -3_000])
        drawn = chance.random()
        answers = [Question(random.Random(drawn), now).ask(store) for store in (one, other)]
        assert answers[0] == answers[1], step
    with one.read() as of_one, other.read() as of_other:
        assert everything(of_one) == everything(of_other)
