"""Strangers and agents do not learn what only operators may know."""

import logging
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from capx.agent.authority_client import AuthorityClient
from capx.authority.remote.client import RemoteAuthority
from capx.errors import KeyProblem, StoreProblem, Unavailable
from capx.server.faces.redaction import SENTENCE, redacted_error
from capx.server.workers import Busy
from capx.verify.decision import Denied
from tests.labs.serving_process import locked
from tests.server.conftest import Served


def test_strangers_and_agents_do_not_learn_where_the_store_is(served: Served) -> None:
    with RemoteAuthority(served.place) as remote:
        bundle = remote.open(allow=["crm.read"]).bundle
        with (
            AuthorityClient(served.url, bundle) as client,
            served.everybody() as stranger,
            ThreadPoolExecutor(1) as pool,
            locked(served),
        ):
            # Both wait for the store until they are refused.
            answering = pool.submit(stranger.get, "/readyz")
            with pytest.raises(Denied) as denied:
                client.status()
            assert (denied.value.code, denied.value.status) == ("unavailable", 503)
            assert denied.value.refusals[0].sentence == SENTENCE
            answer = answering.result()
        (served.home / "capx.db").rename(served.home / "away.db")
        with served.everybody() as stranger:
            answers = [answer]
            while len(answers) < 8:
                answers += [stranger.get(path) for path in ("/readyz", "/feed")]
            told = [one for one in answers if one.status_code == 503]
            assert len(told) >= 3
            for one in told:
                assert one.json()["detail"] == SENTENCE
                assert str(served.home) not in one.text
                assert "capx.db" not in one.text
        with served.operators() as operator:
            assert str(served.home) in operator.get("/tasks").json()["detail"]
        (served.home / "away.db").rename(served.home / "capx.db")
    served.signal(signal.SIGTERM)
    code, err = served.ended()
    assert (code, "Traceback" in err) == (0, False)
    # What is kept from strangers is in the log, and not once for each of them.
    lines = [line for line in err.splitlines() if "cannot answer a request from the network" in line]
    assert any(str(served.home) in line for line in lines)
    assert len(lines) == len(set(lines))


def test_what_is_kept_from_strangers_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "capx"):
        for _ in range(100):
            assert str(redacted_error(StoreProblem("the disk /secret is full"))) == SENTENCE
            assert isinstance(redacted_error(Unavailable("/secret is locked")), Unavailable)
            assert str(redacted_error(KeyProblem("/secret/root.keys is gone"))) == SENTENCE
    said = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert said == ["the disk /secret is full", "/secret is locked", "/secret/root.keys is gone"]
    busy = Busy("too much is asked")
    assert redacted_error(busy) is busy
