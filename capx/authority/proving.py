"""What an authority adds to the proof of a task: what people have signed in it, and arguments that it discloses."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from capx.authority.ending import known_task
from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest
from capx.ledger.archive import Archive, recorded_decision
from capx.proof.document import AnsweredRequest, AskedPart, Disclosed, IntentPart, PartsOfTask
from capx.store.protocols import Reading
from capx.store.records import ATTESTED
from capx.verify.evidence import args_commitment, salt_of
from capx_caveats import InvalidCaveat


def parts_of_task(reading: Reading, task_id: str) -> PartsOfTask:
    """What people have signed in a task, and what agents have asked for; UnknownTask if there is none."""
    task = known_task(reading, task_id)
    answers = reading.answers(task.id)
    # Each document once: several people sign the same one.
    documents = dict.fromkeys(one.shown for one in answers if one.signature is None)
    approvals: list[dict[str, Any]] = list(map(msgspec.json.decode, documents))
    verdicts = [
        AnsweredRequest(msgspec.json.decode(one.shown), one.approver, one.yes, one.signed, one.signature)
        for one in answers
        if one.signature is not None
    ]
    asked = [AskedPart(one.position, b64u(one.salt), msgspec.json.decode(one.args)) for one in reading.asks(task.id)]
    return PartsOfTask(_intent(reading, task.intent), tuple(verdicts), tuple(approvals), tuple(asked))


def _intent(reading: Reading, digest: str | None) -> IntentPart | None:
    kept = None if digest is None else reading.intent(digest)
    if kept is None or kept.document is None or kept.proof is None:
        return None
    document: dict[str, Any] = msgspec.json.decode(kept.document)
    if kept.proof.startswith(ATTESTED):
        return IntentPart(document, attested=kept.proof.removeprefix(ATTESTED))
    return IntentPart(document, signature=kept.proof)


def disclosed(
    reading: Reading, keyring: KeyRing, decision: str, args: Mapping[str, Any], archive: Archive | None = None
) -> Disclosed:
    """The arguments of a decision with the salt of its commitment; InvalidRequest if it did not commit to them."""
    event = recorded_decision(reading, decision, archive)
    recorded = None if event is None else event.read_if(_Committed)
    if recorded is None or recorded.args is None or not recorded.ids:
        raise InvalidRequest(f"decision {decision!a:.80} is not in the log, or commits to no arguments")
    try:
        shown = canonical(dict(args))
    except InvalidCaveat as error:
        raise InvalidRequest(f"no call of decision {decision} had these arguments: {error}") from None
    # The kid of its token is not in the decision. There are few live keys.
    for kid in keyring.kids:
        root = keyring.get(kid)
        if root is not None:
            salt = salt_of(root.audience_key(recorded.audience), recorded.id)
            if args_commitment(salt, shown) == recorded.args:
                return Disclosed(recorded.id, b64u(salt), msgspec.json.decode(shown))
    raise InvalidRequest(
        f"these are not the arguments of decision {decision}, or the root key of its token is gone: give them as JSON, "
        "as the service judged them"
    )


class _Committed(Struct):
    id: str
    audience: str
    ids: tuple[str, ...] = ()
    args: str | None = None
