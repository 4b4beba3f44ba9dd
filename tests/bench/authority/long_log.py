"""What a long log costs: the same on an empty store and on one with many decisions, timed in turn.

Both hold one more task, with ten decisions, which is the newest. What is searched is in a few decisions only, so that
nothing newer is found first.
"""

import os
import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

import msgspec

from capx import Authority, StoreLiveness
from capx.crypto.base64url import b64u
from capx.store.protocols import Store
from capx.store.records import DecisionRecord, TaskRecord
from capx.verify.decision import decision_id
from tests.bench.authority.figures import LONG, LONG_BARS, LONG_LOG
from tests.bench.authority.keeping import burning, timed
from tests.bench.authority.places import Places
from tests.bench.measuring import Contender
from tests.bench.timing import Step

DECISIONS: Final = 1_000_000
OF_A_TASK: Final = 10
_TENANTS, _AGENTS, _ACTIONS = 1_000, 50, 30
_AT_ONCE: Final = 500
"""Tasks that are written in one transaction."""
_BEGAN: Final = 1_700_000_000
_ENDS: Final = 4_000_000_000
_DEAD: Final = 10_000
_RARE: Final = "rare"


@contextmanager
def long_logs(places: Places, share: float) -> Generator[list[Contender]]:
    """Each store, empty, and with a hundredth, a tenth and all of this share of a million decisions."""
    counts = [0, *(max(OF_A_TASK, round(share * DECISIONS / part)) for part in (100, 10, 1))]
    with ExitStack() as stack:
        contenders: list[Contender] = []
        for who in places.stores:
            for count in dict.fromkeys(counts):
                place = stack.enter_context(places.authority(who))
                assert isinstance(place.authority, Authority)
                _fill(place.authority.store, count // OF_A_TASK)
                steps = {f"{LONG_LOG}{op}": step for op, step in _steps(place.authority, place.source.address).items()}
                contenders += [
                    Contender(op, count, who, timed(step), {LONG: (op, 0, who)}) for op, step in steps.items()
                ]
        # What was written just now goes to the disk before the clock starts, and not meanwhile.
        os.sync()
        yield contenders


def _steps(authority: Authority, address: str) -> dict[str, Step]:
    task = authority.open(allow=["crm.read"], tenant="Acme").id
    decided = [_decision(task, nth, tenant="Acme") for nth in range(OF_A_TASK)]
    authority.store.record(decided)

    def record() -> None:
        tasks = [b64u(os.urandom(16)) for _ in range(10)]
        authority.store.record([_decision(task, nth) for task in tasks for nth in range(OF_A_TASK)])

    def follow() -> None:
        with closing(StoreLiveness(address)) as view:
            if view.age() > 1:
                raise AssertionError(f"nothing is heard of who died: {view.problem}")

    steps: dict[str, Step] = {
        "find --task": lambda: authority.calls(task=task),
        "find --agent": lambda: authority.calls(agent=_RARE),
        "find --tenant": lambda: authority.calls(tenant=_RARE),
        "find --action": lambda: authority.calls(action=f"crm.{_RARE}.*"),
        "find --denied": lambda: authority.calls(denied=True),
        "find --since": lambda: authority.calls(since=int(time.time()) - 3_600),
        "why": lambda: authority.decision(decided[0].id),
        "task show": lambda: (authority.task(task), authority.minted(task), authority.requests(task=task)),
        "graph": lambda: authority.graph(task),
        "open": lambda: authority.open(allow=["crm.read"]),
        "record": record,
        "burn": burning(authority.store),
        "start of a follower": follow,
    }
    assert steps.keys() == LONG_BARS.keys()
    return steps


def _decision(task: str, nth: int, **facts: Any) -> DecisionRecord:
    at = int(time.time())
    id_ = decision_id(at)
    said = {
        "id": id_,
        "outcome": "allowed",
        "at": at,
        "audience": "crm",
        "action": f"crm.part {nth % _ACTIONS}.read".replace(" ", "_"),
        "task": task,
        "hops": ["planner", f"agent {nth % _AGENTS}"],
        "root": task,
        "nonces": [b64u(os.urandom(8)) for _ in range(2)],
        "ids": [b64u(os.urandom(16))],
        "presentation": b64u(os.urandom(16)),
        "args_digest": b64u(os.urandom(16)),
        "reasons": [],
    }
    return DecisionRecord(id_, at, msgspec.json.encode(said | facts))


def _fill(store: Store, tasks: int) -> None:
    """Write so many tasks, with ten decisions each. One in a hundred is a denial, one of all has each rare value.

    In each store as many have died.
    """
    with store.write(durable=False) as writing:
        writing.kill_all({os.urandom(16): 1 for _ in range(_DEAD)}, "revoked", at=_BEGAN)
    for first in range(0, tasks, _AT_ONCE):
        at = _BEGAN + first
        numbers = range(first, min(first + _AT_ONCE, tasks))
        ids = [b64u(os.urandom(16)) for _ in numbers]
        with store.write(durable=False) as writing:
            for nth, id_ in zip(numbers, ids, strict=True):
                writing.open_task(TaskRecord(id_, id_, at, _ENDS, tenant=f"tenant {nth % _TENANTS}"))
            opened = [msgspec.json.encode({"task": id_}) for id_ in ids]
            writing.append_all("task_opened", opened, at=at)
            decisions = [
                _decision(id_, nth, **_facts(nth, of_task, tasks)).body
                for nth, id_ in zip(numbers, ids, strict=True)
                for of_task in range(OF_A_TASK)
            ]
            writing.append_all("decision", decisions, at=at)


def _facts(task: int, nth: int, tasks: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"tenant": f"tenant {task % _TENANTS}"}
    if nth == 0 and task % 10 == 0:
        facts |= {"outcome": "denied", "reasons": [{"code": "expired"}]}
    if (task, nth) == (tasks // 2, 1):
        facts |= {"tenant": _RARE, "hops": [_RARE], "action": f"crm.{_RARE}.read"}
    return facts
