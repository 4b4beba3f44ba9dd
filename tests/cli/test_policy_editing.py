"""The policy file is edited by nobody else, and as a whole."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from capx.policy.file import FILE
from tests.cli.conftest import Shell
from tests.labs.principals import POLICY, write_policy


def test_a_file_that_ends_within_a_line_continues_in_the_next(home: Shell) -> None:
    file = write_policy(home, POLICY.rstrip())
    home("principal", "add", "ana")
    assert file.read_bytes().startswith(f"{POLICY.rstrip()}\n\n[principal".encode())


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("ana",), 2, "the policy knows ana already: all of this stands in"),
        (("bo", "--purpose", "qbrr"), 3, "qbr"),
        (("bo", "--purpose", "q b r"), 2, "'q b r' is no name of a purpose"),
        (("bo", "--tenant", "a\nb"), 2, "'a\\nb' is no name of a tenant"),
        (("bo", "--group", ""), 2, "'' is no name of a group"),
        (("a\n[purpose.x]",), 2, "is no name of a principal"),
        (("bo\udcff",), 2, "'bo\\udcff' is no name of a principal"),
        (("bo", "--tenant", "\udcff"), 2, "'\\udcff' is no name of a tenant"),
        (("bo", "--group", "\udcff"), 2, "'\\udcff' is no name of a group"),
        (("bo", "--purpose", "\udcff"), 2, "'\\udcff' is no name of a purpose"),
        (("bo", "--key", "ed25519:AAAA"), 3, "exactly 32 bytes"),
        (("bo", "--key", f"ed25519:{'A' * 43}"), 3, "not a safe public key"),
        (("bo", "--key", "AAAA"), 3, "it begins with ed25519:"),
    ],
)
def test_what_would_spoil_the_policy_is_refused(home: Shell, args: tuple[str, ...], code: int, says: str) -> None:
    file = write_policy(home, f"{POLICY}\n[principal.ana]\n")
    before = file.read_bytes()
    said = home("principal", "add", *args, code=code)
    assert says in said.err
    assert said.err.count("\n") == 1
    assert file.read_bytes() == before
    assert not (home.home / f"{FILE}.new").exists()


NOBODY_CONSENTS = f"""{POLICY}
[[purpose.qbr.grant]]
how = "ask"
approvers = ["security"]
allow = ["crm.export"]
"""


def test_whoever_repairs_the_policy_is_added_to_it(home: Shell) -> None:
    file = write_policy(home, NOBODY_CONSENTS)
    public = home("principal", "new", "sue").out.strip()
    assert "neither a principal nor a group" in home("principal", "list", code=3).err
    home("principal", "add", "sue", "--key", public, "--group", "security")
    assert file.read_bytes().startswith(NOBODY_CONSENTS.encode())
    assert [each["name"] for each in home("principal", "list", "--json").json] == ["sue"]


def test_a_wrong_principal_is_refused_and_nothing_changes(home: Shell) -> None:
    file = write_policy(home, NOBODY_CONSENTS)
    said = home("principal", "add", "sue", "--group", "security", code=3)
    assert f"{file} with sue: " in said.err
    assert 'approvers[1]: is "security", but nobody there has a key' in said.err
    assert file.read_bytes() == NOBODY_CONSENTS.encode()


def test_of_a_known_principal_it_is_said_which_line_to_change(home: Shell) -> None:
    ana = '\n  [principal."Ana María"]\ntenants = ["Acme"]  # for now\n\n[principal.bo]\npurposes = ["qbr"]\n'
    file = write_policy(home, POLICY + ana)
    header = file.read_text().splitlines().index('  [principal."Ana María"]') + 1
    for args, says in (
        (("--tenant", "Globex"), f'write by hand in line {header + 1} tenants = ["Acme", "Globex"]. See'),
        (("--purpose", "qbr"), f'write by hand below line {header} purposes = ["qbr"]. See'),
        (
            ("--group", "ops", "--tenant", "Acme", "--tenant", "B"),
            f'write by hand in line {header + 1} tenants = ["Acme", "B"], below line {header} groups = ["ops"]. See',
        ),
        (("--tenant", "Acme"), f"all of this stands in {file} from line {header} on"),
    ):
        said = home("principal", "add", "Ana María", *args, code=2)
        assert "the policy knows Ana María already: " in said.err
        assert says in said.err
    # Also where the file cannot be used, or says so in another form.
    write_policy(home, 'principal = { ana = { tenants = "Acme" } }\n')
    said = home("principal", "add", "ana", "--tenant", "B", code=2)
    assert f'in {file} write by hand where it speaks of them tenants = ["B"]' in said.err


def test_a_policy_that_cannot_be_used_is_not_added_to(home: Shell) -> None:
    file = write_policy(home, "[purpose")
    assert "not TOML" in home("principal", "add", "ana", code=3).err
    assert file.read_bytes() == b"[purpose"
    assert "not TOML" in home("principal", "list", code=3).err


def test_nobody_is_added_where_no_authority_lives(capx: Shell) -> None:
    assert "capx init" in capx("principal", "add", "ana", code=3).err
    assert not capx.home.exists()


def test_a_link_to_the_policy_stays_one(home: Shell, tmp_path: Path) -> None:
    kept = tmp_path / "kept.toml"
    kept.touch(0o600)
    kept.write_text(POLICY)
    (home.home / FILE).symlink_to(kept)
    home("principal", "add", "ana")
    assert (home.home / FILE).is_symlink()
    assert "ana" in kept.read_text()


MEANWHILE = """
import os, sys

DONE = []

def edit(event, args):
    if event == "open" and str(args[0]).endswith("policy.toml.new") and not DONE:
        DONE.append(True)
        {edit}

sys.addaudithook(edit)
file = os.path.join(os.environ["CAPX_HOME"], "policy.toml")
from capx_cli.main import run
sys.exit(run(["principal", "add", "bo"]))
"""
"""An editor at work at the moment at which the new file is begun."""


@pytest.mark.parametrize(
    "edit",
    [
        "open(file, 'w').write('[purpose.qbr]\\n')",
        "open(file + '.edited', 'w').write('[purpose.qbr]\\n'); os.replace(file + '.edited', file)",
        "open(file, 'r+').write('#')",
        "os.unlink(file)",
    ],
    ids=["in place", "by another file", "at the same length", "by removal"],
)
def test_an_editors_cut_while_a_principal_is_added_stays(home: Shell, edit: str) -> None:
    file = write_policy(home)
    os.utime(file, (1, 1))
    done = subprocess.run(
        (sys.executable, "-c", MEANWHILE.format(edit=edit)), env=home.env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, f"capx: {file} was changed meanwhile: try again\n")
    assert not file.exists() or b"bo" not in file.read_bytes()
    assert [each.name for each in home.home.iterdir() if each.name.endswith(".new")] == []


def test_a_policy_made_while_a_principal_is_added_is_kept(home: Shell) -> None:
    edit = "open(file, 'w').write('[purpose.qbr]\\n')"
    done = subprocess.run(
        (sys.executable, "-c", MEANWHILE.format(edit=edit)), env=home.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert (home.home / FILE).read_text() == "[purpose.qbr]\n"


def test_a_pipe_or_device_as_the_policy_is_refused_at_once(home: Shell) -> None:
    file = home.home / FILE
    os.mkfifo(file, 0o600)
    assert "is not a regular file" in home("principal", "add", "ana", code=3).err
    assert stat.S_ISFIFO(file.stat().st_mode)
    file.unlink()
    file.symlink_to("/dev/zero")
    assert "is not a regular file" in home("principal", "add", "ana", code=3).err
    assert file.is_symlink()


def test_a_policy_that_others_may_change_is_not_edited(home: Shell) -> None:
    file = write_policy(home)
    file.chmod(0o660)
    assert f"chmod go-w {file}" in home("principal", "add", "ana", code=3).err
    assert file.read_bytes() == POLICY.encode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have files of others")
def test_the_policy_of_another_user_is_not_edited(home: Shell) -> None:
    file = write_policy(home)
    os.chown(file, 65534, 65534)
    assert "belongs to another user" in home("principal", "add", "ana", code=3).err
    assert file.read_bytes() == POLICY.encode()
