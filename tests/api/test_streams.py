"""Standard input and output of a process as a client: pipes, files and devices, and as they were before at the end."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from capx.api.jsonrpc import read_message
from capx.api.relay.streams import own_streams

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


@pytest.mark.parametrize("kind", ["pipes", "sockets", "files"])
def test_this_process_is_a_client_for_a_while(kind: str, tmp_path: Path) -> None:
    with ExitStack() as opened:
        if kind == "files":
            (tmp_path / "in").write_bytes(PING * 3)
            ends = [opened.enter_context((tmp_path / name).open(mode)) for name, mode in (("in", "rb"), ("out", "wb"))]
            numbers = [one.fileno() for one in ends]
        elif kind == "sockets":
            here, there = socket.socketpair()
            opened.enter_context(here)
            opened.enter_context(there)
            there.sendall(PING * 3)
            there.shutdown(socket.SHUT_WR)
            numbers = [here.fileno(), here.fileno()]
        else:
            (its_input, to_it), (from_it, its_output) = os.pipe(), os.pipe()
            for number in (its_input, from_it, its_output):
                opened.callback(os.close, number)
            os.write(to_it, PING * 3)
            os.close(to_it)
            numbers = [its_input, its_output]
        with as_own(*numbers):
            asyncio.run(asyncio.wait_for(echo(), 20))
        assert [os.get_blocking(number) for number in numbers] == [True, True]
        if kind == "files":
            assert (tmp_path / "out").read_bytes() == PING * 3
        else:
            found = there.recv(1000) if kind == "sockets" else os.read(from_it, 1000)
            assert found == PING * 3


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
