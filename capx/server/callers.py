"""Who has sent a request, as its head shows: a caller, by the key behind its proof, or the machine of a stranger.

Laws:

- Nothing is allowed here: a caller gets a place in the queue (capx.server.net.head_queue), and the route checks all of
  it again.
- An agent's presentation and a resource's report are known by their MAC: caveats are not read here, because that may
  take milliseconds, and each head that waits is looked at when it arrives. The signature of a person takes longer to
  check: this is done only for a key that has proven a request within the last KEPT seconds. So made-up names cost no
  check of a signature. The name of a remembered person costs one for each origin.
"""

import re
import time
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from capx.api import resource_auth
from capx.api.person_auth import SCHEME as PERSON
from capx.api.person_auth import PersonClaim, UnprovenPerson
from capx.api.resource_auth import SCHEME as RESOURCE
from capx.api.resource_auth import UnauthenticatedReport
from capx.crypto.keys import KeyRing
from capx.guard.asgi.slots import Sender
from capx.verify.verifier import Verifier

KEPT: Final = 600
"""Seconds for which a person's key is remembered after a request that it has proven."""

_ASKED: Final = re.compile(rb"([A-Z]{1,16}) (\S+) HTTP/")
_SHOWN: Final = re.compile(rb"\n(authorization|capx-token):[ \t]*([^\r\n]*)", re.IGNORECASE)


class _Seen(Struct, frozen=True):
    key: bytes
    epoch: str
    at: float


class Callers:
    """Knows callers by their heads; safe with several threads.

    `verifier` is for calls to the authority itself, `ring` gives its root keys, and people dial the `origins`. `clock`
    returns Unix seconds.
    """

    def __init__(
        self,
        verifier: Verifier,
        ring: Callable[[], KeyRing],
        origins: Iterable[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._ring = ring
        self._origins = tuple(origins)
        self._clock = clock
        self._people: dict[str, _Seen] = {}
        self.revoked_kids: frozenset[str] = frozenset()
        """The root keys that were dead at the last look (`Service.revoked_kids`)."""

    def remember(self, principal: str, key: bytes, epoch: str) -> None:
        """Remember that the key of a principal of the policy has proven a request at this epoch of the store."""
        self._people[principal] = _Seen(key, epoch, self._clock())

    def sender_of(self, head: bytes, machine: str) -> Sender:
        """Who has sent a head from a machine."""
        asked = _ASKED.match(head)
        shown = _SHOWN.findall(head)
        if asked is None or len(shown) != 1:
            return machine
        method, target = (part.decode("latin-1") for part in asked.groups())
        name, value = shown[0]
        text = value.decode("latin-1").rstrip(" \t")
        scheme, _, presented = ("capx", "", text) if name.lower() != b"authorization" else text.partition(" ")
        if scheme == PERSON:
            return self._person(text, method, target) or machine
        if scheme == RESOURCE:
            return self._resource(text, method, target) or machine
        if scheme.lower() == "capx":
            return self._verifier.capability(presented.strip(" \t")) or machine
        return machine

    def _resource(self, header: str, method: str, target: str) -> bytes | None:
        now = int(self._clock())
        try:
            proven = resource_auth.verify(header, self._ring(), method=method, target=target, now=now)
        except UnauthenticatedReport:
            return None
        return None if proven.kid in self.revoked_kids else resource_of(proven.audience)

    def _person(self, header: str, method: str, target: str) -> bytes | None:
        try:
            claim = PersonClaim.read(header)
            claim.demand_timely(int(self._clock()))
        except UnprovenPerson:
            return None
        return self.person(claim, method, target)

    def person(self, claim: PersonClaim, method: str, target: str) -> bytes | None:
        """The person who has signed this request, if their key is remembered; None for all others."""
        seen = self._people.get(claim.principal)
        if seen is None or self._clock() > seen.at + KEPT:
            return None
        is_signed = claim.message_signed_by(seen.key, self._origins, epoch=seen.epoch, method=method, target=target)
        return person_of(claim.principal) if is_signed else None


def person_of(principal: str) -> bytes:
    """A person, as a caller."""
    return b"person " + principal.encode()


def resource_of(audience: str) -> bytes:
    """The resources of an audience, as a caller."""
    return b"resource " + audience.encode()
