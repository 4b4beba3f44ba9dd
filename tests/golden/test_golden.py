"""What others rely on is what it was. `python -m tests.golden` writes the files anew, where a change is meant."""

import pytest

from tests.golden.capture import HERE, capture


@pytest.fixture(scope="module")
def captured() -> dict[str, str]:
    return capture()


@pytest.mark.parametrize(
    "name", ["names.txt", "settings.txt", "help.txt", "session.txt", "openapi.operators.json", "openapi.everybody.json"]
)
def test_what_others_rely_on_is_what_it_was(captured: dict[str, str], name: str) -> None:
    assert captured[name].splitlines() == (HERE / name).read_text("utf-8").splitlines()
