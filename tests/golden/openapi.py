"""The OpenAPI documents of `capx serve`: a line for each operation here, and whole where two commits differ.

`python -m tests.golden.openapi EARLIER [LATER]` writes the documents of two commits, and prints their difference. Each
commit serves them from a folder of its own. Without LATER, it is the checkout as it is.
"""

import argparse
import difflib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.labs.commits import CHECKOUT, UnknownCommit, environment, unpack

FACES = ("operators", "everybody")


def operations(document: dict[str, Any]) -> str:
    """A line for each operation: method, path and id, and digests of all that it asks and all that it answers."""
    rest = {name: part for name, part in document.items() if name not in {"paths", "components"}}
    rest["securitySchemes"] = document["components"].get("securitySchemes")
    lines = [f"document {_digest(rest)}\n"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            asks = {name: part for name, part in operation.items() if name != "responses"}
            digests = [_digest(_resolved(part, document)) for part in (asks, operation["responses"])]
            named = f"{method.upper()} {path} {operation['operationId']}"
            lines.append(f"{named} asks {digests[0]} answers {digests[1]}\n")
    return "".join(lines)


def _digest(part: Any) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16]


def _resolved(part: Any, document: dict[str, Any], within: tuple[str, ...] = ()) -> Any:
    """A part of the document with each schema that it refers to; one that is within itself stays a reference."""
    if isinstance(part, list):
        return [_resolved(each, document, within) for each in part]
    if not isinstance(part, dict):
        return part
    found = {name: _resolved(value, document, within) for name, value in part.items()}
    name = str(part.get("$ref", "")).rpartition("/")[2]
    if name and name not in within:
        found["schema"] = _resolved(document["components"]["schemas"][name], document, (*within, name))
    return found


def documents(side: Path, home: Path) -> dict[str, Any]:
    """The documents of the faces, as the packages in this folder serve them."""
    env = {**environment(side), "CAPX_HOME": str(home)}
    capx = (sys.executable, "-P", "-m", "capx_cli.main")
    subprocess.run((*capx, "init"), env=env, check=True, stdout=subprocess.DEVNULL)
    serve = (*capx, "serve", "--listen", "127.0.0.1:0", "--json")
    with subprocess.Popen(serve, env=env, stdout=subprocess.PIPE) as serving:
        assert serving.stdout is not None
        try:
            said = json.loads(serving.stdout.readline())
            sockets = {"operators": httpx.HTTPTransport(uds=said["socket"]), "everybody": httpx.HTTPTransport()}
            return {face: _served(said["url"], sockets[face]) for face in FACES}
        finally:
            serving.send_signal(signal.SIGTERM)


def _served(url: str, transport: httpx.HTTPTransport) -> Any:
    with httpx.Client(base_url=url, transport=transport) as client:
        return client.get("/openapi.json").raise_for_status().json()


def difference(earlier: str, later: str | None) -> Iterator[str]:
    """The lines of a unified difference, of both faces."""
    with tempfile.TemporaryDirectory(prefix="openapi-", dir="/tmp") as name:
        folder = Path(name)
        texts: list[dict[str, list[str]]] = []
        for nth, commit in enumerate((earlier, later)):
            side = CHECKOUT if commit is None else unpack(commit, folder / f"side{nth}")
            found = documents(side, folder / f"home{nth}")
            texts.append({face: json.dumps(found[face], indent=1).splitlines(keepends=True) for face in FACES})
        for face in FACES:
            yield from difflib.unified_diff(
                texts[0][face], texts[1][face], f"{earlier}:{face}", f"{later or 'checkout'}:{face}"
            )


def main() -> None:
    """Print the difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.openapi", description=__doc__)
    parser.add_argument("earlier", help="a commit")
    parser.add_argument("later", nargs="?", help="a commit; the checkout if it is not given")
    asked = parser.parse_args()
    try:
        sys.stdout.writelines(difference(asked.earlier, asked.later))
    except UnknownCommit as problem:
        sys.exit(str(problem))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    main()
