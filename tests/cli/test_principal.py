"""Keys for people, and their names in the policy."""

import stat
import subprocess
from pathlib import Path

import pytest

from capx.crypto.ed25519 import parse_public
from capx.intents.principal_key import PrincipalKey
from capx.policy.file import FILE, read_policy
from tests.cli.conftest import Shell
from tests.labs.commands import COMMAND
from tests.labs.principals import POLICY, write_policy
from tests.labs.processes import ended_with_test


def test_a_new_key_is_ones_own_file_its_public_half_apart(home: Shell, tmp_path: Path) -> None:
    file = tmp_path / "ana.key"
    said = home("principal", "new", "ana@our.example", "--key-file", str(file))
    key = PrincipalKey.load(file)
    assert said.out == f"{key.public}\n"
    assert key.name == "ana@our.example"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f'[principal."ana@our.example"]\n  key = "{key.public}"\n' in said.err
    secret = file.read_text().split()[-1]
    assert secret not in said.out + said.err


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("principal", "new"), 3),
        (("principal", "show"), 2),
        (("requests", "approve", "A" * 22, "--yes", "--as"), 2),
    ],
)
def test_a_name_that_is_no_text_is_told_as_that(home: Shell, args: tuple[str, ...], code: int) -> None:
    assert "name a principal" in home(*args, "\udcff", code=code).err


def test_a_key_where_others_could_replace_it_is_refused(home: Shell, tmp_path: Path) -> None:
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
        assert "name a principal" in said.err
        assert said.err[:-1].isprintable()
    assert not any((home.home / "principals").glob("*"))


def test_a_principal_is_added_and_the_file_stays_as_it_was(home: Shell) -> None:
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


def test_principals_who_are_added_at_the_same_time_are_all_there(home: Shell) -> None:
    names = [f"p{number}" for number in range(8)]
    adding = [
        ended_with_test(subprocess.Popen((*COMMAND, "principal", "add", name), env=home.env, stderr=subprocess.DEVNULL))
        for name in names
    ]
    assert [one.wait(timeout=60) for one in adding] == [0] * len(names)
    assert sorted(read_policy((home.home / FILE).read_bytes()).principals) == names


def test_where_no_authority_lives_none_are_listed(capx: Shell) -> None:
    assert "no authority lives in" in capx("principal", "list", code=3).err


def test_principals_are_listed(home: Shell) -> None:
    assert "capx principal add" in home("principal", "list").out
    assert home("principal", "list", "--json").json == []
    write_policy(home)
    public = home("principal", "new", "ana").out.strip()
    home("principal", "add", "ana", "--key", public, "--tenant", "[red]Acme[/red]", "--purpose", "qbr")
    home("principal", "add", "bo", "--group", "finance", "--group", "ops")
    ana = {"name": "ana", "key": public, "tenants": ["[red]Acme[/red]"], "purposes": ["qbr"], "groups": []}
    bo = {"name": "bo", "key": None, "tenants": [], "purposes": [], "groups": ["finance", "ops"]}
    assert home("principal", "list", "--json").json == [{**each, "max_waiting": 1_000} for each in (ana, bo)]
    listed = home("principal", "list").out
    assert "[red]Acme[/red]" in listed
    assert "finance, ops" in listed
    assert public in listed


def test_the_policy_of_an_authority_elsewhere_is_not_sought_here(home: Shell) -> None:
    for args in (("principal", "list"), ("principal", "add", "ana")):
        assert "run it where its home is" in home(*args, code=2, CAPX_AUTHORITY="unix:/nowhere").err
    assert not (home.home / FILE).exists()
