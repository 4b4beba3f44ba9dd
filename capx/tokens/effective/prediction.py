"""What a call will meet, foreseen from what a token says of itself.

Laws: it needs no key, so nothing here is verified, and it knows of no death. What only the resource can say is left
open, and so is what is not understood here: a service may have caveats and constraints of its own. What refuses here,
every resource refuses.
"""

import math
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from capx.tokens.capability import Token
from capx.tokens.effective.effective import grant_untold
from capx.tokens.lineage import Demand, TokenRefused, unverified_lineage
from capx.tokens.wording import sentence, whose
from capx_caveats import DEFAULT, Call, Facts, NotUnderstood, Refusal, Tenant, Where

State = Literal["ok", "refuses", "open", "not_understood"]


class Prediction(Struct, frozen=True):
    """One restriction, whose it is, and whether it refuses; open where only the resource can say."""

    hop: int
    whose: str
    sentence: str
    state: State
    why: str | None = None


def predict(token: Token, call: Call, now: int) -> tuple[Prediction, ...]:
    """The restrictions of a token against a call at `now` (Unix seconds); of a presentation, those of its capability.

    A tenant or attribute that the call does not state is left for the resource to say.
    """
    try:
        lineage = unverified_lineage(token)
    except TokenRefused as refused:
        if grant_untold(refused.refusal, token, DEFAULT):
            unread = (Demand(0, None, caveat) for caveat in token.caveats[0])
            return tuple(_untold(each) for each in unread if isinstance(each.caveat, NotUnderstood))
        return (Prediction(0, whose(0, None), sentence(refused.refusal), "refuses"),)
    # Nothing was heard of deaths: what demands news of them is for the resource to say.
    facts = Facts(call, now, math.inf)
    walk = [_foreseen(demand, facts) for demand in lineage.demands]
    if call.tenant is not None and lineage.tenant is None:
        walk.append(Prediction(0, whose(0, None), "names no tenant", "refuses", "the call is made for one"))
    return (*walk, *map(_standing, lineage.standing))


def certain_refusals(walk: tuple[Prediction, ...]) -> Iterator[Prediction]:
    """What refuses whatever a resource knows."""
    return (each for each in walk if each.state == "refuses")


def _foreseen(demand: Demand, facts: Facts) -> Prediction:
    if isinstance(demand.caveat, NotUnderstood):
        return _untold(demand)
    owner, words = whose(demand.hop, demand.name), demand.caveat.sentence()
    refusal = demand.caveat.refusal(facts)
    if refusal is None:
        return Prediction(demand.hop, owner, words, "ok")
    if _for_the_resource_to_say(demand, refusal, facts):
        return Prediction(demand.hop, owner, words, "open", "the resource says")
    return Prediction(demand.hop, owner, words, "refuses", refusal.sentence)


def _untold(demand: Demand) -> Prediction:
    why = "not understood here: only the service that knows it can tell"
    return Prediction(demand.hop, whose(demand.hop, demand.name), demand.caveat.sentence(), "not_understood", why)


def _standing(refusal: Refusal) -> Prediction:
    hop = refusal.hop or 0
    return Prediction(hop, whose(hop, refusal.hop_name), refusal.sentence, "refuses")


def _for_the_resource_to_say(demand: Demand, refusal: Refusal, facts: Facts) -> bool:
    """Whether it refuses only for want of what a resource would state."""
    caveat = demand.caveat
    if isinstance(caveat, Tenant):
        return facts.call.tenant is None
    if isinstance(caveat, Where):
        return not caveat.attribute.startswith("args.") and caveat.attribute not in facts.call.attributes
    return refusal.code in {"no_meter", "stale_liveness"}
