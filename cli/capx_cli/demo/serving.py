"""`capx serve`, in a process that ends with the demo: on a free port of the loopback interface, and a Unix socket.

`python -m capx_cli.demo.serving SOCKET` writes its addresses to stdout, as `capx serve --json` does. When its stdin
ends, it stops in order.
"""

import sys

from capx_cli.demo.process import end_with_parent
from capx_cli.main import run


def main(socket: str) -> int:
    """Serve the authority of CAPX_HOME until the parent process ends."""
    end_with_parent()
    return run(["serve", "--listen", "127.0.0.1:0", "--socket", socket, "--json"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
