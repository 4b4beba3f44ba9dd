"""Whether a person has signed with another key than the last time, as far as the log can tell.

The log has no keys of people. It names the intent of a task, whose row has the signature. A signature that is good
under the key that the policy has now was made with this key; one that is not was made with another.

Laws:

- It is said of a key only if its own signature is good, or if the event itself names the key (`by`).
- It may be missed: after a restart, an intent that was signed again since then hides the key of before.
- An answer to a request does not count: the row of a request keeps only its last answer, so after a restart nobody
  could say which key was used before. Nor does an attested intent: its principal signed nothing.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct

from capx.crypto.ed25519 import is_signed_by, parse_public, public_text
from capx.crypto.hashing import digest
from capx.errors import ConfigurationProblem
from capx.policy.policy import Policy
from capx.store.events import TaskOpened
from capx.store.log import Event
from capx.store.protocols import Reading
from capx.store.records import ATTESTED


class _By(Struct, frozen=True):
    principal: str
    key: str


class _ProvenBy(Struct, frozen=True):
    by: _By | None = None


class _Signed(Struct, frozen=True):
    """The intent (its digest) that a principal signed."""

    principal: str
    intent: str


class UsedKeys:
    """Which key each person used last. `policy` gives the policy as it is, and may raise ConfigurationProblem."""

    def __init__(self, policy: Callable[[], Policy]) -> None:
        self._policy = policy
        self._last: dict[str, str | _Signed] = {}

    def learn(self, reading: Reading, until: int) -> None:
        """Read who signed what up to a position."""
        for event in reading.events(kind=TaskOpened.kind):
            if event.position > until:
                break
            for principal, used in _uses(event):
                self._last[principal] = used

    def used(self, reading: Reading, event: Event) -> tuple[tuple[str, str], ...]:
        """Return the people who signed for this event with a new key, each with this key (`ed25519:…`)."""
        return tuple(self._new(reading, event)) if event.kind == TaskOpened.kind else ()

    def _new(self, reading: Reading, event: Event) -> Iterator[tuple[str, str]]:
        for principal, use in _uses(event):
            before = self._last.get(principal)
            key = use if isinstance(use, str) else self._key(reading, use)
            # What nobody can tell now may be told by a later policy, so it is kept as it is.
            self._last[principal] = use if key is None else key
            if key is not None and before is not None and self._is_other(reading, before, key):
                yield principal, key

    def _key(self, reading: Reading, use: _Signed) -> str | None:
        """The key that the policy gives a principal, if it is the one that signed."""
        try:
            known = self._policy().principals.get(use.principal)
        except ConfigurationProblem:
            return None
        if known is None or known.key is None or not _is_signed(reading, use, known.key):
            return None
        return public_text(known.key)

    def _is_other(self, reading: Reading, before: str | _Signed, key: str) -> bool:
        if isinstance(before, str):
            return before != key
        try:
            return _is_signed(reading, before, parse_public(key)) is False
        except ConfigurationProblem:
            return False


def _uses(event: Event) -> Iterator[tuple[str, str | _Signed]]:
    """Who signed for this event: whoever signed its intent, and whoever sent it."""
    opened = event.read_if(TaskOpened)
    if opened is None:
        return
    if opened.principal is not None and opened.intent is not None and opened.attested is None:
        yield opened.principal, _Signed(opened.principal, opened.intent)
    # Of an event with another `by`, or none, nothing is said.
    proven = event.read_if(_ProvenBy)
    if proven is not None and proven.by is not None:
        yield proven.by.principal, proven.by.key


def _is_signed(reading: Reading, use: _Signed, key: bytes) -> bool | None:
    """Whether the intent was signed with this key; None if its row has no signature."""
    row = reading.intent(use.intent)
    if row is None or row.proof is None or row.proof.startswith(ATTESTED):
        return None
    return is_signed_by(key, digest(b"capx/1/intent", use.intent.encode()), row.proof)
