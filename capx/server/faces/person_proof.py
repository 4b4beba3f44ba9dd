"""Checks who has proven a request of a person, before anything is done for it.

Laws:

- The head proves all, before the body is read: the form of the header and its time, then policy and signature. The
  proof is burnt only after its signature is found good. If then the body does not come, a new proof is needed.
- A name that the policy does not know, and one without a key, are checked against a key of nobody: they cost what a
  wrong signature costs, and have the same answer.
- A proof is burnt by its message and not by its signature, because one message may have several good signatures.
"""

import os
import time
from collections.abc import Callable, Sequence

from capx.api.person_auth import UNPROVEN, PersonClaim, UnprovenPerson
from capx.api.problems import HttpRefusal
from capx.authority.authority import Authority
from capx.authority.people.person import Person
from capx.crypto.ed25519 import SEED, Signer, public_text
from capx.resource.replay import Replay
from capx.server.callers import Callers

_BURNT = 16


class PersonProof:
    """Checks the proofs of people at one authority, whose `origins` are those that people dial.

    `callers` are told who has proven a request. `clock` returns Unix seconds.
    """

    def __init__(
        self, authority: Authority, origins: Sequence[str], callers: Callers, clock: Callable[[], float] = time.time
    ) -> None:
        self._authority = authority
        self._callers = callers
        self.origins = tuple(origins)
        self._clock = clock
        self._replay = Replay.store(authority.store)
        self._nobody = Signer(os.urandom(SEED)).public

    def demand_people(self) -> None:
        """Raise HttpRefusal if this authority serves no people."""
        if not self.origins:
            raise HttpRefusal(
                503,
                "unavailable",
                "this authority serves no people over the network: its operator starts capx serve with --people ORIGIN",
            )

    def claim(self, headers: Sequence[str]) -> PersonClaim:
        """Return what the header of a request claims; UnprovenPerson unless it is the only one, in time and form."""
        claim = PersonClaim.read(headers[0] if len(headers) == 1 else "")
        claim.demand_timely(int(self._clock()))
        return claim

    def check(self, claim: PersonClaim, *, method: str, target: str) -> Person:
        """Return who has proven a request, and burn the proof; UnprovenPerson if nobody has. May wait for the store."""
        # There may have been others before it.
        claim.demand_timely(int(self._clock()))
        known = self._authority.policy.principals.get(claim.principal)
        key = None if known is None else known.key
        epoch = self._authority.epoch()
        public = self._nobody if key is None else key
        message = claim.message_signed_by(public, self.origins, epoch=epoch, method=method, target=target)
        if message is None or key is None:
            raise UnprovenPerson(UNPROVEN)
        if not self._replay.burn(message[:_BURNT], claim.until, int(self._clock())):
            raise UnprovenPerson("this request came before: sign each try anew")
        self._callers.remember(claim.principal, key, epoch)
        return Person(claim.principal, public_text(key))
