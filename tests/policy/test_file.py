"""The file as the authority uses it: what it is at every moment, or nothing."""

import hashlib
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from capx.crypto.base64url import b64u
from capx.errors import ConfigurationProblem
from capx.policy.file import PolicyFile, read_policy
from capx.policy.policy import NO_POLICY
from tests.labs.policies import POLICY, changed, intent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY, encoding="utf-8")
    file.chmod(0o600)
    return file


def test_a_policy_is_named_by_the_bytes_of_its_file() -> None:
    assert read_policy(POLICY).digest == b64u(hashlib.sha256(POLICY.encode()).digest())
    assert read_policy(POLICY.encode()).digest == read_policy(POLICY).digest
    assert read_policy(POLICY + "\n").digest != read_policy(POLICY).digest


def test_no_file_is_no_policy_and_a_new_one_is_taken(tmp_path: Path) -> None:
    policy = PolicyFile(tmp_path / "policy.toml")
    assert policy() is NO_POLICY
    (tmp_path / "policy.toml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "policy.toml").chmod(0o600)
    assert policy().digest == read_policy(POLICY).digest
    (tmp_path / "policy.toml").unlink()
    assert policy() is NO_POLICY


def test_a_file_that_was_left_alone_is_not_opened_again(path: Path) -> None:
    opened: list[str] = []

    def note(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and args[0] == str(path):
            opened.append(event)

    sys.addaudithook(note)
    policy = PolicyFile(path)
    first = policy()
    # Until the clock has left the change behind, whatever its ticks.
    while time.time() < path.stat().st_ctime + 2.1:
        assert policy() is first
        time.sleep(0.05)
    policy()
    before = len(opened)
    assert before > 1
    assert all(policy() is first for _ in range(100))
    assert len(opened) == before


def test_a_file_written_in_place_counts_from_the_next_use(path: Path) -> None:
    policy = PolicyFile(path)
    assert policy().purposes["qbr"].ttl == 7200
    path.write_text(changed('ttl = "2h"', 'ttl = "1h"'), encoding="utf-8")
    assert policy().purposes["qbr"].ttl == 3600


def test_a_file_of_the_same_size_and_times_in_its_place_counts(path: Path) -> None:
    policy = PolicyFile(path)
    assert policy().purposes["qbr"].ttl == 7200
    before = path.stat()
    other = path.with_name("other")
    other.write_text(changed('ttl = "2h"', 'ttl = "1h"'), encoding="utf-8")
    other.chmod(0o600)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert policy().purposes["qbr"].ttl == 3600


def test_two_changes_within_a_tick_of_the_clock_both_count(path: Path) -> None:
    policy = PolicyFile(path)
    for hours in (1, 2) * 50:
        path.write_text(changed('ttl = "2h"', f'ttl = "{hours}h"'), encoding="utf-8")
        assert policy().purposes["qbr"].ttl == 3600 * hours


def test_a_file_that_became_ill_formed_stops_every_later_use(path: Path) -> None:
    policy = PolicyFile(path)
    terms = policy().terms(intent())
    path.write_text(changed('ttl = "2h"', 'tll = "2h"'), encoding="utf-8")
    for _ in range(3):
        with pytest.raises(ConfigurationProblem, match=r"policy\.toml: purpose\.qbr\.tll: unknown key"):
            policy()
    path.write_text(POLICY, encoding="utf-8")
    assert policy().terms(intent()) == terms


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o660])
def test_a_file_that_others_may_write_is_refused(path: Path, mode: int) -> None:
    policy = PolicyFile(path)
    policy()
    path.chmod(mode)
    with pytest.raises(ConfigurationProblem, match="may be changed by others: chmod go-w"):
        policy()
    path.chmod(0o644)
    policy()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    policy = PolicyFile(path)
    policy()
    os.chown(path, 12345, 12345)
    with pytest.raises(ConfigurationProblem, match="belongs to another user"):
        policy()


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationProblem, match="is not a regular file"):
        PolicyFile(tmp_path / "pipe")()
    with pytest.raises(ConfigurationProblem, match="is a folder: name the policy in it"):
        PolicyFile(tmp_path)()


def test_a_place_that_cannot_be_looked_at_is_no_missing_file(path: Path) -> None:
    with pytest.raises(ConfigurationProblem, match="cannot be read: Not a directory"):
        PolicyFile(path / "policy.toml")()


def test_threads_see_one_policy_or_the_other(path: Path) -> None:
    policy = PolicyFile(path)
    over = threading.Event()
    seen: set[int] = set()

    def use() -> None:
        while not over.is_set():
            seen.add(policy().terms(intent()).ttl)

    with ThreadPoolExecutor(4) as pool:
        using = [pool.submit(use) for _ in range(4)]
        for hours in (1, 2) * 25:
            draft = path.with_name("draft")
            draft.write_text(changed('ttl = "2h"', f'ttl = "{hours}h"'), encoding="utf-8")
            draft.chmod(0o600)
            draft.replace(path)
            assert policy().purposes["qbr"].ttl == 3600 * hours
        over.set()
    for each in using:
        each.result()
    assert seen <= {3600, 7200}


def test_a_policy_behind_a_link_of_ours_is_used(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.toml").symlink_to(path.name)
    assert PolicyFile(tmp_path / "link.toml")().digest == read_policy(POLICY).digest


def test_a_link_that_leads_nowhere_is_not_no_policy(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").symlink_to(tmp_path / "gone.toml")
    with pytest.raises(ConfigurationProblem, match="is a link that leads nowhere"):
        PolicyFile(tmp_path / "policy.toml")()


def test_a_link_that_leads_to_itself_is_not_no_policy(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").symlink_to(tmp_path / "policy.toml")
    with pytest.raises(ConfigurationProblem):
        PolicyFile(tmp_path / "policy.toml")()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes links of others")
def test_a_link_of_another_user_does_not_choose_the_policy(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.toml").symlink_to(path)
    os.lchown(tmp_path / "link.toml", 65534, 65534)
    with pytest.raises(ConfigurationProblem, match="is a link of another user"):
        PolicyFile(tmp_path / "link.toml")()
