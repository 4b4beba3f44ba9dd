"""The verifier, embedded in a resource: what may this execution do, right now, with this very call.

    1  limits and strict decoding               5  the presentation is burnt
    2  our audience, a live key                 6  nobody it descends from is dead, as far as is freshly known
    3  the MAC chain over all blocks            7  every caveat of every block, and max_hops
    4  shape, and the presentation fits         9  the decision is recorded

Laws: until 3 nothing is interpreted but the identifier. 1-5 stop at the first refusal; 6 and 7 tell together all
that refuse. A cache keeps what bytes and key say, never a verdict, never a key. The clock never steps back.
"""

import time
from collections.abc import Callable, Generator, Iterable
from typing import NoReturn, TypeVar

from msgspec import Struct

from capx import chain, wire
from capx.cache import Cache
from capx.court import Admitted, Court, judged
from capx.decision import Allowed, Decision, Denied
from capx.errors import ConfigurationProblem, MalformedToken, Unavailable
from capx.keys import AudienceKey, AudienceKeys
from capx.lineage import Lineage, Shapeless, read
from capx.liveness import Liveness
from capx.present import WINDOW_AFTER, WINDOW_BEFORE, Received, ToolCall
from capx.recorder import NO_RECORDER, Recorder
from capx.replay import Replay
from capx_caveats import DEFAULT, Call, Facts, Presented, Refusal, TooLarge, Vocabulary

MAX_STALENESS = 30.0
"""Seconds for which a verifier goes on without hearing of deaths."""

Burn = Callable[[], bool]
T = TypeVar("T")
_NOTHING_WANTED = frozenset[str]()
_REQUIRABLE = frozenset({"tenant", "intent"})


class Authentic(Struct, frozen=True):
    """A token whose whole MAC chain is good; nothing else is known of it yet (steps 1-3)."""

    frame: wire.Frame
    key: AudienceKey
    tail: bytes

    def __repr__(self) -> str:
        return f"Authentic({self.frame!r}, {self.key!r})"


class Explanation(Struct, frozen=True):
    """The walk of a decision for people: each restriction with whose it is, and what refuses."""

    demands: tuple[tuple[int, str | None, str, Refusal | None], ...]
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
    (`tenant`, `intent`); `bearer` accepts tokens that are not presented, which makes a leaked one worth more than
    one call. Raises ConfigurationProblem for keys of another audience.
    """

    def __init__(
        self,
        audience: str,
        keys: AudienceKeys,
        *,
        liveness: Liveness,
        replay: Replay,
        recorder: Recorder = NO_RECORDER,
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
        self._court = Court(audience, liveness=liveness, recorder=recorder, max_staleness=max_staleness, clock=clock)
        self._cache: Cache[AudienceKey, tuple[bytes, Lineage]] = Cache(cache_size)

    def authenticate(self, token: str) -> Authentic:
        """Steps 1-3, for a service that must decide whether to read on; raises Denied."""
        try:
            return self._authentic(token)
        except _Refused as stop:
            raise Denied(self._court.decision((stop.refusal,))) from None

    def admit(self, token: str | Authentic, received: Received) -> Admitted:
        """The token is authentic, fits what was received, is fresh, unused and alive; raises Denied."""
        return _alive(_run(self._admitted(token, received)))

    async def admit_async(self, token: str | Authentic, received: Received) -> Admitted:
        """`admit`, with a burn that may wait for a disk done in a thread."""
        return _alive(await _run_async(self._admitted(token, received)))

    def verify(self, token: str | Authentic, received: Received, call: Call) -> Allowed:
        """Admit and judge at once; raises Denied, which tells together what liveness and caveats refuse."""
        return _run(self._admitted(token, received)).judge(call)

    def decide(self, token: str | Authentic, received: Received, call: Call) -> Decision:
        """`verify` as an answer; never raises Denied."""
        try:
            return _run(self._admitted(token, received)).decide(call)
        except Denied as denied:
            return denied.decision

    def explain(self, token: str, call: Call, received: Received | None = None) -> Explanation:
        """Why this call would be allowed or refused, without burning or recording anything.

        A bare token is judged as if it were presented properly, a presentation without `received` as if it fitted.
        """
        now = self._court.now()
        try:
            authentic = self._authentic(token)
            lineage, mark = self._lineage(authentic)
            if mark is not None and received is not None:
                _demand_fit(mark, received, now)
        except _Refused as stop:
            return Explanation((), (stop.refusal,), None)
        ids = _ids(lineage, authentic, mark)
        facts = Facts(call, now, self._court.age())
        walk = tuple((d.hop, d.name, d.caveat.sentence(), judged(d, facts)) for d in lineage.demands)
        return Explanation(walk, tuple(self._court.refusals(lineage, ids, facts)), lineage)

    def _authentic(self, token: str | Authentic) -> Authentic:
        if isinstance(token, Authentic):
            if self._keys.get(token.key.kid) is not token.key:
                raise _NOT_AUTHENTIC
            return token
        if not token:
            raise _Refused(Refusal("no_token", "no token was presented", "Authorization: Capx <presentation>"))
        try:
            frame = wire.decode(token)
        except MalformedToken as error:
            raise _Refused(Refusal(error.code, str(error), "a presentation of a capability")) from None
        identifier = frame.identifier
        if identifier.audience != self.audience:
            raise _Refused(
                Refusal(
                    "wrong_audience",
                    f"this token is for {identifier.audience}, and this is {self.audience}",
                    self.audience,
                    given=identifier.audience,
                )
            )
        key = self._keys.get(identifier.kid)
        if key is None or not frame.blocks:
            raise _NOT_AUTHENTIC
        known = self._cache.get(frame.body, key)
        tail = known[0] if known else _tail(key, frame.identifier_bytes, frame.blocks[:-1])
        if not chain.equal(_extended(tail, frame.blocks[-1]), frame.signature):
            raise _NOT_AUTHENTIC
        return Authentic(frame, key, tail)

    def _lineage(self, authentic: Authentic) -> tuple[Lineage, Presented | None]:
        """The lineage, and the presentation if the last block is one; raises _Refused for a bad shape."""
        frame = authentic.frame
        try:
            mark = self._mark(frame.blocks[-1])
            if mark is None:
                return read(frame.identifier_bytes, frame.blocks, self._vocabulary, self._require), None
            known = self._cache.get(frame.body, authentic.key)
            if known is None:
                lineage = read(frame.identifier_bytes, frame.blocks[:-1], self._vocabulary, self._require)
                known = (authentic.tail, lineage)
                self._cache.put(frame.body, authentic.key, known)
            return known[1], mark
        except Shapeless as problem:
            raise _Refused(problem.refusal) from None

    def _mark(self, block: wire.Block) -> Presented | None:
        if isinstance(block, wire.ThirdParty):
            return None
        try:
            caveats = self._vocabulary.decode(block)
        except TooLarge as error:
            raise Shapeless(Refusal("too_large", str(error))) from None
        return caveats[0] if len(caveats) == 1 and isinstance(caveats[0], Presented) else None

    def _admitted(self, token: str | Authentic, received: Received) -> Generator[tuple[bool, Burn], bool, Admitted]:
        """Steps 1-5; yields the burn, and whether it may block, to whoever runs this."""
        action = received.action if isinstance(received, ToolCall) else None
        try:
            authentic = self._authentic(token)
        except _Refused as stop:
            # Not recorded: whoever holds no authority must not be able to fill the log.
            raise Denied(self._court.decision((stop.refusal,), action=action)) from None
        try:
            lineage, mark = self._lineage(authentic)
        except _Refused as stop:
            raise Denied(self._court.recorded(self._court.decision((stop.refusal,), action=action))) from None
        ids = _ids(lineage, authentic, mark)
        admitted = Admitted(self._court, lineage, ids, action)
        now = self._court.now()
        try:
            if mark is not None:
                _demand_fit(mark, received, now)
                replay, id_, until = self._replay, ids[-1], mark.at + WINDOW_AFTER
                _demand_first_sight((yield replay.blocking, lambda: replay.burn(id_, until, now)))
            else:
                _demand_bearer(self._bearer)
        except _Refused as stop:
            raise Denied(admitted.refused((stop.refusal,))) from None
        except Unavailable as problem:
            raise Denied(admitted.refused((Refusal("unavailable", str(problem), "try again later"),))) from None
        return admitted


class _Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


_NOT_AUTHENTIC = _Refused(
    Refusal(
        "not_authentic", "this token was not minted under a live key of ours, or was changed since", "its holder's own"
    )
)


def _run(steps: Generator[tuple[bool, Burn], bool, T]) -> T:
    try:
        _, burn = next(steps)
        while True:
            _, burn = _answer(steps, burn)
    except StopIteration as done:
        result: T = done.value
        return result


def _answer(steps: Generator[tuple[bool, Burn], bool, T], burn: Burn) -> tuple[bool, Burn]:
    try:
        new = burn()
    except Unavailable as problem:
        return steps.throw(problem)
    return steps.send(new)


async def _run_async(steps: Generator[tuple[bool, Burn], bool, T]) -> T:
    import asyncio

    try:
        blocking, burn = next(steps)
        while True:
            try:
                new = await asyncio.to_thread(burn) if blocking else burn()
            except Unavailable as problem:
                blocking, burn = steps.throw(problem)
            else:
                blocking, burn = steps.send(new)
    except StopIteration as done:
        result: T = done.value
        return result


def _alive(admitted: Admitted) -> Admitted:
    admitted.demand_alive()
    return admitted


def _tail(key: AudienceKey, identifier: bytes, blocks: tuple[wire.Block, ...]) -> bytes:
    tail = chain.mac(key.mac_key, identifier)
    for block in blocks:
        tail = _extended(tail, block)
    return tail


def _extended(tail: bytes, block: wire.Block) -> bytes:
    if isinstance(block, wire.ThirdParty):
        return chain.extend_third_party(tail, block.vid, block.cid)
    return chain.extend(tail, block)


def _ids(lineage: Lineage, authentic: Authentic, mark: Presented | None) -> tuple[bytes, ...]:
    block = authentic.frame.blocks[-1]
    if mark is None or isinstance(block, wire.ThirdParty):
        return lineage.ids
    return (*lineage.ids, chain.block_digest(lineage.digests[-1], block)[:16])


def _demand_first_sight(burnt: bool) -> None:
    if not burnt:
        raise _Refused(Refusal("replayed", "this presentation was used before", "a fresh presentation for each call"))


def _demand_bearer(accepted: bool) -> None:
    if not accepted:
        how = "Authorization: Capx <presentation>, made with `capx present` or Capability.present"
        raise _Refused(Refusal("bearer_refused", "a bare token is not accepted", how))


def _demand_fit(mark: Presented, received: Received, now: int) -> None:
    if mark.profile != received.profile or mark.digest != received.digest():
        raise _Refused(
            Refusal(
                "call_mismatch", "this presentation is for another call than the one received", "one made for this call"
            )
        )
    if not mark.at - WINDOW_BEFORE <= now <= mark.at + WINDOW_AFTER:
        when = "is from the future" if now < mark.at else "is too old"
        raise _Refused(
            Refusal("call_window", f"this presentation {when}", f"one made within {WINDOW_AFTER} s", given=mark.at)
        )
