"""From a refusal to success: an agent's call to a service that is refused, asks, is granted, and is made again.

Each agent is another one, of a task of its own, over connections that it has used before. It makes a call that it may
make, then one that it is granted on request, both whole; and one that waits for a person, whose consent is timed from
when it goes out to the authority until the call has succeeded. Service and authority are processes of their own.
"""

import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx

from capx import Agent, AuthorityClient
from capx.authority.remote.client import RemoteAuthority
from capx.authority.requests.verdict import Verdict
from tests.bench.authority.asking import AT_OPEN, BY_CONSENT, ON_REQUEST, POLICY
from tests.bench.authority.child import Child
from tests.bench.authority.figures import RETRY, TIMES_ALLOWED, Figure, figure, latencies
from tests.bench.authority.places import AUDIENCE, Places
from tests.bench.findings import Findings
from tests.bench.measuring import Unmeasurable
from tests.labs.refunds import BEN, refund
from tests.labs.waiting import until

ALLOWED: Final = "a call that is allowed"
GRANTED: Final = "refused, granted on request, made again"
CONSENTED: Final = "from a person's consent to success"
_PATIENCE: Final = 10.0
_LEAST_MOMENT, _MOST_MOMENTS = 0.03, 0.06


def measure_retries(found: Findings, places: Places) -> list[Figure]:
    """The three of them, by as many agents as were asked for."""
    agents: int = found.options.agents
    told, chance = found.told(RETRY, agents), random.Random(agents)
    took: dict[str, list[float]] = {ALLOWED: [], GRANTED: [], CONSENTED: []}
    with places.served(policy=POLICY) as place, ThreadPoolExecutor(1) as waiting:
        assert isinstance(place.authority, RemoteAuthority)
        with Child("tests.bench.authority.service", **place.source.settings()) as service:
            origin = f"http://127.0.0.1:{service.hear()}"
            for _ in range(agents):
                task = refund(place.authority)
                with (
                    AuthorityClient(place.source.address, task.bundle, trust_env=False) as asked,
                    Agent(task.bundle, authority=asked, wait=_PATIENCE) as agent,
                    agent.http({origin: AUDIENCE}, base_url=origin, trust_env=False, timeout=_PATIENCE) as client,
                ):
                    agent.status()
                    _call(client, AT_OPEN)
                    for what, action in ((ALLOWED, AT_OPEN), (GRANTED, ON_REQUEST)):
                        began = time.monotonic()
                        took[what].append(_call(client, action) - began)
                    succeeds = waiting.submit(_call, client, BY_CONSENT)
                    verdict = _verdict(place.authority, task.id)
                    # Until the agent waits at the authority, and then for a moment of any length.
                    time.sleep(chance.uniform(_LEAST_MOMENT, _MOST_MOMENTS))
                    began = time.monotonic()
                    place.authority.answer(verdict)
                    took[CONSENTED].append(succeeds.result() - began)
                told()
    return [_figure(what, each, took[ALLOWED]) for what, each in took.items()]


def _call(client: httpx.Client, action: str) -> float:
    """When a call had succeeded; Unmeasurable if it did not."""
    answer = client.get(f"/{action}")
    at = time.monotonic()
    if not answer.is_success:
        raise Unmeasurable(f"{action} was answered {answer.status_code}: {answer.text:.200}")
    return at


def _verdict(authority: RemoteAuthority, task: str) -> Verdict:
    """The consent of a person to what is asked for in a task, once it is."""
    try:
        found = until(lambda: authority.requests(task=task, pending=True), _PATIENCE)
    except AssertionError:
        raise Unmeasurable("nothing was asked for") from None
    return Verdict.sign(authority.inquiry(found[0].id), BEN, yes=True, at=int(time.time()))


def _figure(what: str, took: list[float], allowed: list[float]) -> Figure:
    values = latencies(took)
    if what != ALLOWED:
        values[TIMES_ALLOWED] = statistics.median(one / other for one, other in zip(took, allowed, strict=True))
    return figure(RETRY, what, len(took), values)
