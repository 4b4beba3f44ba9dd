"""Real ledgers in files, and what somebody may do to their lines."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from capx.crypto.ed25519 import Signer
from capx.ledger.ledger_check import LedgerReport, check_ledger
from capx.ledger.ledger_file import LedgerFile, ledger_files
from capx.ledger.note import NoteKey
from capx.ledger.note_keys import LedgerKey
from capx.store.records import DecisionRecord
from capx.verify.decision import NO_TOKEN, Decision, decision_id

NOW = 1_800_000_000
KEY = LedgerKey("capx-ledger/crm", Signer(bytes(range(32))))
OTHER_KEY = LedgerKey("capx-ledger/crm", Signer(bytes(range(1, 33))))


def decisions(count: int, first: int = 0) -> list[DecisionRecord]:
    return [
        DecisionRecord(f"d{nth}", NOW + nth, b'{"id":"d%d","outcome":"allowed"}' % nth)
        for nth in range(first, first + count)
    ]


def decision() -> Decision:
    """A decision as a verifier makes one, before any token could be read."""
    return Decision(id=decision_id(NOW), at=NOW, allowed=False, audience="crm", refusals=(NO_TOKEN,))


def written(path: Path, count: int, *, rotate_at: int = 64 << 20, batch: int = 137) -> list[Path]:
    """Write a ledger with so many entries, and return its files."""
    ledger = LedgerFile(path, KEY, rotate_at=rotate_at, clock=lambda: NOW)
    for first in range(0, count, batch):
        ledger.record(decisions(min(batch, count - first), first))
    ledger.close()
    return ledger_files(path)


def report(files: Iterable[Path], *, keys: Sequence[NoteKey] = (KEY.note_key,)) -> LedgerReport:
    """The report of the only ledger in these files."""
    (found,) = check_ledger(list(files), keys)
    return found
