"""What resources have of a served authority: the feed, and a place for decisions and acknowledgements."""

import json
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import msgspec
import pytest

from capx.api import resource_auth
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.keys import AudienceKeys
from capx.errors import StoreProblem, Unavailable
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from capx.resource.feed.page import FeedCursor
from capx.resource.feed.reader import PageReader
from capx.resource.recorder import StoreRecorder
from capx.resource.replay import Replay
from capx.resource.report_client import ResourceClient
from capx.server.faces.follower_acks import MOST
from capx.store.records import DecisionRecord, News, Unwritable
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.verify.decision import Decision
from capx.verify.verifier import Verifier
from capx_caveats import Call
from tests.labs.serving_process import figure, figure_now
from tests.labs.waiting import seconds_until, until
from tests.server.conftest import Served


class Resource:
    """A resource that has its keys and the URL of the authority, and no store."""

    def __init__(self, served: Served, audience: str = "crm") -> None:
        self.keys: AudienceKeys = served.keys(audience)
        (kid,) = self.keys.feed
        key = self.keys.get(kid)
        assert key is not None
        self.key = key
        self.reports = ResourceClient(served.url, self.keys)
        self.recorder = StoreRecorder(self.reports)
        self.follower = Follower(FeedSource(served.url, self.keys.feed), sighted=self._sighted)
        self.verifier = Verifier(
            audience,
            self.keys,
            liveness=self.follower,
            replay=Replay.process(clock=lambda: time.time() - 1_000),
            recorder=self.recorder,
            max_staleness=3.0,
        )

    def _sighted(self, deaths: int) -> None:
        self.reports.sighted(f"{self.key.audience}/1", deaths, now=int(time.time()))

    def decide(self, capability: Capability, action: str = "crm.read") -> Decision:
        received = ToolCall(action)
        return self.verifier.decide(capability.present(received).text, received, Call(action))

    def close(self) -> None:
        self.follower.close()
        self.recorder.close()
        self.reports.close()


@pytest.fixture
def resource(served: Served) -> Iterator[Resource]:
    made = Resource(served)
    yield made
    made.close()


@pytest.fixture
def task(remote: RemoteAuthority) -> OpenedTask:
    return remote.open(allow=["crm.read"])


def crm(task: OpenedTask) -> Capability:
    return next(iter(task.bundle))


def code(decision: Decision) -> str | None:
    return decision.refusals[0].code if decision.refusals else None


def test_a_resource_without_a_store_decides_records_and_follows(
    resource: Resource, remote: RemoteAuthority, task: OpenedTask
) -> None:
    first = resource.decide(crm(task))
    assert first.allowed
    remote.complete(task.id)
    took = seconds_until(lambda: not resource.decide(crm(task)).allowed)
    assert took < 1.0
    last = resource.decide(crm(task))
    assert code(last) == "task_completed"
    assert resource.recorder.flush()
    recorded = remote.decision(first.id)
    assert recorded is not None
    assert recorded.body == msgspec.json.encode(first.body())
    assert remote.decision(last.id) is not None
    assert next(remote.graph(task.id).nodes()).allowed >= 1
    until(lambda: remote.unaware() == [])


@contextmanager
def followed(served: Served, keys: AudienceKeys) -> Generator[tuple[PageReader, Iterator[str]]]:
    """One follower by hand: its reader, and its pages as they come."""
    reader = PageReader(keys.feed)
    with (
        served.everybody() as client,
        client.stream("GET", "/feed", headers={"accept": "text/event-stream"}) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        yield reader, (line.removeprefix("data: ") for line in lines if line.startswith("data: "))


def took(reader: PageReader, pages: Iterator[str], deaths: int) -> News:
    """The news that tell of so many deaths."""
    for page in pages:
        news = reader.take(page, now=time.time())
        if news is not None and news.head.deaths >= deaths:
            return news
    raise AssertionError("the stream ended")


def test_fifty_followers_of_a_death_cost_one_page_a_second_each(
    served: Served, remote: RemoteAuthority, task: OpenedTask
) -> None:
    keys = served.keys("crm")
    with ExitStack() as stack:
        followers = [stack.enter_context(followed(served, keys)) for _ in range(50)]
        for reader, pages in followers:
            took(reader, pages, 0)
        until(lambda: figure(served, 'capx_followers{of="feed"}') == 50)
        # All stand at the same place from here on.
        began, signed = time.monotonic(), figure_now(served, "capx_feed_pages_signed_total")
        ended = remote.complete(task.id)
        for reader, pages in followers:
            news = took(reader, pages, 1)
            assert news.head.position >= (ended.position or 0)
        later = figure_now(served, "capx_feed_pages_signed_total")
        assert later - signed <= 3 * (time.monotonic() - began + 3)
        # The stream goes on with a page each second, each later than the one before.
        reader, pages = followers[0]
        said = [took(reader, pages, 0).at for _ in range(3)]
        assert said == sorted(set(said), key=lambda at: at or 0.0)
    until(lambda: figure(served, 'capx_followers{of="feed"}') == 0)


def test_a_page_of_the_feed_is_had_without_a_stream(served: Served, remote: RemoteAuthority, task: OpenedTask) -> None:
    remote.complete(task.id)
    source = FeedSource(served.url, served.keys("crm").feed)
    (page,) = source.pages()
    reader = PageReader(served.keys("crm").feed)
    news = reader.take(page, now=time.time())
    assert news is not None
    assert news.deaths == {task.id: "task_completed"}
    with served.everybody() as client:
        onwards = client.get("/feed", params=reader.cursor.query()).text
    assert reader.take(onwards, now=time.time()) is not None


@pytest.mark.parametrize(
    "query", ["since=-1", "since=x", "position=1.0", "epoch=x", "other=1", "since=1&since=2", f"since={1 << 60}"]
)
def test_a_question_that_makes_no_sense_is_refused(shared: Served, query: str) -> None:
    with shared.everybody() as client:
        for accept in ("application/json", "text/event-stream"):
            response = client.get(f"/feed?{query}", headers={"accept": accept})
            assert (response.status_code, response.json()["code"]) == (400, "invalid_request")


def test_a_follower_that_claims_too_much_is_told_the_head(shared: Served) -> None:
    with shared.everybody() as client:
        page = client.get("/feed", params=FeedCursor(5_000, 9_999, "other.1").query())
    assert page.status_code == 200
    assert json.loads(page.json()["page"])["since"] == 0


def body(**facts: object) -> dict[str, Any]:
    """What a verifier of crm gives as the body of a decision."""
    return {
        "id": "decision-1",
        "at": int(time.time()),
        "outcome": "denied",
        "audience": "crm",
        "action": "crm.read",
        "task": None,
        "tenant": None,
        "intent": None,
        "root": None,
        "path": [],
        "hops": [],
        "ids": [],
        "presentation": None,
        "spent": [],
        "reasons": [{"code": "no_token", "sentence": "no token was presented"}],
        **facts,
    }


def record(**facts: object) -> DecisionRecord:
    made = body(**facts)
    return DecisionRecord(made["id"], made["at"], msgspec.json.encode(made))


def test_a_report_is_recorded_once_however_often_it_comes(
    served: Served, resource: Resource, remote: RemoteAuthority
) -> None:
    del served
    resource.reports.record([record(id="d-1"), record(id="d-2")])
    resource.reports.record([record(id="d-2"), record(id="d-3")])
    assert [event.facts()["id"] for event in remote.find()] == ["d-1", "d-2", "d-3"]


def test_a_large_report_goes_in_pieces(resource: Resource, remote: RemoteAuthority) -> None:
    text = "x" * 3_000
    reasons = [{"code": "no_token", "sentence": text}]
    resource.reports.record([record(id=f"d-{number}", reasons=reasons) for number in range(1_200)])
    assert sum(1 for _ in remote.find()) == 1_200
    with pytest.raises(Unwritable, match="does not accept this request"):
        resource.reports.record([record(reasons=[{"code": "x", "sentence": "x" * (1 << 20)}])])


SPOILT: list[dict[str, Any]] = [
    {"outcome": "maybe"},
    {"id": ""},
    {"id": "no id!"},
    {"id": "d\n"},
    {"task": "t\n"},
    {"at": "now"},
    {"at": -1},
    {"at": 1.5},
    {"at": 1 << 60},
    {"action": "no action!"},
    {"action": 5},
    {"task": {}},
    {"path": "x"},
    {"path": [1]},
    {"hops": ["\n"]},
    {"hops": [""]},
    {"ids": None},
    {"spent": [{}]},
    {"spent": [{"counter": "c", "unit": "u", "cost": "NaN", "spent": "1", "limit": "1"}]},
    {"spent": [{"counter": "c", "unit": "u", "cost": "1", "spent": "1", "limit": "x"}]},
    {"spent": [{"counter": "c", "unit": "u", "cost": "1", "spent": "1", "limit": "1" * 100}]},
    {"reasons": [{}]},
    {"reasons": [5]},
    {"tenant": ""},
    {"args_digest": "no digest!"},
    {"hops": ["a"]},
    {"nonces": ["AAAAAAAAAAA"]},
    {"nonces": ["AAAAAAAAAAA"], "hops": ["a"]},
    {"nonces": [""], "hops": ["a"], "root": "R"},
    {"nonces": ["AAAAAAAAAAA"], "hops": ["a"], "root": "R", "path": ["N", "M"]},
    {"path": ["\0"]},
    {"ids": ["A" * 22] * 66},
    {"more": 1},
]


@pytest.mark.parametrize("deep", [63, 500, 3_000])
def test_a_decision_that_no_other_store_could_hold_is_not_taken(
    resource: Resource, remote: RemoteAuthority, deep: int
) -> None:
    def given(depth: int) -> DecisionRecord:
        # Three more are the decision, its reasons, and the reason.
        value = b"[" * depth + b"]" * depth
        return DecisionRecord("d", 1, record().body.replace(b'"code":', b'"given":%s,"code":' % value))

    with pytest.raises(Unwritable):
        resource.reports.record([given(deep - 1)])
    with pytest.raises(Unwritable, match="at most 64 KiB"):
        resource.reports.record([record(reasons=[{"code": "x", "sentence": "x" * (64 << 10)}])])
    assert list(remote.log()) == []
    resource.reports.record([given(61)])
    assert sum(1 for _ in remote.find()) == 1


@pytest.mark.parametrize("facts", SPOILT)
def test_what_would_not_read_back_as_a_decision_spoils_no_log(
    resource: Resource, remote: RemoteAuthority, facts: dict[str, Any]
) -> None:
    with pytest.raises(Unwritable):
        resource.reports.record([record(id="good"), DecisionRecord("d", 1, msgspec.json.encode(body(**facts)))])
    assert list(remote.log()) == []
    assert remote.graph().trees == ()


def test_a_resource_speaks_for_no_other(served: Served, resource: Resource, remote: RemoteAuthority) -> None:
    del served
    with pytest.raises(StoreProblem, match="crm reports a decision of billing: a resource may report only its own"):
        resource.reports.record([record(), record(id="d-2", audience="billing")])
    with pytest.raises(StoreProblem, match="reports for a follower of another audience"):
        resource.reports.sighted("billing/1", 5, now=0)
    with pytest.raises(StoreProblem, match="reports for a follower of another audience"):
        resource.reports.sighted("crmx", 5, now=0)
    assert list(remote.log()) == []


def posted(served: Served, path: str, content: bytes, proof: str | None) -> httpx.Response:
    headers = {"content-type": "application/json", **({} if proof is None else {"authorization": proof})}
    with served.everybody() as client:
        return client.post(path, content=content, headers=headers)


def test_a_report_needs_a_proof_of_this_very_request(
    served: Served, resource: Resource, remote: RemoteAuthority
) -> None:
    content = msgspec.json.encode({"decisions": [body()]})
    now = int(time.time())

    def proof(target: str = "/decisions", body: bytes = content, at: int = now, method: str = "POST") -> str:
        return resource_auth.prove(resource.key, method=method, target=target, body=body, at=at)

    proofs = (
        None,
        "",
        "Capx x",
        proof(body=b"{}"),
        proof("/sighted"),
        proof("/decisions?x"),
        proof(at=now - 100),
        proof(at=now + 100),
        proof(method="PUT"),
        proof().replace("audience=crm", "audience=billing"),
        proof()[:-1],
    )
    for each in proofs:
        response = posted(served, "/decisions", content, each)
        assert (response.status_code, response.json()["code"]) == (401, "unproven_report"), each
        assert response.headers["www-authenticate"] == resource_auth.SCHEME
    assert list(remote.log()) == []
    assert posted(served, "/decisions", content, proof()).status_code == 200


def test_reports_under_a_key_that_was_revoked_are_refused(resource: Resource, remote: RemoteAuthority) -> None:
    remote.revoke(kid=resource.key.kid)
    with pytest.raises(StoreProblem, match="was revoked"):
        resource.reports.record([record()])
    assert [event.kind for event in remote.log()] == ["revoked"]


def test_sightings_tell_who_lags(resource: Resource, remote: RemoteAuthority, task: OpenedTask) -> None:
    resource.reports.sighted("crm", 0, now=0)
    resource.reports.sighted("crm/2", 0, now=0)
    remote.complete(task.id)
    assert {one.follower for one in remote.unaware()} == {"crm", "crm/2"}
    resource.reports.sighted("crm/2", 1, now=0)
    assert {one.follower for one in remote.unaware()} == {"crm"}


def test_made_up_followers_of_a_resource_keep_nobody_waiting(
    served: Served, resource: Resource, remote: RemoteAuthority, task: OpenedTask
) -> None:
    other = ResourceClient(served.url, served.keys("billing"))
    other.sighted("billing", 0, now=0)
    other.close()
    now = int(time.time())
    with Authority.open_home(served.home) as beside:
        # Each heard of later than the one before; what was heard of long ago counts for nothing.
        for number in range(1, MOST):
            beside.store.sighted(f"crm/{number}", 0, now=now - 20 if number > 5 else now - 25)
        beside.store.sighted("crm/old", 0, now=now - 300)
        beside.store.sighted("crm-eu/1", 0, now=now - 30)
    resource.reports.sighted("crm", 0, now=0)
    remote.complete(task.id)

    def kept() -> set[str]:
        return {one.follower for one in remote.unaware(within=50)}

    assert len(kept()) == MOST + 2
    resource.reports.sighted("crm/new", 0, now=0)
    resource.reports.sighted("crm/newer", 0, now=0)
    # Those that were heard of longest ago, and of nobody else's.
    assert len(kept()) == MOST + 2
    assert kept() >= {"crm", "crm/new", "crm/newer", "billing", "crm-eu/1", *(f"crm/{n}" for n in range(6, MOST))}
    # One that is there already takes no place.
    resource.reports.sighted("crm/new", 0, now=0)
    assert len(kept()) == MOST + 2
    # Of those that went, nothing is left; no death and nothing else went with them.
    with Authority.open_home(served.home) as beside, beside.store.read() as reading:
        assert len(reading.follower_acks()) == MOST + 3
        assert (reading.head().deaths, reading.head().forgotten) == (1, 0)
        assert reading.death(task.id) is not None


def test_nobody_has_seen_a_death_that_did_not_happen(
    resource: Resource, remote: RemoteAuthority, task: OpenedTask
) -> None:
    resource.reports.sighted("crm/2", 1 << 50, now=0)
    remote.complete(task.id)
    assert [one.follower for one in remote.unaware()] == ["crm/2"]


def test_reports_wait_for_a_gone_authority_and_none_is_lost(
    served: Served, resource: Resource, remote: RemoteAuthority, task: OpenedTask
) -> None:
    until(lambda: resource.decide(crm(task)).allowed)
    served.stop()
    decided = [resource.decide(crm(task)).id for _ in range(5)]
    assert not resource.recorder.flush(0.2)
    with pytest.raises(Unavailable, match="no authority answers at"):
        resource.reports.record([record()])
    port = served.url.rpartition(":")[2]
    served.restart("--listen", f"127.0.0.1:{port}")
    assert resource.recorder.flush(20)
    assert {event.facts()["id"] for event in remote.find()} >= set(decided)
