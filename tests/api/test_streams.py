"""Standard input and output of a process as a client: pipes, files and devices, and as they were before at the end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
