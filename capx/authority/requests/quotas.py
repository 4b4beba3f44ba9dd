"""How many requests the agents of one task may make, and how many may wait for people at once.

    the root of the task     may hold MOST_MADE requests, of which MOST_WAITING may wait
    a branch                 may hold half of what its parent has left for it
    an audience              may hold half of what a node has left for it
    a principal              may have `max_waiting` requests that wait, in all tasks on their intents

A branch is a node with everything below it. Halves are rounded up.

Laws:

- A request counts at the node that asked and at every node above it, and there for its audience.
- What a parent has left for a branch is what the parent may hold, less what counts at the parent outside the branch.
- What a node has left for an audience is what the node may hold, less what counts there for other audiences. A branch
  also holds, of one audience, at most half of what its parent has left of this audience for it.
- An agent can make up any number of nodes below its own. A node that nobody has seen holds nothing. So all of them
  together share what the node above them may hold, and each leaves half of it to the next.
- A request that is made again counts once. It waits again only if there is room for it.
- A request counts until its task is forgotten, whatever becomes of it, or until an operator revokes a node of its path:
  then it counts nowhere. If an agent revokes the node, it still counts: the agent could go on asking below one child
  after another.
- A request waits while a person can answer it: not when its time has run out, its task has ended or its asker is dead.
- For its principal, a request also waits until the store says that it has ended: `Authority.end_overdue` writes that,
  which `capx serve` calls each second.
- An ask that is refused is no request, and counts nowhere.

It follows that, whatever one branch asks, each other branch may hold at least half of what it could hold otherwise
(rounded down), and that the same is true of audiences. And if a node has room for an audience, it has room in all, and
so has every node above it.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from capx.authority.requests.inheritance import Asker
from capx.authority.requests.offering import NotOffered, ask_refusal
from capx.authority.requests.request_state import is_of, waiting
from capx.crypto.base64url import b64u
from capx.policy.policy import Principal
from capx.store.protocols import Reading
from capx.store.records import RequestCounts, RequestRecord
from capx.verify.ask import Ask

MOST_MADE: Final = 2_000
"""The most requests of one task."""
MOST_WAITING: Final = 50
"""The most of them that may wait for a person at once."""


_SHARES: Final = "a branch half of what its parent has left, an audience half of what a node has left"


def demand_room(
    reading: Reading,
    request: RequestRecord | None,
    asker: Asker,
    ask: Ask,
    principal: Principal,
    *,
    waits: bool,
    now: int,
) -> None:
    """Raise NotOffered if there are too many requests. A request that is made again keeps its own place.

    `principal` is the one on whose intent the task runs.
    """
    path, audience = tuple(map(b64u, asker.path)), ask.audience
    if request is None and room(MOST_MADE, reading.request_counts(path, audience)) < 1:
        why = f"at most {MOST_MADE} of one task, {_SHARES}: use what was granted before, or have a branch revoked"
        raise NotOffered(ask_refusal("too_many", why))
    if not waits:
        return
    demand_room_of(reading, request, principal)
    own = None if request is None else request.id
    others = [one for one in waiting(reading, asker.task, now) if one.id != own and not is_of(one, asker, ask)]
    if room(MOST_WAITING, counts_among(others, path, audience)) < 1:
        why = f"at most {MOST_WAITING} of one task wait for people, {_SHARES}: ask again when some were answered"
        raise NotOffered(ask_refusal("too_many", why))


def demand_room_of(reading: Reading, request: RequestRecord | None, principal: Principal) -> None:
    """Raise NotOffered if too many requests of a principal wait, of whichever tasks."""
    again = int(request is not None and request.state == "pending")
    if reading.waiting_count(principal.name) - again >= principal.max_waiting:
        why = (
            f"at most {principal.max_waiting} of one principal wait for people (max_waiting in the policy): ask again "
            "when some were answered"
        )
        raise NotOffered(ask_refusal("too_many", why))


def room(most: int, counts: Sequence[RequestCounts]) -> int:
    """How many more requests a node may make for one audience, if its task may have `most`; less than 1 is none.

    `counts` are those of the path to this node, the root first.
    """
    root = counts[0]
    of_all, of_audience = most, _half(most - root.of_all + root.of_audience)
    for parent, own in pairwise(counts):
        of_all = _half(of_all - parent.of_all + own.of_all)
        of_audience = min(
            _half(of_audience - parent.of_audience + own.of_audience),
            _half(of_all - own.of_all + own.of_audience),
        )
    return of_audience - counts[-1].of_audience


def counts_among(requests: Iterable[RequestRecord], path: Sequence[str], audience: str) -> list[RequestCounts]:
    """For each node (base64url) of a path, how many of these requests count there, and how many for the audience."""
    paths = [(frozenset(request.path), request.audience == audience) for request in requests]
    return [
        RequestCounts(
            sum(node in nodes for nodes, _ in paths),
            sum(node in nodes for nodes, is_its in paths if is_its),
        )
        for node in path
    ]


def _half(left: int) -> int:
    return max(0, (left + 1) // 2)
