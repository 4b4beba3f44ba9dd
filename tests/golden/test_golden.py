"""What others rely on is what it was. `python -m tests.golden` writes the files anew, where a change is meant."""

import copy
import subprocess
import sys
from typing import Any

import pytest

from tests.golden import openapi
from tests.golden.capture import HERE, capture
from tests.labs.commits import CHECKOUT

FILES = sorted(path.name for path in HERE.glob("*.txt"))
MEANT = "if it is meant: python -m tests.golden"
DIFFERS = "python -m tests.golden.openapi HEAD prints how the documents differ"


@pytest.fixture(scope="module")
def captured() -> dict[str, str]:
    return capture()


@pytest.mark.timeout(400)  # the first that asks runs a session of some hundred processes
def test_every_file_is_captured(captured: dict[str, str]) -> None:
    assert sorted(captured) == FILES


@pytest.mark.parametrize("name", FILES)
def test_what_others_rely_on_is_what_it_was(captured: dict[str, str], name: str) -> None:
    shown = captured[name].splitlines()
    told = f"{MEANT}; {DIFFERS}" if name.startswith("openapi.") else MEANT
    assert shown == (HERE / name).read_text("utf-8").splitlines(), told


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return openapi.documents(CHECKOUT, tmp_path_factory.mktemp("documents") / "home")


@pytest.mark.parametrize("face", openapi.FACES)
def test_a_served_document_has_the_operations_of_the_session(documents: dict[str, Any], face: str) -> None:
    assert openapi.operations(documents[face]) == (HERE / f"openapi.{face}.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("schema", "member", "asks", "answers"),
    [
        ("RevokeBelow", "hops", {"/agent/revoke"}, set[str]()),
        ("Stated", "statement", set[str](), {"/agent/statement"}),
        # Within another one, and that in an array.
        ("Killed", "key", set[str](), {"/agent/revoke", "/people/tasks/{id}/revoke"}),
    ],
)
def test_a_changed_schema_changes_the_lines_of_its_operations(
    documents: dict[str, Any], schema: str, member: str, asks: set[str], answers: set[str]
) -> None:
    changed = copy.deepcopy(documents["everybody"])
    changed["components"]["schemas"][schema]["properties"][member]["description"] = "changed"
    lines = [openapi.operations(each).splitlines() for each in (documents["everybody"], changed)]
    differing = [(one.split(), other.split()) for one, other in zip(*lines, strict=True) if one != other]
    assert {one[1] for one, other in differing if one[4] != other[4]} == asks
    assert {one[1] for one, other in differing if one[6] != other[6]} == answers


def test_an_unknown_commit_is_told() -> None:
    command = (sys.executable, "-m", "tests.golden.openapi", "no-such-commit")
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no-such-commit" in done.stderr
