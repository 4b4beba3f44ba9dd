"""What agents ask for at run time: something new each time, and the same again, which writes no grant.

Laws: whoever asks may ask so often, in a task on an intent of its own, opened before the clock runs. What is timed in
process is all of it: the presentation of the ask, its verification, the answer, and the decision until it is written.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from typing import Final

from capx import Authority, Bundle
from capx.policy.file import read_policy
from capx.verify.ask import Granted
from tests.bench.authority.figures import AGAIN, NEW
from tests.bench.authority.places import Places
from tests.bench.measuring import Contender, Run
from tests.bench.timing import Step, each
from tests.labs.refunds import Opening, grant, policy, refund

AT_OPEN: Final = "crm.tickets.read"
ON_REQUEST: Final = "crm.accounts.read"
BY_CONSENT: Final = "crm.notes.write"
POLICY: Final = policy(grant("at_open", AT_OPEN), grant("on_request", "crm.accounts.*"), grant("ask", BY_CONSENT))

OF_TASK: Final = 200
"""How often the agent of one task asks."""

Asking = tuple[Bundle, str]
"""Who asks, and for which action."""


def new_asks(authority: Opening) -> Iterator[Asking]:
    """Asks that are granted on request, each for something else; a task is opened whenever one may ask no more."""
    while True:
        bundle = refund(authority).bundle
        for number in range(OF_TASK):
            yield bundle, f"crm.accounts.a{number}"


@contextmanager
def asks(places: Places) -> Generator[list[Contender]]:
    """Both kinds of asks, answered by an authority in this process over each store."""
    with ExitStack() as stack:
        contenders: list[Contender] = []
        for who in places.stores:
            place = stack.enter_context(places.authority(who, policy=read_policy(POLICY)))
            assert isinstance(place.authority, Authority)
            authority = place.authority
            contenders += [
                Contender(NEW, 1, who, _timed(authority, partial(_new, authority))),
                Contender(AGAIN, 1, who, _timed(authority, partial(_again, authority, next(new_asks(authority))))),
            ]
        yield contenders


def _timed(authority: Authority, steps: Callable[[int], list[Step]]) -> Run:
    return lambda count: each(_done, [*steps(count), authority.flush], time.perf_counter)


def _done(step: Step) -> None:
    step()


def _new(authority: Authority, count: int) -> list[Step]:
    return [partial(_ask, authority, asking) for asking in islice(new_asks(authority), count)]


def _again(authority: Authority, asking: Asking, count: int) -> list[Step]:
    return [partial(_ask, authority, asking)] * count


def _ask(authority: Authority, asking: Asking) -> None:
    bundle, action = asking
    answer = authority.ask(bundle, action)
    assert isinstance(answer, Granted), answer
