"""Any bytes of a file are a request that is shown in full and can be approved, or they are refused.

What is approved opens exactly the call that was shown, for the agent that asked. An input is the bytes of the file.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from unicodedata import category

import rfc8785
from msgspec import UNSET
from msgspec.structs import replace

from capx.authority.requests.inquiry import request_sentences
from capx.crypto.base64url import b64u
from capx.crypto.hashing import macaroon_key
from capx.errors import InvalidRequest
from capx.intents.principal_key import PrincipalKey
from capx.tokens.approval_caveat import KeyedCaveat
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.discharge import Discharge
from capx_caveats import Allow, Call, Entry, Intent
from capx_cli import call_approval, screen
from tests.fuzz import words
from tests.fuzz.same_demands import same_demand
from tests.labs.approving import BEN, CLEO, LEA
from tests.labs.lab import NOW, Lab, codes, minted

PEOPLE = (LEA, BEN, CLEO)
DEMANDS = (same_demand(LEA), same_demand(LEA, BEN, CLEO, count=2, lasts=1), same_demand(CLEO, BEN, count=2))
OTHER = "something.else"
CHANGED: tuple[Any, ...] = (None, True, 1, "", [], {})
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
ARGS: tuple[Mapping[str, Any], ...] = (
    {},
    {"amount": 40, "to": "Ben"},
    {"": 1},
    {"*": 1},
    {"a": "", "b": [], "c": {}, "d": {"e": {"f": None, "g": True}}, "h": [1, 1.5, False, "x"]},
    {"n": 9007199254740991, "m": -9007199254740991, "f": 1e-7, "z": -0.0, "one": 1.0, "big": 1e300},
    {"\ufb33": "\u0430pple", "\u202eeva": "\u2066 \x1b[2J\r\n  two  spaces\u200b"},
    {"\U0001f600": "\U000e0001", "e": "\u00e9"},
    {"rows": [[1]]},
    {"x": "y" * 2030},
    {f"a{number}": number for number in range(90)},
    *({f"a{number}": "" for number in range(size)} for size in range(38, 44)),
    *({f"a{number}": number for number in range(size)} for size in range(116, 126)),
    *({"a": "[" * size} for size in range(230, 256, 2)),
)


def document(**changed: object) -> dict[str, object]:
    """A request as JSON values."""
    return {
        "approve": 1,
        "cid": DEMANDS[0].cid.decode(),
        "audience": "crm",
        "node": b64u(minted().path[0]),
        "action": "a.write",
        "args": ARGS[1],
        "task": "T1",
        "asked": NOW,
        "nonce": "A" * 22,
        **changed,
    }


def seeds() -> Iterable[bytes]:
    for args in ARGS:
        yield json.dumps(document(args=args)).encode()
        yield json.dumps(document(args=args), ensure_ascii=False).encode()
    for arguments in words.ARGUMENTS:
        yield json.dumps(document(args=json.loads(arguments), intent="A" * 43)).encode()
    for demand in DEMANDS[1:]:
        yield json.dumps(document(cid=demand.cid.decode()), indent=2).encode()
    others: tuple[dict[str, object], ...] = (
        {"audience": "authority", "action": "grant.request"},
        {"audience": "a.b-c.1", "task": "_-9"},
        {"node": "A" * 22},
        {"asked": 0},
        {"asked": 9007199254740991},
        {"asked": 1e3},
        {"intent": None},
        {"approve": 2},
        {"cid": "somebody else's"},
        {"please": "trust me"},
    )
    for changed in others:
        yield json.dumps(document(**changed)).encode()
    yield json.dumps(document()).encode().replace(b'"approve": 1', b'"approve": 1, "approve": 1')


def check(data: bytes) -> None:
    try:
        request = ApprovalRequest.parse(data)
    except InvalidRequest:
        return
    stable(request, data)
    visible(request_sentences(request, None))
    shown(lambda: call_approval.show_request(request))
    shown(lambda: screen.as_json(request.document()))
    keys = {person: key for person in PEOPLE if (key := key_for(request, person)) is not None}
    for key in dict.fromkeys(keys.values()):
        people = [person for person, own in keys.items() if own == key]
        if len(people) >= request.caveat.count:
            approvable(request, people[: request.caveat.count], KeyedCaveat(request.caveat.cid, macaroon_key(key)))


def stable(request: ApprovalRequest, data: bytes) -> None:
    """Written and read again it is the same, and what is signed is the digest of what the file says."""
    again = ApprovalRequest.parse(request.text())
    assert (again, again.text(), again.shown) == (request, request.text(), request.shown), "a request changes"
    said = rfc8785.dumps(json.loads(data))
    assert rfc8785.dumps(json.loads(request.text())) == said, "a request says something else than its file"
    assert request.shown == b64u(hashlib.sha256(said).digest()), "what is signed is not what the file says"


def visible(sentences: Iterable[str]) -> None:
    """No character of a sentence moves, hides or reverses anything."""
    for sentence in sentences:
        assert sentence.isprintable(), "a sentence has characters that nobody sees"
        assert HIDDEN.isdisjoint(map(category, sentence)), "a sentence has characters that nobody sees"


def shown(show: Callable[[], None]) -> None:
    """The lines that a command writes are visible."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        show()
    visible(out.getvalue().split("\n"))


def key_for(request: ApprovalRequest, person: PrincipalKey) -> bytes | None:
    """The key of the demand, as this person finds it; None if they are not asked, or the box is not for them."""
    caveat = request.caveat
    if person.public not in caveat.approvers:
        return None
    return person.open_box(caveat.boxes[caveat.approvers.index(person.public)])


def approvable(request: ApprovalRequest, people: list[PrincipalKey], demand: KeyedCaveat) -> None:
    """These people can approve it, and then exactly that call of that agent is allowed."""
    holder = holding(request, demand, "R1")
    asked = replace(request, node=b64u(holder.path[0]))
    approval = approved(asked, people)
    visible(request_sentences(asked, approval.text))
    shown(lambda: call_approval.show_discharge(approval))
    call = Call(request.action, dict(request.args))
    assert told(holder, approval, call) == (), "the call that was approved is refused"
    for other in others(call):
        assert told(holder, approval, other), "a call that nobody approved is allowed"
    assert told(holding(request, demand, "R2"), approval, call) == ("bad_discharge",), "another agent may act"
    if asked != request:
        elsewhere = approved(request, people)
        assert told(holder, elsewhere, call) == ("bad_discharge",), "the approval of another agent is of use"


def holding(request: ApprovalRequest, demand: KeyedCaveat, root: str) -> Capability:
    """A capability for the call, and for another action, that demands the approval."""
    intent = () if request.intent is UNSET else (Intent(request.intent),)
    allowed = Allow((Entry(request.action), Entry(OTHER)))
    token = minted(*intent, audience=request.audience, task=request.task, root=root, allowed=allowed)
    return token.demanding(demand)


def approved(request: ApprovalRequest, people: Iterable[PrincipalKey]) -> Discharge:
    """The approval of these people, for any number of calls."""
    first, *others = people
    found = first.approve(request, uses=None, now=NOW)
    for person in others:
        found = person.cosign(request, found, now=NOW)
    return found


def told(holder: Capability, approval: Discharge, call: Call) -> tuple[str, ...]:
    """The reasons for which this call is denied; none if it is allowed."""
    received = ToolCall(call.action, call.args)
    text = holder.present(received, approvals=[approval], now=NOW, nonce="A" * 16).text
    return codes(Lab(holder.audience).verifier.decide(text, received, call))


def others(call: Call) -> Iterator[Call]:
    """Calls that differ from one in one thing."""
    if call.action != OTHER:
        yield Call(OTHER, call.args)
    free = next(name for name in map(str, range(len(call.args) + 1)) if name not in call.args)
    yield Call(call.action, {**call.args, free: None})
    for name, value in list(call.args.items())[:4]:
        yield Call(call.action, {one: kept for one, kept in call.args.items() if one != name})
        for changed in CHANGED:
            if rfc8785.dumps(changed) != rfc8785.dumps(value):
                yield Call(call.action, {**call.args, name: changed})
