"""Ask a command server to run a command. It starts quickly, because it starts Python without `site`.

The programs in the folder of a server are this file. Such a program passes signals on to the
command, and ends with its exit code or its signal. For a server, for a terminal, or if the command server refuses, it
becomes an interpreter that runs the command.

It imports only modules that are built in: `os` and `socket` take longer to import than all the rest.
"""

import _signal
import _socket
import marshal
import posix
import sys

CAPX, WARM_PYTHON, PLACE = "capx", "warm-python", "asked"
"""What is in the folder of a server: the programs that ask it, and its socket."""
REFUSED = 0
"""The pid of a command that needs an interpreter of its own: its environment differs from that of the server."""
SERVERS = (["serve"], ["demo"], ["mcp"])
"""Commands that serve, or that start servers: each gets an interpreter of its own."""
PASSED_ON = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)


def ask(
    place: str, args: list[bytes], env: dict[bytes, bytes], folder: bytes, streams: list[int]
) -> tuple[_socket.socket, int]:
    """Have the server at this place run a command; gives the connection, and the pid or REFUSED."""
    ignored = [int(number) for number in PASSED_ON if _signal.getsignal(number) is _signal.SIG_IGN]
    umask = posix.umask(0o077)
    posix.umask(umask)
    body = marshal.dumps((args, env, folder, umask, ignored))
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    server.connect(place)
    numbers = b"".join(number.to_bytes(4, sys.byteorder) for number in streams)
    server.sendmsg([len(body).to_bytes(4, "little")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])
    server.sendall(body)
    return server, hear(server)


def hear(server: _socket.socket) -> int:
    """Wait for an answer: the pid, and at the end the exit code, or the number of a signal below zero."""
    answer = server.recv(4, _socket.MSG_WAITALL)
    if len(answer) < 4:
        raise ConnectionResetError("the command server has gone")
    return int.from_bytes(answer, "little", signed=True)


def _is_special(stream: int) -> bool:
    """Whether it is a terminal, or closed."""
    try:
        posix.fstat(stream)
    except OSError:
        return True
    return posix.isatty(stream)


def main() -> None:
    """Be the command."""
    args = [text.encode(errors="surrogateescape") for text in sys.argv[1:]]
    folder, _, name = sys.argv[0].rpartition("/")
    pid = REFUSED
    if sys.argv[1:2] not in SERVERS and not any(map(_is_special, range(3))):
        server, pid = ask(f"{folder}/{PLACE}", args, posix.environ, posix.getcwdb(), [0, 1, 2])
    if pid == REFUSED:
        interpreter = sys.executable.encode()
        module = [] if name == WARM_PYTHON else [b"-m", b"capx_cli.main"]
        posix.execve(interpreter, [interpreter, *module, *args], posix.environ)
    for number in PASSED_ON:
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, lambda received, _: posix.kill(pid, received))
    code = hear(server)
    if code < 0:
        _signal.signal(-code, _signal.SIG_DFL)
        posix.kill(posix.getpid(), -code)
    posix._exit(code)


if __name__ == "__main__":
    main()
