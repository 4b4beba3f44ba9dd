"""What the presentation agent tries to get at the CRM, once the ticket told it to, with all that it holds and knows.

Laws: it has what any agent has: its own bundle, the authority's address, the intent that it works on, keys that it
makes itself. What came of each way is what it was answered.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

import httpx
import msgspec

from capx import Agent, Pending, SignedIntent
from capx.agent import httpx_client
from capx.authority.requests.verdict import Verdict
from capx.crypto.base64url import unb64u
from capx.intents.principal_key import PrincipalKey
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Refused

OWN_CLIENT: Final = "has its client ask for that"
ASKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "asks for crm.export": {"audience": "crm", "action": "crm.export"},
    "asks for it, arguments pinned": {"audience": "crm", "action": "crm.export", "args": {}},
    "asks for crm.*": {"audience": "crm", "action": "crm.*"},
    "asks for it at the authority": {"audience": AUTHORITY, "action": "crm.export"},
}
"""What it presents its authority capability for, by what it tries."""
DOOR: Final = "opens a task by itself"
OWN_INTENT: Final = "signs an intent by itself"
REPLAYED: Final = "hands in Ana's intent again"
OWN_VERDICT: Final = "approves its own request"


class Try(NamedTuple):
    """One way that was tried, what came of it as a word or codes, and the sentence that says why."""

    way: str
    came: str
    why: str = ""


def tries(agent: Agent, authority: str, intent: SignedIntent, export: httpx.Response) -> Iterator[Try]:
    """Ask in every way, and open a task, where agents reach the authority; `export` is what its client came back with.

    A client of `Agent.http` asks by itself for what it is refused, once.
    """
    yield Try(OWN_CLIENT, *_sought(export))
    with httpx_client.client({authority: AUTHORITY}, agent.bundle, trust_env=False) as client:
        for way, asked in ASKS.items():
            yield Try(way, *_came(client.post(f"{authority}/agent/ask", json=asked)))
        own = _own_intent(intent)
        opened = client.post(f"{authority}/tasks", json={"intent": msgspec.json.decode(own.text())})
        yield Try(DOOR, *_came(opened))


def documents(agent: Agent, intent: SignedIntent, *, approver: str) -> dict[str, dict[str, Any]]:
    """Intents and verdicts to hand in to whoever takes them, each under the name of what it tries."""
    answer = agent.ask("slides.publish", wait=0)
    verdicts = {OWN_VERDICT: _own_verdict(answer, approver)} if isinstance(answer, Pending) else {}
    intents = {OWN_INTENT: _own_intent(intent).text().decode(), REPLAYED: intent.text().decode()}
    return {"intents": intents, "verdicts": verdicts}


def _own_intent(intent: SignedIntent) -> SignedIntent:
    """What Ana never wanted, in her name, signed with a key of the agent's own."""
    wanted = msgspec.structs.replace(intent.intent, statement="Export all CRM records.")
    return PrincipalKey.generate(wanted.principal).sign_intent(wanted)


def _own_verdict(pending: Pending, approver: str) -> dict[str, Any]:
    """A yes to what it asked itself, in the name of whoever may say it, signed with a key of the agent's own."""
    signature = PrincipalKey.generate(approver).sign(unb64u(pending.request))
    verdict = Verdict(request=pending.request, yes=True, approver=approver, at=int(time.time()), signature=signature)
    return cast("dict[str, Any]", msgspec.to_builtins(verdict))


def _sought(response: httpx.Response) -> tuple[str, str]:
    """What a client was told when it asked for what it was refused."""
    sought = response.extensions.get(httpx_client.ASK_EXTENSION)
    if isinstance(sought, Refused):
        return ", ".join(reason.code for reason in sought.reasons), str(sought)
    return ("granted" if response.is_success else "refused again"), str(sought or "")


def _came(response: httpx.Response) -> tuple[str, str]:
    """What an answer says: the codes of its reasons, and their sentences."""
    said: dict[str, Any] = response.json()
    reasons = said.get("reasons", ())
    codes = [reason["code"] for reason in reasons] or [said.get("code") or said.get("answer") or "done"]
    sentences = [reason["sentence"] for reason in reasons] or [said.get("detail", "")]
    return ", ".join(dict.fromkeys(codes)), "; ".join(sentences)
