"""Checking which user's process listens on a Unix socket.

Law: the client sends nothing to a process of another user. Root is the exception, because root can read everything.
"""

import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

from capx.errors import ConfigurationProblem

CONNECTED: Final = "connection.connect_unix_socket.complete"
_CREDENTIALS = struct.Struct("3i")


def demand_own(connected: socket.socket) -> None:
    """Raise ConfigurationProblem if the process of another user listens there. Only Linux can check it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    if user not in {os.geteuid(), 0}:
        raise ConfigurationProblem(
            f"user {user} listens on {connected.getpeername()}, and you are user {os.geteuid()}: nothing was sent; run "
            "this as the user who owns the authority, and check who may write to the folders above the socket"
        )


def watch_connecting(event: str, info: Mapping[str, Any]) -> None:
    """Check each new connection before its first use. httpx calls this through its request extension `trace`."""
    if event == CONNECTED:
        stream = info["return_value"]
        try:
            demand_own(stream.get_extra_info("socket"))
        except BaseException:
            # httpx does not hold this stream yet, so nobody else would close it.
            stream.close()
            raise
