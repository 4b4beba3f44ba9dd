"""The keys of agents: files of their own, and public halves for others."""

import stat
from pathlib import Path

from capx.crypto.agent_key import AgentKey
from tests.cli.conftest import Shell


def test_a_new_key_is_a_private_file_and_its_public_half_apart(capx: Shell, tmp_path: Path) -> None:
    file = tmp_path / "reader.key"
    said = capx("agent-key", "new", "reader", "--out", str(file))
    key = AgentKey.load(file)
    assert (said.out, key.name) == (f"{key.public}\n", "reader")
    assert said.err.splitlines() == [
        f"wrote {file}: a secret, only for reader",
        f"Next: give {key.public} to whoever opens the task (capx task open --agent-key)",
        "      or delegates to this agent (capx delegate --to-key),",
        f"      and use the token with --agent-key-file {file}",
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("agent reader ")
    assert file.read_text().split()[-1] not in said.out + said.err
    assert capx("agent-key", "show", str(file)).out == said.out
    assert capx("agent-key", "show", str(file), "--json").json == {"name": "reader", "key": key.public}


def test_json_tells_of_a_new_key_what_people_are_told(capx: Shell, tmp_path: Path) -> None:
    file = tmp_path / "reader.key"
    said = capx("agent-key", "new", "reader", "--out", str(file), "--json")
    assert (said.err, said.json) == (
        "",
        {"wrote": str(file), "name": "reader", "key": AgentKey.load(file).public},
    )


def test_a_key_without_a_place_is_in_the_home(capx: Shell) -> None:
    public = capx("agent-key", "new", "a/b").out.strip()
    (file,) = (capx.home / "agents").iterdir()
    assert (file.name, AgentKey.load(file).public) == ("a%2Fb.key", public)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    again = capx("agent-key", "new", "a/b", code=3)
    assert "it is there already" in again.err
    assert again.out == ""
    assert AgentKey.load(file).public == public


def test_a_folder_where_others_could_replace_keys_is_refused(capx: Shell, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    capx.home.mkdir()
    (capx.home / "agents").symlink_to(shared)
    assert "or name a file with --out" in capx("agent-key", "new", "reader", code=3).err
    assert list(shared.iterdir()) == []


def test_a_name_that_hides_something_gets_no_key(capx: Shell, tmp_path: Path) -> None:
    for name in ("", "a\u202eb", "a\nb", "\x1b[31ma"):
        said = capx("agent-key", "new", name, "--out", str(tmp_path / "x.key"), code=3)
        assert "cannot name an agent" in said.err
        assert said.err[:-1].isprintable()
    assert not (tmp_path / "x.key").exists()


def test_keys_of_agents_and_people_are_not_taken_for_each_other(capx: Shell, tmp_path: Path) -> None:
    agent, person = tmp_path / "reader.key", tmp_path / "ana.key"
    capx("agent-key", "new", "reader", "--out", str(agent))
    capx("principal", "new", "ana", "--key-file", str(person))
    shown = capx("agent-key", "show", str(person), code=3)
    assert f"{person}, line 1: this is the key of a person. An agent needs its own: capx agent-key new" in shown.err
    shown = capx("principal", "show", "--key-file", str(agent), code=3)
    assert f"{agent}, line 1: this is the key of an agent. A person signs with a key of capx principal new" in shown.err


def test_a_key_that_others_may_read_is_not_shown(capx: Shell, tmp_path: Path) -> None:
    file = tmp_path / "reader.key"
    capx("agent-key", "new", "reader", "--out", str(file))
    file.chmod(0o644)
    said = capx("agent-key", "show", str(file), code=3)
    assert (said.out, f"chmod 600 {file}" in said.err) == ("", True)


def test_a_key_in_the_home_is_shown_by_its_name(capx: Shell) -> None:
    public = capx("agent-key", "new", "a/b").out
    assert capx("agent-key", "show", "a/b").out == public
    assert "cannot read the key file b: No such file" in capx("agent-key", "show", "b", code=3).err
    secret = next((capx.home / "agents").iterdir()).read_text().strip()
    refused = capx("agent-key", "show", secret, code=2).err
    assert "this is the text of a key file, a secret" in refused
    assert secret.split()[-1] not in refused


def test_a_folder_is_no_place_for_a_key(capx: Shell, tmp_path: Path) -> None:
    made = capx("agent-key", "new", "reader", "--out", str(tmp_path), code=3).err
    assert made == f"capx: cannot write {tmp_path}: it is a folder: name a file in it\n"
    shown = capx("agent-key", "show", str(tmp_path), code=3).err
    assert shown == f"capx: {tmp_path} is a folder: name the key file in it\n"
    public = AgentKey.generate("reader").public
    assert "this is a public key" in capx("agent-key", "show", public, code=3).err
