"""What people signed in a task: the intent that it was opened on, and their answers to requests of its agents.

Law: what the proof carries with a signature must be signed by a key that the trust file names, or the proof is broken.
"""

import hashlib
from collections.abc import Iterator, Sequence

from capx.crypto.canonical_json import canonical
from capx.crypto.ed25519 import is_signed_by
from capx.errors import InvalidRequest
from capx.intents.intent import Intent, parse_intent
from capx.intents.verdict_message import verdict_message
from capx.proof.document import AnsweredRequest, IntentPart, ProofBroken
from capx.proof.report import Answered, Findings, ProvenIntent
from capx.proof.trust import Trust
from capx.store.events import RequestAnswered, RequestApproved, RequestDenied, TaskOpened
from capx.store.log import Event
from capx_caveats import InvalidCaveat

_ANSWERS = frozenset({RequestApproved.kind, RequestDenied.kind})


def intent_of(opened: TaskOpened, part: IntentPart | None, trust: Trust, findings: Findings) -> ProvenIntent | None:
    """Return the intent that a task was opened on; None if it was opened by hand. ProofBroken if it is another one."""
    if opened.intent is None:
        if part is not None:
            raise ProofBroken("the proof has an intent, and the task was opened on none")
        findings.words.append("the task was opened by hand: nobody's intent is behind it")
        return None
    if part is None:
        raise ProofBroken("the intent that the task was opened on is missing")
    if (part.signature is None) == (part.attested is None):
        raise ProofBroken("an intent has either a signature or the name of who attested it")
    try:
        intent = parse_intent(canonical(part.document))
    except (InvalidRequest, InvalidCaveat) as error:
        raise ProofBroken(f"the document of the intent is none: {error}") from None
    if intent.digest != opened.intent or intent.principal != opened.principal:
        raise ProofBroken("the document of the intent is not the one that the task was opened on")
    if part.signature is None:
        vouched = f"attested by {part.attested!a:.130}, which is the word of the authority"
        findings.words.append(f"the intent: {vouched}")
    else:
        vouched = _signed_by(intent, part.signature, trust)
        findings.signed.append(f"the intent: {vouched}")
    return ProvenIntent(
        intent.principal, intent.statement, dict(intent.parameters), vouched, is_signed=part.signature is not None
    )


def _signed_by(intent: Intent, signature: str, trust: Trust) -> str:
    keys = _keys_of(intent.principal, "whose intent this is", trust)
    if not any(is_signed_by(key, intent.message(), signature) for key in keys):
        raise ProofBroken(f"the intent is not signed with a key of {intent.principal!a:.130}")
    return f"signed by {intent.principal!a:.130}"


def answers_in(
    events: Sequence[Event], parts: Sequence[AnsweredRequest], trust: Trust, findings: Findings
) -> Iterator[Answered]:
    """Return what people answered, as the log has it, with what they signed, as far as the proof has it."""
    unused = {(one.approver, one.signature): one for one in parts}
    if len(unused) < len(parts):
        raise ProofBroken("one answer to a request stands in the proof twice")
    for event in events:
        if event.kind not in _ANSWERS:
            continue
        said = event.read(RequestAnswered)
        yes = event.kind == RequestApproved.kind
        part = unused.pop((said.approver, said.signature), None)
        if part is None:
            findings.words.append(f"the answer of {said.approver!a:.130} to request {said.request}: not in the proof")
            yield Answered(said.request, said.approver, yes, event.at, is_signed=False)
            continue
        _demand_signed(part, said, yes, trust)
        findings.signed.append(f"the {'yes' if yes else 'no'} of {said.approver!a:.130} to request {said.request}")
        action, audience = part.shown.get("action"), part.shown.get("audience")
        yield Answered(said.request, said.approver, yes, event.at, True, str(action), str(audience))
    if unused:
        raise ProofBroken("the proof has an answer to a request that the log does not have")


def _demand_signed(part: AnsweredRequest, said: RequestAnswered, yes: bool, trust: Trust) -> None:
    shown = hashlib.sha256(canonical(part.shown)).digest()
    message = verdict_message(shown, part.approver, yes=part.yes, at=part.at)
    keys = _keys_of(said.approver, f"who answered request {said.request}", trust)
    if (part.shown.get("id"), part.yes) != (said.request, yes):
        raise ProofBroken(f"the answer to request {said.request} is shown as one to another request, or another one")
    if not any(is_signed_by(key, message, part.signature) for key in keys):
        raise ProofBroken(f"{said.approver!a:.130} has not signed this answer to what is shown of {said.request}")


def _keys_of(name: str, who: str, trust: Trust) -> list[bytes]:
    keys = trust.keys_of_person(name)
    if not keys:
        raise ProofBroken(f"the trust file names no key of {name!a:.130}, {who}: add a line `principal NAME KEY`")
    return keys
