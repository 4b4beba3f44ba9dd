"""A token goes into a private file, as a whole or not at all, and then nowhere else."""

import json
import os
import signal
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from capx.authority.authority import Authority
from capx.tokens.bundle import Bundle
from capx_cli.failure import Unusable
from capx_cli.token_output import Output, output_options
from tests.cli.conftest import Shell
from tests.labs.commands import COMMAND
from tests.labs.office import Office
from tests.labs.small_disk import fill, mount, small_disk

PRESENTED = ("present", "--action", "crm.read")
COMMANDS = [
    ("task", "open", "--allow", "crm.read"),
    ("mint", "last", "--allow", "tickets.read"),
    ("delegate", "--to", "reader"),
    ("attenuate", "--expires", "5m"),
    PRESENTED,
    (*PRESENTED, "--header"),
    ("export", "--audience", "crm"),
]


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_token_goes_into_a_private_file_and_nowhere_else(
    home: Shell, task: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    shown, file = home(*command, token=task), tmp_path / "file"
    before = os.umask(0)
    try:
        said = home(*command, "--out", str(file), token=task)
    finally:
        os.umask(before)
    assert (said.out, file.stat().st_mode & 0o777) == ("", 0o600)
    assert f"wrote {file}: a secret\n" in said.err
    # The ids of what is new differ; what people read beside the token is the same.
    assert len(said.err.splitlines()) == len(shown.err.splitlines()) + 1
    assert file.read_text()[:15] == shown.out[:15]
    assert "capx1_" not in said.err

    assert (
        f"{file} is there already: choose another name, or give --replace"
        in home(*command, "--out", str(file), token=task, code=3).err
    )
    again = home(*command, "--out", str(file), "--replace", "--json", token=task)
    assert (again.err, "capx1_" in again.out, again.json["wrote"]) == ("", False, str(file))
    assert {"audience", "effective"} <= again.json["tokens"][0].keys()
    assert file.read_text().strip() not in again.out
    assert names(tmp_path) == ["file", "home"]


def test_json_tells_of_a_new_token_what_people_are_told(home: Shell, task: str, tmp_path: Path) -> None:
    out = ("--json", "--out", str(tmp_path / "x"), "--replace")
    opened = home("task", "open", "--allow", "crm.read", *out).json
    assert (opened["principal"], opened["intent"]) == (None, None)
    assert opened["task"] == home("task", "list", "--json").json[-1]["id"]
    child = home("delegate", "--to", "reader", *out, token=task).json
    assert [one["hops"] for one in child["tokens"]] == [["reader"]] * 2
    assert child["node"] == home("inspect", "--json", "--token-file", str(tmp_path / "x")).json["tokens"][0]["node"]
    presented = home("present", "--action", "crm.write", *out, token=task).json
    assert presented["tokens"][0]["kind"] == "presentation"
    assert "allows only crm.read" in presented["will_be_denied"]
    assert home(*PRESENTED, *out, token=task).json["will_be_denied"] is None
    exported = home("export", *out, token=task).json
    assert (exported["format"], len(exported["tokens"])) == ("v2", 3)
    imported = home("import", *out[:2], str(tmp_path / "y"), "--token-file", str(tmp_path / "x")).json
    assert (imported["verified"], imported["task"]) == (False, child["task"])
    assert Bundle.load(tmp_path / "y") == Bundle.parse(task)


def test_a_dash_is_standard_output_and_no_file(home: Shell, task: str, tmp_path: Path) -> None:
    for command in (*COMMANDS, ("keys", "export", "crm")):
        shown = home(*command, "--out", "-", token=task)
        assert shown.out
        assert "wrote" not in shown.err
        for option in ("--replace", *(() if command[0] == "keys" else ("--json",))):
            assert f"{option} needs --out FILE" in home(*command, "--out", "-", option, token=task, code=2).err
    assert names(tmp_path) == ["home"]
    assert not Path("-").exists()


def test_what_cannot_be_written_is_refused_before_anything(home: Shell, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for out, code, says in (
        (("--out", str(tmp_path / "folder")), 3, "is there already"),
        (("--out", str(tmp_path / "folder"), "--replace"), 3, "is not a regular file"),
        (("--out", str(tmp_path / "pipe"), "--replace"), 3, "is not a regular file"),
        (("--out", str(tmp_path / "link"), "--replace"), 3, "is not a regular file"),
        (("--out", str(tmp_path / "none" / "x")), 3, f"there is no folder {tmp_path / 'none'}"),
        (("--replace",), 2, "--replace needs --out FILE"),
        (("--json",), 2, "--json needs --out FILE"),
    ):
        assert says in home("task", "open", "--allow", "crm.read", *out, code=code).err
    assert home("task", "list", "--json").json == []


def test_a_token_is_widened_in_its_own_file(capx: Shell, office: Office, tmp_path: Path) -> None:
    file = tmp_path / "agent.token"
    with Authority.open_home(office.home) as authority:
        authority.open(office.signed(authority)).bundle.save(file)
    asked = ("ask", "--token-file", str(file), "--out", str(file), "--replace", "--json")
    granted = capx(*asked, "warehouse.stock.read").json
    assert (granted["answer"], [one["audience"] for one in granted["tokens"]]) == ("granted", ["warehouse"])
    assert "warehouse" in Bundle.load(file).audiences
    before = file.read_bytes()
    refused = capx(*asked, "moon.land", code=1).json
    assert (refused["answer"], refused["wrote"], len(refused["reasons"])) == ("refused", None, 1)
    assert refused["reasons"][0]["sentence"]
    pending = capx(*asked, "billing.refund", "--with", "ticket=T-1", "--with", "amount:=90", code=1).json
    assert (pending["answer"], pending["wrote"]) == ("pending", None)
    assert pending["until"].endswith("Z")
    assert file.read_bytes() == before


def test_a_full_disk_keeps_the_old_token(home: Shell, task: str, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        old, new = disk / "old.token", disk / "new.token"
        home("attenuate", "--expires", "5m", "--out", str(old), token=task)
        before = old.read_bytes()
        fill(disk)
        for file in (old, new):
            narrowed = ("attenuate", "--expires", "5m", "--replace", "--out", str(file))
            assert f"cannot write {file}: No space left" in home(*narrowed, token=task, code=3).err
        assert (names(disk), old.read_bytes()) == (["filler", "old.token"], before)
        opening = home("task", "open", "--allow", "crm.read", "--out", str(new), code=3)
        opened = home("task", "list", "--json").json[-1]
        assert f"the token cannot be written: task {opened['id']} was withdrawn" in opening.err
        assert opened["state"] == "withdrawn"


INTERRUPTED = """
import os, sys
from capx_cli.main import main

sync = os.fsync

def interrupt(handle):
    sync(handle)
    if sys._getframe(1).f_code.co_name == "_write":
        os.kill(os.getpid(), signum)

os.fsync = interrupt
main()
"""


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_while_writing_keeps_the_old_token(home: Shell, tmp_path: Path, signum: int, code: int) -> None:
    file = tmp_path / "agent.token"
    home("task", "open", "--allow", "crm.read", "--out", str(file))
    before = file.read_bytes()
    # The signal comes at the worst moment: when the draft is written, and has no name yet.
    interrupted = (COMMAND[0], "-c", f"signum = {int(signum)}{INTERRUPTED}")
    done = subprocess.run(
        (*interrupted, "task", "open", "--allow", "crm.read", "--out", str(file), "--replace"),
        env=home.unmeasured,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, file.read_bytes()) == (code, "", before)
    assert names(tmp_path) == ["agent.token", "home"]
    assert [each["state"] for each in home("task", "list", "--json").json] == ["active", "withdrawn"]
    assert "was withdrawn\n" in done.stderr


SECRET = "capx1_secret"


def run(*args: str, told: bool = False) -> Result:
    """Run, in this process, a command that makes a token; SECRET is that token. It has lines to say if `told`."""

    @click.command()
    @click.argument("name")
    @output_options
    def made(name: str, output: Output) -> None:
        """Make a token."""
        output.write(SECRET, lambda: {"name": name}, ["made for", (name, "green")] if told else [])

    return CliRunner().invoke(made, ["Ada", *args], standalone_mode=False)


def test_without_a_file_the_token_alone_is_written() -> None:
    done = run()
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{SECRET}\n", "")


def test_a_file_gets_the_token_and_people_its_name(tmp_path: Path) -> None:
    file = tmp_path / "token"
    done = run("--out", str(file))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"wrote {file}: a secret\n")
    assert (file.read_text(), file.stat().st_mode & 0o777) == (f"{SECRET}\n", 0o600)


def test_people_are_told_the_lines_after_the_place(tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert run("--out", str(file), told=True).stderr == f"wrote {file}: a secret\nmade for\nAda\n"
    done = run("--out", str(file), "--replace", "--json", told=True)
    assert (json.loads(done.stdout), done.stderr) == ({"wrote": str(file), "name": "Ada"}, "")


def test_json_says_where_the_token_is_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "token"
    done = run("--out", str(file), "--json")
    assert (done.exit_code, json.loads(done.stdout), done.stderr) == (0, {"wrote": str(file), "name": "Ada"}, "")
    assert file.read_text() == f"{SECRET}\n"


def test_a_file_is_replaced_only_on_demand(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    done = run("--out", str(file))
    assert isinstance(done.exception, Unusable)
    assert str(done.exception) == f"{file} is there already: choose another name, or give --replace"
    assert file.read_text() == "old"
    assert run("--out", str(file), "--replace").exit_code == 0
    assert file.read_text() == f"{SECRET}\n"


@pytest.mark.parametrize("option", ["--replace", "--json"])
def test_an_option_about_the_file_needs_the_file(option: str) -> None:
    done = run(option)
    assert isinstance(done.exception, click.UsageError)
    assert (str(done.exception), done.stdout) == (f"{option} needs --out FILE", "")


@pytest.mark.parametrize("replace", [(), ("--replace",)])
def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, replace: tuple[str, ...]) -> None:
    done = run("--out", str(tmp_path / "none" / "token"), *replace)
    assert isinstance(done.exception, Unusable)
    assert str(done.exception) == f"there is no folder {tmp_path / 'none'}: make it first, or choose another name"
    assert done.stdout == ""
    (tmp_path / "link").symlink_to("nowhere")
    assert isinstance(run("--out", str(tmp_path / "link"), *replace).exception, Unusable)
    assert names(tmp_path) == ["link"]


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path), "--replace")
    assert isinstance(done.exception, Unusable)
    assert str(done.exception) == f"{tmp_path} is not a regular file: choose another name"


def test_a_disk_that_is_full_is_an_error_that_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        fill(disk)
        done = run("--out", str(disk / "token"))
        assert isinstance(done.exception, Unusable)
        assert str(done.exception) == f"cannot write {disk / 'token'}: No space left on device"


def test_a_folder_that_may_not_be_changed_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        assert mount("-o", "remount,ro", disk)
        done = run("--out", str(disk / "token"))
        assert isinstance(done.exception, Unusable)
        assert str(done.exception) == f"cannot write to the folder {disk}: choose another one"


def test_the_help_names_each_option_and_the_argument() -> None:
    shown = " ".join(run("--help").stdout.split())
    assert shown.startswith("Usage: made [OPTIONS] NAME Make a token.")
    assert "--out FILE Write the token to a new file that only you may read, not to standard output (-)." in shown
    assert "--replace Replace FILE as a whole if it exists." in shown
    assert "--json With --out: write all but the token as JSON." in shown
