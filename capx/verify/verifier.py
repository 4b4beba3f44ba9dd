"""The verifier that a resource embeds. It decides whether one call may be made, now, with the token that came with it.

    1  limits of the wire, strict decoding                       wire.decode
    2  our audience, and a live key                              Verifier._authentic
    3  the MAC chain over all blocks, in constant time           chain.tail_of, chain.verify_mac
    4  marks are at their places, the presentation fits          lineage.read_lineage, _mismatch
    5  the presentation is burnt, whatever the decision will be  Verifier._burn
    6  nothing on its path is revoked, and the news are fresh    Evaluator.revocation_refusals
    7  every caveat of every block, and max_hops                 Evaluator.refusals
    8  a slot in the record is reserved, budgets are spent       Admitted.decide
    9  the decision is recorded, allow or deny                   Admitted.decide, Admitted.refused

Laws:

- Before the MAC is checked (step 3), the verifier interprets only the identifier.
- Steps 1-5 stop at the first refusal. Steps 6 and 7 report all their refusals together.
- Nothing is recorded before the burn: a caller who cannot make a fresh presentation must not be able to fill the log.
- The cache keeps facts that follow from the bytes and the key. It never keeps a decision or a key.
- The clock never steps back.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from msgspec import Struct

from capx.background import in_pool
from capx.crypto.keys import AudienceKey, AudienceKeys
from capx.errors import ConfigurationProblem, MalformedToken, Unavailable
from capx.tokens import chain, wire
from capx.tokens.binding import WINDOW_AFTER, WINDOW_BEFORE, Received, ToolCall
from capx.tokens.lineage import Lineage, Section, TokenRefused, caveats_of, may_refuse, read_lineage
from capx.verify.admitted import Admitted
from capx.verify.cache import Cache
from capx.verify.decision import NO_TOKEN, Allowed, Decision, Denied
from capx.verify.evaluator import TOO_MUCH, Evaluator, caveat_refusals
from capx.verify.meter import Meter, Payer
from capx.verify.protocols import NO_RECORDER, Liveness, Recorder, ReplayMemory
from capx_caveats import DEFAULT, Budget, Call, Caveat, Facts, Presented, Refusal, Sig, Vocabulary, is_too_much

MAX_STALENESS = 30.0
"""Seconds for which a verifier goes on without news of revocations."""

Burn = Callable[[], Refusal | None]
"""Burns one presentation; returns the refusal if it may not be used, else None."""
_REQUIRABLE = frozenset({"tenant", "intent"})


class Authentic(Struct, frozen=True):
    """A token whose MAC chain is correct (steps 1-3).

    It was minted under a key of this audience, and only narrowed since. Do not conclude more from it: it may be
    expired, revoked, replayed, or presented for another call.
    """

    frame: wire.Frame
    key: AudienceKey
    tail: bytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.frame!r}, {self.key!r})"


class _Known(Authentic, frozen=True):
    """A verified body as the cache keeps it; `tail` and `lineage` are valid only under this very key object."""

    lineage: Lineage


class Restriction(Struct, frozen=True):
    """One caveat in words, the hop that added it (0 is the authority's grant), and its refusal, if it refuses."""

    hop: int
    hop_name: str | None
    sentence: str
    refusal: Refusal | None


class Explanation(Struct, frozen=True):
    """A decision step by step, for people: every restriction, and every refusal."""

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

    `max_staleness` is in seconds: with older news of revocations, every token is denied. `require` names claims that
    the authority's block must have besides those it always has (`tenant`, `intent`). Without a `meter`, every token
    with a budget is denied. `bearer` also accepts bare tokens; a leaked token is then good for more than one call.
    Raises ConfigurationProblem for keys of another audience.
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
            raise ConfigurationProblem(f"the keys are for {keys.audience!r}, and this verifier is {audience!r}")
        self.audience = audience
        self._require = frozenset(require)
        if unknown := self._require - _REQUIRABLE:
            raise ConfigurationProblem(f"cannot require {', '.join(sorted(unknown))}: only {', '.join(_REQUIRABLE)}")
        self._keys = keys
        self._replay = replay
        self._vocabulary = vocabulary
        self._bearer = bearer
        self._evaluator = Evaluator(
            keys, liveness=liveness, recorder=recorder, meter=meter, max_staleness=max_staleness, clock=clock
        )
        self._cache: Cache[_Known] = Cache(cache_size)

    def authenticate(self, token: str) -> Authentic:
        """Steps 1-3, for a service that decides by them whether to read the body of a request; raises Denied.

        After it, the token is authentic and nothing more: it may be revoked, expired, replayed or for another call.
        Pass the result to `admit`, `verify` or `decide`, which do not check the MAC again.
        """
        try:
            return self._authentic(token)
        except TokenRefused as refused:
            raise self.denial(refused.refusal) from None

    def denial(self, refusal: Refusal) -> Denied:
        """A denial for a caller who has shown no authority. It is not recorded, or anybody could fill the log."""
        return Denied(self._evaluator.decision((refusal,)))

    def admit(self, token: str | Authentic, received: Received) -> Admitted:
        """Steps 1-6: check everything that does not depend on the call; raises Denied.

        After it, the token is authentic, was presented for this request, is fresh, was not used before and is not
        revoked. (A bare token, if the verifier accepts them, is authentic and not revoked.) No caveat was checked yet,
        so nothing is allowed until `judge` of the result returns.
        """
        admitted = self._burnt(token, received)
        admitted.demand_alive()
        return admitted

    async def admit_async(self, token: str | Authentic, received: Received) -> Admitted:
        """`admit` for async code: a burn that may wait for a disk runs in a thread."""
        admitted, burn = self._fitting(token, received)
        if self._replay.blocking:
            admitted.refuse_unrecorded_if(await in_pool(burn))
        else:
            admitted.refuse_unrecorded_if(burn())
        admitted.demand_alive()
        return admitted

    def verify(self, token: str | Authentic, received: Received, call: Call) -> Allowed:
        """All steps; raises Denied with the refusals of revocations and caveats together.

        When it returns, exactly this call may be made, once and now. It is recorded, and its budgets are spent.
        """
        return self._burnt(token, received).judge(call)

    def decide(self, token: str | Authentic, received: Received, call: Call) -> Decision:
        """`verify`, but it returns a denial as a Decision and does not raise Denied."""
        try:
            return self._burnt(token, received).decide(call)
        except Denied as denied:
            return denied.decision

    def explain(self, token: str, call: Call, received: Received | None = None) -> Explanation:
        """Why this call would be allowed or denied; burns, spends and records nothing.

        A bare token is judged as if it were presented properly. A presentation without `received` is judged as if it
        were made for this call. So the result is for people: never act on it.
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
            # By identity: what was verified under another key object, even with the same kid, proves nothing here.
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
                    f"this token is for {identifier.audience}, and this service is {self.audience}",
                    self.audience,
                    given=identifier.audience,
                )
            )
        # An unknown kid and a wrong MAC get the same answer, so that nobody can probe which keys are live.
        key = self._keys.get(identifier.kid)
        if key is None or not frame.blocks:
            raise TokenRefused(_NOT_AUTHENTIC)
        known = self._known(frame, key)
        # The cache saves the MACs of the body only. The last MAC, over the presentation, is always computed.
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
        """Step 4, shape: the lineage, and the presentation, if the last block is one; raises TokenRefused."""
        frame = authentic.frame
        mark = _mark(caveats_of(frame.blocks[-1], self._vocabulary))
        if mark is None:
            # Not cached: the cache key leaves out the last block, and here that block is part of the lineage.
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
        """Steps 1-4, and the burn of step 5, for the caller to run: inline, or in a thread if it may wait."""
        action = received.action if isinstance(received, ToolCall) else None
        try:
            authentic = self._authentic(token)
            lineage, mark = self._lineage(authentic)
        except TokenRefused as refused:
            raise Denied(self._evaluator.decision((refused.refusal,), action=action)) from None
        presentation = _presentation(lineage, authentic, mark)
        payer = self._payer(authentic, lineage, presentation) if lineage.allotments else None
        admitted = Admitted(self._evaluator, lineage, presentation, action, payer)
        now = self._evaluator.now()
        if mark is None or presentation is None:
            admitted.refuse_unrecorded_if(None if self._bearer else _BEARER_REFUSED)
            return admitted, _nothing_to_burn
        # Before the burn: a presentation for another call must not use up the memory of presentations.
        admitted.refuse_unrecorded_if(_mismatch(mark, received, now))
        return admitted, lambda: self._burn(presentation, mark.at + WINDOW_AFTER, now)

    def _payer(self, authentic: Authentic, lineage: Lineage, presentation: bytes | None) -> Payer:
        frame, admission = authentic.frame, os.urandom(16)
        if presentation is None:
            return Payer(admission, admission, lineage.ids[1], self.audience, "")
        text = wire.encode(frame.identifier, frame.blocks, frame.signature)
        return Payer(presentation, admission, lineage.ids[1], self.audience, text)

    def _burn(self, presentation: bytes, until: int, now: int) -> Refusal | None:
        try:
            new = self._replay.burn(presentation, until, now)
        except Unavailable as problem:
            # Fail closed: if the memory cannot say that it is new, it may be a replay.
            return Refusal("unavailable", str(problem), "try again later")
        return None if new else _REPLAYED


_NOT_AUTHENTIC = Refusal(
    "not_authentic",
    "this token was changed, or was not minted under a live key of this audience",
    "the token as it was issued",
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
    budget_refusals = iter(unaffordable)
    for section in lineage.sections:
        for caveat in section.caveats:
            if may_refuse(caveat):
                single = Section(section.hop, section.name, (caveat,))
                refusal = next(caveat_refusals((single,), facts), None)
                if isinstance(caveat, Budget):
                    # Taken even if the caveat itself refuses: one of them belongs to each budget, in order.
                    exhausted = next(budget_refusals, None)
                    refusal = refusal or exhausted
                yield Restriction(section.hop, section.name, _in_words(caveat), refusal)


def _in_words(caveat: Caveat) -> str:
    try:
        return caveat.sentence()
    except Exception:  # noqa: BLE001 - a service's own caveat may raise anything
        return f"a {type(caveat).__name__} that cannot be put into words"


def _mark(last: tuple[Caveat, ...]) -> Presented | None:
    """The presentation, if the last block is one; TokenRefused if it is signed: this version cannot check that."""
    mark = last[0] if last else None
    if not isinstance(mark, Presented) or len(last) > 2 or not all(isinstance(caveat, Sig) for caveat in last[1:]):
        return None
    if len(last) > 1:
        sentence = "this presentation is signed, and this verifier cannot check signatures"
        raise TokenRefused(Refusal("hop_unsigned", sentence))
    return mark


def _presentation(lineage: Lineage, authentic: Authentic, mark: Presented | None) -> bytes | None:
    """The id of the presentation, 16 bytes; None for a bare token."""
    if mark is None:
        return None
    return chain.block_digest(lineage.digest, authentic.frame.blocks[-1])[:16]


def _mismatch(mark: Presented, received: Received, now: int) -> Refusal | None:
    if mark.profile != received.profile or mark.digest != received.digest():
        return Refusal("call_mismatch", "this presentation is for another call", "one made for this call")
    if not mark.at - WINDOW_BEFORE <= now <= mark.at + WINDOW_AFTER:
        when = "is from the future" if now < mark.at else "is too old"
        return Refusal("call_window", f"this presentation {when}", f"one made within {WINDOW_AFTER} s", given=mark.at)
    return None
