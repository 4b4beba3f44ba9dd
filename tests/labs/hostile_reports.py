"""Reports of a resource that was taken over: each is valid by itself, and together they are a bomb.

Nothing is faked: the reports pass the checks of `POST /decisions`, and go into the store by `record`, as those of any
resource. Each sort is a generator without an end, of bodies.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from capx.api.messages.resources import MOST_DECISIONS, Reported
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.crypto.base64url import b64u
from capx.store.records import DecisionRecord
from capx.tokens.chain import nodes, root_node

HOSTILE = "crm"
LABEL = "reader"
"""The label of most invented nodes."""
_DEEPEST = 255
_LONG = 128

Body = dict[str, Any]
Sort = Callable[[Sequence[OpenedTask]], Iterator[Body]]


def nonce() -> str:
    """The nonce of a hop that nobody made."""
    return b64u(os.urandom(8))


def an_id() -> str:
    """The id of something that does not exist."""
    return b64u(os.urandom(16))


def decided(task: OpenedTask, hops: Sequence[str] = (), labels: Sequence[str] | None = None, **facts: Any) -> Body:
    """A denial at the end of hops with these nonces."""
    return {
        "id": f"d.{an_id()}",
        "at": 1,
        "outcome": "denied",
        "audience": HOSTILE,
        "action": "crm.read",
        "task": task.id,
        "tenant": None,
        "intent": None,
        "root": task.root,
        "hops": list(labels or [LABEL] * len(hops)),
        "nonces": list(hops),
        "ids": [],
        "presentation": None,
        "spent": [],
        "reasons": [],
        **facts,
    }


def claimed(task: OpenedTask, below: Sequence[str], **facts: Any) -> Body:
    """The same without nonces: with a path from the root that does not follow from anything."""
    body = decided(task, path=[b64u(root_node(task.root)), *below], hops=[LABEL] * len(below)) | facts
    return {name: value for name, value in body.items() if name != "nonces"}


def nodes_in_one_task(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """Many nodes below one root."""
    while True:
        yield decided(tasks[0], [nonce()])


def one_node_a_task(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """A node in task after task, round and round."""
    for task in itertools.cycle(tasks):
        yield decided(task, [nonce()])


def deep_paths(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """Paths as long as a report may have them, each another one."""
    while True:
        yield decided(tasks[0], [nonce() for _ in range(_DEEPEST)], ["x"] * _DEEPEST)


def deep_path_of_one_call(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """One path as long as a report may have it, again and again."""
    hops = [nonce() for _ in range(_DEEPEST)]
    for number in itertools.count():
        yield decided(tasks[0], hops, ["x"] * _DEEPEST, args_digest=f"{number:022}")


def labels_on_one_path(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """Ever new labels, as long as a label may be, on the nodes of one path."""
    hops = [nonce() for _ in range(8)]
    while True:
        yield decided(tasks[0], hops, [os.urandom(_LONG // 2).hex() for _ in hops])


def claims(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """Paths without nonces, each another one."""
    while True:
        yield claimed(tasks[0], [an_id() for _ in range(32)])


def moving_subtrees(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """A claim at the end of the longest path is proven, with the longest path of claims below it."""
    task = tasks[0]
    while True:
        hops = [nonce() for _ in range(_DEEPEST)]
        last = b64u(nodes(task.root, hops)[-1])
        yield claimed(task, [last, *(an_id() for _ in range(_DEEPEST - 1))])
        yield decided(task, hops)


def capabilities(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """Capabilities that nobody minted, with as many ids as a report may have."""
    hops = [nonce()]
    while True:
        yield decided(tasks[0], hops, ids=[an_id() for _ in range(65)])


def budgets(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """Budgets that no token has."""
    while True:
        spent = [{"counter": an_id(), "unit": "calls", "cost": "1", "spent": "1", "limit": "5"} for _ in range(64)]
        yield decided(tasks[0], spent=spent)


def calls_of_one_minute(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """Denials of ever another call, within one minute: each could be followed by a decision about the same call."""
    while True:
        yield decided(tasks[0], [], args_digest=an_id(), presentation=an_id())


def large_reasons(tasks: Sequence[OpenedTask]) -> Iterator[Body]:
    """Decisions as large as they may be."""
    reason = {"code": "expired", "sentence": "x" * 60_000}
    while True:
        yield decided(tasks[0], reasons=[reason])


def smallest(tasks: Sequence[OpenedTask]) -> Iterator[bytes]:
    """The smallest decisions about a task that the role of a resource may record: no verifier has made them."""
    for number in itertools.count():
        yield b'{"id":"%d","audience":"%s","task":"%s"}' % (number, HOSTILE.encode(), tasks[0].id.encode())


SORTS: dict[str, Sort] = {
    one.__name__: one
    for one in (
        nodes_in_one_task,
        one_node_a_task,
        deep_paths,
        deep_path_of_one_call,
        labels_on_one_path,
        claims,
        moving_subtrees,
        capabilities,
        budgets,
        calls_of_one_minute,
        large_reasons,
    )
}


def recordable(body: Body, *, at: int) -> DecisionRecord:
    """A report as a server takes it, made at `at` (Unix seconds)."""
    valid = msgspec.convert(body | {"at": at}, Reported)
    return DecisionRecord(valid.id, at, msgspec.json.encode(valid))


def report(authority: Authority, tasks: Sequence[OpenedTask], sort: Sort, size: int, *, at: int) -> int:
    """Report so many bytes of one sort at one instant (Unix seconds), and return how many reports that were."""
    written = number = 0
    bodies = sort(tasks)
    while written < size:
        records: list[DecisionRecord] = []
        for body in itertools.islice(bodies, MOST_DECISIONS):
            records.append(recordable(body, at=at))
            written += len(records[-1].body)
            if written >= size:
                break
        authority.store.record(records)
        number += len(records)
    return number
