"""A server that is a child process: how it starts, and how it ends."""

import asyncio
import os
import sys
import time

import pytest

from capx.api.jsonrpc import Request
from capx.api.relay.child import Child, environment_of_child
from capx.api.relay.connection import Gone
from capx.errors import ConfigurationProblem


def started(*code: str, patience: float = 2.0) -> "asyncio.Future[Child]":
    return asyncio.ensure_future(Child.start([sys.executable, "-c", ";".join(code)], patience=patience))


def test_lines_come_and_messages_go() -> None:
    async def main() -> None:
        child = await started("import sys", "print(sys.stdin.readline().strip(), flush=True)")
        await child.send(Request(1, "ping"))
        assert await child.receive() == b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
        assert await child.receive() is None
        assert child.ending() == "has ended with exit status 0"
        await child.close()
        await child.close()

    asyncio.run(main())


def test_what_is_sent_to_a_child_that_has_ended_is_gone() -> None:
    async def main() -> None:
        child = await started("import os", "os._exit(9)")
        assert await child.receive() is None
        with pytest.raises(Gone, match="the server has ended with exit status 9"):
            await asyncio.gather(*(child.send(Request(nth, "ping")) for nth in range(3)))
        await child.close()

    asyncio.run(main())


def test_a_child_that_ignores_sigterm_is_killed() -> None:
    async def main() -> None:
        ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
        child = await started("import signal, time", ignore, "print(flush=True)", "time.sleep(60)", patience=0.3)
        assert child.pid != os.getpid()
        began = time.monotonic()
        await child.close()
        assert time.monotonic() - began < 10
        assert child.ending() == "was ended by signal 9"

    asyncio.run(main())


def test_who_is_in_a_hurry_does_not_wait_for_the_first_step() -> None:
    async def main() -> None:
        child = await started("import time", "time.sleep(60)", patience=60)
        closing = asyncio.create_task(child.close())
        await asyncio.sleep(0.1)
        child.hurry()
        await asyncio.wait_for(closing, 20)
        assert child.ending() == "was ended by signal 15"

    asyncio.run(main())


def test_a_command_that_is_none_cannot_be_started() -> None:
    for command in (["/nowhere"], ["a\0b"]):
        with pytest.raises(ConfigurationProblem, match="cannot start"):
            asyncio.run(Child.start(command))


def test_a_child_gets_no_variable_of_capx() -> None:
    assert environment_of_child({"CAPX_TOKEN": "secret", "PATH": "/bin", "XCAPX_A": "1"}) == {
        "PATH": "/bin",
        "XCAPX_A": "1",
    }
