"""What others rely on is what it was. `python -m tests.golden` writes the files anew, where a change is meant."""

import pytest

from tests.golden.capture import HERE, capture

FILES = sorted(path.name for path in HERE.iterdir() if path.suffix in {".txt", ".json"})


@pytest.fixture(scope="module")
def captured() -> dict[str, str]:
    return capture()


@pytest.mark.timeout(400)  # the first that asks runs a session of some hundred processes
def test_every_file_is_captured(captured: dict[str, str]) -> None:
    assert sorted(captured) == FILES


@pytest.mark.parametrize("name", FILES)
def test_what_others_rely_on_is_what_it_was(captured: dict[str, str], name: str) -> None:
    shown = captured[name].splitlines()
    assert shown == (HERE / name).read_text("utf-8").splitlines(), "if it is meant: python -m tests.golden"
