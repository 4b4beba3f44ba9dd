"""The benchmark of evidence runs, and says for each bar whether it is reached."""

import json

import pytest

from tests.bench import evidence
from tests.bench.evidence import Figure


def test_it_measures_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    evidence.main(["--events", "3000", "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert len(figures) == 11
    assert all(one["value"] >= 0 for one in figures)
    assert [one["what"] for one in figures if one["bar"] is not None] == [
        "entries of a ledger written",
        "proof of 1000 calls, verified",
        "checkpoint of 3,000 events, anew",
        "checkpoint, going on",
        "path in 3,000 events",
    ]


def test_a_bar_is_reached_in_its_direction() -> None:
    assert Figure("a", 3, "s", 2).reached is False
    assert Figure("a", 2, "s", 2).reached is True
    assert Figure("a", 3, "/s", 2, more_is_better=True).reached is True
    assert Figure("a", 1, "/s", 2, more_is_better=True).reached is False
    assert Figure("a", 1, "s").reached is None
