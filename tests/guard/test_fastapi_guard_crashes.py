"""A guarded service is killed among concurrent calls: no call is made twice, and what was answered counts as used."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import httpx
import pytest

from capx.authority.authority import Authority
from capx.crypto.keys import KeyRing, RootKey
from capx.store.factory import create_store, open_store
from capx.tokens.binding import HttpRequest
from capx.tokens.capability import Capability
from tests.labs.commands import start_program
from tests.labs.counts import repeated

AT_ONCE = 16
CALLS = 120
KILLS = repeated(100) // 2


SERVING = """
import os, sys
from tests.labs.guarded_service import main
# It serves until its input ends, which nobody writes: it is killed.
sys.stdin = os.fdopen(os.pipe()[0])
main(*sys.argv[1:])
"""


class Service:
    """The process, and its port."""

    def __init__(self, *arguments: str) -> None:
        self._process = start_program(SERVING, *arguments)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)


def calls(capability: Capability, count: int, name: str) -> dict[str, str]:
    """Presentations by the targets to which they are bound."""
    targets = [f"/accounts/{name}-{number}" for number in range(count)]
    return {target: capability.present(HttpRequest(method="GET", target=target)).authorization for target in targets}


async def made(url: str, calls: dict[str, str], *, on_answer: "asyncio.Event | None" = None) -> dict[str, int]:
    """Make all calls, so many at once, and return the status of those that were answered."""
    answered: dict[str, int] = {}
    waiting = iter(calls.items())
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:

        async def one() -> None:
            for target, authorization in waiting:
                try:
                    answer = await client.get(url + target, headers={"authorization": authorization})
                except httpx.TransportError:
                    return
                answered[target] = answer.status_code
                if on_answer is not None:
                    on_answer.set()

        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return answered


async def made_and_killed(service: Service, calls: dict[str, str], after: float) -> dict[str, int]:
    """Make the calls, and kill the service so many seconds after its first answer."""
    begun = asyncio.Event()
    making = asyncio.create_task(made(service.url, calls, on_answer=begun))
    await begun.wait()
    await asyncio.sleep(after)
    service.kill()
    return await making


@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", ["sqlite", "postgres"])
def test_a_service_killed_among_calls_executes_none_twice(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address = str(tmp_path / "capx.db")
    if place == "sqlite":
        create_store(address).close()
    else:
        address = str(request.getfixturevalue("postgres_url"))
    keys, executed, chance = tmp_path / "crm.keys", tmp_path / "executed", random.Random(KILLS)
    with Authority(open_store(address), KeyRing(RootKey.generate())) as authority:
        authority.keyring.exported("crm").save(keys)
        bundle = authority.open(allow=["crm.read"], expires="1h").bundle
        (capability,) = (one for one in bundle if one.audience == "crm")
        cut_short = 0
        for kill in range(KILLS):
            asked = calls(capability, CALLS, f"k{kill}")
            first = asyncio.run(
                made_and_killed(Service(str(keys), address, str(executed)), asked, chance.uniform(0, 0.08))
            )
            cut_short += len(first) < CALLS
            service = Service(str(keys), address, str(executed))
            again = asyncio.run(made(service.url, asked))
            service.kill()
            assert set(first.values()) <= {200}
            assert len(again) == CALLS
            # What was answered counts as used, whoever is asked.
            assert {again[target] for target in first} <= {401}
            assert set(again.values()) <= {200, 401}
        times = Counter(executed.read_text().split())
        assert set(times.values()) == {1}
        assert cut_short > KILLS / 2
