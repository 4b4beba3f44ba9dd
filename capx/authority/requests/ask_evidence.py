"""What is recorded of an ask, so that a reader of the log can tell who asked: in its event, and in a row of its own.

Laws:

- The event has the chain that asked, the presentation that its holder's key has signed, and a commitment to the call
  that asked. Nobody can make these for an agent whose key they do not have.
- They are written in the transaction of the event. In a task that is bound to a key, a proof of a grant without them is
  incomplete.
- The arguments are not in the log. The store keeps them with their salt, for a proof.
"""

import os

from msgspec import Struct

from capx.authority.requests.inheritance import Asker
from capx.authority.requests.offering import Offered
from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.store.events import Fact
from capx.store.protocols import Writing
from capx.store.records import AskedArguments
from capx.tokens.chain import digests
from capx.tokens.chain_text import block_text
from capx.verify.ask import Ask
from capx.verify.evidence import AskEvidence, args_commitment


class RecordedAsk(Struct, frozen=True):
    """What is recorded of an ask: the evidence for its event; the arguments and their salt for the row beside it."""

    evidence: AskEvidence
    salt: bytes
    args: str

    def write(self, transaction: Writing, fact: Fact, task: str, *, at: int) -> None:
        """Write the event of an ask, which has the evidence already, and keep its arguments."""
        position = fact.write(transaction, at=at).position
        transaction.keep_ask(AskedArguments(position, task, self.salt, self.args))


def record_ask(asker: Asker, ask: Ask, offered: Offered | None) -> RecordedAsk:
    """Make the evidence of an ask for its event, and the row beside it; the agent has just presented its token.

    `offered` is what the policy offers for it; None for an approval.
    """
    token = asker.token
    if token is None:
        raise RuntimeError("an asker that was read from a record has no token")
    salt, args = os.urandom(32), canonical(ask.arguments())
    evidence = AskEvidence(
        after=b64u(digests(token.identifier, token.blocks[:1])[-1]),
        args=args_commitment(salt, args),
        names=None if offered is None else offered.names,
        blocks=tuple(map(block_text, token.blocks[1:])),
        presented=None if token.presented is None else block_text(token.presented),
        offer=None if offered is None else offered.match.offer.digest,
    )
    return RecordedAsk(evidence, salt, args.decode())
