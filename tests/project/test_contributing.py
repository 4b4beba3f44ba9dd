"""What a contributor is told exists: versions, commands and hooks."""

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # it has no types; myst-parser, which makes the site, brings it
from packaging.specifiers import SpecifierSet

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "CONTRIBUTING.md").read_text("utf-8")
TARGET = re.compile(r"^([a-z][\w-]*):", re.MULTILINE)


def read_yaml(name: str) -> Any:
    return yaml.safe_load((CHECKOUT / name).read_text("utf-8"))


def hooks() -> list[dict[str, Any]]:
    (repo,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    return list(repo["hooks"])


def test_ci_runs_on_each_version_that_is_promised() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    promised = [each.rpartition(" ")[2] for each in project["classifiers"] if re.search(r":: 3\.\d+$", each)]
    job = read_yaml(".github/workflows/ci.yml")["jobs"]["ci"]
    assert job["strategy"]["matrix"]["python"] == promised
    first, last = (int(promised[at].partition(".")[2]) for at in (0, -1))
    assert promised == [f"3.{minor}" for minor in range(first, last + 1)]
    taken = SpecifierSet(project["requires-python"])
    assert [taken.contains(f"3.{minor}") for minor in (first - 1, first, last)] == [False, True, True]


def test_ci_runs_the_script_that_everybody_can_run() -> None:
    steps = read_yaml(".github/workflows/ci.yml")["jobs"]["ci"]["steps"]
    assert steps[-1] == {"run": "PYTHON=python${{ matrix.python }} .ci/run"}
    assert (CHECKOUT / ".ci" / "run").stat().st_mode & 0o100


def test_each_make_command_of_the_page_is_a_target() -> None:
    targets = set(TARGET.findall((CHECKOUT / "Makefile").read_text("utf-8")))
    named = set(re.findall(r"`make ([a-z][\w-]*)", PAGE))
    assert {"quick", "test", "check", "nightly", "mutants", "generated"} <= named
    assert named - targets == set()


def test_each_module_and_file_that_the_page_names_is_there() -> None:
    modules = set(re.findall(r"python -m ((?:tests)\.[\w.]+)", PAGE))
    assert {"tests.reference", "tests.golden"} <= modules
    assert {each for each in modules if find_spec(each) is None} == set()
    files = set(re.findall(r"`((?:capx|caveats|cli|docs|tests)/[\w./-]+)`", PAGE))
    assert len(files) > 20
    assert {each for each in files if not (CHECKOUT / each).exists()} == set()


def test_each_hook_runs_a_program_of_the_venv() -> None:
    programs = {"ruff": "ruff", "python": "python"}
    for hook in hooks():
        assert hook["language"] == "system"
        program, *words = hook["entry"].split()
        assert program.startswith(".venv/bin/")
        name = programs[Path(program).name]
        if name == "ruff":
            assert find_spec("ruff") is not None
            assert words[0] in {"check", "format"}
        else:
            assert words[0] == "-m"
            assert find_spec(words[1]) is not None
    assert [hook["id"] for hook in hooks()] == ["ruff-check", "ruff-format", "reference"]
