"""Key files: whose they are, what is refused in them, and how one is replaced."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from capx.crypto.key_file import is_text
from capx.crypto.keys import AudienceKeys, KeyRing
from capx.errors import InvalidRequest, KeyProblem
from tests.labs.key_files import (
    AUTHORITY,
    FILES,
    LINE,
    NAMED,
    OTHER,
    OTHERS,
    RING,
    ROOT_FILES,
    ROOT_KEY_KEYS,
    disk_is_full,
    make_a_pipe,
    saved,
)
from tests.labs.lab import ROOT_KEY, Lab, minted

# Files


def test_keys_come_back_from_their_file(tmp_path: Path) -> None:
    ring = KeyRing(OTHER, [ROOT_KEY], AUTHORITY)
    ring.save(tmp_path / "root.keys")
    again = KeyRing.load(tmp_path / "root.keys")
    assert again.active.kid == OTHER.kid
    assert again.get(ROOT_KEY.kid) is not None
    assert again.get("AAAAAAAAAAA") is None

    ring.audience_keys("crm").save(tmp_path / "crm.keys")
    keys = AudienceKeys.load(tmp_path / "crm.keys")
    assert keys.audience == "crm"
    assert again.authority == keys.authority == AUTHORITY
    assert Lab(keys=keys).codes(minted()) == ()


def test_a_key_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        RING.save(tmp_path / "root.keys")
        ROOT_KEY_KEYS.save(tmp_path / "crm.keys")
    finally:
        os.umask(before)
    assert (tmp_path / "root.keys").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "crm.keys").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_a_key_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    for path, save, load in (
        (tmp_path / "root.keys", RING.save, KeyRing.load),
        (tmp_path / "crm.keys", ROOT_KEY_KEYS.save, AudienceKeys.load),
    ):
        save(path)
        path.chmod(mode)
        with pytest.raises(KeyProblem, match="chmod 600"):
            load(path)
        path.chmod(0o400)
        load(path)


def test_a_key_file_is_never_overwritten_nor_through_a_link(tmp_path: Path) -> None:
    RING.save(tmp_path / "root.keys")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for taken in ("root.keys", "link"):
        with pytest.raises(KeyProblem, match=r"it is there already: choose another name, or remove it$"):
            KeyRing(OTHER, authority=AUTHORITY).save(tmp_path / taken)
    assert KeyRing.load(tmp_path / "root.keys").active.kid == ROOT_KEY.kid
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("text", FILES.values(), ids=list(FILES))
def test_any_other_file_is_refused_and_its_keys_not_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "crm.keys"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(KeyProblem) as caught:
        AudienceKeys.load(path)
    assert LINE.rsplit(" ", 1)[1][:20] not in str(caught.value)


@pytest.mark.parametrize("text", ROOT_FILES.values(), ids=list(ROOT_FILES))
def test_any_other_root_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "root.keys"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match=r"root\.keys"):
        KeyRing.load(path)


def test_the_line_that_is_no_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "root.keys"
    text = f"# the key of tests\n\n   \n{KeyRing(OTHER, authority=AUTHORITY).dump()}nonsense\n"
    path.write_text(text, encoding="ascii")
    path.chmod(0o600)
    number = len(text.splitlines())
    with pytest.raises(KeyProblem, match=rf"root\.keys, line {number}: "):
        KeyRing.load(path)
    path.write_text(text.replace("nonsense\n", ""), encoding="ascii")
    assert KeyRing.load(path).kids == (OTHER.kid,)


def test_keys_that_name_no_authority_are_refused(tmp_path: Path) -> None:
    root, crm = saved(tmp_path), tmp_path / "crm.keys"
    ROOT_KEY_KEYS.save(crm)
    for path in (root, crm):
        path.write_text(path.read_text().replace(NAMED, ""))
    with pytest.raises(KeyProblem, match=r"crm\.keys does not name its authority: .* capx keys export crm --out "):
        AudienceKeys.load(crm)
    with pytest.raises(KeyProblem, match=r"root\.keys does not name its authority: put the root keys back"):
        KeyRing.load(root)
    with pytest.raises(KeyProblem, match="does not name its authority"):
        KeyRing.change(root, lambda ring: ring.added(OTHER))
    # The line may stand anywhere.
    for path, load in ((root, KeyRing.load), (crm, AudienceKeys.load)):
        with path.open("a") as file:
            file.write(NAMED)
        assert load(path).authority == AUTHORITY


def test_a_changed_ring_names_the_same_authority(tmp_path: Path) -> None:
    path = saved(tmp_path)
    changes: list[Callable[[KeyRing], KeyRing]] = [
        lambda ring: ring.added(OTHER),
        lambda ring: ring.activated(OTHER.kid),
        lambda ring: ring.retired(ROOT_KEY.kid),
    ]
    for change in changes:
        assert KeyRing.change(path, change).authority == AUTHORITY
        assert KeyRing.load(path).exported("crm").authority == AUTHORITY


def test_keys_do_not_become_those_of_another_authority() -> None:
    with pytest.raises(KeyProblem, match="cannot replace"):
        ROOT_KEY_KEYS.become(KeyRing(OTHER, authority=OTHERS).audience_keys("crm"))


def test_what_cannot_be_read_is_named_as_a_key_file(tmp_path: Path) -> None:
    with pytest.raises(KeyProblem, match=r"^cannot read the key file .*/nothing: No such file or directory$"):
        KeyRing.load(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyProblem, match="so it cannot be a key file"):
        KeyRing.load(tmp_path / "pipe")


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(KeyProblem):
            KeyRing.load(path)


def test_a_root_key_under_another_kid_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "root.keys"
    path.write_text(ROOT_KEY.line().replace(ROOT_KEY.kid, OTHER.kid))
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match="kid"):
        KeyRing.load(path)


def test_a_key_file_of_another_audience_is_refused(tmp_path: Path) -> None:
    ROOT_KEY_KEYS.save(tmp_path / "crm.keys")
    with pytest.raises(KeyProblem):
        AudienceKeys.load(tmp_path / "crm.keys", "slides")


def test_a_change_replaces_the_file_whole_for_its_owner_alone(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = path.stat().st_ino
    changed = KeyRing.change(path, lambda ring: ring.added(OTHER))
    assert changed.kids == KeyRing.load(path).kids == (ROOT_KEY.kid, OTHER.kid)
    assert path.stat().st_ino != before
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["root.keys"]


def test_a_change_follows_a_link_and_leaves_it_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = saved(tmp_path / "elsewhere")
    link = tmp_path / "root.keys"
    link.symlink_to(path)
    KeyRing.change(link, lambda ring: ring.added(OTHER))
    assert link.is_symlink()
    assert KeyRing.load(path).kids == (ROOT_KEY.kid, OTHER.kid)


def test_a_change_that_raises_is_none(tmp_path: Path) -> None:
    path = saved(tmp_path)
    text = path.read_text()
    with pytest.raises(InvalidRequest):
        KeyRing.change(path, lambda ring: ring.retired(ROOT_KEY.kid))
    with pytest.raises(InvalidRequest):
        KeyRing.change(path, lambda ring: ring.activated(OTHER.kid))
    assert path.read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == ["root.keys"]


def test_what_a_change_cut_short_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (tmp_path / "root.keys.new").write_text("root half a li")
    KeyRing.change(path, lambda ring: ring.added(OTHER))
    assert KeyRing.load(path).kids == (ROOT_KEY.kid, OTHER.kid)
    assert [file.name for file in tmp_path.iterdir()] == ["root.keys"]


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    text = path.read_text()

    monkeypatch.setattr("os.fsync", disk_is_full)
    with pytest.raises(KeyProblem, match="No space left"):
        KeyRing.change(path, lambda ring: ring.added(OTHER))
    assert path.read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == ["root.keys"]


def test_a_change_gives_up_on_one_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    monkeypatch.setattr("capx.crypto.private_file._PATIENCE", 0.1)

    def twice(ring: KeyRing) -> KeyRing:
        return KeyRing.change(path, lambda inner: inner.added(OTHER))

    with pytest.raises(KeyProblem, match="another process is changing"):
        KeyRing.change(path, twice)
    assert KeyRing.load(path).kids == (ROOT_KEY.kid,)


def test_an_audiences_key_file_is_replaced_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "crm.keys"
    ring = RING
    ring.audience_keys("crm").save(path, replace=True)
    more = ring.added(OTHER).audience_keys("crm")
    with pytest.raises(KeyProblem, match="it is there already"):
        more.save(path)
    more.save(path, replace=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert AudienceKeys.load(path).get(OTHER.kid) is not None
    with pytest.raises(KeyProblem, match=r"cannot write .*crm\.keys: No such file"):
        more.save(tmp_path / "nowhere" / "crm.keys", replace=True)


def make_a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize("make", [make_a_pipe, make_a_socket, Path.mkdir])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_not_replaced(make: Callable[[Path], None], linked: bool, tmp_path: Path) -> None:
    path = named = tmp_path / "x"
    make(path)
    if linked:
        named = tmp_path / "link"
        named.symlink_to("x")
    before = path.lstat()
    with pytest.raises(KeyProblem, match="is not a regular file"):
        ROOT_KEY_KEYS.save(named, replace=True)
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert not list(tmp_path.glob("*.new"))


def test_a_key_file_replaced_through_links_is_where_they_lead(tmp_path: Path) -> None:
    (tmp_path / "svc").mkdir()
    file = tmp_path / "svc" / "crm.keys"
    ROOT_KEY_KEYS.save(file)
    first, second = tmp_path / "first", tmp_path / "svc" / "second"
    second.symlink_to("crm.keys")
    first.symlink_to("svc/second")
    KeyRing(ROOT_KEY, [OTHER], AUTHORITY).audience_keys("crm").save(first, replace=True)
    assert AudienceKeys.load(file).get(OTHER.kid) is not None
    assert first.is_symlink()
    assert second.is_symlink()


def test_a_link_that_leads_nowhere_or_to_itself_is_not_replaced(tmp_path: Path) -> None:
    nowhere, itself = tmp_path / "nowhere", tmp_path / "itself"
    nowhere.symlink_to("not there")
    itself.symlink_to("itself")
    for link, why in ((nowhere, "leads nowhere"), (itself, "leads through more than 40 links")):
        with pytest.raises(KeyProblem, match=why):
            ROOT_KEY_KEYS.save(link, replace=True)
        assert link.is_symlink()
    assert not (tmp_path / "not there").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_link_does_not_choose_what_is_overwritten(tmp_path: Path) -> None:
    file, link = saved(tmp_path), tmp_path / "his" / "crm.keys"
    text = file.read_text()
    link.parent.mkdir(0o755)
    link.symlink_to(file)
    os.chown(link, 65534, 65534, follow_symlinks=False)
    for change in (lambda: ROOT_KEY_KEYS.save(link, replace=True), lambda: KeyRing.change(link, lambda ring: ring)):
        with pytest.raises(KeyProblem, match="a link of another user"):
            change()
    assert file.read_text() == text
    assert link.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_is_replaced_stays_its_owners(tmp_path: Path) -> None:
    path = saved(tmp_path)
    os.chown(path, 65534, 65534)
    KeyRing.change(path, lambda ring: ring.added(OTHER))
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("link", [False, True])
def test_a_file_that_anybody_could_have_put_there_gets_no_key(tmp_path: Path, link: bool) -> None:
    tmp_path.chmod(0o777)
    path = tmp_path / "crm.keys"
    if link:
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("mine")
    os.chown(path, 65534, 65534, follow_symlinks=False)
    with pytest.raises(KeyProblem, match="belongs to another user, in a folder that others can write to"):
        ROOT_KEY_KEYS.save(path, replace=True)
    assert [file.name for file in tmp_path.iterdir()] == ["crm.keys"]


def test_a_pipe_as_a_key_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "root.keys", 0o600)
    with pytest.raises(KeyProblem, match="not a regular file"):
        KeyRing.load(tmp_path / "root.keys")
    with pytest.raises(KeyProblem, match="not a regular file"):
        AudienceKeys.load(tmp_path / "root.keys")


def test_a_huge_file_is_no_key_file(tmp_path: Path) -> None:
    path = tmp_path / "root.keys"
    path.touch(mode=0o600)
    os.truncate(path, 2**40)
    with pytest.raises(KeyProblem, match="is larger than any key file, which has at most 1048576 bytes"):
        KeyRing.load(path)


@pytest.mark.parametrize("before", ["", "  ", "# the planner's\n", "\n\n"])
@pytest.mark.parametrize("line", [LINE, f"agent planner {43 * 'A'}", ROOT_KEY.line()])
def test_the_text_of_a_key_file_is_known_as_one(before: str, line: str) -> None:
    assert is_text(f"{before}{line}\n")
    assert is_text(before + line.replace(" ", "\t"))


@pytest.mark.parametrize("text", ["agent planner", "agents/planner.key", f"ed25519:{43 * 'A'}", 43 * "A", ""])
def test_what_names_a_key_is_no_text_of_one(text: str) -> None:
    assert not is_text(text)


@pytest.mark.parametrize("part", ["\n", " ", "agent ", "agent a ", "agent a\n"])
@pytest.mark.timeout(20)
def test_a_long_text_is_looked_at_once(part: str) -> None:
    assert not is_text(part * 1_000_000)
