"""Ways to call a tool of MCP, whose first is the unguarded one: all in turn, so that what disturbs one disturbs all."""

from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Final

from msgspec import Struct

from tests.bench.authority.figures import P50, P99, Figure, figure, percentile

WARM: Final = 10
"""The first calls, which do not count."""


class Way(Struct, frozen=True):
    """What makes a call, and gives the milliseconds that it took."""

    name: str
    call: Callable[[], Awaitable[float]]


async def in_turn(
    of: str,
    ways: Sequence[Way],
    calls: int,
    told: Callable[[], None],
    compared: Callable[[list[float], list[float]], tuple[str, float]],
) -> list[Figure]:
    """A figure of each way; `told` after each round of calls. `compared` names and gives what a way adds."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(WARM + calls):
        for way, taken in zip(ways, times, strict=True):
            taken.append(await way.call())
        told()
    figures: list[Figure] = []
    for way, taken in zip(ways, times, strict=True):
        mine, bare = taken[WARM:], times[0][WARM:]
        values = {P50: median(mine), P99: percentile(sorted(mine), 99)}
        if way is not ways[0]:
            name, value = compared(mine, bare)
            values[name] = value
        figures.append(figure(of, way.name, 1, values))
    return figures
