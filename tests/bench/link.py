"""A process of the peers' environment, asked over a pipe: it waits while others have their turn."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from capx.tokens import wire
from tests.bench.measuring import Contender, Unmeasurable

CHECKOUT: Final = Path(__file__).resolve().parent.parent.parent
_SAME_BYTES: Final = ("verify", "pymacaroons")


class Peers:
    """The peers that are installed beside this Python."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, "-m", "tests.bench.peers"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        about = self._ask(do="about")
        self.versions: dict[str, str] = about["versions"]
        self.missing: dict[str, str] = about["missing"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def contenders(
        self, work: Mapping[str, object], texts: Callable[[int], list[str]]
    ) -> tuple[list[Contender], dict[str, int], dict[str, str]]:
        """What is timed of the peers at one length, the size of their tokens, and who cannot do it and why.

        `texts` makes fresh presentations for the peer that reads the same bytes.
        """
        told = self._ask(do="prepare", **work)
        at = work["hops"]
        assert isinstance(at, int)
        contenders = [self._contender(op, at, who, texts) for op, who in told["contenders"]]
        return contenders, told["sizes"], told["missing"]

    def routes(self) -> tuple[list[Contender], dict[str, str]]:
        """A FastAPI route behind each peer, with one request at once and with several, and who cannot do it and why."""
        told = self._ask(do="routes")
        made: list[Contender] = []
        for op, who in told["contenders"]:
            name, at = op.split()
            one = self._contender(op, int(at), who, lambda _: [])
            made.append(Contender(name, one.at, who, one.run))
        return made, told["missing"]

    def _contender(self, op: str, at: int, who: str, texts: Callable[[int], list[str]]) -> Contender:
        def run(count: int) -> float:
            more = (
                {"texts": [text.removeprefix(wire.PREFIX) for text in texts(count)]} if (op, who) == _SAME_BYTES else {}
            )
            answer = self._ask(do="run", op=op, who=who, count=count, **more)
            if "refused" in answer:
                raise Unmeasurable(answer["refused"])
            return float(answer["seconds"])

        return Contender(op, at, who, run)

    def _ask(self, **question: object) -> dict[str, Any]:
        asking, answering = self._process.stdin, self._process.stdout
        assert asking is not None
        assert answering is not None
        asking.write(json.dumps(question) + "\n")
        asking.flush()
        line = answering.readline()
        if not line:
            raise Unmeasurable(f"the peers' process ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
