"""A process of the peers' environment, asked over a pipe: it waits while others have their turn."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from capx.tokens import wire
from tests.bench.asgi_requests import BARE
from tests.bench.authority.child import Child
from tests.bench.measuring import Contender, Run, Unmeasurable
from tests.bench.peers.routes import BARE_THERE

_SAME_BYTES: Final = ("verify", "pymacaroons")


class Peers(Child):
    """The peers that are installed beside this Python."""

    def __init__(self, python: Path) -> None:
        super().__init__("tests.bench.peers", python, do="about")
        about = self.hear()
        self.versions: dict[str, str] = about["versions"]
        self.missing: dict[str, str] = about["missing"]

    def contenders(
        self, work: Mapping[str, object], texts: Callable[[int], list[str]]
    ) -> tuple[list[Contender], dict[str, int], dict[str, str]]:
        """What is timed of the peers at one length, the size of their tokens, and who cannot do it and why.

        `texts` makes fresh presentations for the peer that reads the same bytes.
        """
        told = self._ask(do="prepare", **work)
        at = work["hops"]
        assert isinstance(at, int)

        def more(count: int) -> dict[str, object]:
            return {"texts": [text.removeprefix(wire.PREFIX) for text in texts(count)]}

        contenders = [
            Contender(op, at, who, self._run(op, who, more if (op, who) == _SAME_BYTES else _no_more))
            for op, who in told["contenders"]
        ]
        return contenders, told["sizes"], told["missing"]

    def routes(self) -> tuple[list[Contender], dict[str, str]]:
        """A FastAPI route behind each peer, with one request at once and with several, and who cannot do it and why."""
        told = self._ask(do="routes")
        made: list[Contender] = []
        for op, who in told["contenders"]:
            name, at = op.split()
            to = {BARE: (name, int(at), BARE_THERE)}
            made.append(Contender(name, int(at), who, self._run(op, who, _no_more), to))
        return made, told["missing"]

    def _run(self, op: str, who: str, more: Callable[[int], Mapping[str, object]]) -> Run:
        def run(count: int) -> float:
            answer = self._ask(do="run", op=op, who=who, count=count, **more(count))
            if "refused" in answer:
                raise Unmeasurable(answer["refused"])
            return float(answer["seconds"])

        return run

    def _ask(self, **question: object) -> dict[str, Any]:
        return dict(self.ask(question))


def _no_more(_: int) -> dict[str, object]:
    return {}
