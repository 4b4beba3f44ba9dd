"""What a decision or an ask leaves so that others can check it later: chain, arguments, and the holder's signature.

    digest      d of what was held                             32 bytes
    chain       its identifier and blocks, when this verifier first meets it (capx.tokens.chain_text)
    args        H("capx/1/args", salt, canonical JSON of the arguments)
    presented   the block of the presentation, if a key has signed it
    approvals   dd of the last block of each approval, with cid and blocks the first time
    stated      true if the authority has judged in the stead of the audience, for a statement

    salt        HMAC(mac key of the audience, "capx/1/salt" || H("capx/1/salt", id of the decision))

An ask leaves its evidence in the event that it led to: `after` (d of the minted capability), the `blocks` behind it,
`presented`, and `args` with a random salt, which the store keeps.

Laws:

- Nothing here is a token: no signature of a chain, no tail, no key.
- Who reads `args` cannot find the arguments by trying values. The resource and the authority can show them, as long as
  they have the key. `presented` has a digest without a salt: who reads it can try values.
- A chain that the recorder had no room for is written with a later decision.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.crypto.hashing import digest, mac
from capx.crypto.keys import AudienceKey
from capx.errors import ConfigurationProblem
from capx.tokens.approval import Approval
from capx.tokens.chain import Block
from capx.tokens.chain_text import BlockText, ChainText, block_text
from capx.tokens.discharge import Discharge
from capx.tokens.lineage import Lineage
from capx.verify.cache import Cache
from capx_caveats import JSON, InvalidCaveat, is_label
from capx_caveats.values import holds_more

MAX_ARGS: Final = 16 * 1024
"""The most bytes of arguments that a decision commits to: beyond, canonical JSON takes long."""
MOST_SHOWN: Final = 128
"""The most characters of a text that is written in the clear."""
_SALT: Final = b"capx/1/salt"


class ShownToken(Struct, frozen=True):
    """The public bytes of a token that a decision is about, and of the presentation, without signatures of chains."""

    kid: str
    identifier: bytes
    blocks: tuple[Block, ...]
    presented: Block | None
    discharges: tuple[str, ...]

    def __repr__(self) -> str:
        return "ShownToken()"


class ApprovalText(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An approval: dd of its last block, and its demand and blocks when a verifier first meets it."""

    digest: str
    cid: str | None = None
    blocks: tuple[BlockText, ...] = ()


class AskEvidence(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An ask: whose chain asked, the presentation that its holder's key has signed, and a commitment to what it asked.

    `after` is d of the first block of a capability that the authority minted, and `blocks` are those behind it.
    `names` are the names of those arguments of the ask that count, if the policy lists them, and `offer` is the digest
    of what it offers (capx.tokens.pins); None for an approval.
    """

    after: str
    args: str
    names: tuple[str, ...] | None = None
    blocks: tuple[BlockText, ...] = ()
    presented: BlockText | None = None
    offer: str | None = None


class Evidence(Struct, frozen=True, omit_defaults=True):
    """What a decision says of the token."""

    digest: str
    chain: ChainText | None = None
    presented: BlockText | None = None
    approvals: tuple[ApprovalText, ...] = ()
    stated: bool = False


class NotedArgs(Struct, frozen=True):
    """What a decision will say of the arguments: taken before anything is spent, so that nothing fails behind it.

    `digest` is that of capx.verify.args_digest, `canonical` their canonical JSON, and `shown` are those that the
    operator wants written in the clear.
    """

    digest: str | None
    canonical: bytes | None
    shown: dict[str, JSON] | None


class EvidenceKeeper:
    """Makes the evidence of one verifier, and remembers the chains and approvals that the log has."""

    def __init__(self, size: int, *, with_arguments: bool, shown: Iterable[str], stated: bool = False) -> None:
        self._known: Cache[bool] = Cache(size)
        self._with_arguments = with_arguments
        self._stated = stated
        self._shown = frozenset(shown)
        for name in self._shown:
            if not is_label(name):
                raise ConfigurationProblem(f"{name!r:.80} is not the name of an argument: it cannot be recorded")

    def of(self, lineage: Lineage, token: ShownToken, approvals: tuple[Approval, ...]) -> Evidence:
        """The evidence of a token whose chain is authentic, and signed as it must be."""
        is_met = self._known.get(lineage.digest)
        presented = token.presented if self._with_arguments and lineage.keys else None
        return Evidence(
            b64u(lineage.digest),
            None if is_met else ChainText.of(token.identifier, token.blocks),
            None if presented is None else block_text(presented),
            tuple([self._approval(one, token.discharges) for one in approvals]),
            self._stated,
        )

    def written(self, lineage: Lineage, approvals: tuple[Approval, ...]) -> None:
        """Remember that the log has the chain and the approvals."""
        self._known.put(lineage.digest, True)
        for one in approvals:
            self._known.put(one.last, True)

    def noted(self, args_digest: str | None, args: Mapping[str, JSON]) -> NotedArgs:
        """What is noted of the arguments of a call."""
        shown = {name: args[name] for name in self._shown if name in args and _is_short(args[name])}
        return NotedArgs(args_digest, _canonical(args) if self._with_arguments else None, shown or None)

    def _approval(self, approval: Approval, discharges: Iterable[str]) -> ApprovalText:
        name = b64u(approval.last)
        if self._known.get(approval.last):
            return ApprovalText(name)
        for text in discharges:
            found = Discharge.parse(text)
            if found.digests[-1] == approval.last:
                return ApprovalText(name, found.cid.decode("ascii"), tuple(map(block_text, found.blocks)))
        return ApprovalText(name)


def salt_of(key: AudienceKey, decision: str) -> bytes:
    """The salt of a decision's arguments: 32 bytes. Nothing keeps it: who has the key can compute it."""
    return mac(key.mac_key, _SALT + digest(_SALT, decision.encode()))


def args_commitment(salt: bytes, canonical_args: bytes) -> str:
    """The commitment to the arguments of a call: 32 bytes in base64url."""
    return b64u(digest(b"capx/1/args", salt, canonical_args))


def _canonical(args: Mapping[str, JSON]) -> bytes | None:
    try:
        if holds_more(dict(args), MAX_ARGS, MAX_ARGS):
            return None
        found = canonical(dict(args))
    except (InvalidCaveat, TypeError, ValueError, RecursionError):
        return None
    return found if len(found) <= MAX_ARGS else None


def _is_short(value: JSON) -> bool:
    return (
        value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= MOST_SHOWN)
    )
