"""The bundle of a new task, bound to the key of an agent."""

from capx.authority.authority import Authority
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability, mint
from capx_caveats import Holder


def bound(authority: Authority, bundle: Bundle, public: str) -> Bundle:
    """The same capabilities of a new task, minted for the owner of this public key."""
    holder = Holder(public.removeprefix("ed25519:"))

    def again(one: Capability) -> Capability:
        (grant,) = one.caveats
        key = authority.keyring.active.audience_key(one.audience)
        return mint(key, (*grant, holder), now=one.issued_at)

    return Bundle(map(again, bundle))
