"""What a shell offers while somebody types: what there is, quickly, and never an error."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.verify.ask import Granted, Pending
from capx_cli.main import COMMANDS
from tests.labs.office import Office


def offered(shell: Any, line: str, **env: str) -> list[str]:
    """The words that bash is offered at the end of a line."""
    words = line.split(" ")
    said = shell(_CAPX_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), **env)
    assert said.err == ""
    return [each.partition(",")[2] for each in said.out.splitlines() if each]


def test_commands_subcommands_and_options_are_offered(capx: Any) -> None:
    assert offered(capx, "capx ") == list(COMMANDS)
    assert offered(capx, "capx re") == ["revoke", "requests"]
    assert offered(capx, "capx keys ") == ["export", "list", "jwks", "add", "activate", "retire"]
    assert "--denied" in offered(capx, "capx find --")
    assert "--version" in offered(capx, "capx --")
    assert offered(capx, "capx find --reason task_") == ["task_completed", "task_withdrawn", "task_expired"]


def test_to_complete_a_command_loads_no_other_nor_capx_nor_rich(capx: Any) -> None:
    script = (
        "import os, sys; from capx_cli.main import run\n"
        "os.environ.update(_CAPX_COMPLETE='bash_complete', COMP_WORDS='capx ', COMP_CWORD='1')\n"
        "try: run([])\n"
        "except SystemExit: pass\n"
        "found = [m for m in sys.modules if m in {'capx', 'msgspec', 'rich'} or m.startswith('capx_cli.commands.')]\n"
        "sys.exit(','.join(found) or 0)"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ids_of_the_home_are_offered(home: Any, tmp_path: Path) -> None:
    tokens = [home("task", "open", "--allow", "crm.read", "--allow", "slides.write").token for _ in "12"]
    ids = [task["id"] for task in home("task", "list", "--json").json]
    for command in ("task show", "task complete", "graph", "mint", "revoke", "find --task"):
        assert offered(home, f"capx {command} ") == ["last", *reversed(ids)]
    assert offered(home, f"capx graph {ids[0][:6]}") == ids[:1] or ids[0].startswith("-")
    kid = home("keys", "add").out.strip()
    kids = offered(home, "capx keys retire ")
    assert kids[-1] == kid
    assert len(kids) == 2
    assert offered(home, "capx keys export ") == ["authority", "slides", "crm"]
    decision = home.decide(tokens[0].split(",")[0], "crm.write")
    assert offered(home, "capx why ") == ["last", decision.id]
    (tmp_path / "token").write_text(tokens[0])
    (tmp_path / "token").chmod(0o600)
    named = {"CAPX_TOKEN_FILE": str(tmp_path / "token")}
    assert offered(home, "capx present --audience ", **named) == ["crm", "slides", "authority"]
    assert offered(home, "capx verify --token-file " + str(tmp_path / "token") + " --audience ") == [
        "crm",
        "slides",
        "authority",
    ]


def test_what_waits_for_a_person_is_offered_the_newest_first(capx: Any, tmp_path: Path) -> None:
    office = Office(tmp_path)
    with Authority.open_home(office.home) as authority:
        bundle = authority.open(office.signed(authority)).bundle
        waiting = [authority.ask(bundle, "billing.refund", args={"n": n}) for n in range(2)]
        assert isinstance(authority.ask(bundle, "warehouse.read"), Granted)
    ids = [answer.request for answer in waiting if isinstance(answer, Pending)]
    assert len(ids) == 2
    for command in ("show", "approve", "deny"):
        assert offered(capx, f"capx requests {command} ") == ["last", *reversed(ids)]


def test_the_keys_of_the_home_are_not_for_another_authority(home: Any, tmp_path: Path) -> None:
    assert len(offered(home, "capx revoke --kid ")) == 1
    elsewhere = f"unix:{tmp_path}/nobody.sock"
    assert offered(home, "capx revoke --kid ", CAPX_AUTHORITY=elsewhere) == []
    assert offered(home, f"capx revoke --authority {elsewhere} --kid ") == []
    home("task", "open", "--allow", "crm.read")
    assert len(offered(home, "capx graph ")) == 2
    assert offered(home, f"capx graph --authority {elsewhere} ") == []


LINES = ("capx graph ", "capx keys retire ", "capx why ", "capx keys export ", "capx verify --audience ")


def test_where_there_is_nothing_nothing_is_said(capx: Any, tmp_path: Path) -> None:
    for line in LINES:
        assert offered(capx, line) in ([], ["last"])
    assert not capx.home.exists()
    capx("init")
    (capx.home / "capx.db").write_bytes(b"not a database" * 100)
    (capx.home / "root.keys").write_text("not keys")
    for line in LINES:
        assert offered(capx, line, CAPX_TOKEN_FILE=str(tmp_path)) in ([], ["last"])


@pytest.mark.parametrize(
    "env", [{"COMP_WORDS": "capx '", "COMP_CWORD": "1"}, {"COMP_WORDS": "capx ", "COMP_CWORD": "x"}, {}]
)
def test_nonsense_from_a_shell_is_answered_with_silence(capx: Any, env: dict[str, str]) -> None:
    import os
    import sys

    for asked in ("bash_complete", "zsh_complete", "fish_complete", "bash", "nonsense_complete", ""):
        done = subprocess.run(
            (sys.executable, "-m", "capx_cli.main", *(() if asked else ("--version",))),
            env={**os.environ, **capx.env, "_CAPX_COMPLETE": asked, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_takes_what_shell_setup_prints(capx: Any, tmp_path: Path) -> None:
    import sys

    script = (
        'eval "$(capx shell-setup bash)"\n'
        "COMP_WORDS=(capx task com) COMP_CWORD=2\n"
        "_capx_completion capx com task\n"
        'echo "${COMPREPLY[@]}"'
    )
    (tmp_path / "capx").write_text(f'#!/bin/sh\nexec {sys.executable} -m capx_cli.main "$@"\n')
    (tmp_path / "capx").chmod(0o700)
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**capx.env, "PATH": f"{tmp_path}:{capx.env['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("complete\n", "")
