"""What agents ask for at run time: something new each time, and the same again, which writes no grant.

Laws: whoever asks may ask so often, in a task on an intent of its own, opened before the clock runs. What is timed in
process is all of it: the presentation of the ask, its verification, the answer, and the decision until it is written.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice, repeat
from typing import Final

from capx import Authority, Bundle
from capx.policy.file import read_policy
from capx.verify.ask import Granted
from tests.bench.authority.figures import AGAIN, NEW
from tests.bench.authority.keeping import kept
from tests.bench.authority.places import Places
from tests.bench.measuring import Contender, Run
from tests.bench.timing import each
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
            authority = stack.enter_context(places.local(who, policy=read_policy(POLICY)))
            again = next(new_asks(authority))
            contenders += [
                kept(NEW, 1, who, _timed(authority, partial(islice, new_asks(authority)))),
                kept(AGAIN, 1, who, _timed(authority, partial(repeat, again))),
            ]
        yield contenders


def _timed(authority: Authority, asks: Callable[[int], Iterable[Asking]]) -> Run:
    def ask(asking: Asking | None) -> None:
        if asking is None:
            authority.flush()
            return
        bundle, action = asking
        answer = authority.ask(bundle, action)
        assert isinstance(answer, Granted), answer

    return lambda count: each(ask, [*asks(count), None], time.perf_counter)
