"""Approving: a person's key makes the discharge for one call, or adds a signature to it.

Law: a person signs the statement that they were shown, as a whole: the call, its arguments, who makes it, for how long
and how often. A second person signs the very same statement.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from msgspec import UNSET
from msgspec.structs import replace

from capx.crypto.hashing import macaroon_key
from capx.crypto.instants import is_whole, now_or
from capx.errors import InvalidRequest
from capx.tokens.approval import Approval, approval_message, read_approval
from capx.tokens.approval_caveat import ApprovalCaveat
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.discharge import Discharge, can_narrow, is_made_with, tail_of, written
from capx_caveats import (
    CALLS,
    DEFAULT,
    Allow,
    Appendable,
    Approved,
    Budget,
    Caveat,
    ChainCaveat,
    Expires,
    Intent,
    Signed,
    Task,
    encode_block,
    resolved,
    shown_duration,
)

LASTS: Final = 600
"""The seconds for which an approval is good unless the approver says otherwise, if the demand permits so many."""
MOST_USES: Final = 1_000_000


class Approver(Protocol):
    """A person's key: a `PrincipalKey`."""

    @property
    def public(self) -> str:
        """The public key as people write it."""
        ...

    def sign(self, message: bytes) -> str:
        """The signature of a message: 64 bytes in base64url."""
        ...

    def open_box(self, box: bytes) -> bytes | None:
        """The key in a box that was sealed to this key; None for any other box."""
        ...


def approve(
    request: ApprovalRequest,
    approver: Approver,
    *,
    uses: int | None = 1,
    lasts: int | None = None,
    caveats: Iterable[Appendable] = (),
    now: int | None = None,
) -> Discharge:
    """The approval of a request; as `PrincipalKey.approve`."""
    # No error is raised by a function that has the key of the demand: error reporters send the locals of a traceback.
    number = _number(request.caveat, approver)
    statement = encode_block(_statement(request, uses, lasts, tuple(caveats), now_or(now)))
    begun = _begun(request.caveat, approver, number)
    if begun is None:
        raise _no_box()
    return _signed(begun.extended(statement), number, approver)


def cosign(request: ApprovalRequest, approval: Discharge, approver: Approver, *, now: int | None = None) -> Discharge:
    """The same approval with one more signature; as `PrincipalKey.cosign`."""
    number = _number(request.caveat, approver)
    is_of_demand = _is_of_demand(approval, request.caveat, approver, number)
    if is_of_demand is None:
        raise _no_box()
    if not is_of_demand:
        raise InvalidRequest("that approval is of another demand, or was changed: it cannot be signed as well")
    _demand_same(approval, request, number, now_or(now))
    return _signed(approval, number, approver)


def signatures_in(discharge: Discharge) -> tuple[int, ...]:
    """The numbers of those who have signed an approval, as it says; nothing is verified."""
    found: list[int] = []
    for caveats in discharge.caveats[1:]:
        if len(caveats) != 1 or not isinstance(caveats[0], Signed):
            break
        found.append(caveats[0].number)
    return tuple(found)


def _signed(discharge: Discharge, number: int, approver: Approver) -> Discharge:
    signature = approver.sign(approval_message(discharge.digests[1]))
    return discharge.extended(encode_block((Signed(number, signature),)))


def _number(caveat: ApprovalCaveat, approver: Approver) -> int:
    """The number of the approver in a demand."""
    if approver.public not in caveat.approvers:
        raise InvalidRequest(
            f"this request asks {' or '.join(caveat.approvers)}, and this is the key {approver.public}"
        )
    return caveat.approvers.index(approver.public)


def _begun(caveat: ApprovalCaveat, approver: Approver, number: int) -> Discharge | None:
    """The discharge of a demand before any block; None if the demand has no key for this approver."""
    secret = approver.open_box(caveat.boxes[number])
    return None if secret is None else written(caveat.cid, (), tail_of(macaroon_key(secret), caveat.cid))


def _is_of_demand(approval: Discharge, caveat: ApprovalCaveat, approver: Approver, number: int) -> bool | None:
    """Whether the MACs of an approval are those of a demand; None if the demand has no key for this approver."""
    secret = approver.open_box(caveat.boxes[number])
    return None if secret is None else approval.cid == caveat.cid and is_made_with(macaroon_key(secret), approval)


def _no_box() -> InvalidRequest:
    return InvalidRequest("the demand has no key for you in it: whoever wrote it did not mean it to be discharged")


def _statement(
    request: ApprovalRequest, uses: int | None, lasts: int | None, caveats: tuple[Appendable, ...], at: int
) -> tuple[Caveat, ...]:
    longest = request.caveat.lasts
    seconds = min(LASTS, longest) if lasts is None else lasts
    if not is_whole(seconds, 1, longest):
        raise InvalidRequest(f"the token permits approvals that last from 1s to {shown_duration(longest)}")
    if uses is not None and not is_whole(uses, 1, MOST_USES):
        raise InvalidRequest(f"`uses` must be a whole number from 1 to {MOST_USES}, or None for any number of calls")
    added = resolved(caveats, at)
    for one in added:
        if isinstance(one, Allow | Expires) or not can_narrow(one):
            raise InvalidRequest(f"an approval cannot have `{one.sentence()}` beside its statement: give other caveats")
    return (
        Approved(request.audience, request.node, request.shown, at),
        Task(request.task),
        *(() if request.intent is UNSET else (Intent(request.intent),)),
        _allowed(request),
        Expires(at + seconds),
        *(() if uses is None else (Budget(CALLS, str(uses)),)),
        *added,
    )


def _allowed(request: ApprovalRequest) -> Allow:
    return Allow((request.entry,))


def read_signed(request: ApprovalRequest, approval: Discharge, now: int) -> Approval:
    """What an approval of a request says, which some or all of those who must have signed.

    InvalidRequest if it is for another request, has expired, or has a signature that is not good. Its MACs are not
    looked at.
    """
    caveat = request.caveat
    if approval.cid != caveat.cid or not is_for(approval, request):
        raise InvalidRequest("this approval is for another call than the request: read both, and approve the request")
    count = len(signatures_in(approval))
    is_whole = 1 <= count <= caveat.count and len(approval.blocks) == count + 1
    # As if no more people had to sign: the others come later.
    found = read_approval(replace(caveat, count=count), approval.blocks, DEFAULT) if is_whole else None
    if found is None:
        raise InvalidRequest(f"an approval of this request has 1 to {caveat.count} signatures, and nothing behind them")
    if found.ends <= now:
        raise InvalidRequest("this approval has expired: approve the request anew")
    for why in (*found.flaws(now), *found.bad_signatures()):
        raise InvalidRequest(f"this approval {why}: approve the request anew")
    return found


def _demand_same(other: Discharge, request: ApprovalRequest, number: int, at: int) -> None:
    """Raise InvalidRequest unless an approval is for this very request, and lacks this signature."""
    caveat = request.caveat
    read_signed(request, other, at)
    numbers = signatures_in(other)
    if number in numbers:
        raise InvalidRequest("you have signed this approval already: somebody else must")
    if len(numbers) >= caveat.count:
        raise InvalidRequest("that approval has all its signatures already: it needs no other")


def is_for(discharge: Discharge, request: ApprovalRequest) -> bool:
    """Whether the statement of a discharge is for this very request; its MACs and signatures are not looked at."""
    intent = () if request.intent is UNSET else (Intent(request.intent),)
    stated = discharge.caveats[0]
    claims, rest = stated[: 2 + len(intent)], stated[2 + len(intent) :]
    if not isinstance(claims[0], Approved) or claims[1:] != (Task(request.task), *intent):
        return False
    # Another mark behind these, such as an intent, would be shown to nobody.
    if any(isinstance(one, ChainCaveat) for one in rest):
        return False
    # As they are spelt: in Python, True equals 1.
    allowed = [encode_block((one,)) for one in rest if isinstance(one, Allow)]
    said = (claims[0].audience, claims[0].node, claims[0].shown)
    return said == (request.audience, request.node, request.shown) and allowed == [encode_block((_allowed(request),))]


def has_expired(discharge: Discharge, now: int) -> bool:
    """Whether an approval says that it has expired."""
    return any(one.at <= now for caveats in discharge.caveats for one in caveats if isinstance(one, Expires))
