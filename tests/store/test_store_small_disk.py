"""A disk that is full, or may not be written any more: a clear error, and nothing lost or half done."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import StoreProblem
from capx.store.backup import backup
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import ToolCall
from capx_caveats import Call
from tests.labs.small_disk import fill, mount, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    # A full one is also tried with SQLite's own limit, where nobody may mount one.
    with small_disk(tmp_path) as folder:
        yield folder


@pytest.fixture
def authority(disk: Path) -> Iterator[Authority]:
    with Authority(SQLiteStore.create(disk / "capx.db"), KeyRing(RootKey.generate())) as authority:
        yield authority


def allowed(authority: Authority, token: str) -> bool:
    verifier = authority.verifier("crm", max_staleness=0.5)
    return verifier.explain(token, Call("crm.read")).allowed


def test_a_full_disk_is_told_and_nothing_answered_is_lost(disk: Path, authority: Authority) -> None:
    opened = [authority.open(allow=["crm.read"])]
    filler = fill(disk)
    problem: StoreProblem | None = None
    while problem is None:
        try:
            opened.append(authority.open(allow=["crm.read"]))
        except StoreProblem as found:
            problem = found
    assert "disk is full" in str(problem)
    with pytest.raises(StoreProblem, match="disk is full"):
        authority.complete(opened[0].id)
    assert [task.id for task in authority.tasks()] == [task.id for task in opened]
    assert all(task.state == "active" for task in authority.tasks())
    assert authority.check().position >= 3 * len(opened)
    assert allowed(authority, opened[0].bundle.text.split(",")[0])
    filler.unlink()
    assert authority.complete(opened[0].id).end == "completed"
    assert not allowed(authority, opened[0].bundle.text.split(",")[0])


def test_a_presentation_is_refused_while_the_disk_is_full(disk: Path, authority: Authority) -> None:
    token = next(iter(authority.open(allow=["crm.read"]).bundle))
    verifier, call = authority.verifier("crm"), ToolCall("crm.read", {})
    filler = fill(disk)
    codes: set[str] = set()
    for _ in range(10_000):
        decision = verifier.decide(token.present(call).text, call, Call("crm.read"))
        codes = {refusal.code for refusal in decision.refusals}
        if codes:
            break
    assert codes == {"unavailable"}
    filler.unlink()
    assert verifier.decide(token.present(call).text, call, Call("crm.read")).allowed
    assert authority.flush()
    assert authority.check().position > 3


def test_a_backup_that_finds_no_room_leaves_nothing(disk: Path, authority: Authority) -> None:
    for _ in range(20):
        authority.open(allow=["crm.read"])
    fill(disk)
    before = sorted(disk.iterdir())
    with pytest.raises(StoreProblem, match=r"disk is full|No space"):
        backup(authority.store, disk / "backup.db")
    assert sorted(disk.iterdir()) == before


def test_a_store_on_a_read_only_disk_is_read_and_nothing_is_lost(disk: Path, authority: Authority) -> None:
    task = authority.open(allow=["crm.read"])
    authority.close()
    assert mount("-o", "remount,ro", disk)
    with Authority(SQLiteStore(disk / "capx.db"), authority.keyring) as looking:
        assert [one.id for one in looking.tasks()] == [task.id]
        assert looking.check().position == 3
        with pytest.raises(StoreProblem, match="is read-only here, so nothing was written"):
            looking.complete(task.id)
    assert mount("-o", "remount,rw", disk)
    with Authority(SQLiteStore(disk / "capx.db"), authority.keyring) as again:
        assert again.complete(task.id).end == "completed"
        assert again.check().position > 3
