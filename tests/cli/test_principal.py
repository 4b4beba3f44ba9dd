"""Keys for people, and their names in the policy."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.crypto.ed25519 import parse_public
from capx.intents.principal_key import PrincipalKey
from capx.policy.file import FILE, read_policy
from tests.cli.conftest import COMMAND, Shell

POLICY = """# Whoever edits this: keep it readable aloud.\r
[purpose.qbr]   # a review
ttl = "2h"

[[purpose.qbr.grant]]
allow = ["crm.read"]          # and no more
"""


def write_policy(home: Shell, text: str = POLICY) -> Path:
    file = home.home / FILE
    file.write_bytes(text.encode())
    file.chmod(0o640)
    return file


def test_a_new_key_is_a_file_of_ones_own_and_its_public_half_is_written_alone(home: Shell, tmp_path: Path) -> None:
    file = tmp_path / "ana.key"
    said = home("principal", "new", "ana@our.example", "--key-file", str(file))
    key = PrincipalKey.load(file)
    assert said.out == f"{key.public}\n"
    assert key.name == "ana@our.example"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f'[principal."ana@our.example"]\n  key = "{key.public}"\n' in said.err
    secret = file.read_text().split()[-1]
    assert secret not in said.out + said.err


def test_a_key_without_a_file_named_stands_in_the_home(capx: Shell) -> None:
    for name in ("ana@our.example", "a/../../b", "Ana María"):
        public = capx("principal", "new", name).out.strip()
        (file,) = [each for each in (capx.home / "principals").iterdir() if PrincipalKey.load(each).public == public]
        assert PrincipalKey.load(file).name == name
    for folder in (capx.home, capx.home / "principals"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(list((capx.home / "principals").iterdir())) == 3
    capx("init")


def test_a_key_whose_public_half_could_not_be_written_shows_it_later(home: Shell) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            (*COMMAND, "principal", "new", "ana"),
            stdout=full,
            stderr=subprocess.PIPE,
            env=home.env,
            text=True,
            check=False,
        )
    (file,) = (home.home / "principals").iterdir()
    assert done.returncode == 3
    assert f"wrote {file}: " in done.stderr
    key = PrincipalKey.load(file)
    for args in (("ana",), ("--key-file", str(file)), ("ana", "--key-file", str(file))):
        said = home("principal", "show", *args)
        assert said.out == f"{key.public}\n"
        assert f'[principal."ana"]\n  key = "{key.public}"\n' in said.err
        assert file.read_text().split()[-1] not in said.err
    assert "give NAME" in home("principal", "show", code=2).err
    assert "there is no key of bo" in home("principal", "show", "bo", code=3).err


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("principal", "new"), 3),
        (("principal", "show"), 2),
        (("requests", "approve", "A" * 22, "--yes", "--as"), 2),
    ],
)
def test_a_name_that_is_no_text_is_told_as_that(home: Shell, args: tuple[str, ...], code: int) -> None:
    assert "'\\udcff' is no name of a principal" in home(*args, "\udcff", code=code).err


def test_no_key_is_put_where_others_could_put_another_in_its_place(home: Shell, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (home.home / "principals").symlink_to(shared)
    said = home("principal", "new", "ana", code=3)
    assert "may be changed by others" in said.err
    assert list(shared.iterdir()) == []


def test_a_key_is_never_overwritten(home: Shell, tmp_path: Path) -> None:
    public = home("principal", "new", "ana").out
    again = home("principal", "new", "ana", code=3)
    assert "it is there already" in again.err
    assert again.out == ""
    (file,) = (home.home / "principals").iterdir()
    assert PrincipalKey.load(file).public == public.strip()


def test_a_name_that_hides_something_gets_no_key(home: Shell) -> None:
    for name in ("", "a\u202eb", "a\nb", "\x1b[31ma"):
        said = home("principal", "new", name, code=3)
        assert "no name of a principal" in said.err
        assert said.err[:-1].isprintable()
    assert not any((home.home / "principals").glob("*"))


def test_a_principal_is_added_and_the_rest_of_the_file_is_as_it_was(home: Shell) -> None:
    file = write_policy(home)
    public = home("principal", "new", "ana").out.strip()
    said = home("principal", "add", "ana", "--key", public, "--tenant", "Acme", "--tenant", 'O"\\x', "--purpose", "qbr")
    assert said.out == ""
    assert str(file) in said.err
    written = file.read_bytes()
    assert written.startswith(POLICY.encode())
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    (ana,) = read_policy(written).principals.values()
    assert (ana.name, ana.key, ana.tenants, ana.purposes) == ("ana", parse_public(public), ("Acme", 'O"\\x'), ("qbr",))
    home("principal", "add", "bo", "--group", "finance")
    assert file.read_bytes().startswith(written)
    assert list(read_policy(file.read_bytes()).principals) == ["ana", "bo"]
    assert [each.name for each in home.home.iterdir() if each.name.startswith(FILE)] == [FILE]


def test_the_policy_is_made_if_there_is_none(home: Shell) -> None:
    home("principal", "add", "Ana María", "--group", "finance")
    file = home.home / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(read_policy(file.read_bytes()).principals) == ["Ana María"]


def test_a_file_that_ends_within_a_line_is_gone_on_with_in_the_next(home: Shell) -> None:
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
        (("bo", "--key", f"ed25519:{'A' * 43}"), 3, "one signer alone"),
        (("bo", "--key", "AAAA"), 3, "it begins with ed25519:"),
    ],
)
def test_what_would_spoil_the_policy_is_refused_and_changes_nothing(
    home: Shell, args: tuple[str, ...], code: int, says: str
) -> None:
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


def test_what_is_still_wrong_with_whoever_is_added_is_told_and_nothing_changes(home: Shell) -> None:
    file = write_policy(home, NOBODY_CONSENTS)
    said = home("principal", "add", "sue", "--group", "security", code=3)
    assert f"{file} with sue: " in said.err
    assert 'approvers[1]: is "security", of whom nobody has a key' in said.err
    assert file.read_bytes() == NOBODY_CONSENTS.encode()


def test_of_whom_the_policy_knows_it_is_said_which_line_to_change(home: Shell) -> None:
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
    assert "no TOML" in home("principal", "add", "ana", code=3).err
    assert file.read_bytes() == b"[purpose"
    assert "no TOML" in home("principal", "list", code=3).err


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


def test_principals_who_are_added_at_the_same_time_are_all_there(home: Shell) -> None:
    names = [f"p{number}" for number in range(8)]
    adding = [
        subprocess.Popen((*COMMAND, "principal", "add", name), env=home.env, stderr=subprocess.DEVNULL)
        for name in names
    ]
    assert [one.wait(timeout=60) for one in adding] == [0] * len(names)
    assert sorted(read_policy((home.home / FILE).read_bytes()).principals) == names


def test_where_no_authority_lives_nobody_is_listed_and_that_is_said(capx: Shell) -> None:
    assert "no authority lives in" in capx("principal", "list", code=3).err


def test_principals_are_listed(home: Shell) -> None:
    assert "capx principal add" in home("principal", "list").out
    assert home("principal", "list", "--json").json == []
    write_policy(home)
    public = home("principal", "new", "ana").out.strip()
    home("principal", "add", "ana", "--key", public, "--tenant", "[red]Acme[/red]", "--purpose", "qbr")
    home("principal", "add", "bo", "--group", "finance", "--group", "ops")
    assert home("principal", "list", "--json").json == [
        {"name": "ana", "key": public, "tenants": ["[red]Acme[/red]"], "purposes": ["qbr"], "groups": []},
        {"name": "bo", "key": None, "tenants": [], "purposes": [], "groups": ["finance", "ops"]},
    ]
    listed = home("principal", "list").out
    assert "[red]Acme[/red]" in listed
    assert "finance, ops" in listed
    assert public in listed


def test_a_doctor_tells_what_intents_name_the_authority_by_and_whether_its_policy_can_be_used(home: Shell) -> None:
    def found(code: int = 0) -> dict[str, tuple[str, str]]:
        said = home("doctor", "--json", code=code).json
        return {each["what"]: (each["state"], each["says"]) for each in said}

    with Authority.open_home(home.home) as authority:
        assert found()["epoch"] == ("ok", f"{authority.epoch()} is what intents name this authority by")
    assert found()["policy"][1].startswith(f"there is no {FILE}")
    write_policy(home)
    home("principal", "add", "ana")
    assert found()["policy"] == ("ok", f"{FILE} names 1 purposes and 1 principals")
    write_policy(home, "nonsense")
    assert found(code=3)["policy"][0] == "FAIL"


def test_the_policy_of_an_authority_elsewhere_is_not_looked_for_here(home: Shell) -> None:
    for args in (("principal", "list"), ("principal", "add", "ana")):
        assert "do it where its home is" in home(*args, code=2, CAPX_AUTHORITY="unix:/nowhere").err
    assert not (home.home / FILE).exists()


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
def test_what_an_editor_narrowed_while_a_principal_is_added_is_not_undone(home: Shell, edit: str) -> None:
    file = write_policy(home)
    os.utime(file, (1, 1))
    done = subprocess.run(
        (sys.executable, "-c", MEANWHILE.format(edit=edit)), env=home.env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, f"capx: {file} was changed meanwhile: try again\n")
    assert not file.exists() or b"bo" not in file.read_bytes()
    assert [each.name for each in home.home.iterdir() if each.name.endswith(".new")] == []


def test_a_policy_that_is_made_while_a_principal_is_added_is_not_undone(home: Shell) -> None:
    edit = "open(file, 'w').write('[purpose.qbr]\\n')"
    done = subprocess.run(
        (sys.executable, "-c", MEANWHILE.format(edit=edit)), env=home.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert (home.home / FILE).read_text() == "[purpose.qbr]\n"


def test_a_pipe_or_an_endless_device_as_the_policy_is_refused_and_not_waited_for(home: Shell) -> None:
    file = home.home / FILE
    os.mkfifo(file, 0o600)
    assert "is no regular file" in home("principal", "add", "ana", code=3).err
    assert stat.S_ISFIFO(file.stat().st_mode)
    file.unlink()
    file.symlink_to("/dev/zero")
    assert "is no regular file" in home("principal", "add", "ana", code=3).err
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
