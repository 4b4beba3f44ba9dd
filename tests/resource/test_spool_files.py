"""The files of a spool: who may have made them, who has them, and what is at their end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capx.crypto.keys import KeyRing, RootKey
from capx.errors import ConfigurationProblem
from capx.resource.spool_files import MOST, SpoolFile, SpoolFolder
from tests.labs.small_disk import fill, small_disk
from tests.labs.waiting import until

RING = KeyRing(RootKey.generate(), authority="A" * 22)
KEYS = RING.exported("crm")


@pytest.fixture
def folder(tmp_path: Path) -> SpoolFolder:
    return SpoolFolder(tmp_path, KEYS)


def test_a_file_that_its_process_has_is_taken_over_by_nobody(folder: SpoolFolder) -> None:
    file = folder.create()
    file.append([b"1", b"2"])
    assert folder.orphans() == []
    file.close()
    (taken,) = folder.orphans()
    assert taken.path == file.path
    assert list(taken.lines()) == [b"1\n", b"2\n"]
    assert folder.orphans() == []
    taken.remove()
    assert list(folder.path.iterdir()) == []


def test_files_are_taken_over_from_the_oldest(folder: SpoolFolder) -> None:
    files = [folder.create() for _ in range(5)]
    for age, file in enumerate(files):
        os.utime(file.path, (1_000 - age, 1_000 - age))
        file.close()
    taken = folder.orphans()
    assert [file.path for file in taken] == [file.path for file in reversed(files)]
    for file in taken:
        file.remove()


def test_another_audience_or_authority_takes_over_nothing(folder: SpoolFolder, tmp_path: Path) -> None:
    folder.create().close()
    others = RING.exported("crm2"), KeyRing(RootKey.generate(), authority="B" * 22).exported("crm"), RING.exported("c")
    assert [SpoolFolder(tmp_path, keys).orphans() for keys in others] == [[], [], []]
    for file in folder.orphans():
        file.remove()


@pytest.mark.parametrize("where", ["", "nothing", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / where if where else tmp_path / "file" / "below"
    with pytest.raises(ConfigurationProblem, match="a spool needs a folder that only its service can write to"):
        SpoolFolder(place, KEYS)


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationProblem, match=r"may be changed by others: chmod go-w .*, or name a folder of its"):
        SpoolFolder(tmp_path, KEYS)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, 12_345)
    with pytest.raises(ConfigurationProblem, match="belongs to another user"):
        SpoolFolder(tmp_path, KEYS)
    os.chown(tmp_path, 0, 0)


@pytest.mark.parametrize("planted", ["link", "pipe", "folder", "mode", "owner"])
def test_a_planted_file_is_refused(folder: SpoolFolder, planted: str) -> None:
    file = folder.create()
    file.close()
    if planted == "mode":
        file.path.chmod(0o666)
    elif planted == "owner":
        if os.geteuid():
            pytest.skip("only root can give a file away")
        os.chown(file.path, 12_345, 12_345)
    else:
        file.path.unlink()
        make = {"link": lambda: file.path.symlink_to("/etc/passwd"), "pipe": lambda: os.mkfifo(file.path)}
        make.get(planted, file.path.mkdir)()
    with pytest.raises(ConfigurationProblem, match=r"crm\.A+\.[0-9a-f]{16}\.spool"):
        folder.orphans()


def test_a_file_that_cannot_grow_ends_with_a_whole_line(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        file = SpoolFolder(disk, KEYS).create()
        file.append([b"1" * 100])
        filler = fill(disk)
        with pytest.raises(OSError, match="No space left"):
            file.append([b"2" * 5_000] * 10)
        assert list(file.lines()) == [b"1" * 100 + b"\n"]
        filler.unlink()
        file.append([b"3"])
        assert list(file.lines()) == [b"1" * 100 + b"\n", b"3\n"]
        file.remove()


LIMITED = """
import resource, sys
from pathlib import Path
from capx.resource.spool_files import SpoolFile
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
file = SpoolFile(Path(sys.argv[1]))
file.append([b"1"])
try:
    file.append([b"2" * 9_000] * 5)
except OSError as error:
    print(error.strerror)
file.append([b"3"])
"""


def test_a_file_at_its_limit_ends_with_a_whole_line(folder: SpoolFolder) -> None:
    file = folder.create()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(file.path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "File too large\n"
    assert list(file.lines()) == [b"1\n", b"3\n"]
    file.remove()


def test_what_is_refused_is_appended(folder: SpoolFolder, caplog: pytest.LogCaptureFixture) -> None:
    folder.keep_refused(b"1", "too odd")
    folder.keep_refused(b"2", "too odd")
    (file,) = folder.path.iterdir()
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"1\n2\n", 0o600)
    assert f"a decision is in no log, but in {file}: too odd" in caplog.text
    assert folder.orphans() == []


def test_a_refused_line_that_was_cut_off_spoils_no_other(folder: SpoolFolder) -> None:
    folder.keep_refused(b"1", "too odd")
    (file,) = folder.path.iterdir()
    file.write_bytes(b"1\n2")
    folder.keep_refused(b"3", "too odd")
    assert file.read_bytes() == b"1\n2\n3\n"


def test_so_many_files_are_taken_over_at_once_and_no_more(folder: SpoolFolder) -> None:
    for _ in range(MOST + 3):
        folder.create().close()
    taken = folder.orphans()
    rest = folder.orphans()
    assert (len(taken), len(rest)) == (MOST, 3)
    for file in (*taken, *rest):
        file.remove()


def test_an_audience_whose_name_begins_as_this_one_is_another(tmp_path: Path) -> None:
    keys = KeyRing(RootKey.generate())
    other = SpoolFolder(tmp_path, keys.exported("crm.-"))
    other.create().close()
    assert SpoolFolder(tmp_path, keys.exported("crm")).orphans() == []
    (file,) = other.orphans()
    file.remove()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_keeps_no_file_locked(folder: SpoolFolder) -> None:
    file = folder.create()
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        file.close()
        # The child closes it as soon as it runs.
        (taken,) = until(folder.orphans, seconds=10)
        taken.remove()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_file_that_is_gone_can_be_removed(folder: SpoolFolder) -> None:
    file: SpoolFile = folder.create()
    file.path.unlink()
    file.remove()
    file.close()
