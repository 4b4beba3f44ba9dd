"""Floods by whoever reaches the network's face without a credential: operators and followers go on.

In `make nightly` each flood takes a minute, and every kind of flood is run. By day a flood ends after three seconds, as
soon as each follower has news from later. If none comes, the flood goes on, and the bounds are broken.
"""

import re
import signal
import time
from pathlib import Path

import pytest

from tests.labs.counts import NIGHTLY, repeated
from tests.labs.flood import CONNECTIONS, KINDS
from tests.labs.flooding import flooded, killed, noticed_during, streams_taken
from tests.server.conftest import Served

SECONDS = repeated(60)
LEAST = SECONDS if NIGHTLY else 3
# Each needs no credential, and much work of whoever parses it.
EVERY_DAY = ("5 400 lines", "tiny chunks", "query")
# In seconds. Measured: 1.9 and 0.4 on two cores with eight others at work. By day, other tests run meanwhile.
OLDEST = 5.0 if NIGHTLY else 8.0
LONGEST = 1.0 if NIGHTLY else 5.0


@pytest.mark.parametrize("kind", KINDS if NIGHTLY else EVERY_DAY)
@pytest.mark.timeout(300)
def test_a_flood_keeps_no_revocation_waiting(served: Served, kind: str) -> None:
    noticed = noticed_during(served, kind, SECONDS, least=LEAST)
    assert noticed.age < OLDEST
    assert noticed.begun < OLDEST
    assert max(noticed.revocations) < LONGEST
    # An operator pauses for a tenth of a second between two.
    assert len(noticed.revocations) > noticed.lasted


@pytest.mark.parametrize("kind", ["single pages", "streams"])
@pytest.mark.timeout(300)
def test_a_flood_for_old_deaths_keeps_nobody_waiting(served: Served, kind: str) -> None:
    killed(served, 10_000)
    noticed = noticed_during(served, kind, SECONDS, least=LEAST)
    assert noticed.age < OLDEST
    assert noticed.begun < OLDEST
    assert max(noticed.revocations) < LONGEST


@pytest.mark.timeout(300)
def test_a_follower_without_a_stream_outlasts_a_flood(served: Served) -> None:
    # From the address of the follower, which waits for its turn among pages of all deaths.
    killed(served, 10_000)
    with streams_taken(served):
        noticed = noticed_during(served, "single pages", max(SECONDS, 12), least=LEAST, new=False)
    assert noticed.age < OLDEST
    # The queue of a stranger who has gone keeps no stop waiting.
    served.signal(signal.SIGTERM)
    assert served.ended(timeout=8)[0] == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells nobody what a process holds")
@pytest.mark.parametrize("kind", ["5 400 lines", "resets"])
def test_a_flood_fills_no_memory(served: Served, kind: str) -> None:
    def peak() -> int:
        status = Path(f"/proc/{served.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) << 10

    before = peak()
    with flooded(served, kind, 3):
        time.sleep(3)
    # A quarter of a MiB for each connection. A head of 5 400 lines, kept as its fields, takes eight times as much.
    assert peak() < before + (CONNECTIONS << 18)
