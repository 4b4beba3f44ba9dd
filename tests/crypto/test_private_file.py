"""Files that others may not read, or not change: real files, real permissions, a full disk, and kills."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from capx.crypto import private_file
from capx.crypto.private_file import (
    changing,
    create,
    explained,
    followed,
    locked,
    of_another_user,
    read_secret,
    read_trusted,
    replace,
    save,
    shown_to_others,
)
from capx.errors import ConfigurationProblem, KeyProblem
from tests.labs.small_disk import fill, small_disk

NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o777


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    create(path, lambda: b"old", KeyProblem)
    return path


# Reading


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666])
def test_a_secret_that_others_may_use_is_refused(file: Path, bits: int) -> None:
    file.chmod(bits)
    with pytest.raises(KeyProblem, match=f"secret may be read or changed by others: chmod 600 {file}$"):
        read_secret(file, KeyProblem, "key file")
    file.chmod(0o400)
    assert read_secret(file, KeyProblem, "key file") == b"old"


@pytest.mark.parametrize("bits", [0o620, 0o602, 0o666])
def test_a_trusted_file_that_others_may_change_is_refused(file: Path, bits: int) -> None:
    file.chmod(bits)
    with pytest.raises(ConfigurationProblem, match=f"may be changed by others: chmod go-w {file}$"):
        read_trusted(file, ConfigurationProblem, "policy")
    file.chmod(0o644)
    found, data = read_trusted(file, ConfigurationProblem, "policy")
    assert (found.st_ino, data) == (file.stat().st_ino, b"old")


@only_root
def test_a_trusted_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, NOBODY, NOBODY)
    with pytest.raises(ConfigurationProblem, match="belongs to another user, who may change it: chown it to the user"):
        read_trusted(file, ConfigurationProblem, "policy")


Reader = Callable[[Path], object]
READERS: list[Reader] = [
    lambda path: read_secret(path, KeyProblem, "key file"),
    lambda path: read_trusted(path, KeyProblem, "key file"),
]


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_is_refused_and_its_writer_not_waited_for(tmp_path: Path, reader: Reader) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(KeyProblem, match="is not a regular file, so it cannot be a key file"):
            reader(path)


@pytest.mark.parametrize("reader", READERS)
def test_a_folder_is_refused_with_what_to_name_instead(tmp_path: Path, reader: Reader) -> None:
    with pytest.raises(KeyProblem, match=f"{tmp_path} is a folder: name the key file in it"):
        reader(tmp_path)
    with pytest.raises(KeyProblem, match=f"cannot write {tmp_path}: it is a folder: name a file in it"):
        create(tmp_path, lambda: b"new", KeyProblem)


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_is_told_apart_from_a_refused_one(tmp_path: Path, reader: Reader) -> None:
    with pytest.raises(FileNotFoundError):
        reader(tmp_path / "nothing")


def test_no_more_is_read_than_was_asked_for(file: Path) -> None:
    assert read_secret(file, KeyProblem, "key file", 2) == b"ol"
    assert read_trusted(file, KeyProblem, "key file", 2)[1] == b"ol"


def test_a_link_that_appears_after_the_look_is_not_followed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    assert read_trusted(link, KeyProblem, "policy")[1] == b"old"

    def not_yet_a_link(path: Path, problem: object) -> Path:
        return path

    monkeypatch.setattr(private_file, "followed", not_yet_a_link)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        read_trusted(link, KeyProblem, "policy")


def test_a_trusted_name_that_leads_nowhere_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to("not there")
    with pytest.raises(KeyProblem, match="nowhere"):
        read_trusted(tmp_path / "nowhere", KeyProblem, "policy")


@pytest.mark.parametrize(("bits", "shown"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_file_is_shown_to_whom_its_mode_lets_read(file: Path, bits: int, shown: bool) -> None:
    file.chmod(bits)
    assert shown_to_others(file.lstat()) is shown


def test_the_mode_of_a_pipe_shows_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe").chmod(0o666)
    assert not shown_to_others((tmp_path / "pipe").lstat())


@only_root
@pytest.mark.parametrize(("owner", "other"), [(0, False), (1, True), (NOBODY, True)])
def test_only_root_and_this_user_are_no_other_user(file: Path, owner: int, other: bool) -> None:
    os.chown(file, owner, owner)
    assert of_another_user(file.lstat()) is other


# Links


def test_links_of_this_user_lead_to_the_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "second").symlink_to("../secret")
    (tmp_path / "first").symlink_to("folder/second")
    assert followed(tmp_path / "first", KeyProblem).samefile(file)
    assert followed(tmp_path / "nothing", KeyProblem) == tmp_path / "nothing"


def test_a_link_that_leads_nowhere_or_round_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to("not there")
    (tmp_path / "round").symlink_to("round")
    for name, why in (("nowhere", "leads nowhere"), ("round", "leads through more than 40 links")):
        with pytest.raises(KeyProblem, match=why):
            followed(tmp_path / name, KeyProblem)


@only_root
def test_a_link_of_another_user_is_refused_wherever_it_stands(file: Path, tmp_path: Path) -> None:
    his, ours = tmp_path / "his", tmp_path / "ours"
    his.symlink_to(file)
    ours.symlink_to(his)
    os.chown(his, NOBODY, NOBODY, follow_symlinks=False)
    for path in (his, ours):
        with pytest.raises(KeyProblem, match=f"{his} is a link of another user, who can lead it elsewhere"):
            followed(path, KeyProblem)


@only_root
def test_a_trap_in_a_shared_folder_is_not_replaced(file: Path, tmp_path: Path) -> None:
    os.chown(file, NOBODY, NOBODY)
    tmp_path.chmod(0o777)
    assert followed(file, KeyProblem) == file
    says = "belongs to another user, in a folder that others can write to"
    with pytest.raises(KeyProblem, match=says), changing(file, KeyProblem):
        pass
    with pytest.raises(KeyProblem, match=says):
        replace(file, lambda: b"new", KeyProblem)
    assert (file.read_bytes(), names(tmp_path)) == (b"old", ["secret"])


# A new file


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_a_new_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        create(tmp_path / "new", lambda: b"new", KeyProblem)
        replace(tmp_path / "other", lambda: b"new", KeyProblem)
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("new", "other")] == [0o600, 0o600]


def test_nothing_that_is_there_is_written_over(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("secret", "link"):
        with pytest.raises(KeyProblem, match=f"cannot write {tmp_path / name}: it is there already"):
            create(tmp_path / name, lambda: b"new", KeyProblem)
    assert (file.read_bytes(), names(tmp_path)) == (b"old", ["link", "secret"])


def test_a_new_file_and_its_name_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps_of(lambda: create(tmp_path / "new", lambda: b"new", KeyProblem), monkeypatch) == ["file", "folder"]


def test_a_whole_file_is_saved_over_another_one_only_on_demand(file: Path, tmp_path: Path) -> None:
    save(tmp_path / "new", lambda: b"new", KeyProblem, over=False)
    assert ((tmp_path / "new").read_bytes(), mode(tmp_path / "new")) == (b"new", 0o600)
    for path in (file, tmp_path):
        with pytest.raises(KeyProblem, match=f"^{path} is "):
            save(path, lambda: b"newer", KeyProblem, over=False)
    assert (file.read_bytes(), names(tmp_path)) == (b"old", ["new", "secret"])
    save(file, lambda: b"newer", KeyProblem, over=True)
    assert file.read_bytes() == b"newer"
    with pytest.raises(KeyProblem, match="is not a regular file: choose another name"):
        save(Path(), lambda: b"newer", KeyProblem, over=True)
    with pytest.raises(KeyProblem, match=f"cannot write {tmp_path}/gone/new: No such file"):
        save(tmp_path / "gone" / "new", lambda: b"newer", KeyProblem, over=True)


# In the place of an old one


def steps_of(write: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is put on the disk, and when a file gets its name."""
    steps: list[str] = []
    sync, rename = os.fsync, Path.replace

    def noted_sync(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def noted_rename(draft: Path, path: Path) -> Path:
        steps.append("rename")
        return rename(draft, path)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    write()
    return steps


def test_a_draft_is_on_the_disk_before_it_gets_its_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = steps_of(lambda: replace(file, lambda: b"new", KeyProblem), monkeypatch)
    assert steps == ["file", "rename", "folder"]
    assert file.read_bytes() == b"new"


def test_a_replaced_file_is_private_unless_its_mode_is_kept(file: Path) -> None:
    file.chmod(0o644)
    replace(file, lambda: b"new", KeyProblem, keep_mode=True)
    assert mode(file) == 0o644
    replace(file, lambda: b"newer", KeyProblem)
    assert mode(file) == 0o600


@only_root
def test_a_replaced_file_stays_its_owners(file: Path) -> None:
    os.chown(file, NOBODY, NOBODY)
    replace(file, lambda: b"new", KeyProblem)
    assert (file.stat().st_uid, file.stat().st_gid, mode(file)) == (NOBODY, NOBODY, 0o600)


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "folder", "link"):
        with pytest.raises(KeyProblem, match=f"{name} is not a regular file: choose another name"):
            replace(tmp_path / name, lambda: b"new", KeyProblem)
    assert names(tmp_path) == ["folder", "link", "pipe"]


def test_a_demand_that_refuses_last_leaves_the_old_file(file: Path, tmp_path: Path) -> None:
    drafts: list[bytes] = []

    def refuse() -> None:
        drafts.append((tmp_path / "secret.new").read_bytes())
        raise ConfigurationProblem("changed meanwhile")

    with pytest.raises(ConfigurationProblem, match="changed meanwhile"):
        replace(file, lambda: b"new", KeyProblem, demand=refuse)
    assert (drafts, file.read_bytes(), names(tmp_path)) == ([b"new"], b"old", ["secret"])


def test_readers_see_the_old_file_or_the_new_one_whole(file: Path) -> None:
    over = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not over.is_set():
            seen.add(read_secret(file, KeyProblem, "key file"))

    thread = threading.Thread(target=read)
    thread.start()
    for letter in (b"a", b"b") * 30:
        replace(file, lambda letter=letter: letter * 20_000, KeyProblem)  # type: ignore[misc]
    over.set()
    thread.join()
    assert seen <= {b"old", b"a" * 20_000, b"b" * 20_000}


# Failures


def interrupted(*_: object) -> bytes:
    raise KeyboardInterrupt


def disk_failure(_: object) -> None:
    raise OSError(5, "Input/output error")


def test_an_interrupt_leaves_no_new_file_and_no_draft(file: Path, tmp_path: Path) -> None:
    for write in (create, replace):
        for path in (tmp_path / "new", file):
            with pytest.raises((KeyboardInterrupt, KeyProblem)):
                write(path, interrupted, KeyProblem)
    with pytest.raises(KeyboardInterrupt):
        replace(file, lambda: b"new", KeyProblem, demand=interrupted)  # type: ignore[arg-type]
    assert (file.read_bytes(), names(tmp_path)) == (b"old", ["secret"])


def test_a_write_that_lost_its_file_ends_as_it_was(tmp_path: Path) -> None:
    def lose() -> bytes:
        (tmp_path / "new").unlink()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create(tmp_path / "new", lose, KeyProblem)


def test_a_draft_that_cannot_be_removed_hides_no_failure(file: Path, tmp_path: Path) -> None:
    def bar() -> None:
        (tmp_path / "secret.new").unlink()
        (tmp_path / "secret.new").mkdir()
        raise ConfigurationProblem("changed meanwhile")

    with pytest.raises(ConfigurationProblem, match="changed meanwhile"):
        replace(file, lambda: b"new", KeyProblem, demand=bar)


def test_a_full_disk_leaves_no_new_file_and_no_draft(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        old = disk / "old"
        create(old, lambda: b"old", KeyProblem)
        filler = fill(disk)
        saving = partial(save, over=False)
        for write, path in ((create, disk / "new"), (saving, disk / "new"), (replace, old)):
            with pytest.raises(KeyProblem, match=f"cannot write {path}: No space left on device"):
                write(path, lambda: b"x" * 100_000, KeyProblem)
        assert (old.read_bytes(), names(disk)) == (b"old", ["filler", "old"])
        filler.unlink()
        replace(old, lambda: b"x" * 100_000, KeyProblem)
        assert old.stat().st_size == 100_000


def test_a_disk_that_fails_to_sync_leaves_nothing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", disk_failure)
    for write, path in ((create, tmp_path / "new"), (replace, file)):
        with pytest.raises(KeyProblem, match="Input/output error"):
            write(path, lambda: b"new", KeyProblem)
    assert (file.read_bytes(), names(tmp_path)) == (b"old", ["secret"])


def test_a_folder_that_fails_to_sync_leaves_no_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_file, "sync", disk_failure)
    with pytest.raises(KeyProblem, match=r"^cannot write .*/new: Input/output error$"):
        create(tmp_path / "new", lambda: b"new", KeyProblem)
    monkeypatch.setattr(private_file, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        create(tmp_path / "new", lambda: b"new", KeyProblem)
    assert names(tmp_path) == []


def test_a_file_that_cannot_be_removed_hides_no_failed_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(path: Path) -> None:
        raise PermissionError(f"cannot remove {path}")

    monkeypatch.setattr(private_file, "sync", disk_failure)
    monkeypatch.setattr(Path, "unlink", kept)
    with pytest.raises(KeyProblem, match="Input/output error"):
        create(tmp_path / "new", lambda: b"new", KeyProblem)


def test_a_last_sync_that_fails_says_the_new_file_is_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_file, "sync", disk_failure)
    says = "was written, but its folder could not be synced: it may be lost in a crash: Input/output error"
    with pytest.raises(KeyProblem, match=f"^{file} {says}$"):
        replace(file, lambda: b"new", KeyProblem)
    assert (file.read_bytes(), names(file.parent)) == (b"new", ["secret"])
    monkeypatch.setattr(private_file, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(file, lambda: b"newer", KeyProblem)
    assert (file.read_bytes(), names(file.parent)) == (b"newer", ["secret"])


def test_a_problem_says_what_failed_and_why(tmp_path: Path) -> None:
    with pytest.raises(KeyProblem, match=r"^cannot write .*/none/new: No such file or directory$"):
        create(tmp_path / "none" / "new", lambda: b"", KeyProblem)
    with pytest.raises(KeyProblem, match=r"^cannot listen: too long$"), explained(KeyProblem, "cannot listen"):
        raise OSError("too long")


# Crashes

DYING = """
import os, signal, sys
from pathlib import Path
from capx.crypto import private_file
from capx.errors import KeyProblem

path, point = Path(sys.argv[1]), sys.argv[2]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dump():
    return die() if point == "written" else b"new"

def demand():
    if point == "renamed":
        die()
    elif point == "synced":
        private_file.sync = lambda folder: die()

with private_file.changing(path, KeyProblem) as file:
    private_file.replace(file, dump, KeyProblem, demand=demand)
"""


@pytest.mark.parametrize(
    ("point", "then", "left"),
    [("written", b"old", [b""]), ("renamed", b"old", [b"new"]), ("synced", b"new", [])],
)
def test_a_kill_leaves_one_whole_file(file: Path, tmp_path: Path, point: str, then: bytes, left: list[bytes]) -> None:
    done = subprocess.run((sys.executable, "-c", DYING, file, point), check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_secret(file, KeyProblem, "key file") == then
    drafts = list(tmp_path.glob("*.new"))
    assert [draft.read_bytes() for draft in drafts] == left
    assert {mode(draft) for draft in drafts} <= {0o600}
    with changing(file, KeyProblem) as found:
        replace(found, lambda: b"next", KeyProblem)
    assert (file.read_bytes(), names(tmp_path)) == (b"next", ["secret"])


ENDLESS = """
import sys
from itertools import cycle
from pathlib import Path
from capx.crypto.private_file import changing, replace
from capx.errors import KeyProblem

for letter in cycle((b"a", b"b")):
    with changing(Path(sys.argv[1]), KeyProblem) as file:
        replace(file, lambda: letter * 200_000, KeyProblem)
    print(flush=True)
"""


def test_a_kill_at_any_instant_leaves_one_whole_file(file: Path) -> None:
    for milliseconds in range(12):
        with subprocess.Popen((sys.executable, "-c", ENDLESS, file), stdout=subprocess.PIPE) as writing:
            assert writing.stdout is not None
            writing.stdout.readline()
            time.sleep(milliseconds / 1_000)
            writing.kill()
        assert read_secret(file, KeyProblem, "key file") in {b"a" * 200_000, b"b" * 200_000}


# One at a time


def test_two_cannot_change_one_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_file, "_PATIENCE", 0.1)
    with changing(file, KeyProblem) as found:
        assert found == file
        says = "another process is changing .*other: try again"
        with pytest.raises(ConfigurationProblem, match=says), locked(tmp_path / "other", ConfigurationProblem):
            pass
    with pytest.raises(KeyboardInterrupt), changing(file, KeyProblem):
        interrupted()
    with changing(file, KeyProblem):
        pass


def test_a_change_waits_for_another_one_to_end(file: Path) -> None:
    inside, order = threading.Event(), list[str]()

    def hold() -> None:
        with locked(file, KeyProblem):
            inside.set()
            time.sleep(0.2)
            order.append("first")

    holding = threading.Thread(target=hold)
    holding.start()
    inside.wait(10)
    with locked(file, KeyProblem):
        order.append("second")
    holding.join()
    assert order == ["first", "second"]


def test_an_error_within_a_change_is_what_it_was(file: Path) -> None:
    with pytest.raises(TimeoutError), changing(file, KeyProblem):
        raise TimeoutError


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_is_forked_meanwhile_keeps_no_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "file", ConfigurationProblem):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        began = time.monotonic()
        with locked(tmp_path / "file", ConfigurationProblem):
            assert time.monotonic() - began < 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
