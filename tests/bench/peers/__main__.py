"""The peers' side of the pipe: `about`, `prepare` for one length, and `run`; a line of JSON asks, and one answers.

Runs in the environment of the peers, where capx is not.
"""

import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, Final

from tests.bench.peers.biscuit import biscuit
from tests.bench.peers.macaroon import pymacaroons
from tests.bench.peers.peer import Asked, Peer, Runs
from tests.bench.peers.routes import MADE
from tests.bench.peers.routes import runs as runs_of
from tests.bench.peers.signed import pyjwt
from tests.bench.peers.warrant import tenuo

PEERS: Final[dict[str, Callable[[Asked], Peer]]] = {
    "pymacaroons": pymacaroons,
    "tenuo": tenuo,
    "biscuit-python": biscuit,
    "PyJWT": pyjwt,
}


def about() -> dict[str, Any]:
    """The versions that are here, and what is not."""
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name in PEERS:
        try:
            versions[name] = version(name)
        except ImportError:
            missing[name] = "not installed"
    return {"versions": versions, "missing": missing}


def prepared(asked: Asked) -> tuple[Runs, dict[str, Any]]:
    """All runs at one length, or of a guarded route, and what is told of them."""
    runs: Runs = {}
    sizes: dict[str, int] = {}
    missing: dict[str, str] = {}
    for name in MADE if asked["do"] == "routes" else about()["versions"]:
        try:
            peer = Peer(runs_of(name), {}) if name in MADE else PEERS[name](asked)
        except Exception as reason:  # noqa: BLE001 # whatever a peer raises at this length is what is told of it
            missing[name] = f"{type(reason).__name__}: {reason}"
        else:
            runs |= peer.runs
            sizes |= peer.sizes
    return runs, {"contenders": list(runs), "sizes": sizes, "missing": missing}


def answers(questions: Iterator[str]) -> Iterator[dict[str, Any]]:
    """An answer to each question."""
    runs: Runs = {}
    for line in questions:
        asked = json.loads(line)
        if asked["do"] == "about":
            yield about()
        elif asked["do"] in {"prepare", "routes"}:
            runs, told = prepared(asked)
            yield told
        else:
            try:
                yield {"seconds": runs[asked["op"], asked["who"]](asked)}
            except Exception as reason:  # noqa: BLE001 # told to who asked
                yield {"refused": f"{type(reason).__name__}: {reason}"}


def main() -> None:
    """Answer until nobody asks."""
    for answer in answers(iter(sys.stdin)):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
