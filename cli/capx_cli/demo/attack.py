"""The presentation agent obeys the ticket and tries to export the CRM, with everything that it holds and knows.

Laws: it has what any agent has: its own bundle, the authority's address, the intent that it works on, keys that it
makes itself, and the orchestrator's token, which it was told. The outcome of each attempt is the answer that it got.
"""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

import httpx
import msgspec

from capx import Agent, AgentKey, Bundle, HttpRequest, Pending, SignedIntent, ToolCall
from capx.agent import httpx_client
from capx.authority.requests.verdict import Verdict
from capx.crypto.base64url import b64u, unb64u
from capx.intents.principal_key import PrincipalKey
from capx.tokens import chain, wire
from capx.tokens.grants import ASK
from capx.tokens.lineage import AUTHORITY
from capx.tokens.signed_blocks import sign_block
from capx.verify.ask import Refused
from capx_caveats import Presented, encode_block
from capx_cli.demo.data import ACCOUNT

OWN_CLIENT: Final = "has its client ask for that"
ASKS: Final[Mapping[str, dict[str, Any]]] = {
    "asks for crm.export": {"audience": "crm", "action": "crm.export"},
    "asks for it, arguments pinned": {"audience": "crm", "action": "crm.export", "args": {}},
    "asks for crm.*": {"audience": "crm", "action": "crm.*"},
    "asks for it at the authority": {"audience": AUTHORITY, "action": "crm.export"},
}
"""The asks that it sends to the authority, by the name of the attempt."""
DOOR: Final = "opens a task by itself"
OWN_INTENT: Final = "signs an intent by itself"
REPLAYED: Final = "hands in Ana's intent again"
OWN_VERDICT: Final = "approves its own request"
STOLEN: Final = "uses a stolen token"
WITHOUT_KEY: Final = "uses a stolen token without its key"
OWN_KEY: Final = "uses a stolen token with its own key"
_CALL: Final = f"/accounts/{ACCOUNT}"


class Try(NamedTuple):
    """One attempt: its name, its outcome as a word or codes, and the sentence that says why."""

    way: str
    outcome: str
    why: str = ""


def tries(agent: Agent, authority: str, intent: SignedIntent, export: httpx.Response) -> Iterator[Try]:
    """Ask the authority in every way, and try to open a task; `export` is the answer to the export of the CRM.

    The client of `Agent.http` has asked once already: it asks by itself when a service denies a call.
    """
    yield Try(OWN_CLIENT, *_own_ask(export))
    with httpx.Client(trust_env=False) as plain:
        for way, ask in ASKS.items():
            proof = agent.bundle.present(AUTHORITY, ToolCall(ASK, ask)).authorization
            answer = plain.post(f"{authority}/agent/ask", json=ask, headers={"authorization": proof})
            yield Try(way, *_outcome(answer))
    with httpx_client.client({authority: AUTHORITY}, agent.bundle, trust_env=False) as client:
        own = _own_intent(intent)
        opened = client.post(f"{authority}/tasks", json={"intent": msgspec.json.decode(own.text())})
        yield Try(DOOR, *_outcome(opened))


def thefts(crm: httpx.URL, text: str) -> Iterator[Try]:
    """Present a stolen bundle, in bytes made by hand, for a call that its owner may make: only the key is missing."""
    request = HttpRequest(method="GET", target=_CALL)
    frame = wire.decode(Bundle.parse(text).candidates("crm", request)[0].text)
    mark = (Presented(request.profile, request.digest(), int(time.time()), b64u(os.urandom(12))),)
    parent = chain.digests(frame.identifier_bytes, frame.blocks)[-1]
    forged = sign_block(mark, parent, AgentKey.generate("thief"))
    for way, block in ((WITHOUT_KEY, encode_block(mark)), (OWN_KEY, forged)):
        token = wire.encode(frame.identifier, (*frame.blocks, block), chain.extend(frame.signature, block))
        yield called(crm, way, f"Capx {token}")


def called(crm: httpx.URL, way: str, authorization: str) -> Try:
    """Call the CRM with this header, and return the outcome under the name of the attempt."""
    answer = httpx.get(crm.join(_CALL), headers={"Authorization": authorization}, trust_env=False)
    codes, why = _outcome(answer)
    return Try(way, "served" if answer.is_success else f"{answer.status_code} {codes}", why)


def documents(agent: Agent, intent: SignedIntent, *, approver: str) -> dict[str, dict[str, Any]]:
    """Make the forged intents and verdicts, each under the name of its attempt."""
    # Without waiting: this agent wants the id of a pending request, not the answer of a person.
    answer = agent.ask("slides.publish", args=dict(intent.intent.parameters), wait=0)
    verdicts = {OWN_VERDICT: _own_verdict(answer, approver)} if isinstance(answer, Pending) else {}
    intents = {OWN_INTENT: _own_intent(intent).text().decode(), REPLAYED: intent.text().decode()}
    return {"intents": intents, "verdicts": verdicts}


def _own_intent(intent: SignedIntent) -> SignedIntent:
    """Forge an intent in Ana's name, signed with the agent's own key."""
    wanted = msgspec.structs.replace(intent.intent, statement="Export all CRM records.")
    return PrincipalKey.generate(wanted.principal).sign_intent(wanted)


def _own_verdict(pending: Pending, approver: str) -> dict[str, Any]:
    """Forge an approval of its own request in the approver's name, signed with the agent's own key."""
    # An agent does not get the inquiry that a verdict is signed over, so it signs the id that it knows.
    signature = PrincipalKey.generate(approver).sign(unb64u(pending.request))
    verdict = Verdict(request=pending.request, yes=True, approver=approver, at=int(time.time()), signature=signature)
    return cast("dict[str, Any]", msgspec.to_builtins(verdict))


def _own_ask(response: httpx.Response) -> tuple[str, str]:
    """Return the outcome of the ask that the client made by itself: codes and a sentence."""
    sought = response.extensions.get(httpx_client.ASK_EXTENSION)
    if isinstance(sought, Refused):
        return ", ".join(reason.code for reason in sought.reasons), str(sought)
    return ("granted" if response.is_success else "refused again"), str(sought or "")


def _outcome(response: httpx.Response) -> tuple[str, str]:
    """Return the outcome of an answer: the codes of its reasons, and their sentences."""
    said: dict[str, Any] = response.json()
    reasons = said.get("reasons", ())
    codes = [reason["code"] for reason in reasons] or [said.get("code") or said.get("answer") or "done"]
    sentences = [reason["sentence"] for reason in reasons] or [said.get("detail", "")]
    return ", ".join(dict.fromkeys(codes)), "; ".join(sentences)
