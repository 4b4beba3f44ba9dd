"""One call that an actor sends to an audience: with what it is presented, and what is asked for when it is denied.

Laws: no I/O. The call is presented with the exact bytes that were digested. A newer capability is tried before one
that passed earlier. One call is presented with at most MAX_ATTEMPTS capabilities, and once with each grant that the
actor gets for it.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, NoReturn, TypeVar

from capx.agent.actor import Actor, bundle_of, demand_open_block
from capx.agent.call_asks import CallAsks
from capx.agent.next_asks import AskOutcome, DenialSummary, NextAsks
from capx.tokens.binding import Received
from capx.tokens.bundle import Bundle, permits
from capx.tokens.capability import Capability, Presentation
from capx.tokens.discharge import Discharge
from capx.tokens.held_approvals import choose, is_ruled_out
from capx.tokens.lineage import AUTHORITY
from capx.verify.decision import Denied
from capx_caveats import Call

T = TypeVar("T")

MAX_ATTEMPTS: Final = 8
"""With how many capabilities a client presents one call, besides what is granted for it."""

_MAX_KINDS: Final = 256
"""For how many kinds of calls a client remembers which capability passed."""


class PassedCapabilities:
    """Remembers which capability passed for the last call of a kind, to try it first, after all newer ones.

    The client says which calls are of one kind: those that most likely need the same permission.
    """

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], tuple[bytes, bytes]] = {}

    def order(self, kind: tuple[str, ...], newest_first: Sequence[Capability]) -> list[Capability]:
        """Return the capabilities in the order in which to try them."""
        ids = [capability.id for capability in newest_first]
        newest, passed = self._ids.get(kind, (b"", b""))
        newer = ids.index(newest) if newest in ids else len(ids)
        rest = sorted(newest_first[newer:], key=lambda capability: capability.id != passed)
        return [*newest_first[:newer], *rest]

    def remember(self, kind: tuple[str, ...], newest: bytes, passed: bytes) -> None:
        """Remember which capability passed, and the newest one at that time."""
        # Forgetting all is enough: the only cost is one more denied attempt for each kind.
        if len(self._ids) >= _MAX_KINDS:
            self._ids.clear()
        self._ids[kind] = newest, passed


class PresentedCall:
    """One call at one audience: the denials that it got, and what the actor asks for because of them.

    `kind` is the kind of the call, as `PassedCapabilities` counts them.
    """

    def __init__(
        self, received: Received, audience: str, actor: Actor, passed: PassedCapabilities, kind: tuple[str, ...]
    ) -> None:
        self._received = received
        self._audience = audience
        self._actor = actor
        self._passed = passed
        self._kind = (audience, *kind)
        self.asks = CallAsks(actor, audience)
        self._tried: list[Capability] = []
        self._again: Capability | None = None
        """What to present after the actor has gained something."""
        self._call: Call | None = None
        """The call, once a denial has named it: before that, nobody here knows what the resource makes of it."""
        self._approvals: tuple[Discharge, ...]
        self._approvable: Capability | None = None
        self._newest: bytes
        self._denials: list[Denied] | None
        self._told = -1
        self.reported: Denied | None = None
        """The most informative denial of those that were read whole."""

    def attempts(self) -> Iterator[Presentation | None]:
        """Yield a presentation of the call with each capability in turn that may allow it.

        After a grant, with that one; after an approval, with the capability that lacked it. None if an agent holds
        nothing for the audience: then only the resource can say what the call needs. InvalidRequest if a bundle does,
        because it cannot ask for anything.
        """
        # After a grant, only a refusal that says more replaces the one before.
        self._denials, self._told = [], min(self._told, 1)
        bundle = bundle_of(self._actor)
        if self._audience not in bundle.audiences and not isinstance(self._actor, Bundle):
            self._demand_open_block()
            yield None
            return
        newest_first = bundle.candidates(self._audience)
        self._newest = newest_first[0].id
        if self._again is not None:
            yield self._attempt(self._again)
            return
        untried = self._passed.order(self._kind, newest_first)
        while untried and (left := MAX_ATTEMPTS - len(self._tried)) > 0:
            # Too many to try all: half of those tried are the newest, and half the oldest, which often allow most.
            capability = untried.pop(-1 if len(untried) > left <= MAX_ATTEMPTS // 2 else 0)
            yield self._attempt(capability)
            # The resource has named the call: now another approval may be the one for it.
            if self._approvable is capability and self._chosen(capability) not in ((), self._approvals):
                yield self._attempt(capability)
            # The resource has named the action now, and perhaps the arguments.
            untried = [one for one in untried if _may_allow(one, self._denials)]
        if untried:
            self.asks.note(f"{len(untried)} more capabilities for {self._audience} were not tried")

    def succeeded(self) -> None:
        """Note which capability the call passed with."""
        if self._tried:
            self._passed.remember(self._kind, self._newest, self._tried[-1].id)
            self.asks.passed(self._tried[-1])

    def refused(self, denied: Denied | None) -> bool:
        """Note a refusal, None if it does not say why; return whether it says more than all refusals before."""
        told = 0 if denied is None else 1 if DenialSummary.of(denied).of_action_only else 2
        if denied is not None:
            if self._denials is not None:
                self._denials.append(denied)
            if self._tried and (needed := denied.approve) is not None:
                self._approvable, self._call = self._tried[-1], Call(needed.action, needed.args)
        if says_more := told > self._told:
            self.reported, self._told = denied, told
        return says_more

    def unreadable(self) -> None:
        """Note a refusal that nobody has read whole: after it, the actor asks for nothing."""
        self._denials = None

    def next_asks(self) -> NextAsks | None:
        """Return what to ask for after all attempts were refused; None if there is nothing to ask for."""
        return self.asks.next(self._denials) if self._denials else None

    def gained(self, outcome: AskOutcome | None) -> bool:
        """Return whether there is something new to present; raises Unavailable if the authority has not answered."""
        # Before the asks are counted: a call that has ended has not failed.
        self._demand_open_block()
        gained = self.asks.gained(outcome, self._tried)
        self._again = self.asks.grant or self._approvable
        return gained

    def _attempt(self, capability: Capability) -> Presentation:
        self._demand_open_block()
        self._tried.append(capability)
        self._approvals = self._chosen(capability)
        return capability.present(self._received, approvals=self._approvals)

    def _chosen(self, capability: Capability) -> tuple[Discharge, ...]:
        """The approvals that go with a capability."""
        return tuple(choose(capability, bundle_of(self._actor).approvals, self._call, int(time.time())))

    def _demand_open_block(self) -> None:
        # The caller may have been cancelled while a person decided. At the authority it must still clean up: revoke its
        # sub-agents, and end its task.
        if self._audience != AUTHORITY:
            demand_open_block()


async def send_call(call: PresentedCall, send: Callable[[Presentation | None], Awaitable[T]]) -> T:
    """Send a call until it passes, and ask for what it lacks; raises Denied with notes, Pending or Unavailable.

    `send` raises Denied for a refusal, also for one that came over the wire. It gets None if the actor holds nothing
    to present.
    """
    while True:
        for presentation in call.attempts():
            try:
                result = await send(presentation)
            except Denied as denied:
                call.refused(denied)
                # 403 is about this capability. Any other status meets the next one too.
                if denied.status != 403 and presentation is not None:
                    call.asks.raise_denied(denied)
            else:
                call.succeeded()
                return result
        wanted = call.next_asks()
        if wanted is None or not call.gained(await call.asks.seek_async(wanted)):
            _raise(call)


def _raise(call: PresentedCall) -> NoReturn:
    if call.reported is None:
        raise AssertionError("a call that was not refused has passed")
    call.asks.raise_denied(call.reported)


def _may_allow(capability: Capability, denials: Sequence[Denied] | None) -> bool:
    """Whether a capability may allow what the last denial names. A resource that lies wastes only its own answer."""
    ask = denials[-1].ask if denials else None
    if ask is None:
        return True
    if ask.args is None:
        return permits(capability, ask.action)
    return not is_ruled_out(capability, Call(ask.action, ask.args))
