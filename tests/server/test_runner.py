"""Each hook is told of everything, in order and by itself, whatever its receiver does."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.authority.requests.verdict import Verdict
from capx.authority.restore import restore
from capx.errors import StoreProblem
from capx.server.notify import runner
from capx.server.notify.delivery import Delivery
from capx.server.notify.figures import Figures
from capx.server.notify.hook import Hook
from capx.server.notify.notices import Notices
from capx.server.notify.runner import LOOK_EVERY, PAUSE, HookRunner
from capx.store.backup import backup
from tests.labs.hooks import Receiver, hangs, script, status
from tests.labs.inbox import opened
from tests.labs.postgres import shared_server
from tests.labs.telling import Telling
from tests.labs.waiting import until


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def telling(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Telling]:
    if request.param == "SQLite":
        yield Telling(tmp_path)
        return
    database = shared_server().database()
    yield Telling(tmp_path, store=shared_server().url(database))
    shared_server().give_back(database)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other quickly."""
    monkeypatch.setattr(runner, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(runner, "PAUSE", 0.1)


def requests(receiver: Receiver) -> list[Any]:
    return [one["request"] for one in receiver.told]


def test_what_happens_is_told_in_its_order(telling: Telling) -> None:
    with Receiver() as receiver, telling.told(receiver.hook()):
        asked = [telling.ask() for _ in range(5)]
        until(lambda: requests(receiver) == asked)
        # The runner counts a notice after its receiver has taken it.
        until(lambda: telling.outcome("delivered") == 5)
        assert telling.figure("capx_hook_lag_seconds", hook="pager") == 0


def test_a_new_hook_begins_at_the_end_of_the_log(telling: Telling) -> None:
    telling.ask()
    with Receiver() as receiver, telling.told(receiver.hook()):
        after = telling.ask()
        until(lambda: requests(receiver) == [after])


def test_a_hook_goes_on_where_it_was_told(telling: Telling) -> None:
    with Receiver() as receiver:
        with telling.told(receiver.hook()):
            first = telling.ask()
            until(lambda: receiver.told)
        meanwhile = telling.ask()
        with telling.told(receiver.hook()):
            until(lambda: len(receiver.got) == 2)
            last = telling.ask()
            until(lambda: len(receiver.got) == 3)
        assert requests(receiver) == [first, meanwhile, last]


def test_a_hook_that_was_told_of_nothing_goes_on_too(telling: Telling) -> None:
    with Receiver() as receiver:
        with telling.told(receiver.hook()):
            pass
        meanwhile = telling.ask()
        with telling.told(receiver.hook()):
            until(lambda: requests(receiver) == [meanwhile])


@pytest.mark.usefixtures("quick")
def test_a_notice_is_repeated_with_the_same_id_until_it_is_taken(telling: Telling) -> None:
    with Receiver() as receiver, telling.told(receiver.hook()):
        receiver.behaviour = status(503)
        asked = [telling.ask(), telling.ask()]
        until(lambda: len(receiver.got) >= 3)
        until(lambda: telling.figure("capx_hook_lag_seconds", hook="pager") > 0)
        receiver.behaviour = status(200)
        until(lambda: telling.outcome("delivered") == 2)
        assert list(dict.fromkeys(requests(receiver))) == asked
        tries = [headers["webhook-id"] for headers, _ in receiver.got if headers]
        assert len(set(tries)) == 2
        assert len({body for _, body in receiver.got}) == 2
        assert telling.outcome("failed") == len(tries) - 2


class Waiting(threading.Event):
    """Waits no time, asks at the first wait, and stops at the twentieth."""

    def __init__(self, telling: Telling) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._telling = telling

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        if not self.pauses:
            self._telling.ask()
        self.pauses.append(timeout)
        if len(self.pauses) == 20:
            self.set()
        return self.is_set()


def test_the_pause_grows_up_to_its_bound_and_varies(telling: Telling) -> None:
    waiting = Waiting(telling)
    with Receiver() as receiver, Authority.open_home(telling.office.home) as authority:
        receiver.behaviour = status(500)
        hook = receiver.hook()
        HookRunner(hook, authority, Delivery(hook), Figures(telling.registry), waiting).run()
    first, *pauses, _ = waiting.pauses
    assert first == LOOK_EVERY
    assert all(min(PAUSE, 2**nth) / 2 <= pause <= min(PAUSE, 2**nth) for nth, pause in enumerate(pauses))
    assert max(pauses) > PAUSE / 2
    assert len(set(pauses[10:])) > 5


@pytest.mark.usefixtures("quick")
def test_what_was_answered_meanwhile_is_passed_over(telling: Telling) -> None:
    hooked: dict[str, Any] = {"kinds": frozenset({"request_waits"})}
    with Receiver() as receiver, telling.told(receiver.hook(**hooked)):
        receiver.behaviour = status(503)
        first, second = telling.ask(), telling.ask()
        until(lambda: receiver.got)
        with Authority.open_home(telling.office.home) as authority:
            inquiry = authority.inquiry(first)
            authority.answer(Verdict.sign(inquiry, telling.office.ben, yes=True, at=int(time.time())))
        until(lambda: telling.outcome("passed_over") == 1)
        receiver.behaviour = status(200)
        until(lambda: telling.outcome("delivered") == 1)
        assert requests(receiver)[-1] == second


@pytest.mark.usefixtures("quick")
def test_what_lapsed_meanwhile_is_passed_over(tmp_path: Path) -> None:
    telling = Telling(tmp_path, within="2s")
    hooked: dict[str, Any] = {"kinds": frozenset({"request_waits"})}
    with Receiver() as receiver, telling.told(receiver.hook(**hooked)):
        receiver.behaviour = status(503)
        telling.ask()
        until(lambda: telling.outcome("passed_over") == 1)
        assert telling.outcome("delivered") == 0


def test_a_hook_that_hangs_holds_up_no_other_and_no_writer(telling: Telling, tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = script(tmp_path, f"#!/bin/sh\n/bin/cat >> {out}\necho >> {out}\n")
    with Receiver(seed=1) as slow, Receiver(seed=2) as good:
        slow.behaviour = hangs
        desk = Hook(name="desk", command=(program,))
        with telling.told(slow.hook("slow"), good.hook("good"), desk):
            began = time.monotonic()
            asked = [telling.ask() for _ in range(5)]
            until(lambda: requests(good) == asked)
            until(lambda: out.exists() and out.read_text().count("\n") == 5)
            assert time.monotonic() - began < 8
            assert len(slow.got) == 1
            slow.closing.set()


@pytest.mark.usefixtures("quick")
def test_one_that_is_down_is_told_of_everything_later(telling: Telling) -> None:
    with Receiver() as receiver:
        hook, port = receiver.hook(), receiver.port
        with telling.told(hook):
            first = telling.ask()
            until(lambda: requests(receiver) == [first])
    with telling.told(hook):
        asked = [telling.ask() for _ in range(3)]
        until(lambda: telling.outcome("failed") >= 2)
        with Receiver(port=port) as back:
            until(lambda: requests(back) == asked)


def test_a_new_epoch_begins_at_the_end_of_its_log(tmp_path: Path) -> None:
    telling = Telling(tmp_path)
    home = telling.office.home
    with Receiver() as receiver:
        with telling.told(receiver.hook()):
            first = telling.ask()
            until(lambda: requests(receiver) == [first])
        telling.ask()
        with Authority.open_home(home) as authority:
            backup(authority.store, tmp_path / "saved.db")
        restore(tmp_path / "saved.db", str(home / "capx.db"))
        with telling.told(receiver.hook()):
            time.sleep(1)
            telling.bundle = opened(telling.office)
            last = telling.ask()
            until(lambda: len(receiver.got) > 1)
            assert requests(receiver) == [first, last]


def test_a_store_that_cannot_be_written_makes_no_notice_twice(
    telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: HookRunner) -> None:
        raise StoreProblem("it is full")

    with Receiver() as receiver, telling.told(receiver.hook()):
        with monkeypatch.context() as patched:
            patched.setattr(HookRunner, "_save", fail)
            asked = [telling.ask(), telling.ask()]
            until(lambda: len(receiver.got) == 2)
        asked.append(telling.ask())
        until(lambda: requests(receiver) == asked)


def test_an_unexpected_failure_is_logged_and_tried_again(
    telling: Telling, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "PAUSE", 0.05)
    failing = iter([True, True])

    def of(*args: Any) -> Any:
        if next(failing, False):
            raise ZeroDivisionError
        return real(*args)

    real: Any = Notices.of
    with Receiver() as receiver, telling.told(receiver.hook()):
        monkeypatch.setattr(Notices, "of", of)
        asked = telling.ask()
        until(lambda: requests(receiver) == [asked])
    assert [record.levelname for record in caplog.records].count("ERROR") == 2


def test_a_failure_is_noted_once_and_without_the_url(
    telling: Telling, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_FIRST_PAUSE", 0.02)
    with Receiver() as receiver:
        receiver.behaviour = status(500)
        with telling.told(receiver.hook()):
            telling.ask()
            until(lambda: len(receiver.got) >= 3)
    (only,) = [record.getMessage() for record in caplog.records if record.name == "capx.serve"]
    assert only == "the hook pager has not taken a notice, and is tried again: it answered HTTP 500"


def test_a_stop_waits_for_no_hook_that_hangs(telling: Telling) -> None:
    with Receiver() as receiver:
        receiver.behaviour = hangs
        with telling.told(receiver.hook()):
            telling.ask()
            until(lambda: receiver.got)
            began = time.monotonic()
        assert time.monotonic() - began < 5
