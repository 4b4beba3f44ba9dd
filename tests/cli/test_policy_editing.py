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
        (("bo", "--purpose", "qbrr"), 3, "qbr"),
        (("bo", "--purpose", "q b r"), 2, "'q b r' cannot name a purpose"),
        (("bo", "--tenant", "a\nb"), 2, "'a\\nb' cannot name a tenant"),
        (("bo", "--group", ""), 2, "'' cannot name a group"),
        (("a\n[purpose.x]",), 2, "cannot name a principal"),
        (("bo\udcff",), 2, "'bo\\udcff' cannot name a principal"),
        (("bo", "--tenant", "\udcff"), 2, "'\\udcff' cannot name a tenant"),
        (("bo", "--group", "\udcff"), 2, "'\\udcff' cannot name a group"),
        (("bo", "--purpose", "\udcff"), 2, "'\\udcff' cannot name a purpose"),
        (("bo", "--key", "ed25519:AAAA"), 3, "43 characters after ed25519:"),
        (("bo", "--key", f"ed25519:{'A' * 43}"), 3, "not a safe public key"),
        (("bo", "--key", "AAAA"), 3, "this is not a public key"),
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


ANA = """
  [principal."Ana María"]   # until June
  tenants = ["Acme"]  # for now
  # her groups are in the other file

# Bo leaves soon.
[principal.bo]
purposes = [
  "qbr",   # and no more
]
"""


def test_a_known_principal_gets_more_and_the_comments_stay(home: Shell) -> None:
    file = write_policy(home, POLICY + ANA)
    public = home("principal", "new", "ana").out.strip()
    args = ("--tenant", "Globex", "--tenant", "Acme", "--tenant", "Globex", "--group", "ops", "--key", public)
    said = home("principal", "add", "Ana María", *args)
    assert said.out == ""
    assert said.err == f'added to Ana María in {file}: key {public}, tenant "Globex", group "ops"\n'
    changed = ANA.replace(
        '["Acme"]  # for now\n',
        f"""["Acme", "Globex"]  # for now
  key = "{public}"
  groups = ["ops"]
""",
    )
    assert file.read_bytes().decode() == POLICY + changed
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [each.name for each in home.home.iterdir() if each.name.startswith(FILE)] == [FILE]


def test_an_array_of_several_lines_and_an_empty_table_grow(home: Shell) -> None:
    file = write_policy(home, f"{POLICY}{ANA}\n[principal.cy]\n\n# the last line")
    home("principal", "add", "bo", "--purpose", "qbr", "--purpose", "audit", code=3)
    write_policy(
        home,
        file.read_text().replace(
            "[principal.cy]", "[purpose.audit]\ngrant = [{ how = 'at_open', allow = ['x.y'] }]\n[principal.cy]"
        ),
    )
    home("principal", "add", "bo", "--purpose", "qbr", "--purpose", "audit")
    home("principal", "add", "cy", "--tenant", 'O"\\x')
    told = file.read_text()
    assert '  "qbr",   # and no more\n  "audit",\n]\n' in told
    assert told.endswith('[principal.cy]\ntenants = ["O\\"\\\\x"]\n\n# the last line')


def test_lines_of_a_file_from_elsewhere_keep_their_ends(home: Shell) -> None:
    file = write_policy(home, '[principal.ana]\r\ntenants = ["Acme"]\r\n\r\n# end\r\n')
    home("principal", "add", "ana", "--tenant", "B", "--group", "ops")
    assert file.read_bytes() == b'[principal.ana]\r\ntenants = ["Acme", "B"]\r\ngroups = ["ops"]\r\n\r\n# end\r\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            'principal = { ana = { tenants = ["A"] } }\n',
            'principal = { ana = { tenants = ["A", "B"],groups = ["g"]} }\n',
        ),
        ('principal.ana.tenants = ["A"]\n', 'principal.ana.tenants = ["A", "B"]\nprincipal.ana.groups = ["g"]\n'),
        (
            '[principal]\nana.tenants = ["A"]  # x\n# y\n[principal.bo]\n',
            '[principal]\nana.tenants = ["A", "B"]  # x\nana.groups = ["g"]\n# y\n[principal.bo]\n',
        ),
    ],
    ids=["inline", "dotted", "dotted below a header"],
)
def test_other_forms_of_a_table_grow_too(home: Shell, before: str, after: str) -> None:
    file = write_policy(home, before)
    home("principal", "add", "ana", "--tenant", "B", "--group", "g")
    assert "".join(file.read_text().split()) == "".join(after.split())


def test_where_a_principal_has_it_all_nothing_changes(home: Shell) -> None:
    file = write_policy(home, POLICY + ANA)
    before = file.stat()
    said = home("principal", "add", "Ana María", "--tenant", "Acme")
    assert said.err == f"{file} says all of this about Ana María already: nothing was changed\n"
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    write_policy(home, "[principal.ana]\ntenants = []\n")
    assert "is empty" in home("principal", "add", "ana", code=3).err


def test_nobodys_key_is_replaced(home: Shell) -> None:
    file = write_policy(home)
    old, new = (home("principal", "new", name).out.strip() for name in ("ana", "thief"))
    home("principal", "add", "ana", "--key", old)
    before = file.read_bytes()
    assert "nothing was changed" in home("principal", "add", "ana", "--key", old).err
    said = home("principal", "add", "ana", "--key", new, "--tenant", "Acme", code=2)
    assert f"ana has another key in {file}" in said.err
    assert "take the old key out of the file first" in said.err
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ('principal = { ana = { tenants = "A" } }\n', 2, 'add by hand tenant "B"'),
        ("principal.ana = 3\n", 2, 'add by hand tenant "B"'),
        ('[principal.ana]\ntenants = ["A"\n # last\n]\n', 2, 'add by hand tenant "B"'),
        ('[principal.ana]\ntenants = ["A", "A"]\n', 3, "is listed twice"),
        ('[principal.ana]\ntenants = ["A"]\ntenants = ["C"]\n', 3, "not TOML"),
        ("[principal.ana]\n[principal.ana]\n", 3, "not TOML"),
        ('principal = "ana"\n', 3, "policy.toml: principal: is a string"),
    ],
)
def test_what_cannot_be_edited_is_refused(home: Shell, text: str, code: int, says: str) -> None:
    file = write_policy(home, text)
    said = home("principal", "add", "ana", "--tenant", "B", code=code)
    assert says in said.err
    assert file.read_text() == text


@pytest.mark.parametrize(
    "wrong", ["tomlkit.dumps = lambda it: ''", "tomlkit.dumps = lambda it, d=tomlkit.dumps: d(it) + '#'"]
)
def test_an_edit_that_would_change_more_is_refused(home: Shell, wrong: str) -> None:
    file = write_policy(home, POLICY + ANA)
    program = (
        f"import sys, tomlkit\n{wrong}\nfrom capx_cli.main import run\n"
        'sys.exit(run(["principal", "add", "bo", "--tenant", "B"]))'
    )
    done = subprocess.run((sys.executable, "-c", program), env=home.env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f'this command cannot edit what {file} says about bo: add by hand tenant "B"' in done.stderr
    assert file.read_text() == (POLICY + ANA).replace("\r\n", "\n")


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
sys.exit(run(["principal", "add", "bo", "--tenant", "Acme"]))
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
@pytest.mark.parametrize("known", ["", ANA], ids=["new", "known"])
def test_an_editors_cut_while_a_principal_is_added_stays(home: Shell, edit: str, known: str) -> None:
    file = write_policy(home, POLICY + known)
    os.utime(file, (1, 1))
    done = subprocess.run(
        (sys.executable, "-c", MEANWHILE.format(edit=edit)), env=home.env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, f"capx: {file} was changed meanwhile: try again\n")
    assert not file.exists() or b"Acme" not in file.read_bytes().replace(b'["Acme"]  # for now', b"")
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
