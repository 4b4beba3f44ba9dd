"""Whether an adapter for an agent framework does what it must, by the rows of capx.testing.rows.

    async def run(tools, turns): ...    # a model of the framework makes these calls with these tools

    test_adapter = conformance(run)

Law: a row that a framework makes impossible is not left out. The adapter declares what happens instead, and that is
tested too.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from capx.errors import InvalidRequest
from capx.testing.pytest_library import pytest
from capx.testing.rows import ROWS
from capx.testing.stage import Adapter, NotConformant, Stage

KINDS: Final = ("sync", "async")
"""The kinds of tools: plain functions and async ones."""
_CASES: Final = tuple(f"{row}-{kind}" for row in ROWS for kind in KINDS)
_LONGEST: Final = 90
"""Seconds for one row: a run that waits for nobody ends long before."""


def conformance(run: Adapter, *, differs: Mapping[str, str] = MappingProxyType({})) -> Callable[[str], None]:
    """Return the test of an adapter, which the file of a test gives a name that pytest finds.

    pytest runs each row with plain and with async tools, as `denied-sync` and `denied-async`, each with an authority of
    its own. `differs` has the rows that a framework makes impossible: by the name of a row, or of a row and a kind of
    tools, a part of the sentence that says what happens instead. The test fails if such a row passes, or fails with
    another sentence. InvalidRequest for a row that does not exist.
    """
    for name in differs:
        if name not in ROWS and name not in _CASES:
            raise InvalidRequest(f"there is no row {name!r:.80}: write one of {', '.join(ROWS)}, or one with -sync")

    @pytest.mark.parametrize("case", _CASES)
    def test(case: str) -> None:
        instead = differs.get(case, differs.get(case.partition("-")[0]))
        try:
            asyncio.run(play(run, case))
        except NotConformant as failure:
            if instead is None or instead not in str(failure):
                raise
        else:
            if instead is not None:
                raise NotConformant(f"{case} passes: take it out of `differs`")

    return test


async def play(run: Adapter, case: str) -> None:
    """Play one row on a new stage: `case` is its name, and `sync` or `async`. NotConformant if it does not hold."""
    row, _, kind = case.partition("-")
    with Stage(run, is_async=kind == "async") as stage:
        async with asyncio.timeout(_LONGEST):
            await ROWS[row](stage)
