"""The benchmark of the proxies of MCP runs, and says for its bar whether it is reached."""

import json

import pytest

from tests.bench import mcp
from tests.bench.mcp import BAR, Figure


def test_it_measures_every_way_once(capsys: pytest.CaptureFixture[str]) -> None:
    mcp.main(["--calls", "4", "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert [(one["way"], one["bar"]) for one in figures] == [
        ("direct", None),
        ("present", None),
        ("guard, in memory", None),
        ("guard, on a store", None),
        ("both, on a store", BAR),
    ]
    assert all(0 < one["p50"] <= one["p95"] for one in figures)


def test_a_bar_is_reached_by_what_is_added() -> None:
    assert Figure("both", 3, 5, 2, BAR).reached is True
    assert Figure("both", 3, 5, 2.1, BAR).reached is False
    assert Figure("both", 3, 5, 9).reached is None
