"""The same route behind the guards of other libraries, in uvicorn, as a process of its own in the peers' environment.

It says the headers of many requests first, and then its port.
"""

import json
import sys

from tests.bench.peers.routes import MADE
from tests.bench.uvicorn_process import serve

HEADS = 20_000
"""The requests that it makes ready."""


def main() -> None:
    """Serve."""
    told = json.loads(sys.stdin.readline())
    try:
        app, head = MADE[told["who"]]()
        heads = [head() for _ in range(HEADS)]
    except Exception as reason:  # noqa: BLE001 # whatever a library raises is what is told of it
        _say({"problem": f"{type(reason).__name__}: {reason}"})
        return
    _say(heads)
    serve(app, _say)


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
