"""Every error comes out of another process as it was raised there."""

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pkgutil import walk_packages

import pytest

import capx
import capx_caveats
import capx_cli
from capx.agent.httpx_client import Redirected
from capx.api.jsonrpc import UnreadableMessage
from capx.api.problems import HttpRefusal, NotThere
from capx.api.relay.http_exchange import NotAnswered
from capx.api.relay.lines import TooLong
from capx.authority.people.client import Unanswered
from capx.authority.people.known import UnknownAuthority
from capx.errors import BrokenLog, CapxError, MalformedToken
from capx.guard.asgi.messages import UnreadableHead
from capx.guard.mcp.requested_call import Unserved
from capx.ledger.witness import NotCosigned, OtherSize, SplitView
from capx.policy.toml_reader import MAX_LINES, InvalidFile
from capx.verify.ask import Ask, Pending
from capx.verify.decision import NO_TOKEN, Decision, Denied

ASK = Ask.of("crm.read", args={"account": 7})
MADE: dict[type[CapxError], Callable[[], CapxError]] = {
    BrokenLog: lambda: BrokenLog(3, "a hash does not fit"),
    Denied: lambda: Denied(Decision(id="d", at=1, allowed=False, audience="crm", refusals=(NO_TOKEN,)), ASK, "advice"),
    HttpRefusal: lambda: HttpRefusal(413, "body_too_large", "a body may have at most 9 bytes"),
    InvalidFile: lambda: InvalidFile("p.toml", ("a line",) * (MAX_LINES + 1)),
    MalformedToken: lambda: MalformedToken("it is too large", "too_large"),
    NotAnswered: lambda: NotAnswered("the server is away", 502, {"retry-after": "1"}),
    NotCosigned: lambda: NotCosigned("the checkpoint is of another log", 422),
    NotThere: lambda: NotThere("there is no decision 'x'", "unknown_decision"),
    OtherSize: lambda: OtherSize(7),
    Pending: lambda: Pending(ASK, request="r", until=7, approvers=("Ben",)),
    Redirected: lambda: Redirected("https://elsewhere/" + "a" * 1000),
    SplitView: lambda: SplitView("one note", "another note"),
    TooLong: lambda: TooLong(9, b'{"id":7'),
    Unanswered: lambda: Unanswered("a" * 43, "the authority did not answer"),
    UnknownAuthority: lambda: UnknownAuthority("https://capx.example", "a" * 22),
    UnreadableHead: lambda: UnreadableHead(NO_TOKEN),
    UnreadableMessage: lambda: UnreadableMessage("this is no message", -32700, 7),
    Unserved: lambda: Unserved("unknown tool", -32602),
}
"""How to make each error that is made of more than one sentence."""


def errors() -> Iterator[CapxError]:
    """One error of each class of capx."""
    for package in (capx, capx_caveats, capx_cli):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    waiting: list[type[CapxError]] = [CapxError]
    seen: set[type[CapxError]] = set()
    while waiting:
        kind = waiting.pop()
        if kind not in seen and kind.__module__.startswith("capx"):
            seen.add(kind)
            waiting += kind.__subclasses__()
            yield MADE.get(kind, lambda kind=kind: kind("one sentence"))()


def test_every_error_can_be_pickled_with_all_that_it_says() -> None:
    made = list(errors())
    assert set(MADE) < set(map(type, made))
    for error in made:
        error.add_note("a note")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error)), type(error)


def refuse() -> None:
    raise HttpRefusal(413, "body_too_large", "a body may have at most 9 bytes")


def test_an_error_of_a_worker_process_leaves_its_pool_whole() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for _ in range(2):
            with pytest.raises(HttpRefusal, match="at most 9 bytes"):
                pool.submit(refuse).result()
