"""The verifier that a resource embeds. It decides whether one call may be made, now, with the token that came with it.

    1  limits of the wire, strict decoding                       wire.decode
    2  our audience, and a live key                              Verifier._verified
    3  the MAC chain over all blocks, in constant time           chain.tail_of, chain.verify_mac
       each discharge belongs to this token                      approvals.match_discharges
    4  marks are at their places, nothing has ended, it fits     lineage.read_lineage, Verifier._ended, _mismatch
    5  the presentation is burnt, whatever the decision will be  Verifier._burn
    6  good signatures, nothing is revoked, the news are fresh   Evaluator.signature_refusals, life_refusals
    7  every caveat of every block, and max_hops                 Evaluator.refusals
    8  a slot in the record is reserved, budgets are spent       Admitted.decide
    9  the decision is recorded, allow or deny                   Admitted.decide, Admitted.recorded_denial

Laws:

- Before the MAC is checked (step 3), the verifier interprets only the identifier.
- Steps 1-5 stop at the first refusal; a token that has ended gets all reasons of its end. Steps 6 and 7 report all
  their refusals together.
- A token that allows nothing any more has no power: it is denied before the body is read, it burns nothing, and it
  does not fill the log. Its denial is recorded once a minute. No other denial before the burn is recorded: a caller
  who cannot make a fresh presentation must not be able to fill the log.
- A token that its holder's key did not sign has no power either: its denial is recorded once a minute. A decision names
  no hop, and no key, that is not known to be signed as it must be.
- No error carries a tail, a key, or a presentation that is not burnt: not in its text, nor in the variables of the
  functions that it passed.
- The cache keeps facts that follow from the bytes and the key. It never keeps a decision, or a key of the audience.
- The clock never steps back.
"""

import os
import time
from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from capx import diagnostics
from capx.background import in_pool
from capx.crypto.keys import AudienceKey, AudienceKeys
from capx.errors import ConfigurationProblem, MalformedToken, Unavailable
from capx.tokens import chain, wire
from capx.tokens.approval import Approval
from capx.tokens.binding import WINDOW_AFTER, WINDOW_BEFORE, Received, ToolCall
from capx.tokens.lineage import Lineage, TokenRefused, caveats_of, demand_few_signatures, read_lineage
from capx.tokens.signed_blocks import Signature, bare, signed_presentation
from capx.verify.admitted import Admitted
from capx.verify.approvals import CaveatKeys, Matched, approvals_of, match_discharges, split_credential, with_approvals
from capx.verify.approvals import Known as KnownDischarge
from capx.verify.cache import Cache
from capx.verify.decision import NO_TOKEN, Allowed, Decision, Denied
from capx.verify.evaluator import Evaluator, unavailable
from capx.verify.evidence import EvidenceKeeper, ShownToken
from capx.verify.explanation import Explanation, explanation
from capx.verify.meter import Meter, Payer
from capx.verify.protocols import NO_RECORDER, Liveness, Recorder, ReplayMemory, burns_async
from capx.verify.spending import Payment
from capx_caveats import DEFAULT, Call, Caveat, Presented, Refusal, Sig, Vocabulary
from capx_caveats.texts import bounded_patterns

MAX_STALENESS = 30.0
"""Seconds for which a verifier goes on without news of revocations."""

_BLOCKS_OF_A_CHAIN = 16
"""Blocks with good signatures that are remembered for each chain that the cache has room for."""

_Presented = tuple[bytes, int, int]
"""What is burnt: the id of a presentation (16 bytes), the last second of its window, and the time."""
_REQUIRABLE = frozenset({"tenant", "intent", "holder"})


class _Read(Struct, frozen=True):
    """What the blocks of a token say to one verifier.

    `mark` and `presentation` (its id, 16 bytes) are None for a bare token. `own` is the signature of the presentation,
    or the refusal if it has none and needs one. `approvals` came with it.
    """

    verifier: "Verifier"
    lineage: Lineage
    mark: Presented | None
    presentation: bytes | None
    own: Signature | Refusal | None
    approvals: tuple[Approval, ...] = ()


class Authentic(Struct, frozen=True):
    """A token whose MAC chain and shape are correct, and that had not ended when it came (the head of step 4).

    It was minted under a key of this audience, and only narrowed since. Do not conclude more from it: it may be
    replayed, or presented for another call, and a revocation of it may not be known yet.
    """

    frame: wire.Frame
    key: AudienceKey
    read: _Read
    discharges: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Authentic({self.frame!r})"

    @property
    def shown(self) -> ShownToken:
        """The public bytes of the token, and of the presentation: without its signature, which is worth a call."""
        frame, is_presented = self.frame, self.read.mark is not None
        blocks = frame.blocks[:-1] if is_presented else frame.blocks
        presented = frame.blocks[-1] if is_presented else None
        return ShownToken(frame.identifier.kid, frame.identifier_bytes, blocks, presented, self.discharges)


class _Approved(Struct, frozen=True):
    """The lineage of a chain with the approvals that were matched with it."""

    matched: tuple[Matched, ...]
    approvals: tuple[Approval, ...]
    lineage: Lineage

    def is_of(self, matched: tuple[Matched, ...]) -> bool:
        """Whether these are the same approvals, at the same demands."""
        pairs = zip(self.matched, matched, strict=False)
        same = (one.known is other.known and one.block == other.block for one, other in pairs)
        return len(self.matched) == len(matched) and all(same)


class _Known(Struct, frozen=True):
    """A verified body as the cache keeps it; all of it is valid only under this very key object.

    `caveat_keys` are those that the vids of its third-party caveats hold, as far as they were needed. `approved` has
    the lineage with the approvals that came last, if any came.
    """

    frame: wire.Frame
    key: AudienceKey
    tail: bytes
    lineage: Lineage
    caveat_keys: CaveatKeys
    approved: list[_Approved]


class _Verified(Struct, frozen=True):
    """A token whose MAC is good, and the tail before its last block; of its caveats nothing is read."""

    frame: wire.Frame
    key: AudienceKey
    tail: bytes
    known: _Known | None
    discharges: tuple[str, ...]


class Verifier:
    """Checks tokens for one audience.

    `max_staleness` is in seconds: with older news of revocations, every token is denied. `require` names claims that
    the authority's block must have besides those it always has (`tenant`, `intent`, `holder`). With `holder`, a stolen
    token is of no use without the key of its holder. Without a `meter`, every token with a budget is denied. `bearer`
    also accepts bare tokens; a leaked token is then good for more than one call. `record` names arguments whose values
    decisions show in the clear, if they are short: then `find` can look for them. Without `evidence`, decisions commit
    to no arguments, and have no presentation that a key has signed. `stated` marks its decisions as those of an
    authority that judges in the stead of its audience. Raises ConfigurationProblem for keys of another audience, and
    for keys of another authority than the revocations. If nothing is known of these yet, every token is denied once
    they turn out to be another's.
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
        evidence: bool = True,
        record: Iterable[str] = (),
        stated: bool = False,
        clock: Callable[[], float] = time.time,
        cache_size: int = 1024,
    ) -> None:
        if keys.audience != audience:
            raise ConfigurationProblem(f"the keys are for {keys.audience!r}, and this verifier is {audience!r}")
        if None not in {keys.authority, liveness.authority} and keys.authority != liveness.authority:
            raise ConfigurationProblem(
                f"the keys are those of authority {keys.authority}, and the revocations those of {liveness.authority}: "
                "use the store or feed of the authority that exported the keys"
            )
        self.audience = audience
        self._require = frozenset(require)
        if unknown := self._require - _REQUIRABLE:
            hint = ". What a policy calls agent_key is holder here" if "agent_key" in unknown else ""
            only = ", ".join(sorted(_REQUIRABLE))
            raise ConfigurationProblem(f"cannot require {', '.join(sorted(unknown))}: only {only}{hint}")
        self._keys = keys
        self._replay = replay
        self._awaited = replay if burns_async(replay) else None
        self._vocabulary = vocabulary
        self._bearer = bearer
        self._evaluator = Evaluator(
            keys,
            liveness=liveness,
            recorder=recorder,
            meter=meter,
            max_staleness=max_staleness,
            clock=clock,
            signed_blocks=cache_size * _BLOCKS_OF_A_CHAIN,
            evidence=EvidenceKeeper(cache_size, with_arguments=evidence, shown=_names(record), stated=stated),
        )
        self._cache: Cache[_Known] = Cache(cache_size)
        self._discharges: Cache[KnownDischarge] = Cache(cache_size)

    def authenticate(self, token: str) -> Authentic:
        """The head: all that can be checked before the body of a request is read; raises Denied.

        After it, the token is authentic, and has not ended as far as this service knows by now: it is not expired, not
        known to be revoked, and its presentation is not older than a minute. It may be replayed or for another call.
        Pass the result to `admit`, `verify` or `decide`, which do not check the MAC again.
        """
        found = self._head(token)
        if isinstance(found, Decision):
            # Here and below: the variables of this frame go with the error.
            del token
            raise Denied(found)
        return found

    def has_ended(self, token: Authentic) -> bool:
        """Whether a token allows nothing any more, after looking for news."""
        evaluator = self._evaluator
        evaluator.age()
        return bool(evaluator.ended_refusals(token.read.lineage, None, evaluator.now()))

    def prove(self, token: str) -> None:
        """Raise Denied unless the token is authentic; it may have ended."""
        try:
            self._read(token)
        except TokenRefused as refused:
            refusal = refused.refusal
        else:
            return
        del token
        raise self.denial(refusal)

    def capability(self, token: str) -> bytes | None:
        """The capability of a presentation whose MAC is good and that is not too old; None for all else.

        It says who sends, and nothing of what that may do: no caveat before the presentation is read, so the work is
        little, whatever the token says. The token may have ended, or been denied.
        """
        try:
            verified = self._verified(token)
            with bounded_patterns(0):
                mark = _mark(caveats_of(verified.frame.blocks[-1], self._vocabulary))
        except TokenRefused:
            return None
        if mark is None or self._evaluator.now() > mark.at + WINDOW_AFTER:
            return None
        return verified.frame.identifier_bytes

    def denial(self, refusal: Refusal, action: str | None = None) -> Denied:
        """A denial for a caller who has shown no authority. It is not recorded, or anybody could fill the log."""
        return Denied(self._evaluator.decision((refusal,), action=action))

    def admit(self, token: str | Authentic, received: Received) -> Admitted:
        """Steps 1-6: check everything that does not depend on the call; raises Denied.

        After it, the token is authentic, was presented for this request, is fresh, was not used before and is not
        revoked. (A bare token, if the verifier accepts them, is authentic and not revoked.) No caveat was checked yet,
        so nothing is allowed until `judge` of the result returns.
        """
        found = self._burnt(token, received)
        del token
        admitted = _demanded(found)
        admitted.demand_alive()
        return admitted

    async def admit_async(self, token: str | Authentic, received: Received) -> Admitted:
        """`admit` for async code: a burn that may wait for a disk runs in a thread."""
        fitting = self._fitting(token, received)
        del token
        if isinstance(fitting, Decision):
            raise Denied(fitting)
        refusal = await self._burn_async(fitting.presented)
        admitted = _demanded(fitting.after(refusal))
        admitted.demand_alive()
        return admitted

    def verify(self, token: str | Authentic, received: Received, call: Call) -> Allowed:
        """All steps; raises Denied with the refusals of revocations and caveats together.

        If the call is of another tenant than the token, it is denied with that reason and no reason of a caveat.

        When it returns, exactly this call may be made, once and now. It is recorded, and its budgets are spent.
        """
        found = self._burnt(token, received)
        del token
        return _demanded(found).judge(call)

    def decide(self, token: str | Authentic, received: Received, call: Call) -> Decision:
        """Decide with every reason, also for a call of another tenant; never raises Denied.

        It is for the service and its log. Never show the reasons to the bearer: `verify` tells only what it may know.
        """
        found = self._burnt(token, received)
        del token
        return found if isinstance(found, Decision) else found.decide(call)

    def explain(self, token: str, call: Call, received: Received | None = None) -> Explanation:
        """Why this call would be allowed or denied; burns, spends and records nothing.

        A bare token is judged as if it were presented properly. A presentation without `received` is judged as if it
        were made for this call. So the result is for people: never act on it.
        """
        now = self._evaluator.now()
        try:
            read = self._read(token).read
        except TokenRefused as refused:
            return Explanation((), (refused.refusal,), None)
        if read.mark is not None and received is not None and (misfit := _mismatch(read.mark, received, now)):
            return Explanation((), (misfit,), read.lineage)
        # A bare token is judged as if its holder had signed a presentation.
        unsigned = (
            *self._evaluator.signature_refusals(read.lineage, None if read.mark is None else read.own),
            *self._evaluator.approval_refusals(read.lineage, read.approvals),
        )
        return explanation(self._evaluator, read.lineage, read.presentation, call, unsigned)

    def _head(self, token: str | Authentic, action: str | None = None) -> Authentic | Decision:
        """Steps 1-4, as far as they need nothing but the token: what was read, or the decision that denies it.

        It returns the denial, as do all private methods here. An exception would carry their variables, among them the
        tail, with which anybody can make presentations of this token.
        """
        try:
            found = self._read(token)
        except TokenRefused as refused:
            refusal = refused.refusal
        else:
            # What came as an Authentic was looked at before the body was read.
            ended = None if isinstance(token, Authentic) else self._ended(found.read, action)
            return found if ended is None else ended
        return self._evaluator.decision((refusal,), action=action)

    def _ended(self, found: _Read, action: str | None) -> Decision | None:
        """Deny a token that allows nothing any more, or whose presentation is too old; None if it is neither."""
        evaluator, lineage, mark = self._evaluator, found.lineage, found.mark
        now = evaluator.now()
        refusals = evaluator.ended_refusals(lineage, found.presentation, now)
        if not refusals and mark is not None and now > mark.at + WINDOW_AFTER:
            refusals = [_outside(mark, now)]
        if not refusals:
            return None
        proven = evaluator.proven(lineage)
        denial = evaluator.decision(
            tuple(refusals), lineage=proven, presentation=found.presentation, action=action, now=now
        )
        return evaluator.recorded_once(denial, lineage.minted, refusals)

    def _read(self, token: str | Authentic) -> Authentic:
        """Steps 1-3, and the shape of step 4; raises TokenRefused."""
        if not isinstance(token, Authentic):
            return self._authentic(token)
        # By identity: what was verified under another key object, even with the same kid, proves nothing here.
        if self._keys.get(token.key.kid) is not token.key:
            raise TokenRefused(_NOT_AUTHENTIC)
        if token.read.verifier is self:
            return token
        # Anew: the other verifier may have another vocabulary and other required claims.
        known = self._known(token.frame, token.key)
        read = self._said(token.frame, token.key, None, known, token.discharges)
        return Authentic(token.frame, token.key, read, token.discharges)

    def _authentic(self, token: str) -> Authentic:
        found = self._verified(token)
        read = self._said(found.frame, found.key, found.tail, found.known, found.discharges)
        return Authentic(found.frame, found.key, read, found.discharges)

    def _verified(self, token: str) -> _Verified:
        """Steps 1-3, but for the discharges; raises TokenRefused."""
        if not token or token[0] == ",":
            raise TokenRefused(NO_TOKEN)
        text, discharges = split_credential(token) if "," in token else (token, ())
        try:
            frame = wire.decode(text, self._earlier)
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
        return _Verified(frame, key, tail, known, discharges)

    def _known(self, frame: wire.Frame, key: AudienceKey) -> _Known | None:
        known = self._cache.get(frame.body)
        return None if known is None or known.key is not key else known

    def _earlier(self, body: bytes) -> wire.Frame | None:
        known = self._cache.get(body)
        return None if known is None else known.frame

    def _said(
        self,
        frame: wire.Frame,
        key: AudienceKey,
        tail: bytes | None,
        known: _Known | None,
        discharges: tuple[str, ...],
    ) -> _Read:
        """Step 3 for the discharges, and step 4, shape: what the blocks say; raises TokenRefused."""
        caveat_keys: CaveatKeys = {} if known is None else known.caveat_keys
        matched = self._matched(frame, key, discharges, caveat_keys) if discharges else ()
        # A presentation has no patterns: to find out whether this block is one, none is built.
        with bounded_patterns(0):
            last = caveats_of(frame.blocks[-1], self._vocabulary)
        mark = _mark(last)
        if mark is None:
            # Not cached: the cache key leaves out the last block, and here that block is part of the lineage.
            lineage = read_lineage(frame, frame.blocks, self._vocabulary, self._require)
            unsigned = bare(lineage.signed, lineage.owner)
            read = _Read(self, lineage, None, None, unsigned)
            return self._with_approvals(read, matched, []) if matched else read
        approved: list[_Approved] = []
        if known:
            lineage, approved = known.lineage, known.approved
        else:
            lineage = read_lineage(frame, frame.blocks[:-1], self._vocabulary, self._require)
            if tail is not None:
                self._cache.put(frame.body, _Known(frame, key, tail, lineage, caveat_keys, approved))
        digest = chain.block_digest(lineage.digest, frame.blocks[-1])
        own = None
        if lineage.signed is not None or len(last) > 1:
            demand_few_signatures(len(last) - 1 + (0 if lineage.signed is None else lineage.signed.signed))
            own = signed_presentation(lineage.signed, frame.blocks[-1], last, lineage.owner, (lineage.digest, digest))
        read = _Read(self, lineage, mark, digest[:16], own)
        return self._with_approvals(read, matched, approved) if matched else read

    def _matched(
        self, frame: wire.Frame, key: AudienceKey, discharges: tuple[str, ...], caveat_keys: CaveatKeys
    ) -> tuple[Matched, ...]:
        memory = self._discharges
        return match_discharges(frame, key, discharges, self._vocabulary, keys=caveat_keys, memory=memory)

    @staticmethod
    def _with_approvals(read: _Read, matched: tuple[Matched, ...], memory: list[_Approved]) -> _Read:
        """The reading with the approvals; `memory` is that of the chain of the reading."""
        found = next((one for one in memory if one.is_of(matched)), None)
        if found is None:
            approvals = approvals_of(matched)
            found = _Approved(matched, approvals, with_approvals(read.lineage, matched, approvals))
            memory[:] = [found]
        return replace(read, lineage=found.lineage, approvals=found.approvals)

    def _burnt(self, token: str | Authentic, received: Received) -> Admitted | Decision:
        """Steps 1-5: what was admitted, or the decision that denies it."""
        fitting = self._fitting(token, received)
        if isinstance(fitting, Decision):
            return fitting
        return fitting.after(self._burn(fitting.presented))

    def _fitting(self, token: str | Authentic, received: Received) -> "_Fitting | Decision":
        """Steps 1-4: the caller burns what fits."""
        action = received.action if isinstance(received, ToolCall) else None
        found = self._head(token, action)
        if isinstance(found, Decision):
            return found
        lineage, mark, presentation = found.read.lineage, found.read.mark, found.read.presentation
        payment = self._payment(found, lineage, presentation)
        admitted = Admitted(
            self._evaluator,
            lineage,
            presentation,
            action,
            payment,
            own=found.read.own,
            token=found.shown,
            approvals=found.read.approvals,
        )
        now = self._evaluator.now()
        if mark is None or presentation is None:
            return _Fitting(admitted, None) if self._bearer else admitted.unrecorded_denial(_BEARER_REFUSED)
        # Before the burn: a presentation for another call must not use up the memory of presentations.
        if misfit := _mismatch(mark, received, now):
            return admitted.unrecorded_denial(misfit)
        return _Fitting(admitted, (presentation, mark.at + WINDOW_AFTER, now))

    def _payment(self, found: Authentic, lineage: Lineage, presentation: bytes | None) -> Payment | None:
        """What pays for calls; None if the token has no budget, or nothing counts what is spent."""
        meter = self._evaluator.meter
        if not lineage.allotments or meter is None:
            return None
        admission = os.urandom(16)
        if presentation is None:
            payer = Payer(admission, admission, lineage.minted, self.audience, "")
        else:
            frame = found.frame
            text = ",".join([wire.encode(frame.identifier, frame.blocks, frame.signature), *found.discharges])
            payer = Payer(presentation, admission, lineage.minted, self.audience, text)
        return Payment(lineage.allotments, meter, payer)

    def _burn(self, presented: _Presented | None) -> Refusal | None:
        """Step 5: burn the presentation, if there is one; the refusal if it may not be used."""
        if presented is None:
            return None
        try:
            new = self._replay.burn(*presented)
        except Exception as error:  # noqa: BLE001 # of a memory that is not ours; it would carry the presentation
            return _unburnt(error)
        return None if new else _REPLAYED

    async def _burn_async(self, presented: _Presented | None) -> Refusal | None:
        """The same for async code."""
        if presented is None:
            return None
        memory = self._replay
        try:
            if self._awaited is not None:
                new = await self._awaited.burn_async(*presented)
            else:
                new = await in_pool(lambda: memory.burn(*presented)) if memory.blocking else memory.burn(*presented)
        except Exception as error:  # noqa: BLE001 # as above
            return _unburnt(error)
        return None if new else _REPLAYED


def _names(record: Iterable[str]) -> tuple[str, ...]:
    if isinstance(record, str):
        raise ConfigurationProblem(f"record takes the names of arguments: record=({record!r:.80},)")
    return tuple(record)


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


class _Fitting(Struct, frozen=True):
    """A token after step 4, and what is to be burnt; None for a bare token."""

    admitted: Admitted
    presented: _Presented | None

    def after(self, refusal: Refusal | None) -> Admitted | Decision:
        """What was admitted, after a burn without a refusal; else the decision that denies it."""
        return self.admitted if refusal is None else self.admitted.unrecorded_denial(refusal)


def _demanded(found: Admitted | Decision) -> Admitted:
    if isinstance(found, Decision):
        raise Denied(found)
    return found


def _unburnt(error: Exception) -> Refusal:
    """The refusal of a presentation of which nobody can say whether it is new: it may be a replay, so fail closed."""
    if isinstance(error, Unavailable):
        return unavailable(error)
    diagnostics.warn_once(f"a presentation cannot be burnt: {type(error).__name__}: {error}")
    return Refusal("unavailable", "the memory of presentations failed", "try again later")


def _mark(last: tuple[Caveat, ...]) -> Presented | None:
    """The presentation, if the last block is one; it may be signed."""
    mark = last[0] if last else None
    if not isinstance(mark, Presented) or len(last) > 2 or (len(last) == 2 and not isinstance(last[1], Sig)):
        return None
    return mark


def _mismatch(mark: Presented, received: Received, now: int) -> Refusal | None:
    if now > mark.at + WINDOW_AFTER:
        return _outside(mark, now)
    if mark.profile != received.profile or mark.digest != received.digest():
        return Refusal("call_mismatch", "this presentation is for another call", "one made for this call")
    return _outside(mark, now) if now < mark.at - WINDOW_BEFORE else None


def _outside(mark: Presented, now: int) -> Refusal:
    # With its size: both clocks may be wrong, and only a person can tell which one.
    age = now - mark.at
    when = f"{age} s old" if age > 0 else f"{-age} s in the future"
    sentence = f"this presentation is {when}, by the clock of this service"
    return Refusal("call_window", sentence, f"one made within {WINDOW_AFTER} s", given=mark.at)
