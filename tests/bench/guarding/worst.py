"""Tokens whose hops use all of the work that one call may be, each in another way."""

import random
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from capx import RootKey
from capx.tokens.capability import Capability, mint
from capx.tokens.lineage import unverified_lineage
from capx_caveats import (
    JSON,
    Call,
    Caveat,
    Expires,
    Root,
    Task,
    UntilCompleted,
    action,
    allow,
    any_of,
    anything,
    argv,
    cidr,
    contains,
    each,
    fields,
    glob,
    host,
    length,
    one_of,
    regex,
    url,
    where,
    within,
)
from tests.bench.workload import delegated

AUDIENCE: Final = "crm"
ACTION: Final = "crm.x"
HOPS: Final = 16
"""The hops that are appended to what was minted."""

_LARGE: Final = "[ab]*a[ab]{123}"
"""A pattern for which RE2 would need 2¹²³ states, so it looks at each instruction for each character."""


class Worst:
    """One way to use the budget: what each hop appends, and the arguments of a call of size n."""

    def __init__(self, name: str, hop: Callable[[int], list[Caveat]], args: Callable[[int], dict[str, JSON]]) -> None:
        self.name = name
        self._hop = hop
        self._args = args

    def capability(self, root: RootKey, hops: int = HOPS) -> Capability:
        """Return a capability with this restriction in each of so many hops, or in as many as fit."""
        capability = mint(root.audience_key(AUDIENCE), _authority(), now=int(time.time()))
        return delegated(capability, hops, [ACTION], self._hop)

    def largest(self, capability: Capability) -> dict[str, JSON]:
        """Return the arguments of the largest call that is judged at all."""
        lineage = unverified_lineage(capability)
        # No more than fit into the body of a request.
        least, most = 1, 50_000
        while least < most:
            middle = (least + most + 1) // 2
            if lineage.is_too_much_work(Call(ACTION, self._args(middle), "Acme")):
                most = middle - 1
            else:
                least = middle
        return self._args(least)


def _authority() -> Iterable[Caveat]:
    until = int(time.time()) + 36_000
    return [Task("T1"), Root("R1"), UntilCompleted("T1"), Expires(until), allow(ACTION)]


def _listed(of: Callable[[int], JSON]) -> Callable[[int], dict[str, JSON]]:
    """Arrays of so many elements, but of no more than are judged."""
    return lambda size: {"data": [of(at) for at in range(min(size, 1000))]}


def _judged(constraint: Callable[[int], Any]) -> Callable[[int], list[Caveat]]:
    return lambda at: [where("args.data", constraint(at))]


def _each(constraint: Callable[[int], Any]) -> Callable[[int], list[Caveat]]:
    """Judge all elements of an array in vain: a no would end it at the first one."""
    return _judged(lambda at: each(any_of(constraint(at), anything())))


def _names(at: int) -> list[Caveat]:
    pairs: dict[str, Any] = {"*": one_of(0, 1, 2, 3, 4, 5, 6, 7), f"other{at}": anything()}
    return [allow(action(ACTION, args=pairs))]


def _text(size: int) -> str:
    """Letters a and b without a pattern."""
    return f"{random.Random(0).getrandbits(4000):b}"[:size].translate({48: "a", 49: "b"})


WORST: Final = (
    Worst("regex", _judged(lambda _: regex(_LARGE)), lambda size: {"data": _text(min(size, 4000))}),
    Worst("each regex", _each(lambda _: regex("[a-z]*[0-9]+x?")), _listed(lambda at: f"ab{at}")),
    Worst(
        "each of many regexes",
        _each(lambda hop: any_of(*(regex(f"{hop}x{at}[a-z]") for at in range(24)))),
        _listed(lambda at: f"x{at}"),
    ),
    Worst(
        "each glob",
        _each(lambda hop: any_of(*(glob(f"{hop}*{at}") for at in range(8)))),
        _listed(lambda at: f"x{at}"),
    ),
    Worst("each in", _each(lambda _: one_of(*range(100, 160))), _listed(lambda at: at % 100)),
    Worst("contains", _judged(lambda _: contains(*range(60))), _listed(lambda at: 59 - at % 60)),
    Worst("names with *", _names, lambda size: {f"m{at}": 7 for at in range(size)}),
    Worst(
        "fields with *",
        _judged(lambda _: fields({"*": one_of(*range(20))})),
        lambda size: {"data": {f"m{at}": 19 for at in range(min(size, 1000))}},
    ),
    Worst("each length", _each(lambda _: length(3, 5)), _listed(lambda _: "a")),
    Worst(
        "each cidr",
        _each(lambda hop: cidr(*(f"10.{hop}.{at}.0/24" for at in range(30)))),
        _listed(lambda at: f"11.0.{at // 250}.{at % 250}"),
    ),
    Worst(
        "each cidr, IPv6",
        _each(lambda hop: cidr(*(f"2400:{hop + 1:x}:{at + 1:x}::/48" for at in range(24)))),
        _listed(lambda at: f"2600::{at + 1:x}"),
    ),
    Worst(
        "each host",
        _each(lambda hop: host(*(f"*.a{at}.h{hop}.example" for at in range(30)))),
        _listed(lambda at: f"x{at}.b.example"),
    ),
    Worst(
        "each url",
        _each(lambda hop: url(*(f"*.a{at}.h{hop}.example" for at in range(24)))),
        _listed(lambda at: f"https://x{at}.b.example/"),
    ),
    Worst(
        "each url, path",
        _each(lambda hop: url("*.example", path="/a" * 200 + f"/{hop}")),
        _listed(lambda at: f"https://x{at}.b.example/"),
    ),
    Worst("each within", _each(lambda _: within("/a" * 300)), _listed(lambda _: "/a")),
    Worst("each argv", _each(lambda hop: argv(*(f"p{at}{hop}" for at in range(30)))), _listed(lambda _: ["ls"])),
)
"""All ways that are measured."""
FREE: Final = Worst("free argument", lambda _: [], lambda _: {"data": 1})
"""Hops that restrict no argument."""
