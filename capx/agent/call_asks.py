"""What one call of an actor asks for after its denials, and how it ends: for guards, and for clients.

Laws: a call ends in one of four ways, whether a tool makes it or a client. It passes. It is denied: Denied, whose notes
say why nothing helped. It waits for a person: Pending. Or nobody can say now: Unavailable, whose cause is the
Denied. An authority that gives no answer has refused nothing. A call asks at most twice for more, and once for each
approval that its token demands, and for nothing where earlier answers were in vain.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NoReturn

from capx.agent.actor import Actor
from capx.agent.next_asks import AskOutcome, DenialSummary, NextAsks, next_asks
from capx.errors import StoreProblem, Unavailable
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.discharge import MAX_DISCHARGES
from capx.verify.ask import Approved, Ask, Granted
from capx.verify.decision import Denied
from capx_caveats import Call

NOTHING_DONE: Final = "Nothing was done: try the very same call again later."
"""What to do after Unavailable, for people and for models."""
_CANNOT_SAY: Final = 503
"""The status of a denial that says only that the call cannot be judged now."""


class CallAsks:
    """The asks of one call of an actor at one audience.

    `denied` is the last denial of the call, and `notes` say why it stays denied.
    """

    def __init__(self, actor: Actor | None, audience: str) -> None:
        self._seeker = None if actor is None or isinstance(actor, Bundle) else actor
        self._audience = audience
        self.denied: Denied | None = None
        self._grants: list[tuple[Ask, Capability]] = []
        self._approvals: list[Ask] = []
        self.grant: Capability | None = None
        """What was granted last, to be presented now; None if something else was gained."""
        self.notes: tuple[str, ...] = ()

    @property
    def granted(self) -> tuple[Ask, ...]:
        """What was granted for this call."""
        return tuple(ask for ask, _ in self._grants)

    def next(self, denials: Sequence[Denied]) -> NextAsks | None:
        """Return what to ask for after the call was denied; None if there is nothing to ask for.

        `denials` has one denial for each capability that was tried: at least one.
        """
        summaries = list(map(DenialSummary.of, denials))
        telling = (denied for denied, one in zip(denials, summaries, strict=True) if not one.of_action_only)
        self.denied = next(telling, denials[0])
        if self._seeker is None:
            return None
        # A token that lacks nothing but an approval is nearer to the call than one that lacks a grant.
        wanted = self._next_approval(self._seeker.bundle, denials)
        if wanted is None:
            wanted = next_asks(self._audience, summaries, self.granted[-1] if self.granted else None)
        if wanted is None:
            return None
        asks = tuple(ask for ask in wanted.asks if not self._seeker.unproven.forbids(ask))
        if not asks:
            self.note(
                f"the agent did not ask for more, because what was granted at {self._audience} before did not help: "
                "agent.ask still asks"
            )
            return None
        return NextAsks(asks)

    def _next_approval(self, bundle: Bundle, denials: Sequence[Denied]) -> NextAsks | None:
        """The next ask for an approval that a denied call lacks, each of them once; None if there is none."""
        for needed in (denied.approve for denied in denials):
            # As with grants: a service must not choose where somebody approves something.
            if needed is None or needed.audience != self._audience:
                continue
            for cid in bundle.demands_for(Call(needed.action, needed.args), audience=needed.audience):
                ask = Ask.of(needed.action, needed.audience, needed.args, cid.decode("latin-1"))
                if ask not in self._approvals and len(self._approvals) < MAX_DISCHARGES:
                    self._approvals.append(ask)
                    return NextAsks((ask,))
        return None

    def seek(self, wanted: NextAsks) -> AskOutcome | None:
        """Have the actor send the next asks, and hold what is granted; None if it asks for nothing."""
        return None if self._seeker is None else self._seeker.seek(wanted)

    async def seek_async(self, wanted: NextAsks) -> AskOutcome | None:
        """`seek`, for async code."""
        return None if self._seeker is None else await self._seeker.seek_async(wanted)

    def gained(self, outcome: AskOutcome | None, presented: Iterable[Capability]) -> bool:
        """Return whether to make the call again: there is a grant that was not presented before, or an approval.

        Raises Unavailable, caused by the denial, if the authority has not answered.
        """
        self.grant = None
        if outcome is None:
            return False
        # It is shown only if the call stays denied.
        self.note(outcome.sentence())
        if isinstance(outcome.answer, StoreProblem):
            why = f"{self.denied}; the agent could not ask for more: {outcome.answer}"
            raise Unavailable(f"{why}. {NOTHING_DONE}") from self.denied
        if isinstance(outcome.answer, Granted):
            self._grants.append((outcome.ask, outcome.answer.capability))
            # A capability that was presented already would be denied again.
            if outcome.answer.capability not in tuple(presented):
                self.grant = outcome.answer.capability
        return self.grant is not None or isinstance(outcome.answer, Approved)

    def passed(self, capability: Capability) -> None:
        """Note with which capability the call passed."""
        if self._seeker is not None:
            self._seeker.unproven.prove(capability)

    def note(self, sentence: str) -> None:
        """Add a note."""
        self.notes = (*self.notes, sentence)

    def failed(self) -> None:
        """Note that the call stays denied: what was granted for it was in vain."""
        if self._seeker is not None:
            for ask, capability in (*self._grants, *((ask, None) for ask in self._approvals)):
                self._seeker.unproven.fail(ask, capability)

    def raise_denied(self, denied: Denied) -> NoReturn:
        """Raise the error with which the call ends: the denial with its notes, or Unavailable if it can say nothing."""
        if denied.status == _CANNOT_SAY:
            raise Unavailable(f"{denied}. {NOTHING_DONE}") from denied
        self.failed()
        denied.notes = (*denied.notes, *self.notes)
        raise denied
