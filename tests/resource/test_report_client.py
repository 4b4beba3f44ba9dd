"""Payments of a resource without a store: answers that are lost, and answers that are no answers."""

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Generator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.remote.client import RemoteAuthority
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import StoreProblem, Unavailable
from capx.resource.report_client import ResourceClient
from capx.store.records import DecisionRecord, Unwritable
from capx.tokens.binding import ToolCall
from capx.verify.meter import Paid, Payer, Spend, Tally
from capx_caveats import Call, budget
from tests.labs.hostile_answers import answer, at_url
from tests.labs.lab import Lab, minted
from tests.labs.payers import payer
from tests.server.conftest import Served, new_home, serving

NOW = int(time.time())
ONE = Spend("a", "calls", Decimal(1), Decimal(5))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(new_home(tmp_path_factory.mktemp("paid"))) as served:
        yield served


@pytest.fixture
def remote(served: Served) -> Iterator[RemoteAuthority]:
    with RemoteAuthority(served.place) as remote:
        yield remote


class LosingAnswers:
    """Passes requests on to an authority, and drops the first `losses` answers."""

    def __init__(self, url: str, losses: int) -> None:
        self.losses = losses
        host, port = url.removeprefix("http://").split(":")
        self._authority = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextlib.contextmanager
    def running(self) -> Generator[str]:
        self._thread.start()
        try:
            yield f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        finally:
            self._over.set()
            socket.create_connection(self._listening.getsockname()).close()
            self._thread.join(20)
            self._listening.close()

    def _run(self) -> None:
        while not self._over.is_set():
            with self._listening.accept()[0] as caller, socket.create_connection(self._authority) as authority:
                if self._over.is_set():
                    return
                authority.sendall(_whole(caller))
                said = _whole(authority)
                if self.losses > 0:
                    self.losses -= 1
                else:
                    caller.sendall(said)


def _whole(connection: socket.socket) -> bytes:
    """One message of HTTP, with its body."""
    connection.settimeout(20)
    head, body = b"", b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65_536)
    head, _, body = head.partition(b"\r\n\r\n")
    (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
    while len(body) < int(length):
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def presented(remote: RemoteAuthority) -> tuple[str, Payer, list[Spend]]:
    """A task with a budget of five, a presentation of its token, and what one call spends."""
    task = remote.open(allow=["crm.read"], caveats=[budget("calls", 5)])
    text = next(iter(task.bundle)).present(ToolCall("crm.read")).text
    return (
        task.id,
        Payer(b"p" * 16, b"a" * 16, b"c" * 16, "crm", text),
        [Spend(task.id, "calls", Decimal(1), Decimal(5))],
    )


def spent(remote: RemoteAuthority, task: str) -> list[Decimal]:
    return [counter.spent for counter in remote.counters([task])]


def test_an_answer_that_is_lost_is_asked_for_again_and_pays_once(served: Served, remote: RemoteAuthority) -> None:
    task, by, spends = presented(remote)
    with LosingAnswers(served.url, 1).running() as url:
        client = ResourceClient(url, served.keys("crm"))
        assert client.spend(by, spends, now=NOW) == Tally((Decimal(1),))
        client.close()
    assert spent(remote, task) == [Decimal(1)]


def test_where_all_answers_are_lost_the_call_is_not_paid_twice(served: Served, remote: RemoteAuthority) -> None:
    task, by, spends = presented(remote)
    with LosingAnswers(served.url, 2).running() as url:
        client = ResourceClient(url, served.keys("crm"))
        with pytest.raises(StoreProblem, match="it may have done what it was asked"):
            client.spend(by, spends, now=NOW)
        client.close()
    assert spent(remote, task) == [Decimal(1)]


def test_a_lost_answer_to_a_give_back_is_asked_for_again(served: Served, remote: RemoteAuthority) -> None:
    task, by, spends = presented(remote)
    with LosingAnswers(served.url, 0).running() as url:
        client = ResourceClient(url, served.keys("crm"))
        client.spend(by, spends, now=NOW)
        client.close()
    with LosingAnswers(served.url, 1).running() as url:
        client = ResourceClient(url, served.keys("crm"))
        given = client.give_back(by, decision="d", reason="no bank", now=NOW)
        assert given == (Paid(task, "calls", Decimal(1)),)
        client.close()
    assert spent(remote, task) == [0]
    assert sum(event.kind == "given_back" for event in remote.log()) == 1


def test_a_call_on_the_feed_gives_back_what_it_spent(served: Served, remote: RemoteAuthority) -> None:
    task = remote.open(allow=["crm.read"], caveats=[budget("calls", 1)])
    call, capability = ToolCall("crm.read"), next(iter(task.bundle))
    keys = served.keys("crm")
    with contextlib.closing(ResourceClient(served.url, keys)) as client:
        verifier = Lab(keys=keys, meter=client, clock=time.time).verifier
        allowed = verifier.verify(capability.present(call).text, call, Call("crm.read"))
        assert spent(remote, task.id) == [1]
        assert asyncio.run(allowed.give_back_async("no bank")) == {"calls": "1"}
        assert spent(remote, task.id) == [0]
        verifier.verify(capability.present(call).text, call, Call("crm.read"))
    (event,) = (one for one in remote.log() if one.kind == "given_back" and one.facts()["task"] == task.id)
    assert event.facts()["decision"] == allowed.decision.id


def test_what_paid_nothing_gives_nothing_back_on_the_feed(served: Served, remote: RemoteAuthority) -> None:
    _, by, _ = presented(remote)
    with contextlib.closing(ResourceClient(served.url, served.keys("crm"))) as client:
        with pytest.raises(Unwritable, match="has paid nothing here"):
            client.give_back(by, decision="d", reason="x", now=NOW)
        for odd in ("", "a\nb", "x" * 129):
            with pytest.raises(Unwritable, match="reason"):
                client.give_back(by, decision="d", reason=odd, now=NOW)
        with pytest.raises(Unwritable, match="decision"):
            client.give_back(by, decision="no id", reason="x", now=NOW)


@pytest.mark.parametrize("cost", ["-1", "NaN", "1E+999999", "0.0000001"])
def test_what_is_no_amount_was_not_given_back(cost: str) -> None:
    keys = KeyRing(RootKey.generate()).exported("crm")
    body = json.dumps({"given": [{"counter": "a", "unit": "calls", "cost": cost}]}).encode()
    with (
        at_url(lambda: answer(body)) as url,
        contextlib.closing(ResourceClient(url, keys)) as client,
        pytest.raises(StoreProblem, match="what is no amount"),
    ):
        client.give_back(payer(), decision="d", reason="x", now=NOW)


def test_the_order_of_the_answer_is_that_of_the_request(served: Served, remote: RemoteAuthority) -> None:
    task = remote.open(allow=["crm.read"], caveats=[budget("calls", 5), budget("eur", 3), budget("usd", 1)])
    text = next(iter(task.bundle)).present(ToolCall("crm.read")).text
    by = Payer(b"p" * 16, b"a" * 16, b"c" * 16, "crm", text)
    spends = [Spend(task.id, unit, Decimal(cost), Decimal(9)) for unit, cost in (("usd", 2), ("calls", 1), ("eur", 3))]
    with contextlib.closing(ResourceClient(served.url, served.keys("crm"))) as client:
        assert client.spend(by, spends, now=NOW) == Tally((Decimal(0), Decimal(0), Decimal(0)), (0,))
        assert client.spend(by, spends[1:], now=NOW) == Tally((Decimal(1), Decimal(3)))


def test_a_payment_refused_for_good_is_unwritable(served: Served, remote: RemoteAuthority) -> None:
    _, by, _ = presented(remote)
    with contextlib.closing(ResourceClient(served.url, served.keys("crm"))) as client:
        with pytest.raises(Unwritable, match="no budget of this presentation counts 'eur'"):
            client.spend(by, [Spend("a", "eur", Decimal(1), Decimal(5))], now=NOW)
        with pytest.raises(Unwritable, match="does not accept"):
            client.spend(payer(), [ONE], now=NOW)
        with pytest.raises(Unavailable, match="capx graph"):
            client.spent([("a", "calls")])


PROBLEM = b'{"type":"t","title":"t","status":%d,"detail":"d","code":"invalid_request"}'


def charged(*totals: tuple[str, str, str], exhausted: Any = ()) -> bytes:
    named = [{"counter": counter, "unit": unit, "spent": spent} for counter, unit, spent in totals]
    return json.dumps({"totals": named, "exhausted": list(exhausted)}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        charged(),
        charged(("b", "calls", "1")),
        charged(("a", "eur", "1")),
        charged(("a", "calls", "-1")),
        charged(("a", "calls", "NaN")),
        charged(("a", "calls", "1"), exhausted=[1]),
        charged(("a", "calls", "1"), ("b", "calls", "1"), exhausted=[1]),
        charged(("a", "calls", "1"), exhausted=["0"]),
    ],
)
def test_an_answer_about_something_else_pays_nothing(body: bytes) -> None:
    keys = KeyRing(RootKey.generate()).exported("crm")
    with (
        at_url(lambda: answer(body)) as url,
        contextlib.closing(ResourceClient(url, keys)) as client,
        pytest.raises(StoreProblem, match=r"about other budgets|of another version"),
    ):
        client.spend(payer(), [ONE], now=NOW)


DENIAL = b'{"decision":"d","reasons":[{"code":"evil","sentence":"hi bearer"}]}'


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((f"{status} Odd", PROBLEM % status) for status in (404, 405, 408, 409, 415, 422, 429)),
        *((f"{status} Odd", DENIAL) for status in (404, 500)),
        ("200 OK", DENIAL),
    ],
)
def test_an_answer_that_is_none_to_a_payment_denies_the_call(status: str, body: bytes) -> None:
    keys = KeyRing(RootKey.generate()).exported("crm")
    with at_url(lambda: answer(body, status)) as url, contextlib.closing(ResourceClient(url, keys)) as client:
        with pytest.raises(StoreProblem) as caught:
            client.spend(payer(), [ONE], now=NOW)
        assert url in str(caught.value)
        lab = Lab(meter=client)
        decision = lab.decide(lab.present(minted(budget("calls", 5))))
    assert [refusal.code for refusal in decision.refusals] == ["unavailable"]
    assert "hi bearer" not in str(decision.refusals)


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Too Large"])
@pytest.mark.parametrize("who", ["a gateway", "the authority"])
def test_only_the_authority_refuses_a_decision_for_good(status: str, who: str) -> None:
    keys = KeyRing(RootKey.generate()).exported("crm")
    body = b"<html>no</html>" if who == "a gateway" else PROBLEM % int(status[:3])
    with at_url(lambda: answer(body, status)) as url, contextlib.closing(ResourceClient(url, keys)) as client:
        with pytest.raises(StoreProblem) as caught:
            client.record([DecisionRecord("d", NOW, b'{"id":"d","audience":"crm"}')])
        assert isinstance(caught.value, Unwritable) == (who == "the authority")


def test_a_sender_writes_no_lines_of_its_own_into_the_log() -> None:
    keys = KeyRing(RootKey.generate()).exported("crm")
    body = json.dumps({**json.loads(PROBLEM % 400), "detail": "x\n\x1b[31m" + "y" * 9_999}).encode()
    with (
        at_url(lambda: answer(body, "400 Odd")) as url,
        contextlib.closing(ResourceClient(url, keys)) as client,
        pytest.raises(Unwritable) as caught,
    ):
        client.spend(payer(), [ONE], now=NOW)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_bare_token_is_not_sent_to_the_authority() -> None:
    keys = KeyRing(RootKey.generate()).exported("crm")
    with (
        contextlib.closing(ResourceClient("http://127.0.0.1:9", keys)) as client,
        pytest.raises(Unavailable, match="a bare token pays nothing on the feed"),
    ):
        client.spend(replace(payer(), text=""), [ONE], now=NOW)


def test_a_silent_authority_does_not_hold_a_call_for_ever() -> None:
    keys = KeyRing(RootKey.generate()).exported("crm")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with contextlib.closing(ResourceClient(url, keys, timeout=0.2)) as client, pytest.raises(StoreProblem):
            client.spend(payer(), [ONE], now=NOW)
