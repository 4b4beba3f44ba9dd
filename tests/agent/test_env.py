"""What an agent takes out of its environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from capx.agent.agent import Agent
from capx.authority.opening import OpenedTask
from capx.errors import ConfigurationProblem

# The environment.


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("CAPX_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_an_agent_takes_its_bundle_out_of_the_environment(task: OpenedTask, environ: pytest.MonkeyPatch) -> None:
    environ.setenv("CAPX_TOKEN", task.bundle.text)
    environ.setenv("CAPX_AUTHORITY_URL", "https://authority.internal:8411")
    environ.setenv("CAPX_ORIGINS", "crm=https://crm.internal, slides=https://slides.internal")
    with Agent.from_env() as agent:
        assert agent.bundle == task.bundle
        assert agent.origins == {"https://crm.internal": "crm", "https://slides.internal": "slides"}
        child = subprocess.run(
            [sys.executable, "-c", "import os; print([*os.environ])"], capture_output=True, text=True, check=True
        )
        assert "CAPX_TOKEN" not in child.stdout
        with pytest.raises(ConfigurationProblem, match="already taken its bundle out of the environment"):
            Agent.from_env()


@pytest.mark.parametrize(
    "wrong",
    [
        {"CAPX_ORIGINS": "nonsense"},
        {"CAPX_AUTHORITY_URL": "ftp://authority"},
        {"CAPX_TOKEN": "nonsense"},
        {"CAPX_TOKEN_FILE": "/nowhere/to/be/found"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_else_is_wrong_leaves_no_bundle_to_a_child(
    task: OpenedTask, environ: pytest.MonkeyPatch, wrong: dict[str, str]
) -> None:
    for name, value in ({"CAPX_TOKEN": task.bundle.text} | wrong).items():
        environ.setenv(name, value)
    with pytest.raises(ConfigurationProblem):
        Agent.from_env()
    assert os.environ.keys() & {"CAPX_TOKEN", "CAPX_TOKEN_FILE"} == set()


def test_a_token_file_is_read_if_nobody_else_may_read_it(
    task: OpenedTask, environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(task.bundle.text + "\n")
    path.chmod(0o644)
    environ.setenv("CAPX_TOKEN_FILE", str(path))
    environ.setenv("CAPX_TOKEN", "unread")
    with pytest.raises(ConfigurationProblem, match="chmod 600"):
        Agent.from_env()
    assert not {"CAPX_TOKEN_FILE", "CAPX_TOKEN"} & set(os.environ)
    path.chmod(0o600)
    environ.setenv("CAPX_TOKEN_FILE", str(path))
    assert Agent.from_env().bundle == task.bundle
    assert not {"CAPX_TOKEN_FILE", "CAPX_TOKEN"} & set(os.environ)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"CAPX_TOKEN": "capx1_x"}, "CAPX_TOKEN does not hold a bundle"),
        ({"CAPX_TOKEN": "ok", "CAPX_AUTHORITY_URL": "authority.internal"}, "CAPX_AUTHORITY_URL: .* is not an origin"),
        ({"CAPX_TOKEN": "ok", "CAPX_ORIGINS": "https://crm.internal"}, "CAPX_ORIGINS must be a list like"),
        ({"CAPX_TOKEN": "ok", "CAPX_ORIGINS": "crm=crm.internal"}, "CAPX_ORIGINS: .* is not an origin"),
        ({"CAPX_TOKEN": "ok", "CAPX_ORIGINS": "CRM=https://crm.internal"}, "is not an audience"),
        ({"CAPX_TOKEN": "ok", "CAPX_ORIGINS": "a=https://x,b=https://x"}, "gives https://x to both a and b: name one"),
        ({"CAPX_TOKEN_FILE": "/nowhere/at/all"}, "cannot be read: No such file"),
    ],
)
def test_a_broken_environment_says_why_and_holds_no_bundle(
    task: OpenedTask, environ: pytest.MonkeyPatch, variables: dict[str, str], problem: str
) -> None:
    for name, value in variables.items():
        environ.setenv(name, task.bundle.text if value == "ok" else value)
    with pytest.raises(ConfigurationProblem, match=problem) as raised:
        Agent.from_env()
    assert "capx1_" not in str(raised.value) or variables.get("CAPX_TOKEN") == "capx1_x"
    assert not {"CAPX_TOKEN_FILE", "CAPX_TOKEN"} & set(os.environ)


def test_an_environment_without_a_bundle_says_what_is_missing(environ: pytest.MonkeyPatch) -> None:
    script = "from capx import Agent\ntry:\n    Agent.from_env()\nexcept Exception as error:\n    print(error)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "this process has no bundle: set CAPX_TOKEN_FILE or CAPX_TOKEN\n"


def test_an_agent_that_knows_no_origins_says_so(task: OpenedTask) -> None:
    with pytest.raises(ConfigurationProblem, match="CAPX_ORIGINS"):
        Agent(task.bundle).http()
