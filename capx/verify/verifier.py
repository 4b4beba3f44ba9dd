"""The verifier, embedded in a resource: what may this execution do, right now, with this very call.

    1  limits of the wire, strict decoding                       wire.decode
    2  our audience, and a live key                              Verifier._authentic
    3  the MAC chain over all blocks, in constant time           chain.tail_of, chain.verify_mac
    4  marks stand where they may, the presentation fits         lineage.read, _mismatch
    5  the presentation is burnt, whatever the decision will be   Verifier._burn
    6  nobody it descends from is dead, as is freshly known      Evaluator.revocation_refusals
    7  every caveat of every block, and max_hops                 Evaluator.refusals
    8  a slot in the record is taken, budgets are spent          Admitted.decide
    9  the decision is recorded, allow or deny                   Admitted.decide, Admitted.refused

Laws: until 3 nothing is interpreted but the identifier. 1-5 stop at the first refusal; 6 and 7 tell together all
that refuse. Nothing is recorded before the burn: whoever cannot present afresh must not be able to fill the log. A
cache keeps what bytes and key say, never a decision, never a key. The clock never steps back.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from msgspec import Struct

from capx.crypto.keys import AudienceKey, AudienceKeys
from capx.errors import ConfigurationProblem, MalformedToken, Unavailable
from capx.tokens import chain, wire
from capx.tokens.binding import WINDOW_AFTER, WINDOW_BEFORE, Received, ToolCall
from capx.tokens.lineage import Lineage, Section, TokenRefused, caveats_of, may_refuse, read_lineage
from capx.verify.admitted import Admitted
from capx.verify.cache import Cache
from capx.verify.decision import NO_TOKEN, Allowed, Decision, Denied
from capx.verify.evaluator import TOO_MUCH, Evaluator, caveat_refusals
from capx.verify.meter import Meter
from capx.verify.protocols import NO_RECORDER, Liveness, Recorder, ReplayMemory
from capx_caveats import DEFAULT, Budget, Call, Caveat, Facts, Presented, Refusal, Sig, Vocabulary, is_too_much

MAX_STALENESS = 30.0
"""Seconds for which a verifier goes on without hearing of deaths."""

Burn = Callable[[], Refusal | None]
"""Burns one presentation, or says why it may not be used."""
_REQUIRABLE = frozenset({"tenant", "intent"})


class Authentic(Struct, frozen=True):
    """A token whose whole MAC chain is good; nothing else is known of it yet (steps 1-3)."""

    frame: wire.Frame
    key: AudienceKey
    tail: bytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.frame!r}, {self.key!r})"


class _Known(Authentic, frozen=True):
    """What the bytes of a verified body say; tail and lineage hold under this very key object and no other."""

    lineage: Lineage


class Restriction(Struct, frozen=True):
    """One caveat in words, whose it is (hop 0 is the authority's grant), and its refusal if it refuses."""

    hop: int
    hop_name: str | None
    sentence: str
    refusal: Refusal | None


class Explanation(Struct, frozen=True):
    """The walk of a decision for people: every restriction, and all that refuses."""

    restrictions: tuple[Restriction, ...]
    refusals: tuple[Refusal, ...]
    lineage: Lineage | None

    @property
    def allowed(self) -> bool:
        """Whether nothing refuses."""
        return not self.refusals

    def __bool__(self) -> NoReturn:
        raise TypeError("an Explanation is neither true nor false: read its `allowed`")


class Verifier:
    """Checks tokens for one audience.

    `max_staleness` is in seconds; `require` names what the authority's block must carry besides the rule
    (`tenant`, `intent`); without a `meter`, every token with a budget is refused; `bearer` accepts tokens that are not
    presented, which makes a leaked one worth more than one call. Raises ConfigurationProblem for keys of another
    audience.
    """

    def __init__(
        self,
        audience: str,
        keys: AudienceKeys,
        *,
        liveness: Liveness,
        replay: ReplayMemory,
        recorder: Recorder = NO_RECORDER,
        meter: Meter | None = None,
        vocabulary: Vocabulary = DEFAULT,
        max_staleness: float = MAX_STALENESS,
        require: Iterable[str] = (),
        bearer: bool = False,
        clock: Callable[[], float] = time.time,
        cache_size: int = 1024,
    ) -> None:
        if keys.audience != audience:
            raise ConfigurationProblem(f"the keys are those of {keys.audience!r}, and this verifier is {audience!r}")
        self.audience = audience
        self._require = frozenset(require)
        if unknown := self._require - _REQUIRABLE:
            raise ConfigurationProblem(f"cannot require {', '.join(sorted(unknown))}: only {', '.join(_REQUIRABLE)}")
        self._keys = keys
        self._replay = replay
        self._vocabulary = vocabulary
        self._bearer = bearer
        self._evaluator = Evaluator(
            audience, liveness=liveness, recorder=recorder, meter=meter, max_staleness=max_staleness, clock=clock
        )
        self._cache: Cache[_Known] = Cache(cache_size)

    def authenticate(self, token: str) -> Authentic:
        """Steps 1-3, for a service that must decide whether to read on; raises Denied."""
        try:
            return self._authentic(token)
        except TokenRefused as refused:
            raise self.denial(refused.refusal) from None

    def denial(self, refusal: Refusal) -> Denied:
        """The answer to whoever has shown no authority: not recorded, or anybody could fill the log."""
        return Denied(self._evaluator.decision((refusal,)))

    def admit(self, token: str | Authentic, received: Received) -> Admitted:
        """The token is authentic, fits what was received, is fresh, unused and alive; raises Denied."""
        admitted = self._burnt(token, received)
        admitted.demand_alive()
        return admitted

    async def admit_async(self, token: str | Authentic, received: Received) -> Admitted:
        """`admit`, with a burn that may wait for a disk done in a thread."""
        admitted, burn = self._fitting(token, received)
        if self._replay.blocking:
            import asyncio

            admitted.refuse_unrecorded_if(await asyncio.to_thread(burn))
        else:
            admitted.refuse_unrecorded_if(burn())
        admitted.demand_alive()
        return admitted

    def verify(self, token: str | Authentic, received: Received, call: Call) -> Allowed:
        """Admit and judge at once; raises Denied, which tells together what liveness and caveats refuse."""
        return self._burnt(token, received).judge(call)

    def decide(self, token: str | Authentic, received: Received, call: Call) -> Decision:
        """`verify` as an answer; never raises Denied."""
        try:
            return self._burnt(token, received).decide(call)
        except Denied as denied:
            return denied.decision

    def explain(self, token: str, call: Call, received: Received | None = None) -> Explanation:
        """Why this call would be allowed or refused, without burning or recording anything.

        A bare token is judged as if it were presented properly, a presentation without `received` as if it fitted.
        """
        now = self._evaluator.now()
        try:
            authentic = self._authentic(token)
            lineage, mark = self._lineage(authentic)
        except TokenRefused as refused:
            return Explanation((), (refused.refusal,), None)
        if mark is not None and received is not None and (misfit := _mismatch(mark, received, now)):
            return Explanation((), (misfit,), lineage)
        presentation = _presentation(lineage, authentic, mark)
        facts = self._evaluator.facts(call)
        beside = self._evaluator.claim_refusals(lineage, presentation, facts)
        if is_too_much(call.args, lambda: lineage.asked_of_each):
            return Explanation((), (*beside, TOO_MUCH), lineage)
        walk = tuple(_restrictions(lineage, facts, self._evaluator.unaffordable(lineage, call)))
        refusals = (*beside, *(each.refusal for each in walk if each.refusal is not None))
        return Explanation(walk, refusals, lineage)

    def _authentic(self, token: str | Authentic) -> Authentic:
        if isinstance(token, Authentic):
            if self._keys.get(token.key.kid) is not token.key:
                raise TokenRefused(_NOT_AUTHENTIC)
            return token
        if not token:
            raise TokenRefused(NO_TOKEN)
        try:
            frame = wire.decode(token, self._earlier)
        except MalformedToken as error:
            raise TokenRefused(Refusal(error.code, str(error), "a presentation of a capability")) from None
        identifier = frame.identifier
        if identifier.audience != self.audience:
            raise TokenRefused(
                Refusal(
                    "wrong_audience",
                    f"this token is for {identifier.audience}, and this is {self.audience}",
                    self.audience,
                    given=identifier.audience,
                )
            )
        key = self._keys.get(identifier.kid)
        if key is None or not frame.blocks:
            raise TokenRefused(_NOT_AUTHENTIC)
        known = self._known(frame, key)
        tail = known.tail if known else chain.tail_of(key, frame.identifier_bytes, frame.blocks[:-1])
        if not chain.verify_mac(tail, frame.blocks[-1], frame.signature):
            raise TokenRefused(_NOT_AUTHENTIC)
        return Authentic(frame, key, tail)

    def _known(self, frame: wire.Frame, key: AudienceKey) -> _Known | None:
        known = self._cache.get(frame.body)
        return None if known is None or known.key is not key else known

    def _earlier(self, body: bytes) -> wire.Frame | None:
        known = self._cache.get(body)
        return None if known is None else known.frame

    def _lineage(self, authentic: Authentic) -> tuple[Lineage, Presented | None]:
        """Step 4, shape: the lineage, and the presentation if the last block is one; raises TokenRefused."""
        frame = authentic.frame
        mark = _mark(caveats_of(frame.blocks[-1], self._vocabulary))
        if mark is None:
            return read_lineage(frame, frame.blocks, self._vocabulary, self._require), None
        if known := self._known(frame, authentic.key):
            return known.lineage, mark
        lineage = read_lineage(frame, frame.blocks[:-1], self._vocabulary, self._require)
        self._cache.put(frame.body, _Known(frame, authentic.key, authentic.tail, lineage))
        return lineage, mark

    def _burnt(self, token: str | Authentic, received: Received) -> Admitted:
        """Steps 1-5."""
        admitted, burn = self._fitting(token, received)
        admitted.refuse_unrecorded_if(burn())
        return admitted

    def _fitting(self, token: str | Authentic, received: Received) -> tuple[Admitted, Burn]:
        """Steps 1-4, and the burn of step 5, left to whoever knows whether it may wait."""
        action = received.action if isinstance(received, ToolCall) else None
        try:
            authentic = self._authentic(token)
            lineage, mark = self._lineage(authentic)
        except TokenRefused as refused:
            raise Denied(self._evaluator.decision((refused.refusal,), action=action)) from None
        presentation = _presentation(lineage, authentic, mark)
        admitted = Admitted(self._evaluator, lineage, presentation, action)
        now = self._evaluator.now()
        if mark is None or presentation is None:
            admitted.refuse_unrecorded_if(None if self._bearer else _BEARER_REFUSED)
            return admitted, _nothing_to_burn
        admitted.refuse_unrecorded_if(_mismatch(mark, received, now))
        return admitted, lambda: self._burn(presentation, mark.at + WINDOW_AFTER, now)

    def _burn(self, presentation: bytes, until: int, now: int) -> Refusal | None:
        try:
            new = self._replay.burn(presentation, until, now)
        except Unavailable as problem:
            return Refusal("unavailable", str(problem), "try again later")
        return None if new else _REPLAYED


_NOT_AUTHENTIC = Refusal(
    "not_authentic", "this token was not minted under a live key of ours, or was changed since", "its holder's own"
)
_REPLAYED = Refusal("replayed", "this presentation was used before", "a fresh presentation for each call")
_BEARER_REFUSED = Refusal(
    "bearer_refused",
    "a bare token is not accepted",
    "Authorization: Capx <presentation>, made with `capx present` or Capability.present",
)


def _nothing_to_burn() -> None:
    return None


def _restrictions(lineage: Lineage, facts: Facts, unaffordable: Iterable[Refusal | None]) -> Iterator[Restriction]:
    of_budgets = iter(unaffordable)
    for section in lineage.sections:
        for caveat in section.caveats:
            if may_refuse(caveat):
                alone = Section(section.hop, section.name, (caveat,))
                refusal = next(caveat_refusals((alone,), facts), None)
                if isinstance(caveat, Budget):
                    counted = next(of_budgets, None)
                    refusal = refusal or counted
                yield Restriction(section.hop, section.name, _in_words(caveat), refusal)


def _in_words(caveat: Caveat) -> str:
    try:
        return caveat.sentence()
    except Exception:  # noqa: BLE001 - a service's own caveat may raise anything
        return f"a {type(caveat).__name__} that cannot be put into words"


def _mark(last: tuple[Caveat, ...]) -> Presented | None:
    """The presentation, if the last block is one; TokenRefused if it is signed, which is not understood here yet."""
    mark = last[0] if last else None
    if not isinstance(mark, Presented) or len(last) > 2 or not all(isinstance(caveat, Sig) for caveat in last[1:]):
        return None
    if len(last) > 1:
        raise TokenRefused(Refusal("hop_unsigned", "this presentation is signed, and no signed chain leads there"))
    return mark


def _presentation(lineage: Lineage, authentic: Authentic, mark: Presented | None) -> bytes | None:
    """The id of the presentation, 16 bytes; None for a bare token."""
    if mark is None:
        return None
    return chain.block_digest(lineage.digest, authentic.frame.blocks[-1])[:16]


def _mismatch(mark: Presented, received: Received, now: int) -> Refusal | None:
    if mark.profile != received.profile or mark.digest != received.digest():
        return Refusal(
            "call_mismatch",
            "this presentation is for another call than the one received",
            "one made for this call",
        )
    if not mark.at - WINDOW_BEFORE <= now <= mark.at + WINDOW_AFTER:
        when = "is from the future" if now < mark.at else "is too old"
        return Refusal("call_window", f"this presentation {when}", f"one made within {WINDOW_AFTER} s", given=mark.at)
    return None
