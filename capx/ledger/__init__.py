"""The log as evidence: a Merkle tree beside it, signed checkpoints, witnesses, and ledgers in files.

    from capx.crypto.ed25519 import Signer
    from capx.ledger import Checkpoint, Frontier, NoteSigner, opened, signed

    signer = NoteSigner("example/log", Signer(bytes(range(32))))
    tree = Frontier()
    tree.append(bytes(32))
    note = signed(Checkpoint("example/log", tree.size, tree.root), [signer]).dump()
    assert opened(note, [signer.key]).size == 1

Modules:

    tree            the Merkle tree: roots, and paths with their checks
    note            signed notes, and the keys of logs and witnesses
    checkpoint      the size and root of the tree of one log, as a note
    stored_tree     the tree beside the log of a store
    witness         cosigns checkpoints of logs that only grow
    witness_client  asks a witness over HTTP
    ledger_file     the file in which a verifier without a store keeps its decisions
    ledger_check    checks such files
    ledger_lines    the lines of these files
    archive         files with the events of a log whose decisions have left the store
    note_keys       the key files of ledgers and witnesses
    base64_text     base64 as notes spell it
"""

from capx.ledger.archive import Archive
from capx.ledger.checkpoint import Checkpoint, opened, signed
from capx.ledger.ledger_file import LedgerFile
from capx.ledger.note import BadNote, Note, NoteKey, NoteSigner
from capx.ledger.note_keys import LedgerKey, WitnessKey
from capx.ledger.tree import Frontier

__all__ = [
    "Archive",
    "BadNote",
    "Checkpoint",
    "Frontier",
    "LedgerFile",
    "LedgerKey",
    "Note",
    "NoteKey",
    "NoteSigner",
    "WitnessKey",
    "opened",
    "signed",
]
