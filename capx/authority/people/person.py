"""A person who has proven a request, and what the policy says of them.

Law: names decide, and not keys. Who has another key after a theft may still withdraw what they wanted, and who is no
longer in a group sees nothing of what it was asked. So a name must never be given to another person.
"""

from collections.abc import Iterable

from msgspec import Struct

from capx.api.person_auth import UNPROVEN, UnprovenPerson
from capx.api.problems import HttpRefusal
from capx.policy.policy import Policy
from capx.store.events import By


class Person(Struct, frozen=True):
    """The principal of this name, with the public key (`ed25519:` and 43 characters) that has proven the request."""

    name: str
    key: str

    @property
    def by(self) -> By:
        """The person as the log names them."""
        return By(self.name, self.key)

    def is_known(self, policy: Policy) -> bool:
        """Whether the policy gives the person the key with which they have proven their request."""
        from capx.crypto.ed25519 import public_text  # signatures are slow to import

        known = policy.principals.get(self.name)
        return known is not None and known.key is not None and public_text(known.key) == self.key

    def demand_known(self, policy: Policy) -> None:
        """Raise UnprovenPerson unless the policy gives the person this key."""
        if not self.is_known(policy):
            raise UnprovenPerson(UNPROVEN)

    def is_one_of(self, policy: Policy, approvers: Iterable[str]) -> bool:
        """Whether the person is one of these groups and principals, by the policy as it is."""
        return any(self.name in policy.members(group) for group in approvers)


def not_yours(what: str) -> HttpRefusal:
    """The refusal of what only another person may do."""
    return HttpRefusal(403, "not_yours", f"{what}: only the person who signed it can do this")
