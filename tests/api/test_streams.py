"""Standard input and output of a process as a client: pipes, files and devices, and as they were before at the end."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from capx.api.jsonrpc import Notification, read_message, write_message
from capx.api.relay.connection import Gone
from capx.api.relay.streams import Streams, own_streams

ECHO = """
import asyncio, os, sys
from capx.api.jsonrpc import read_message
from capx.api.relay.streams import own_streams

async def main():
    before = [os.get_blocking(number) for number in (0, 1)]
    async with own_streams(1000) as client:
        while (line := await client.receive()) is not None:
            await client.send(read_message(line))
    assert [os.get_blocking(number) for number in (0, 1)] == before
    print("end", file=sys.stderr)

asyncio.run(main())
"""
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'


def run(**streams: object) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-W", "error", "-c", ECHO]
    return subprocess.run(command, stderr=subprocess.PIPE, timeout=30, check=False, **streams)  # type: ignore[call-overload,no-any-return]


@contextmanager
def as_own(own_input: int, own_output: int) -> Generator[None]:
    """Make these the standard input and output of this process for a while."""
    kept = [os.dup(number) for number in (0, 1)]
    os.dup2(own_input, 0)
    os.dup2(own_output, 1)
    try:
        yield
    finally:
        for number, before in enumerate(kept):
            os.dup2(before, number)
            os.close(before)


async def echo(most: int = 1000) -> None:
    async with own_streams(most) as client:
        while (line := await client.receive()) is not None:
            await client.send(read_message(line))


@contextmanager
def pipes() -> Generator[tuple[int, int, int, int]]:
    """An input with its other end, and an output with its other end."""
    (own_input, to_it), (from_it, own_output) = os.pipe(), os.pipe()
    numbers = own_input, to_it, own_output, from_it
    try:
        yield numbers
    finally:
        for number in numbers:
            with suppress(OSError):
                os.close(number)


def test_this_process_is_a_client_over_pipes() -> None:
    with pipes() as (own_input, to_it, own_output, from_it):
        os.write(to_it, PING * 3)
        os.close(to_it)
        with as_own(own_input, own_output):
            asyncio.run(asyncio.wait_for(echo(), 20))
        assert os.get_blocking(own_input)
        assert os.get_blocking(own_output)
        assert os.read(from_it, 1000) == PING * 3


def test_this_process_is_a_client_over_a_socket() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(PING * 3)
        there.shutdown(socket.SHUT_WR)
        with as_own(here.fileno(), here.fileno()):
            asyncio.run(asyncio.wait_for(echo(), 20))
        assert os.get_blocking(here.fileno())
        assert there.recv(1000) == PING * 3


def test_this_process_is_a_client_over_files(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(PING * 3)
    with (
        (tmp_path / "in").open("rb") as sent,
        (tmp_path / "out").open("wb") as got,
        as_own(sent.fileno(), got.fileno()),
    ):
        asyncio.run(asyncio.wait_for(echo(), 20))
    assert (tmp_path / "out").read_bytes() == PING * 3


def test_what_was_sent_is_written_when_the_block_ends() -> None:
    message = Notification("a", {"text": "x" * 100_000})
    found: list[bytes] = []

    async def send() -> None:
        async with own_streams() as client:
            await client.send(message)

    with pipes() as (own_input, _, own_output, from_it):

        def read() -> None:
            time.sleep(0.05)
            while data := os.read(from_it, 1 << 16):
                found.append(data)

        reader = threading.Thread(target=read)
        reader.start()
        with as_own(own_input, own_output):
            asyncio.run(asyncio.wait_for(send(), 20))
        os.close(own_output)
        reader.join(20)
    assert b"".join(found) == write_message(message) + b"\n"


def test_a_client_that_cannot_be_written_to_is_gone() -> None:
    async def send_some(client: Streams) -> None:
        for _ in range(5):
            await client.send(Notification("a"))
            await asyncio.sleep(0.01)

    async def send() -> None:
        async with own_streams() as client:
            for _ in range(2):
                with pytest.raises(Gone, match="the client does not read any more"):
                    await send_some(client)
            await client.send(Notification("a"))

    with pipes() as (own_input, _, own_output, from_it):
        os.close(from_it)
        with as_own(own_input, own_output), pytest.raises(Gone, match="the client does not read any more"):
            asyncio.run(send())
        with (
            Path("/dev/full").open("wb") as full,
            as_own(own_input, full.fileno()),
            pytest.raises(Gone, match=r"the client does not read any more \(OSError\)"),
        ):
            asyncio.run(send())


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_client_that_says_nothing_holds_up_no_end(kind: str) -> None:
    async def receive() -> None:
        async with own_streams() as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.receive(), 0.02)

    here, there = socket.socketpair()
    with here, there, pipes() as (own_input, to_it, own_output, _):

        def say() -> None:
            os.write(to_it, PING)
            there.sendall(PING)

        # A thread that reads would keep this process until something comes.
        late = threading.Timer(3, say)
        late.start()
        began = time.monotonic()
        with as_own(own_input if kind == "pipe" else here.fileno(), own_output):
            asyncio.run(receive())
        assert time.monotonic() - began < 2
        late.cancel()
        late.join()


def test_pipes_carry_messages() -> None:
    done = run(input=PING * 3, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, PING * 3, b"end\n")


def test_files_carry_messages_too(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(PING + PING.strip())
    with (tmp_path / "in").open("rb") as sent, (tmp_path / "out").open("wb") as got:
        done = run(stdin=sent, stdout=got)
    assert (done.returncode, done.stderr) == (0, b"end\n")
    assert (tmp_path / "out").read_bytes() == PING * 2


def test_no_input_is_the_end() -> None:
    done = run(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, b"end\n")


def test_an_output_that_nobody_reads_is_gone() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run(input=PING * 2, stdout=write)
    finally:
        os.close(write)
    assert done.returncode == 1
    assert b"Gone: the client does not read any more" in done.stderr


@pytest.mark.parametrize("count", [2_000])
def test_a_slow_reader_gets_every_message(count: int) -> None:
    script = f"exec {sys.executable} -c '{ECHO}' | (sleep 0.5; wc -l)"
    done = subprocess.run(["bash", "-c", script], input=PING * count, capture_output=True, timeout=60, check=True)
    assert int(done.stdout) == count
