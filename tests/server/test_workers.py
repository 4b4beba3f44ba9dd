"""Too much at once is told so, and the rest is done."""

import asyncio
import threading
import time

from capx.authority.remote.client import RemoteAuthority
from tests.labs.serving_process import figure, locked, opened
from tests.labs.waiting import until
from tests.server.conftest import Served


def test_too_much_at_once_is_told_so_and_the_rest_is_done(served: Served) -> None:
    with locked(served):
        asked = threading.Thread(target=lambda: answers.extend(asyncio.run(opened(served.socket, 250))))
        answers: list[bytes] = []
        asked.start()
        with served.everybody() as client:
            sent_away = 'capx_http_requests_total{face="operators",method="POST",route="/tasks",status="503"}'
            until(lambda: figure(served, sent_away) >= 40)
            # A face of others, and what looks at no store, go on.
            assert client.get("/feed").status_code == 200
            began = time.monotonic()
            assert client.get("/healthz").json() == {"alive": True}
            assert time.monotonic() - began < 1.0
    asked.join(60)
    refused_, done = [a for a in answers if b" 503 " in a], [a for a in answers if b" 200 " in a]
    assert len(refused_) + len(done) == 250
    assert len(refused_) >= 40
    assert all(b"retry-after: 1" in answer for answer in refused_)
    with RemoteAuthority(served.place) as remote:
        assert len(remote.tasks()) == len(done)
