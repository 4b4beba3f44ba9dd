"""One call of code in this process: it is presented, admitted and judged, and the actor asks for what it lacks.

Laws:

- Nobody but the guard holds the values that are judged, so they are those of the moment in which the call was made.
- If a call of an agent is denied, the agent asks for what it lacks, at most twice. The guard judges the call again
  after each grant, before the code runs.
- Nothing runs after the `acting` block of the caller has ended: such a call gives back what it has spent.
- A call that nobody can judge now, or for which an authority that is away was to be asked, is Unavailable and not
  denied.
"""

from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from capx.agent.actor import bundle_of, current_actor, why_nobody_acts
from capx.agent.call_asks import CallAsks
from capx.crypto.canonical_json import sorted_json
from capx.errors import CapxError, InvalidCaveat, InvalidRequest, Unavailable
from capx.guard.argument_copy import own_copy
from capx.guard.call_facts import CallFacts, CallSpec, StatedArguments
from capx.guard.json_values import plain
from capx.guard.observer import OnDecision
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle, permits
from capx.tokens.capability import Capability
from capx.verify.admitted import Admitted
from capx.verify.ask import Pending
from capx.verify.decision import NO_TOKEN, Allowed, Denied
from capx.verify.suggestion import suggested_ask
from capx.verify.verifier import Verifier
from capx_caveats import Call

_NOT_RUN: Final = "the function did not run"
"""Why a call gives back what it has spent, for the log."""


class StatedCall(Struct, frozen=True):
    """A call that is about to be judged: its values, and what caveats see of them. Only the guard holds them."""

    spec: CallSpec
    values: Mapping[str, Any]
    presented: ToolCall
    stated: StatedArguments

    @classmethod
    def of(
        cls, spec: CallSpec, values: Mapping[str, Any], given: Container[str], defaults: Mapping[str, bytes]
    ) -> "StatedCall":
        """State a call with these values, which nobody else holds; the caller gave those that are `given`.

        A value that is not given, and not the default as sorted JSON either, was computed: it is an argument.
        """
        # Copied again: whoever is asked for permission sees what is judged, and must not change what runs.
        judged = {name: to_builtins(plain(name, value)) for name, value in values.items()}
        left_out = {
            name: value
            for name, value in judged.items()
            if name not in given and name in defaults and sorted_json(value) == defaults[name]
        }
        # A presentation covers what the caller gave.
        try:
            presented = ToolCall(spec.action, {name: judged[name] for name in judged if name not in left_out})
        except InvalidCaveat as error:
            raise InvalidRequest(f"an argument cannot be judged: {error}") from None
        return cls(spec, values, presented, StatedArguments(presented.args, left_out))

    @property
    def foreseen(self) -> Call:
        """The call, as far as it is known without facts of the service."""
        return Call(self.presented.action, self.stated.args, defaults=self.stated.defaults)

    def call(self, admitted: Admitted) -> Call:
        """Return the call that is about to run."""
        # Screen first: a caller who may not use the action at all must not make functions derive facts.
        admitted.screen(self.spec.action, self.stated.arguments)
        return self.facts(lambda spec, values: spec.own_tenant(admitted, values)).call(admitted)

    def facts(self, own_tenant: Callable[[CallSpec, Mapping[str, Any]], str | None]) -> CallFacts:
        """Return the facts of the call; `own_tenant` gives its tenant, or denies it."""
        # A copy of its own: a function that derives a fact must not change what runs.
        values = copies(self.values) if self.spec.derives else {}
        return self.spec.facts(own_tenant(self.spec, values), self.stated, values, sent=True)


class AllowedCall(Struct, frozen=True):
    """A call that was allowed, and has not run yet."""

    allowed: Allowed
    verifier: Verifier
    report: OnDecision

    def demand_actor(self) -> None:
        """Raise Denied if the caller has left meanwhile; the call then gives back what it has spent."""
        try:
            _demand_actor(self.verifier)
        except Denied as denied:
            self.report(denied.decision)
            if self.allowed.spent:
                with suppress(CapxError):
                    self.allowed.give_back(_NOT_RUN)
            raise

    async def demand_actor_async(self) -> None:
        """`demand_actor`, for async code."""
        try:
            _demand_actor(self.verifier)
        except Denied as denied:
            self.report(denied.decision)
            if self.allowed.spent:
                with suppress(CapxError):
                    await self.allowed.give_back_async(_NOT_RUN)
            raise


async def judged(stated: StatedCall, verifier: Verifier, report: OnDecision, *, is_async: bool) -> AllowedCall:
    """Judge a call, and ask for what it lacks; raises Denied, Pending or Unavailable.

    `report` gets the decision. Nothing is awaited unless `is_async`.
    """
    asks = CallAsks(current_actor(), verifier.audience)
    try:
        allowed = await _judged_or_asked(verifier, stated, asks, is_async=is_async)
    except Denied as denied:
        report(denied.decision)
        raise
    except (Pending, Unavailable):
        # The caller is told that nobody can say now. The log has the denial before that.
        if asks.denied is not None:
            report(asks.denied.decision)
        raise
    report(allowed.decision)
    return AllowedCall(allowed, verifier, report)


def copies(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of each value, with copies of everything in it."""
    return {name: own_copy(name, value) for name, value in values.items()}


async def _judged_or_asked(verifier: Verifier, stated: StatedCall, asks: CallAsks, *, is_async: bool) -> Allowed:
    """Return the decision once the call is allowed, after asks for what it lacks; awaits nothing unless `is_async`."""
    # At most two grants: after one that is pinned to arguments, `CallAsks` suggests nothing more.
    while True:
        # Anew each time: while a person decided, the caller may have been cancelled.
        actor = current_actor()
        held = None if actor is None else bundle_of(actor)
        try:
            allowed, passed = await _judged_with_bundle(verifier, stated, held, is_async=is_async)
        except Denied as denied:
            # The call has ended, and not failed: its grants may help the next one.
            _demand_actor(verifier)
            wanted = asks.next([denied])
            if wanted is None:
                asks.raise_denied(denied)
            outcome = await asks.seek_async(wanted) if is_async else asks.seek(wanted)
            _demand_actor(verifier)
            if not asks.gained(outcome, held or ()):
                asks.raise_denied(denied)
        else:
            asks.passed(passed)
            return allowed


async def _judged_with_bundle(
    verifier: Verifier, stated: StatedCall, held: Bundle | None, *, is_async: bool
) -> tuple[Allowed, Capability]:
    """Return the decision that allows the call, with this capability that the bundle holds now."""
    first: Denied | None = None
    for candidate in _candidates(verifier, stated, held):
        _demand_actor(verifier)
        try:
            # The presentation is in no variable, which an error would carry before it is burnt.
            if is_async:
                admitted = await verifier.admit_async(_presented(candidate, stated, held), stated.presented)
            else:
                admitted = verifier.admit(_presented(candidate, stated, held), stated.presented)
            call = stated.call(admitted)
            allowed = await admitted.judge_async(call, sent=True) if is_async else admitted.judge(call, sent=True)
        except Denied as denied:
            first = _first_denial(first, denied)
        else:
            return allowed, candidate
    raise first or _without(verifier, stated, held)


def _first_denial(first: Denied | None, denied: Denied) -> Denied:
    """Return the denial to report if no capability passes: of one that lacks only an approval, or of the newest."""
    # Only a 403 is about this capability. Any other status, such as a store that is away, meets the next one too.
    if denied.status != 403:
        raise denied
    return denied if first is None or (first.approve is None and denied.approve is not None) else first


def _presented(candidate: Capability, stated: StatedCall, held: Bundle | None) -> str:
    """The text of a presentation of a capability, with the approvals of the bundle that may serve the call."""
    if held is None or not held.approvals:
        return candidate.present(stated.presented).text
    return held.present_capability(candidate, stated.presented, call=stated.foreseen).text


def _candidates(verifier: Verifier, stated: StatedCall, held: Bundle | None) -> list[Capability]:
    if held is None or verifier.audience not in held.audiences:
        return []
    action = stated.presented.action
    candidates = held.candidates(verifier.audience, stated.foreseen)
    if len(candidates) > 1 or permits(candidates[0], action):
        return candidates
    # No capability allows the call. One that allows its action shows what else denies it, and so what to ask for.
    speaking = (one for one in held if one.audience == verifier.audience and permits(one, action))
    return [*speaking][-1:] or candidates


def _without(verifier: Verifier, stated: StatedCall, held: Bundle | None) -> Denied:
    """Return the denial of a call for which there is nothing to present.

    If the caller holds a bundle, the denial suggests what to ask for.
    """
    audience = verifier.audience
    if held is None:
        return _nobody(verifier)
    action = stated.presented.action
    sentence = f"{NO_TOKEN.sentence}: this agent holds no capability for {audience}"
    missing = replace(NO_TOKEN, sentence=sentence, wanted=f"a bundle that holds a capability for {audience}")
    denied = verifier.denial(missing, action)
    ask = suggested_ask((), audience=audience, action=action, args=stated.stated.arguments)
    return Denied(denied.decision, ask)


def _demand_actor(verifier: Verifier) -> None:
    """Raise Denied if nobody acts any more: the caller was cancelled, or has left."""
    if current_actor() is None:
        raise _nobody(verifier)


def _nobody(verifier: Verifier) -> Denied:
    sentence = f"{NO_TOKEN.sentence}: {why_nobody_acts()}"
    return verifier.denial(replace(NO_TOKEN, sentence=sentence, wanted="run it inside `with capx.acting(bundle):`"))
