"""Prediction: how a token's restrictions will judge a call, read without a key.

Laws:

- There is no key here, so nothing is verified, and revocations are not known.
- A restriction that only the resource can judge is left open. So is one that is unknown here: a service may have
  caveats and constraints of its own.
- If a restriction refuses here, every resource with this version of capx denies the call.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NoReturn

from msgspec import Struct

from capx.errors import InvalidRequest
from capx.tokens.capability import Presentation, Token
from capx.tokens.discharge import Discharge
from capx.tokens.effective.effective import grant_untold, of_another_version
from capx.tokens.grants import ASK, ASK_APPROVAL
from capx.tokens.held_approvals import choose
from capx.tokens.lineage import AUTHORITY, Demand, Lineage, TokenRefused, unverified_lineage
from capx.tokens.wording import sentence, whose
from capx_caveats import DEFAULT, Call, Facts, NotUnderstood, Refusal, Tenant, Where

Outlook = Literal["ok", "refuses", "open", "not_understood"]


class Prediction(Struct, frozen=True):
    """One restriction, its owner in words, and whether it refuses; `open` if only the resource can say."""

    hop: int
    whose: str
    sentence: str
    state: Outlook
    why: str | None = None


class Forecast(Struct, frozen=True):
    """How the restrictions of one capability, which is for `audience`, judge a call.

    A Forecast has no truth value: read `refused`.
    """

    audience: str
    restrictions: tuple[Prediction, ...]

    @property
    def refusals(self) -> tuple[Prediction, ...]:
        """The restrictions that refuse at every resource."""
        return tuple(certain_refusals(self.restrictions))

    @property
    def refused(self) -> bool:
        """Whether every resource denies the call. If not, that does not mean that one allows it."""
        return bool(self.refusals)

    def __bool__(self) -> NoReturn:
        raise TypeError("a Forecast is neither true nor false: read its `refused`")


def forecast(
    tokens: Iterable[Token], call: Call, audience: str, now: int, approvals: Sequence[Discharge] = ()
) -> Forecast:
    """The forecast of the newest token for `audience` that does not refuse, else of the newest; the newest is last.

    `approvals` are those that its holder has. InvalidRequest if there is none for the audience.
    """
    walks = [predict(token, call, now, approvals) for token in tokens if token.audience == audience]
    if not walks:
        raise InvalidRequest(f"there is no capability for {audience!r:.80}")
    newest_first = [Forecast(audience, walk) for walk in reversed(walks)]
    return next((each for each in newest_first if not each.refused), newest_first[0])


def predict(token: Token, call: Call, now: int, approvals: Sequence[Discharge] = ()) -> tuple[Prediction, ...]:
    """The restrictions of a token against a call at `now` (Unix seconds). A presentation is left out.

    `approvals` are those that its holder has: each demand for one is met by the newest that may serve the call.

    A tenant or attribute that the call does not state is left open: only the resource knows it. No refusal here does
    not mean that the call will be allowed.
    """
    try:
        lineage = unverified_lineage(token)
    except TokenRefused as refused:
        if grant_untold(refused.refusal, token, DEFAULT):
            unread = (Demand(0, None, caveat) for caveat in token.caveats[0])
            return tuple(_unknown(each) for each in unread if isinstance(each.caveat, NotUnderstood))
        return (Prediction(0, whose(0, None), sentence(refused.refusal), "refuses"),)
    # An infinite age, because there is no news of revocations here; a caveat that needs them is left open.
    facts = Facts(call, now, math.inf)
    walk = [_predicted(demand, facts, lineage.tenant) for demand in lineage.demands]
    if call.tenant is not None and lineage.tenant is None:
        walk.append(Prediction(0, whose(0, None), "names no tenant", "refuses", "the call is made for one"))
    walk += _approvals(token, lineage, call, now, approvals)
    return (*walk, *map(_standing, (*lineage.unsigned, *lineage.standing)))


def _approvals(token: Token, lineage: Lineage, call: Call, now: int, held: Sequence[Discharge]) -> Iterator[Prediction]:
    """Whether each demand for an approval is met; of a presentation, only the resource may know."""
    answered = [one.cid for one in choose(token, held, call, now)]
    asks = token.audience == AUTHORITY and call.action in {ASK, ASK_APPROVAL}
    for demand in lineage.undischarged:
        owner, caveat = whose(demand.hop, demand.name), demand.caveat
        if caveat is None:
            yield _standing(demand.refusal())
        elif demand.cid in answered:
            answered.remove(demand.cid)
            yield Prediction(demand.hop, owner, caveat.sentence(), "ok")
        elif isinstance(token, Presentation) and not held:
            yield Prediction(demand.hop, owner, caveat.sentence(), "open", "it may have come with the presentation")
        elif asks:
            yield Prediction(demand.hop, owner, caveat.sentence(), "ok")
        else:
            why = "there is no approval of this call here"
            yield Prediction(demand.hop, owner, caveat.sentence(), "refuses", why)


def certain_refusals(walk: tuple[Prediction, ...]) -> Iterator[Prediction]:
    """The restrictions that refuse at every resource."""
    return (each for each in walk if each.state == "refuses")


def _predicted(demand: Demand, facts: Facts, granted_tenant: str | None) -> Prediction:
    if isinstance(demand.caveat, NotUnderstood):
        return _unknown(demand)
    owner, words = whose(demand.hop, demand.name), demand.caveat.sentence()
    refusal = demand.caveat.refusal(facts)
    if refusal is None:
        return Prediction(demand.hop, owner, words, "ok")
    if isinstance(demand.caveat, Tenant) and granted_tenant is None:
        return Prediction(
            demand.hop, owner, words, "refuses", "the task's grant names no tenant, so no call can have one"
        )
    if _resource_decides(demand, refusal, facts):
        return Prediction(demand.hop, owner, words, "open", "the resource says")
    return Prediction(demand.hop, owner, words, "refuses", refusal.sentence)


def _unknown(demand: Demand) -> Prediction:
    owner, words = whose(demand.hop, demand.name), demand.caveat.sentence()
    if of_another_version(demand.caveat):
        return Prediction(demand.hop, owner, words, "refuses", "this version of capx does not know it")
    why = "unknown here: only the service that defines it can judge it"
    return Prediction(demand.hop, owner, words, "not_understood", why)


def _standing(refusal: Refusal) -> Prediction:
    hop = refusal.hop or 0
    return Prediction(hop, whose(hop, refusal.hop_name), refusal.sentence, "refuses")


def _resource_decides(demand: Demand, refusal: Refusal, facts: Facts) -> bool:
    """Whether it refuses only because a fact is missing that the resource will state."""
    caveat = demand.caveat
    if isinstance(caveat, Tenant):
        return facts.call.tenant is None
    if isinstance(caveat, Where):
        return not caveat.attribute.startswith("args.") and caveat.attribute not in facts.call.attributes
    return refusal.code in {"no_meter", "stale_liveness"}
