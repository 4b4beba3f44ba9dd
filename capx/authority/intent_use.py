"""Using an intent: a task opens on it, or its principal withdraws it.

    Intent --prove--> Proven --take, within the transaction that opens--> Terms

Laws:

- The signature is checked before everything else. All bad signatures get the same error. So a caller who cannot sign
  learns nothing.
- An opening stays counted after its task has ended.
- A withdrawn intent never opens a task again, even if the authority had not seen it before. Its tasks end in the same
  transaction.
"""

from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Struct

from capx.api.messages.outcomes import Ended, Impact
from capx.authority.ending import as_of, dying_with, end, has_ended
from capx.authority.graph.impact import together
from capx.crypto.canonical_json import canonical
from capx.errors import InvalidRequest
from capx.intents.epoch import authority_of
from capx.intents.intent import Intent, SignedIntent
from capx.policy.policy import Policy
from capx.policy.terms import Terms
from capx.store.events import IntentWithdrawn
from capx.store.lifecycle import after
from capx.store.protocols import Reading, Writing
from capx.store.records import ATTESTED, IntentRecord, TaskRecord
from capx.store.row_marks import ChangedRow
from capx.tokens.binding import WINDOW_BEFORE
from capx_caveats import SAFE_INTEGER, is_label, shown_instant

AHEAD: Final = WINDOW_BEFORE
"""Seconds by which the clock of the signer may be ahead."""


class Proven(Struct, frozen=True):
    """An intent, with the proof that its principal wants it: a signature, or the name of who attested it."""

    intent: Intent
    proof: str

    @property
    def attested(self) -> str | None:
        """The name of who attested it; None if its principal has signed it."""
        return self.proof.removeprefix(ATTESTED) if self.proof.startswith(ATTESTED) else None


class WithdrawnIntent(Struct, frozen=True):
    """An intent that opens no more tasks, and the ends of its tasks; `again` if it was withdrawn before.

    `at` is the time of the withdrawal (Unix seconds). `position` is its position in the log, and None if `again`. In a
    dry run, `tasks` has the ends that the tasks would have, `dying` lists what is known to die, `position` is None, and
    so is `at` unless `again`.
    """

    intent: str
    at: int | None
    position: int | None
    again: bool = False
    tasks: tuple[Ended, ...] = ()
    dying: Impact | None = None


def prove(policy: Policy, intent: SignedIntent | Intent, attested: str | None) -> Proven:
    """Check that the principal has signed the intent, or that `attested` names who checked the principal's login.

    InvalidRequest if there is neither proof.
    """
    if isinstance(intent, SignedIntent):
        if attested is not None:
            raise InvalidRequest("this intent is signed: leave out attested")
        if not is_signed_by_principal(policy, intent):
            raise InvalidRequest(
                f"this intent has no signature by {intent.intent.principal} that the policy accepts: run capx intent "
                "verify where the policy is to see why"
            )
        return Proven(intent.intent, intent.signature)
    if attested is None:
        raise InvalidRequest("this intent is not signed: use capx intent sign, or say who attests it")
    if not is_label(attested):
        raise InvalidRequest(
            f"{attested!r:.80} is not the name of an attester: write 1 to 128 characters, without hidden or control "
            "characters"
        )
    return Proven(intent, f"{ATTESTED}{attested}")


def is_signed_by_principal(policy: Policy, signed: SignedIntent) -> bool:
    """Whether the signature is that of a key which the policy gives the principal."""
    principal = policy.principals.get(signed.intent.principal)
    if principal is None or principal.key is None:
        return False
    return _is_signed_by(principal.key, signed.intent.message(), signed.signature)


@lru_cache(maxsize=256)
def _is_signed_by(public: bytes, message: bytes, signature: str) -> bool:
    # Remembered, because each ask on the intent needs it. The answer follows from these bytes, and the key is that of
    # the policy as it is now.
    from capx.crypto.ed25519 import is_signed_by

    return is_signed_by(public, message, signature)


def take(transaction: Writing, proven: Proven, policy: Policy, *, now: int) -> Terms:
    """Count one more task on this intent, and return the terms for it; InvalidRequest if there can be none."""
    intent = proven.intent
    _demand_meant_here(transaction, intent)
    _demand_in_time(intent, now)
    terms = policy.terms(intent)
    known = transaction.intent(intent.digest) or IntentRecord(intent.digest)
    if known.withdrawn is not None:
        raise InvalidRequest(f"this intent was withdrawn at {shown_instant(known.withdrawn)}: sign a new one")
    if known.opened >= intent.max_tasks:
        times = "once" if known.opened == 1 else f"{known.opened} times"
        raise InvalidRequest(f"this intent was opened {times}, which is its limit: sign a new one")
    transaction.keep_intent(
        IntentRecord(
            digest=intent.digest,
            principal=intent.principal,
            document=canonical(intent.document()).decode(),
            proof=_kept(known.proof, proven, policy),
            opened=known.opened + 1,
        )
    )
    return terms


def withdraw(transaction: Writing, digest: str, *, now: int) -> WithdrawnIntent:
    """Withdraw an intent and its tasks within a transaction; `again` in the result if that was done before."""
    try:
        known: IntentRecord | None = transaction.intent(digest) or IntentRecord(digest)
    except ChangedRow as changed:
        # A row that somebody changed stays as it is, so that it gets no right mark. The intent is withdrawn all the
        # same. If only a row of a task was changed, the intent's own has a right mark, and is to say so afterwards.
        known = changed.marked
    if known is not None and known.withdrawn is not None:
        return WithdrawnIntent(digest, known.withdrawn, None, again=True)
    event = IntentWithdrawn(digest).write(transaction, at=now)
    if known is not None:
        transaction.keep_intent(msgspec.structs.replace(known, withdrawn=now))
    tasks = _unended(transaction, digest, now)
    ends = tuple([end(transaction, task, "withdraw", now=now) for task in tasks])
    return WithdrawnIntent(digest, now, event.position, tasks=ends)


def preview(reading: Reading, digest: str, *, now: int) -> WithdrawnIntent:
    """The result that withdrawing an intent would have."""
    known = reading.intent(digest) or IntentRecord(digest)
    tasks = _unended(reading, digest, now)
    ends = tuple([Ended(task.id, after(as_of(task, now).state, "withdraw"), None) for task in tasks])
    dying = together(dying_with(reading, task, now) for task in tasks)
    return WithdrawnIntent(digest, known.withdrawn, None, known.withdrawn is not None, ends, dying)


def _unended(reading: Reading, digest: str, now: int) -> list[TaskRecord]:
    """The tasks of an intent that are not ended in the store."""
    tasks = reading.task_page(intent=digest, limit=SAFE_INTEGER)
    return [task for task in tasks if not has_ended(reading, task, now)]


def _demand_meant_here(reading: Reading, intent: Intent) -> None:
    epoch = reading.head().epoch
    if intent.authority == epoch:
        return
    if authority_of(intent.authority) == authority_of(epoch):
        raise InvalidRequest(
            f"this intent is for {intent.authority}, but this authority was restored and is now {epoch}: sign a new one"
        )
    raise InvalidRequest(
        f"this intent is for authority {intent.authority}, and this one is {epoch}: sign one for this authority"
    )


def _demand_in_time(intent: Intent, now: int) -> None:
    if now >= intent.not_after:
        raise InvalidRequest(f"this intent ended at {shown_instant(intent.not_after)}: sign a new one")
    if intent.issued > now + AHEAD:
        raise InvalidRequest(
            f"this intent was issued at {shown_instant(intent.issued)}, which is in the future: set the clock here or "
            "the signer's"
        )


def _kept(known: str | None, proven: Proven, policy: Policy) -> str:
    """The proof to keep: the newest, but an attestation does not replace a signature, which must still be valid."""
    if known is None or known.startswith(ATTESTED) or not proven.proof.startswith(ATTESTED):
        return proven.proof
    if not is_signed_by_principal(policy, SignedIntent(proven.intent, known)):
        # With an attestation in place of the old signature, the tasks that a removed key opened would be valid again.
        raise InvalidRequest("this intent was signed with a key that its principal no longer has: sign a new one")
    return known
