"""One try goes by URL or by command, and ends when the server stops."""

import threading
import time
from pathlib import Path

import pytest

from capx.server.notify.delivery import Delivery
from capx.server.notify.hook import SECONDS, Hook, NotTaken
from tests.labs.hooks import Receiver, hangs, notice, script


def test_a_notice_goes_to_the_url_or_to_the_command(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Receiver() as receiver:
        said = notice()
        Delivery(receiver.hook()).deliver(said)
        Delivery(Hook(name="desk", command=(script(tmp_path, f"#!/bin/sh\n/bin/cat > {out}"),))).deliver(said)
        assert [body for _, body in receiver.got] == [out.read_bytes()] == [said.body]


def test_a_stop_ends_a_try_that_hangs() -> None:
    stopping = threading.Event()
    with Receiver() as receiver:
        receiver.behaviour = hangs
        threading.Timer(0.5, stopping.set).start()
        began = time.monotonic()
        with pytest.raises(NotTaken, match="the server stops"):
            Delivery(receiver.hook(), stopped=stopping.is_set).deliver(notice())
        assert time.monotonic() - began < SECONDS / 2


def test_a_process_without_open_files_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with Receiver() as receiver:
        monkeypatch.setattr("asyncio.Runner", none)
        monkeypatch.setattr("tempfile.TemporaryFile", none)
        for hook in (receiver.hook(), Hook(name="desk", command=("/bin/true",))):
            with pytest.raises(NotTaken, match="it cannot be tried here: Too many open files"):
                Delivery(hook).deliver(notice())
