"""What only repeats runs a tenth as often as under `make nightly`, and ten times at least."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.labs import counts


@pytest.mark.parametrize(("full", "few"), [(1, 1), (9, 9), (10, 10), (40, 10), (100, 10), (200, 20), (20_000, 2_000)])
def test_a_tenth_is_run_and_ten_at_least(monkeypatch: pytest.MonkeyPatch, full: int, few: int) -> None:
    monkeypatch.setattr(counts, "NIGHTLY", False)
    assert counts.repeated(full) == few
    cases = counts.sampled(range(full))
    assert few <= len(cases) <= 2 * few
    assert cases[0] == 0
    monkeypatch.setattr(counts, "NIGHTLY", True)
    assert counts.repeated(full) == full
    assert counts.sampled(range(full)) == list(range(full))


def test_a_night_repeats_in_full(checkout: Path) -> None:
    assert "NIGHTLY=1" in (checkout / "Makefile").read_text("utf-8")
    ask = "from tests.labs.counts import repeated; print(repeated(200))"
    said = subprocess.run(
        [sys.executable, "-c", ask], cwd=checkout, env={"NIGHTLY": "1"}, capture_output=True, text=True, check=True
    )
    assert said.stdout == "200\n"
