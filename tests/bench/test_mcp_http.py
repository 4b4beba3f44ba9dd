"""The benchmark of the guard of MCP servers runs, and says for its bar whether it is reached."""

import json

import pytest

from tests.bench import mcp_http
from tests.bench.mcp_http import BAR, Figure


def test_it_measures_both_servers(capsys: pytest.CaptureFixture[str]) -> None:
    mcp_http.main(["--calls", "4", "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert [(one["way"], one["bar"]) for one in figures] == [("unguarded", None), ("guarded, and presented", BAR)]
    assert all(one["p50"] > 0 for one in figures)


def test_a_bar_is_a_ratio() -> None:
    assert Figure("guarded", 3, 1.3, BAR).reached is True
    assert Figure("guarded", 3, 1.31, BAR).reached is False
    assert Figure("guarded", 3, 9).reached is None
