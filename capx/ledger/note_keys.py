"""The key files of ledgers and witnesses.

    ledger ORIGIN SEED       signs the ledger of one resource
    witness NAME SEED        cosigns checkpoints of logs

Law: these keys are never derived from a key that an authority has, or the authority could speak for them.
"""

from typing import ClassVar

from capx.crypto.ed25519 import Signs
from capx.crypto.named_key import NamedKey
from capx.errors import KeyProblem
from capx.ledger.note import Cosigner, NoteKey, NoteSigner, is_key_name


class _NoteKey(NamedKey):
    """A key that signs notes; its name stands in them."""

    __slots__ = ()

    def __init__(self, name: str, signer: Signs) -> None:
        super().__init__(name, signer)
        if not is_key_name(name):
            raise KeyProblem(f"{name!r:.80} cannot name {self._whose()}: use no spaces and no plus")


class LedgerKey(_NoteKey):
    """The key of a ledger: `name` is the beginning of the origins of its ledgers, such as `capx-ledger/crm`."""

    __slots__ = ()

    kind: ClassVar[str] = "ledger"

    @property
    def signer(self) -> NoteSigner:
        """What signs the notes of its ledgers."""
        return NoteSigner(self.name, self._signer)

    @property
    def note_key(self) -> NoteKey:
        """Its public half, as notes name it."""
        return self.signer.key

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message (32 bytes): 64 bytes."""
        return self._signer.sign(message)


class WitnessKey(_NoteKey):
    """The key of a witness, which cosigns checkpoints of logs."""

    __slots__ = ()

    kind: ClassVar[str] = "witness"

    @property
    def cosigner(self) -> Cosigner:
        """What cosigns."""
        return Cosigner(self.name, self._signer)

    @property
    def note_key(self) -> NoteKey:
        """Its public half, as notes name it."""
        return self.cosigner.key
