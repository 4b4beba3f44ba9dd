"""Choosing, for one call, which of the approvals that an agent holds go with a capability.

Law: this is a prediction without a key. The resource decides.
"""

from collections.abc import Sequence

from capx.crypto.base64url import b64u
from capx.tokens.approval_caveat import read_approval_caveat
from capx.tokens.approving import has_expired, signatures_in
from capx.tokens.capability import Capability, Token
from capx.tokens.discharge import Discharge
from capx_caveats import Allow, Approved, Call, Facts, is_too_much, most_work


def choose(capability: Token, held: Sequence[Discharge], call: Call | None, now: int) -> list[Discharge]:
    """For each demand of a capability, the newest approval that may serve a call now, if there is one.

    `call` is None if it is not known yet: then no approval is ruled out by it.
    """
    chosen: list[Discharge] = []
    for cid in capability.demands:
        newest = (one for one in reversed(held) if one.cid == cid)
        found = next((one for one in newest if _may_serve(one, capability, call, now)), None)
        if found is not None:
            chosen.append(found)
    return chosen


def usable(held: Sequence[Discharge], capabilities: Sequence[Token]) -> list[Discharge]:
    """The approvals that one of these capabilities demands, at its audience: others are of no use to their holder."""
    wanted = {(cid, one.audience) for one in capabilities for cid in one.demands}
    return [one for one in held if (one.cid, _audience(one)) in wanted]


def demands_of(capability: Capability, held: Sequence[Discharge], call: Call, now: int) -> list[bytes]:
    """The cids of the demands of a capability for one call: first those that no approval that is held answers.

    The others come behind them: what is held may be used up.
    """
    answered = {one.cid for one in choose(capability, held, call, now)}
    left = [cid for cid in dict.fromkeys(capability.demands) if cid not in answered]
    return [*left, *(cid for cid in dict.fromkeys(capability.demands) if cid not in left)]


def missing_signatures(discharge: Discharge) -> int | None:
    """How many people must still sign an approval; None if its demand is none that capx writes."""
    caveat = read_approval_caveat(discharge.cid)
    return None if caveat is None else caveat.count - len(signatures_in(discharge))


def is_ruled_out(held: Capability | Discharge, call: Call) -> bool:
    """Whether an `allow` caveat excludes this call. This is a prediction without a key; the resource decides."""
    # Too much work to predict: then the resource decides.
    caveats = [caveat for block in held.caveats for caveat in block]
    if is_too_much(call, len(held.text), lambda: most_work(caveats), lambda: caveats):
        return False
    facts = Facts(call, 0, 0.0)
    return any(caveat.refusal(facts) is not None for caveat in caveats if isinstance(caveat, Allow))


def _audience(discharge: Discharge) -> str | None:
    stated = discharge.caveats[0][0]
    return stated.audience if isinstance(stated, Approved) else None


def _may_serve(discharge: Discharge, capability: Token, call: Call | None, now: int) -> bool:
    stated = discharge.caveats[0][0]
    if not isinstance(stated, Approved) or stated.audience != capability.audience:
        return False
    if stated.node not in map(b64u, capability.path) or has_expired(discharge, now):
        return False
    if missing_signatures(discharge) != 0:
        return False
    return call is None or not is_ruled_out(discharge, call)
