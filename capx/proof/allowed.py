"""What the chains in a proof allow, in words.

Law: the work is bounded for the whole proof, not for each chain, because an agent can show another chain with each
call. Each chain has an even share of what those before it have left over. What is beyond it is not combined: its lists
stand beside each other.
"""

from collections.abc import Collection
from typing import Final

from capx.proof.chains import ProvenChain
from capx.tokens.effective.effective import Effective, Work, effective_of

_WORK: Final = 2**20
"""About how many bytes of entries may be written to combine the allowlists of all chains."""
_LEAST: Final = 2**8
"""The share that each chain has, however many there are: to read a chain takes longer than this work."""


class Allowed:
    """What each chain allowed from when it was issued."""

    def __init__(self, chains: Collection[ProvenChain]) -> None:
        self._found: dict[bytes, Effective] = {}
        left = _WORK
        for nth, chain in enumerate(chains):
            share = max(_LEAST, left // (len(chains) - nth))
            bound = Work(share)
            audience, issued = chain.identifier.audience, chain.lineage.issued
            # Without its blocks: how often it can be delegated further is not told.
            self._found[chain.digest] = effective_of(chain.lineage, audience, (), issued, bound)
            left -= share - bound.left

    def actions(self, chain: ProvenChain) -> tuple[str, ...]:
        """The actions that a chain allows, in words, or why it allows none."""
        found = self._found[chain.digest]
        return found.why_nothing or found.sentences()

    def sentences(self, chain: ProvenChain) -> tuple[str, ...]:
        """What a chain allows: each allowed action with its audience, then further conditions."""
        audience, also = chain.identifier.audience, self._found[chain.digest].also
        return (*[f"{audience}: {one}" for one in self.actions(chain)], *[f"only where {one}" for one in also])
