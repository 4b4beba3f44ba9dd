"""What a shell sees of every command: help, exit codes, how it starts and how it stops."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote
from typing import Any

import click
import pytest

from capx_cli.main import COMMANDS, SELDOM
from capx_cli.main import capx as group
from tests.labs.commands import COMMAND


def commands() -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", each) for sub, each in command.commands.items()]
    return found


def test_every_command_and_option_has_help_with_an_example() -> None:
    for name, command in commands():
        help_text = command.get_help(click.Context(command))
        assert "Example: " in help_text, name
        assert "capx " in help_text, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name != "help":
                assert parameter.help, (name, parameter.name)


def test_seldom_used_commands_stand_apart_and_last_in_the_help() -> None:
    text = group.get_help(click.Context(group, terminal_width=100))
    _, often, seldom = re.split("^(?:C|More c)ommands:$", text, flags=re.MULTILINE)
    listed = [re.findall("^  ([a-z-]+) ", part.split("\n\n")[0], re.MULTILINE) for part in (often, seldom)]
    assert listed[1] == list(SELDOM)
    assert listed[0] + listed[1] == list(COMMANDS)


def test_every_summary_stands_whole_in_80_columns() -> None:
    for name, command in commands():
        if isinstance(command, click.Group):
            _, heading, summaries = command.get_help(click.Context(command, terminal_width=80)).partition("Commands:")
            assert heading, name
            assert "..." not in summaries, name


@pytest.mark.parametrize("name", ["requests list", "requests show", "task complete", "mint", "revoke", "keys retire"])
def test_h_asks_for_help_also_of_commands_that_take_ids(capx: Any, name: str) -> None:
    said = capx(*name.split(), "-h").out
    assert said == capx(*name.split(), "--help").out
    assert "  -h, --help " in said


WRITES_FOR_PROGRAMS = {
    *("init", "call", "principal new", "principal show", "principal add", "intent new", "intent sign"),
    *("keys export", "keys add", "keys activate", "keys retire", "keys jwks", "schema", "shell-setup"),
    *("approval ask", "checkpoint request", "witness new", "witness key", "ledger new-key"),
    *("proof export", "proof extract", "proof merge", "proof trust"),
    *("mcp guard", "mcp present"),
}
"""Commands that write a key, an answer or nothing to standard output."""
MAKES_A_TOKEN = {
    *("task open", "mint", "delegate", "attenuate", "ask", "present", "export", "import"),
    *("seal", "unseal", "approval add", "statement"),
}


def test_every_view_for_people_is_there_as_json() -> None:
    for name, command in commands():
        if not isinstance(command, click.Group):
            json_too = any("--json" in parameter.opts for parameter in command.params)
            assert json_too == (name not in WRITES_FOR_PROGRAMS), name
            in_a_file = {"--out", "--replace", "--json"} <= {each for one in command.params for each in one.opts}
            assert in_a_file == (name in MAKES_A_TOKEN), name


def test_help_loads_neither_capx_nor_msgspec_nor_rich() -> None:
    script = (
        "import sys; from capx_cli.main import run; run(['--help'])\n"
        "sys.exit(','.join({'capx', 'capx_caveats', 'msgspec', 'rich', 'importlib.metadata'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ((), 2, "Usage: capx"),
        (("nonsense",), 2, "No such command 'nonsense'"),
        (("task", "open"), 2, "Missing option '--allow' or '--intent'. See capx task open --help"),
        (("task", "open", "--allow", "crm.read"), 3, "capx init"),
        (("task", "open", "--allow", "crm..read"), 2, "is not an action"),
        (("task", "open", "--allow", "crm.read@"), 2, "no audience after the @"),
        (("task", "open", "--with", "a=b", "--allow", "crm.read"), 2, "belong to the --allow before them"),
        (("task", "open", "--allow", "a", "--expires", "soon"), 3, "capx init"),
        (("verify", "--action", "crm.read"), 3, "no token was given"),
        (("verify",), 2, "Missing option '--action'"),
        (("inspect",), 3, "no token was given"),
        (("inspect", "--token-file", "/nowhere"), 3, "cannot read the token file /nowhere"),
        (("attenuate",), 2, "there is nothing to narrow"),
        (("present",), 2, "give either --action or --http"),
        (("revoke",), 2, "give either TARGET, or --held"),
        (("call", "http://127.0.0.1:1/"), 3, "no token was given"),
        (("call", "127.0.0.1:8000/x"), 2, "'127.0.0.1:8000/x' is not the URL of a service: write https://… or"),
        (("keys", "export", "crm"), 3, "capx init"),
        (("serve", "--listen", "8009"), 2, "'8009' is not an address: write HOST:PORT, such as 127.0.0.1:8411"),
        (("shell-setup", "cmd"), 2, "is not one of"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(capx: Any, args: tuple[str, ...], code: int, says: str) -> None:
    said = capx(*args, code=code)
    assert said.out == ""
    assert says in said.err
    if args:
        assert said.err.count("\n") == 1
        assert said.err.startswith("capx: ")


def test_errors_that_need_a_token_or_a_home(home: Any) -> None:
    token = home("task", "open", "--allow", "crm.read", "--allow", "slides.write").token
    for args, code, says in (
        (("delegate", "--to", "x", "--allow", "crm.read@crm"), 2, "names an audience"),
        (("delegate", "--to", "x", "--audience", "hr"), 2, "holds nothing for hr"),
        (("delegate", "--to", "x\u202ey"), 2, "is not an agent's name"),
        (("delegate", "--to", "x", "--expires", "tomorrow"), 2, "is not a time"),
        (("present", "--action", "hr.read"), 2, "holds nothing for 'hr'"),
        (("present", "--http", "GET", "/"), 2, "choose one with --audience"),
        (("call", "http://127.0.0.1:1/", "--audience", "crm"), 3, "cannot reach http://127.0.0.1:1/"),
        (("call", "http://[::1/", "--audience", "crm"), 3, "cannot reach"),
        (("task", "show", "nobody"), 2, "there is no task 'nobody'"),
        (("revoke", "nobody"), 2, "cannot be revoked"),
        (("task", "open", "--allow", "a", "--expires", "2d"), 2, "too far ahead"),
    ):
        said = home(*args, token=token, code=code)
        assert says in said.err, said.err
        assert said.out == ""
    (home.home / "capx.db").write_bytes(b"not a database" * 100)
    assert "not a database" in home("task", "list", code=3).err


def test_ids_may_begin_with_dashes_mistyped_options_do_nothing(home: Any) -> None:
    home("task", "open", "--allow", "crm.read")
    for id_ in ("-AAAAAAAAAAAAAAAAAAAAA", "--AAAAAAAAAAAAAAAAAAAA"):
        assert f"{id_} would be revoked" in home("revoke", id_, "--dry-run").out
    said = home("why", "-x", code=2).err
    assert "'-x' is not the id of a decision: an id has d. and 22 characters, this has 2" in said
    for args in (("task", "complete", "last", "--dryrun"), ("revoke", "last", "--dryrun")):
        assert "No such option '--dryrun'. Did you mean '--dry-run'?" in home(*args, code=2).err
    assert [task["state"] for task in _tasks(home)] == ["active"]
    home("verify", "--action", "crm.read", token=home("mint", "last", "--allow", "crm.read").token)


@pytest.mark.parametrize("args", [("--help",), ("task", "--help"), ("task", "list", "--json")])
def test_a_reader_that_goes_away_is_no_denial(home: Any, args: tuple[str, ...]) -> None:
    process = home.start(*args)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=30) == 141


def test_ctrl_c_ends_quietly(home: Any) -> None:
    process = home.start("inspect", stdin=subprocess.PIPE)
    assert process.stderr is not None
    assert process.stderr.readline() == "waiting for a token on standard input …\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "capx: interrupted" in err
    assert "Traceback" not in err


def test_ctrl_c_while_opening_leaves_a_whole_task_or_none(home: Any) -> None:
    for delay in (0.08, 0.16, 0.24):
        process = home.start("task", "open", "--allow", "crm.read")
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    minted = [len(home("task", "show", task["id"], "--json").json["minted"]) for task in _tasks(home)]
    assert all(count == 2 for count in minted)
    home("doctor")


def _tasks(home: Any) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = home("task", "list", "--json").json
    return tasks


def test_what_cannot_be_written_is_said(home: Any) -> None:
    for args in (("--help",), ("task", "list"), ("task", "list", "--json")):
        for unbuffered in ("", "1"):
            with Path("/dev/full").open("w") as full:
                done = subprocess.run(
                    (*COMMAND, *args),
                    env={**home.env, "PYTHONUNBUFFERED": unbuffered},
                    stdin=subprocess.DEVNULL,
                    stdout=full,
                    stderr=subprocess.PIPE,
                    text=True,
                    timeout=30,
                    check=False,
                )
            assert (done.returncode, done.stderr) == (
                3,
                "capx: cannot write to standard output: No space left on device\n",
            )
    line = " ".join((*map(quote, COMMAND), "task", "list"))
    for closed, code, says in ((">&-", 3, "cannot write to standard output: it is closed"), ("2>&- <&-", 0, "")):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{line} {closed}"], env=home.env, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == code
        assert says in done.stderr


def test_a_mistyped_command_is_told_the_nearest(capx: Any) -> None:
    for args, says in (
        (("verfy",), "No such command 'verfy'. Did you mean 'verify'? See capx --help"),
        (("inbox",), "No such command 'inbox'. Did you mean 'requests'? See capx --help"),
        (("task", "lst"), "No such command 'lst'. Did you mean 'list'? See capx task --help"),
        (("inspect", "my.token"), "(my.token): to name a file with a token, use --token-file FILE. See"),
        (("task", "list", "x"), "unexpected extra argument (x). See"),
    ):
        assert says in capx(*args, code=2).err


def test_short_help_is_help_and_never_an_id(home: Any) -> None:
    for args in (("-h",), ("task", "list", "--json", "-h"), ("revoke", "-h"), ("task", "complete", "last", "-h")):
        assert home(*args).out.startswith("Usage: capx")
    assert "-hAAAAAAAAAAAAAAAAAAAA would be revoked" in home("revoke", "-hAAAAAAAAAAAAAAAAAAAA", "--dry-run").out


def test_a_narrow_list_keeps_ids_and_says_what_it_leaves_out(home: Any) -> None:
    home("task", "open", "--allow", "crm.read", "--tenant", "Acme " * 20 + "Inc.", "--purpose", "qbr")
    (task,) = _tasks(home)
    for columns, headings, left_out in (
        ("200", ["TASK", "STATE", "TENANT", "PURPOSE", "OPENED", "EXPIRES"], ""),
        ("80", ["TASK", "STATE", "TENANT", "EXPIRES"], "PURPOSE, OPENED"),
        ("60", ["TASK", "STATE", "TENANT"], "PURPOSE, OPENED, EXPIRES"),
        ("34", ["TASK", "STATE"], "TENANT, PURPOSE, OPENED, EXPIRES"),
    ):
        listed = home("task", "list", COLUMNS=columns)
        said = listed.out.splitlines()
        assert len(said) == 2
        assert said[0].split() == headings
        assert said[1].startswith(task["id"])
        told = f"too narrow for {left_out}: use a wider terminal, or --json\n"
        assert listed.err == (told if left_out else "")
    assert home("task", "list", "--json", COLUMNS="34").err == ""


def test_every_time_in_json_is_rfc_3339(home: Any) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    decision = home.decide(token, "crm.write")
    home("task", "complete", "last")
    instant = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
    named = {"at", "opened", "expires", "ended", "issued_at", "from", "until"}
    found: set[str] = set()

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name, value in pairs:
            assert not isinstance(value, int) or value < 1_000_000_000, (name, value)
            if name in named and value is not None:
                assert instant.fullmatch(str(value)), (name, value)
                found.add(name)
        return dict(pairs)

    for args in (("task", "list"), ("task", "show", "last"), ("graph",), ("inspect",), ("why", decision.id)):
        json.loads(home(*args, "--json", token=token).out, object_pairs_hook=look)
    assert found == named - {"from"}


def test_a_terminal_of_any_size_is_drawn_on(home: Any) -> None:
    home("task", "open", "--allow", "crm.read")
    assert "active" in home("task", "list", COLUMNS="9" * 5_000, LINES="9" * 5_000).out


@pytest.mark.parametrize("since", ["9" * 5_000, str(2**53), "\u0663"])
def test_a_position_that_no_log_reaches_is_told_in_one_line(home: Any, since: str) -> None:
    for options in ((), ("--limit", "1"), ("--follow",), ("--json",)):
        said = home("log", "--since", since, *options, code=2)
        assert said.err.count("\n") == 1
        assert len(said.err) < 200


def test_since_ever_is_since_the_beginning(home: Any) -> None:
    home.decide(home("task", "open", "--allow", "crm.read").token, "crm.read")
    for since in ("999999999d", "0001-01-01T00:00:00Z"):
        assert len(home("log", "--since", since, "--json").json) == 4
        assert len(home("find", "--since", since, "--json").json) == 1


def test_in_one_pipe_the_answer_stands_before_the_note_about_it(home: Any) -> None:
    token = home("task", "open", "--tenant", "Acme", "--allow", "crm.read").token
    verify = ("verify", "--action", "crm.read", "--tenant", "Acme")
    done = subprocess.run(
        (*COMMAND, *verify),
        env=home.env,
        input=token,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=True,
    )
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("ALLOWED")
    assert last.startswith("A service denies this bare token")


@pytest.mark.parametrize("actions", [1, 50, 100])
def test_a_token_that_cannot_be_written_is_a_failure(home: Any, actions: int) -> None:
    # What fits into the buffer of the text, and not into that of the file, is lost when it cannot be flushed.
    allow = [
        part for number in range(actions) for part in ("--allow", f"{'crm' if number < 50 else 'hr'}.{number:065}")
    ]
    token = home("task", "open", *allow).token
    assert (len(token) > 4_096, len(token) > 8_192) == (actions > 1, actions > 50)
    for args in (("attenuate", "--expires", "5m"), ("delegate", "--to", "helper")):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                (*COMMAND, *args),
                env=home.env,
                input=token,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=30,
                check=False,
            )
        last = done.stderr.splitlines()[-1]
        assert (done.returncode, last) == (3, "capx: cannot write to standard output: No space left on device")


@pytest.mark.parametrize("redirection", ["1< /dev/null", "> /dev/full", "| true"])
def test_a_note_that_follows_what_cannot_be_written_is_no_bug(home: Any, redirection: str) -> None:
    line = " ".join((*map(quote, COMMAND), "keys", "add"))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{line} {redirection}"],
        env=home.env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in {3, 141}
    assert "added: it verifies" in done.stderr
    assert "bug" not in done.stderr
