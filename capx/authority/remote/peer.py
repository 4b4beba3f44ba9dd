"""Whose process it is that answers on a Unix socket.

Law: nothing is said to a process of another user, save root, who may read all of it anyway.
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
    """Raise ConfigurationProblem if another user's process listens there, where the system tells who does (Linux)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    said = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(said)
    if user not in {os.geteuid(), 0}:
        raise ConfigurationProblem(
            f"user {user} listens on {connected.getpeername()}, and you are user {os.geteuid()}: nothing was sent; "
            "ask as the user whose authority it is, and look who may write to the folders above the socket"
        )


def watch_connecting(event: str, info: Mapping[str, Any]) -> None:
    """What httpx is to call (its request extension `trace`), so that a connection is looked at before its first use."""
    if event == CONNECTED:
        stream = info["return_value"]
        try:
            demand_own(stream.get_extra_info("socket"))
        except BaseException:
            stream.close()
            raise
