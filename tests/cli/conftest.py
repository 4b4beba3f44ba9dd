"""The command as a shell runs it: a process of its own, a home of its own, no terminal."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.verify.decision import Decision
from capx_caveats import (
    Call,
    budget,
)
from tests.labs.commands import COMMAND, plain_environment, run_command
from tests.labs.office import Office
from tests.labs.processes import ended_with_test
from tests.labs.spent_tokens import use


def first(text: str) -> Capability:
    """The capability that a new task has for the first audience that was named."""
    return next(iter(Bundle.parse(text)))


class Said:
    """What a command said, and how it ended."""

    def __init__(self, done: "subprocess.CompletedProcess[bytes]") -> None:
        self.code = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()

    @property
    def token(self) -> str:
        token, end = self.out.split("\n")
        assert not end
        assert token.startswith("capx1_")
        return token

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs `capx`, or another command, with a temporary home."""

    def __init__(self, folder: Path) -> None:
        self.command: tuple[str, ...] | None = None
        self.home = folder / "home"
        self.env = {**plain_environment(), "CAPX_HOME": str(self.home), "HOME": str(folder)}

    @property
    def unmeasured(self) -> dict[str, str]:
        """The environment of what is interrupted: what measures coverage may be left waiting for itself."""
        return {name: value for name, value in self.env.items() if not name.startswith("COVERAGE")}

    def __call__(self, *args: str, token: str | None = None, code: int = 0, **env: str) -> Said:
        given = None if token is None else token.encode()
        said = Said(run_command(*args, command=self.command, env={**self.env, **env}, given=given))
        assert said.code == code, (args, said.code, said.out, said.err)
        assert "Traceback" not in said.err
        return said

    def start(self, *args: str, stdin: int | None = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        """Start `capx` in an interpreter of its own, which ends with its test: for what is interrupted or not read."""
        return ended_with_test(
            subprocess.Popen(
                (*COMMAND, *args),
                env=self.unmeasured,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
        )

    def decide(self, token: str, action: str, tenant: str | None = None, **args: Any) -> Decision:
        """Present a token to a resource that records its decision in this home."""
        with Authority.open_home(self.home) as authority:
            capability = first(token)
            received = ToolCall(action, args)
            presentation = capability.present(received)
            decision = authority.verifier(capability.audience).decide(
                presentation.text, received, Call(action, args, tenant=tenant)
            )
            assert authority.flush()
        return decision


@pytest.fixture
def capx(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def home(capx: Shell) -> Shell:
    with Authority.create_home(capx.home):
        pass
    return capx


@pytest.fixture
def task(home: Any) -> str:
    """The token of a task for two audiences."""
    allowed = ("--allow", "crm.read", "--allow", "slides.write", "--allow", "slides.list")
    token: str = home("task", "open", "--tenant", "Acme", *allowed).token
    return token


@pytest.fixture
def slides(home: Any, task: str) -> str:
    """What a sub-agent got of it."""
    narrow = ("--allow", "slides.write", "--with", "deck=deck-42", "--expires", "10m", "--max-hops", "0")
    token: str = home("delegate", "--to", "slides-agent", "--audience", "slides", *narrow, token=task).token
    return token


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, capx: Shell) -> Shell:
    """A home with its store in a file, or in a database."""
    if request.param == "sqlite":
        capx("init")
    else:
        server, database = (request.getfixturevalue(f"postgres_{name}") for name in ("server", "database"))
        capx("init", "--store", server.url(database))
    return capx


@pytest.fixture
def busy(home: Any) -> Any:
    """A home in which two agents of two tenants acted."""
    for tenant in ("Acme", "Globex"):
        opened = home("task", "open", "--tenant", tenant, "--allow", "crm.read", "--allow", "crm.notes.add").token
        reader = first(opened).delegate(to="reader", allow=["crm.*"])
        home.decide(reader.text, "crm.read", tenant)
        home.decide(reader.delegate(to="helper", allow=["crm.read"]).text, "crm.notes.add", tenant)
    return home


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def spending(home: Shell) -> Bundle:
    """An agent of a task with a budget of three calls, which has used two and wanted what it may not."""
    with Authority.open_home(home.home) as authority:
        opened = authority.open(allow=["crm.read"], tenant="Acme", purpose="qbr", caveats=[budget("calls", 3)])
        held = opened.bundle.delegate(to="reader")
        for action in ("crm.read", "crm.read", "crm.export"):
            use(authority, held, action)
        assert authority.flush()
    return held
