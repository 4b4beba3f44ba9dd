"""What an agent takes out of its environment."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.crypto.agent_key import AgentKey
from capx.errors import ConfigurationProblem
from capx.intents.principal_key import PrincipalKey
from tests.server.conftest import Served, new_home, serving

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


# The key.

ACTS = """
from capx import Agent, CapxError
try:
    with Agent.from_env() as agent:
        print(agent.status().state, agent.bundle.key)
        agent.complete()
except CapxError as error:
    print(type(error).__name__, error)
"""


class Worker:
    """An agent as a process of its own, whose bundle is bound to a key, at an authority that is served."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.key = AgentKey.generate("worker")
        self.key_file, self.token_file = folder / "worker.key", folder / "worker.token"
        self.key.save(self.key_file)
        with Authority.open_home(served.home) as authority:
            authority.open(allow=["crm.read"], agent_key=self.key.public).bundle.save(self.token_file)
        self.url = served.url

    def says(self, key_file: Path | None) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CAPX_")}
        named = {} if key_file is None else {"CAPX_AGENT_KEY_FILE": str(key_file)}
        done = subprocess.run(
            [sys.executable, "-c", ACTS],
            env={**kept, "CAPX_TOKEN_FILE": str(self.token_file), "CAPX_AUTHORITY_URL": self.url, **named},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert self.key_file.read_text().split()[-1] not in done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def serving_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(new_home(tmp_path_factory.mktemp("served"))) as found:
        yield found


@pytest.fixture
def worker(serving_authority: Served, tmp_path: Path) -> Worker:
    return Worker(serving_authority, tmp_path)


def test_an_agent_acts_with_the_key_in_its_file(worker: Worker) -> None:
    said = worker.says(worker.key_file)
    assert said == f"active AgentKey('worker', public='{worker.key.public}')\n"
    assert "Denied" in worker.says(worker.key_file)


def test_a_stolen_bundle_is_refused_without_the_key_file(worker: Worker) -> None:
    assert worker.says(None) == (
        f"ConfigurationProblem the bundle is bound to the key {worker.key.public}, and this process has no key: set "
        "CAPX_AGENT_KEY_FILE to the file of that key\n"
    )


def test_the_file_of_another_key_is_refused(worker: Worker, tmp_path: Path) -> None:
    thief = AgentKey.generate("thief")
    thief.save(tmp_path / "thief.key")
    said = worker.says(tmp_path / "thief.key")
    assert said.startswith(f"ConfigurationProblem the bundle is bound to the key {worker.key.public}, and ")
    assert f"thief.key, which CAPX_AGENT_KEY_FILE names, holds the key {thief.public}" in said


def test_a_key_file_that_others_may_read_is_refused(worker: Worker) -> None:
    worker.key_file.chmod(0o644)
    said = worker.says(worker.key_file)
    assert said.startswith("ConfigurationProblem CAPX_AGENT_KEY_FILE: ")
    assert f"may be read or changed by others: chmod 600 {worker.key_file}" in said


def test_the_file_of_a_person_is_no_file_of_an_agent(worker: Worker, tmp_path: Path) -> None:
    PrincipalKey.generate("ana").save(tmp_path / "ana.key")
    said = worker.says(tmp_path / "ana.key")
    assert said == (
        f"ConfigurationProblem CAPX_AGENT_KEY_FILE: {tmp_path}/ana.key, line 1: this is the key of a person. "
        "An agent needs its own: capx agent-key new makes one\n"
    )


def test_a_key_for_a_bundle_that_needs_none_is_refused(
    task: OpenedTask, environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    AgentKey.generate("worker").save(tmp_path / "worker.key")
    environ.setenv("CAPX_TOKEN", task.bundle.text)
    environ.setenv("CAPX_AGENT_KEY_FILE", str(tmp_path / "worker.key"))
    with pytest.raises(ConfigurationProblem, match=r"bound to no key.* or unset CAPX_AGENT_KEY_FILE"):
        Agent.from_env()
    assert not {"CAPX_TOKEN", "CAPX_AGENT_KEY_FILE"} & set(os.environ)
    assert Agent.from_env().bundle == task.bundle


def test_who_lacked_the_key_names_its_file_and_tries_again(
    lab: Authority, environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = AgentKey.generate("worker")
    key.save(tmp_path / "worker.key")
    bundle = lab.open(allow=["crm.read"], agent_key=key.public).bundle
    environ.setenv("CAPX_TOKEN", bundle.text)
    for _ in range(2):
        with pytest.raises(ConfigurationProblem, match="this process has no key: set CAPX_AGENT_KEY_FILE"):
            Agent.from_env()
        assert "CAPX_TOKEN" not in os.environ
    environ.setenv("CAPX_AGENT_KEY_FILE", str(tmp_path / "worker.key"))
    agent = Agent.from_env()
    assert (agent.bundle, agent.key is not None) == (bundle, True)
    with pytest.raises(ConfigurationProblem, match="already taken its bundle"):
        Agent.from_env()


def test_after_a_failure_another_bundle_is_taken(task: OpenedTask, environ: pytest.MonkeyPatch) -> None:
    environ.setenv("CAPX_TOKEN_FILE", "/nowhere/at/all")
    with pytest.raises(ConfigurationProblem, match="cannot be read"):
        Agent.from_env()
    environ.setenv("CAPX_TOKEN", task.bundle.text)
    assert Agent.from_env().bundle == task.bundle
