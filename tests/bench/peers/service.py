"""The same route behind the guards of other libraries, in uvicorn, as a process of its own in the peers' environment.

It says its port, and then, for each number in its input, the headers of so many requests: proofs of possession are
good for a short time.
"""

import json
import sys

from tests.bench.peers.routes import MADE
from tests.bench.uvicorn_process import serve


def main() -> None:
    """Serve."""
    told = json.loads(sys.stdin.readline())
    try:
        app, head = MADE[told["who"]]()
        head()
    except Exception as reason:  # noqa: BLE001 # whatever a library raises is what is told of it
        _say({"problem": f"{type(reason).__name__}: {reason}"})
        return
    serve(app, _say, lambda count: [head() for _ in range(int(count))])


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
