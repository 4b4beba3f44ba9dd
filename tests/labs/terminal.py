"""A terminal that a command writes to, and tokens that try to act on one."""

import os
import pty
import subprocess
import sys
from typing import Any

from capx.tokens import wire
from capx.tokens.chain import extend
from tests.cli.conftest import first
from tests.labs.processes import ended_with_test


def on_terminal(home: Any, token: str, *args: str, width: int = 80, **env: str) -> bytes:
    """The output of a command on a terminal with this many columns."""
    main, sub = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(sub, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = ended_with_test(
        subprocess.Popen(
            (sys.executable, "-m", "capx_cli.main", *args),
            env={**home.env, "TERM": "xterm-256color", "CAPX_TOKEN": token, **env},
            stdin=subprocess.DEVNULL,
            stdout=sub,
            stderr=sub,
        )
    )
    os.close(sub)
    said = b""
    try:
        while chunk := os.read(main, 65_536):
            said += chunk
    except OSError:
        pass  # how Linux says that the other side has closed
    os.close(main)
    process.wait(timeout=30)
    return said


def hostile(home: Any) -> str:
    """A token with tricks wherever bytes can be put, its MAC good."""
    opened = home("task", "open", "--tenant", "[red]Acme[/red]", "--allow", "crm.read").token
    token = first(opened).delegate(to="[bold]x[/bold] :smile:", allow=None)
    frame = wire.decode(token.text)
    blocks = list(frame.blocks)
    signature = frame.signature
    for raw in (
        '[["where","args.q",["eq","\x1b[2J\u202e\u200b[link=http://evil]\x9b31m\\n\\u001b[31mALLOWED"]]]'.replace(
            "\x1b", "\\u001b"
        ),
        '[["allow",[["crm.read",[["q",["in",["a\\r\\nALLOWED  everything\\u0000","\u2066\u2028"]]]]]]]]',
        '[["hop","agent\\u001b[31m\\nALLOWED\u202e","AAAAAAAAAAA"]]',
        '["\u202e\x7f not JSON',
    ):
        block = raw.encode()
        blocks.append(block)
        signature = extend(signature, block)
    return wire.encode(frame.identifier, tuple(blocks), signature)
