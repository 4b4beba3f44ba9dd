"""Processes that write to a store without end (tests.labs.writing), and what the store must hold of what they said."""

import json
import signal
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from capx.crypto.base64url import unb64u
from capx.store.check import check_store
from capx.store.protocols import Store
from tests.labs.commands import start_program
from tests.labs.store_writes import granted_by
from tests.labs.writing import AUDIENCES, COST, COUNTER, RETURNED

Said = list[dict[str, Any]]


WRITING = """
import os, sys
place, seed, said = sys.argv[1:]
os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT, 0o600), 1)
from tests.labs.writing import main
main(place, int(seed))
"""


class Writer:
    """A process that writes, and what it said was acknowledged."""

    def __init__(self, place: str, seed: int, folder: Path) -> None:
        self._said = folder / f"said-{seed}"
        self._said.touch()
        self._process = start_program(WRITING, place, seed, self._said)

    def wait_until_it_writes(self) -> None:
        """Wait for the first thing that it said."""
        ends = time.monotonic() + 30
        while self._said.stat().st_size == 0:
            assert self._process.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.005)

    def kill(self) -> None:
        """Kill it, without a chance to tidy up."""
        self._process.send_signal(signal.SIGKILL)
        _, said = self._process.communicate(timeout=10)
        assert self._process.wait() == -signal.SIGKILL, said.decode()

    def said(self) -> Said:
        """What was acknowledged."""
        return [json.loads(line) for line in self._said.read_bytes().splitlines()]


class Expected:
    """What must be in the store by all that was acknowledged so far."""

    def __init__(self) -> None:
        self.spends = 0
        self.returned: set[str] = set()
        self.problems = 0

    def demand(self, store: Store, said: Said) -> None:
        """Every acknowledged thing is in the store."""
        with store.read() as reading:
            for one in said:
                self._demand(reading, one)
        self.spends += sum(one["what"] == "spend" for one in said)
        self.returned |= {one["presentation"] for one in said if one["what"] == "give back"}
        self.problems += sum(one["what"] == "problem" for one in said)

    def _demand(self, reading: Any, one: dict[str, Any]) -> None:
        if one["what"] in {"open", "end", "revoke"}:
            event = next(reading.events(after=one["position"] - 1, limit=1))
            facts = event.facts()
            kind = {"open": "task_opened", "end": f"task_{one.get('end')}", "revoke": "revoked"}[one["what"]]
            assert (event.position, event.kind) == (one["position"], kind)
            assert facts.get("task") == one["task"] if "task" in one else facts["id"] == one["key"]
        if one["what"] == "end":
            assert reading.task(one["task"]).state == one["end"]
            assert reading.death(one["task"]).position == one["position"]
        elif one["what"] == "open":
            assert reading.task(one["task"]).intent == one["intent"]
        elif one["what"] == "ask":
            assert reading.request(one["id"]) is not None
            assert granted_by(reading, unb64u(one["token"])) == [unb64u(one["capability"])]
        elif one["what"] == "approve":
            assert reading.request(one["id"]).state == "approved"
        elif one["what"] == "revoke":
            assert reading.death(unb64u(one["key"])).position == one["position"]
        elif one["what"] == "record":
            assert all(reading.decision(id_) is not None for id_ in one["ids"])
        elif one["what"] == "tell a hook":
            assert reading.hook(one["hook"]).position >= one["position"]
        elif one["what"] == "spend":
            (counter,) = reading.counters([COUNTER[0]])
            assert counter.spent >= Decimal(one["total"])

    def demand_nothing_else(self, store: Store, killed: int) -> None:
        """No gap, nothing half made, and no more spent than was acknowledged or cut off before the answer."""
        with store.read() as reading:
            check_store(reading)
            opened = list(reading.events(kind="task_opened"))
            minted = [event.facts()["task"] for event in reading.events(kind="capability_minted")]
            tasks = reading.tasks()
            counters = reading.counters([COUNTER[0]])
            unreturned = sum((counter.spent for counter in reading.counters([RETURNED[0]])), Decimal(0))
            intents = {intent.digest: intent.opened for intent in reading.intents()}
            returned = {event.facts()["presentation"] for event in reading.events(kind="given_back")}
            asked = [event.facts()["request"] for event in reading.events(kind="request_made")]
            assert [request.id for request in reading.requests()] == asked
        assert intents == Counter(task.intent for task in tasks if task.intent is not None)
        assert [task.id for task in tasks] == [event.facts()["task"] for event in opened]
        assert minted == [task.id for task in tasks for _ in range(AUDIENCES)]
        assert returned >= self.returned
        assert 0 <= unreturned <= (killed + self.problems) * COST
        spent = counters[0].spent if counters else Decimal(0)
        assert self.spends * COST <= spent <= (self.spends + killed + self.problems) * COST


def burnt_again(store: Store, said: Said) -> list[str]:
    """The presentations that were burnt, as was acknowledged, and could be burnt once more."""
    return [
        one["presentation"]
        for one in said
        if one["what"] == "burn"
        and store.burn(unb64u(one["presentation"]), until=one["until"], now=one["until"] - 60).new
    ]


def answered(writers: list[Writer]) -> int:
    """How often the writers were answered."""
    return sum(one["what"] != "problem" for writer in writers for one in writer.said())


def wait_for_more(writers: list[Writer], *, than: int) -> int:
    """Wait until the writers have been answered again; gives how often that was so far."""
    ends = time.monotonic() + 30
    while (found := answered(writers)) <= than:
        assert time.monotonic() < ends, [writer.said()[-1] for writer in writers]
        time.sleep(0.01)
    return found
