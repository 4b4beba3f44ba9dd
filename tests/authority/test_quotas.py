"""What a branch may hold is computed by the law, and whatever one branch does leaves others their part."""

import random
from collections.abc import Sequence

import pytest

from capx.authority.requests.quotas import MOST_MADE, MOST_WAITING, counts_among, room
from capx.crypto.base64url import b64u
from capx.store.records import RequestCounts, RequestRecord
from tests.labs.counts import repeated
from tests.labs.lab import NOW

Path = tuple[str, ...]
Made = list[tuple[Path, str]]
"""The requests of a task: the path of each, and its audience."""

CRM, MAIL, ROGUE = "crm", "mail", "rogue"
ROOT, LEAD, OTHER, THIRD = (("root",), ("root", "lead"), ("root", "other"), ("root", "third"))


def counts(made: Made, path: Path, audience: str) -> list[RequestCounts]:
    """What counts at each node of a path."""
    counted: list[RequestCounts] = []
    for depth in range(1, len(path) + 1):
        through = [at for asker, at in made if asker[:depth] == path[:depth]]
        counted.append(RequestCounts(len(through), through.count(audience)))
    return counted


def left(made: Made, path: Path, audience: str, most: int) -> int:
    """How many more requests this node may make."""
    return room(most, counts(made, path, audience))


def fill(made: Made, paths: Sequence[Path], audiences: Sequence[str], most: int, chance: random.Random) -> None:
    """Make requests at these nodes until none of them may make another."""
    asking = [(path, audience) for path in paths for audience in audiences]
    while asking:
        one = chance.choice(asking)
        if left(made, *one, most) < 1:
            asking.remove(one)
        else:
            made.append(one)


# The law again, told plainly: by sums over all requests, from the top of the path on.


def half(number: int) -> int:
    return max(0, -(-number // 2))


def may_hold(made: Made, path: Path, most: int) -> int:
    if len(path) == 1:
        return most
    outside = [asker for asker, _ in made if below(asker, path[:-1]) and not below(asker, path)]
    return half(may_hold(made, path[:-1], most) - len(outside))


def may_hold_for(made: Made, path: Path, audience: str, most: int) -> int:
    others = [at for asker, at in made if below(asker, path) and at != audience]
    at_the_node = half(may_hold(made, path, most) - len(others))
    if len(path) == 1:
        return at_the_node
    outside = [at for asker, at in made if below(asker, path[:-1]) and not below(asker, path) and at == audience]
    return min(at_the_node, half(may_hold_for(made, path[:-1], audience, most) - len(outside)))


def below(node: Path, above: Path) -> bool:
    return node[: len(above)] == above


def honest(chance: random.Random, most: int) -> Made:
    """Some requests that were made within the law, each held against it."""
    made: Made = []
    nodes = [ROOT, OTHER, THIRD, (*OTHER, "a"), (*THIRD, "b"), (*THIRD, "b", "c"), ("root", "fourth")]
    for _ in range(chance.randrange(most + 1)):
        path, audience = chance.choice(nodes), chance.choice([CRM, MAIL])
        free = left(made, path, audience, most)
        assert free == may_hold_for(made, path, audience, most) - counts(made, path, audience)[-1].of_audience
        if free >= 1:
            for depth in range(1, len(path) + 1):
                above = path[:depth]
                assert left(made, above, audience, most) >= 1
                assert counts(made, above, audience)[-1].of_all < may_hold(made, above, most)
            made.append((path, audience))
    return made


@pytest.fixture(params=range(repeated(400)))
def chance(request: pytest.FixtureRequest) -> random.Random:
    """A drawn world, the same for the same number."""
    return random.Random(request.param)


def test_a_branch_leaves_each_other_half_of_what_it_could_hold(chance: random.Random) -> None:
    most = chance.choice([3, 5, 8, 16, 30, 60])
    made = honest(chance, most)
    before = {path: may_hold(made, path, most) for path in (OTHER, THIRD)}
    wide = [(*LEAD, f"child-{number}") for number in range(4)]
    deep = [(*LEAD, "child-0", *(f"below-{number}" for number in range(depth))) for depth in range(1, 7)]
    fill(made, [LEAD, *wide, *deep], [CRM, MAIL, ROGUE], most, chance)
    for path, could in before.items():
        assert may_hold(made, path, most) >= could // 2


def test_an_audience_leaves_each_other_half_at_the_node(chance: random.Random) -> None:
    most = chance.choice([3, 5, 8, 16, 30, 60])
    made = honest(chance, most)
    node = chance.choice([ROOT, OTHER, (*OTHER, "a")])
    before = may_hold_for(made, node, MAIL, most)
    fill(made, [node, (*node, "x"), (*node, "y")], [ROGUE], most, chance)
    assert may_hold_for(made, node, MAIL, most) >= before // 2


def test_a_task_alone_may_hold_what_the_law_says() -> None:
    path = tuple(f"node-{depth}" for depth in range(16))
    deepest = [left([], path[: depth + 1], CRM, MOST_MADE) for depth in range(16)]
    assert deepest == [1000, 500, 250, 125, 63, 32, 16, 8, 4, 2, 1, 1, 1, 1, 1, 1]
    assert [left([], path[: depth + 1], CRM, MOST_WAITING) for depth in range(6)] == [25, 13, 7, 4, 2, 1]


@pytest.mark.parametrize("most", [1, 2, 7, 40])
def test_children_without_end_share_what_their_parent_may_hold(most: int) -> None:
    made: Made = []
    for number in range(30):
        fill(made, [(*LEAD, f"child-{number}")], [CRM, MAIL, ROGUE], most, random.Random(number))
    assert len(made) <= half(most)
    assert len(made) == counts(made, LEAD, CRM)[-1].of_all


def test_a_node_without_room_has_none_below_it() -> None:
    made: Made = []
    fill(made, [LEAD], [f"audience-{number}" for number in range(20)], 40, random.Random(0))
    assert len(made) == 20
    for depth in range(1, 300):
        assert left(made, (*LEAD, *map(str, range(depth))), "new", 40) < 1


def test_requests_are_counted_at_the_nodes_of_their_paths() -> None:
    def request(audience: str, *path: str) -> RequestRecord:
        return RequestRecord(
            id="request",
            task="task",
            audience=audience,
            action="a.b",
            args=None,
            ids=(b64u(b"i" * 16),),
            kid="k1",
            issued=NOW,
            path=path,
            labels=(),
            block="[]",
            principal="ana",
            asked=NOW,
            until=NOW,
        )

    made = [request(CRM, "r"), request(CRM, "r", "a", "b"), request(MAIL, "r", "a"), request(MAIL, "r", "c")]
    assert counts_among(made, ("r", "a", "b", "unseen"), MAIL) == [
        RequestCounts(4, 2),
        RequestCounts(2, 1),
        RequestCounts(1, 0),
        RequestCounts(0, 0),
    ]
