"""Signed blocks: whose key signs each block of a chain, and what the signature is over.

    message    H("capx/1/sig", d[i-1], every byte of the block before its ending)      32 bytes
    ending     ,["sig","SIGNATURE"]]                                                   98 bytes

Laws:

- `holder` in the authority's block names the first key, and each `hop` below it the next one. The key that was named
  last before a block signs the block.
- Below a `holder`, every hop is signed and names a key. Any other block may be signed.
- Without a `holder`, no hop names a key and nothing is signed: a signature below a bearer would prove nothing.
- A signature is over public bytes only, so everybody who can read a token can check it.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import sha256
from typing import Final, Protocol

from msgspec import UNSET, Struct

from capx.crypto.base64url import b64u, canonical_bytes
from capx.crypto.hashing import sized
from capx.tokens.chain import Block
from capx.tokens.revocation_key import of_key
from capx_caveats import Caveat, Holder, Hop, Refusal, Sig, encode_block

MAX_SIGNATURES: Final = 32
"""Most signatures in a token, that of its presentation included: to check one takes longer than all of its MACs."""
ENDING: Final = 98
"""Bytes of the ending of a signed block."""


class SigningKey(Protocol):
    """A key that signs blocks: an `AgentKey`, or one that an HSM or a signing agent keeps."""

    @property
    def public(self) -> str:
        """The public key, as people write it: `ed25519:` and 43 characters."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of a message of 32 bytes: 64 bytes."""
        ...


class Signature(Struct, frozen=True, gc=False):
    """One signature that a verifier must check: by the key `public`, over `message`, at the end of block `digest`.

    `hop` and `name` say whose block it is. `is_spelled` says whether the block has the only ending that it may have.
    """

    hop: int
    name: str | None
    public: bytes
    message: bytes
    signature: bytes
    digest: bytes
    is_spelled: bool


class NamedKey(Struct, frozen=True, gc=False):
    """A public key that a block names. A verifier must check that it is a safe one, which takes long."""

    hop: int
    name: str | None
    public: bytes


Check = Signature | NamedKey | Refusal
"""What a verifier does about one block: it checks a signature or a key, or refuses."""


class SignedBlocks(Struct, frozen=True):
    """The keys that a chain names, from first to last, and what a verifier checks, in the order of the blocks.

    The signature of a block is its last check: a verifier that remembers it as good remembers the whole block as good.
    Without keys, it has no holder, and something in it is signed or names a key all the same. `signed` is the number
    of its blocks that end in a signature, whether it counts or not.
    """

    keys: tuple[bytes, ...]
    checks: tuple[Check, ...]
    signed: int

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """The ids whose deaths are those of the keys: 16 bytes each."""
        return tuple(dict.fromkeys(map(of_key, self.keys)))

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The refusals that need no check of a signature."""
        others = [refusal_of(one) for one in self.checks if not isinstance(one, Signature)]
        return tuple([one for one in others if one is not None])


# As in capx.tokens.chain: the same bytes as `digest` covers, which would take longer for each presentation.
_SIG = sized(b"capx/1/sig") + (32).to_bytes(4)

Owner = tuple[int, str | None]
"""The hop of a block, and the label of that hop."""


def read_signed_blocks(
    blocks: Sequence[Block], decoded: Sequence[tuple[Caveat, ...]], owners: Iterable[Owner], digests: Sequence[bytes]
) -> SignedBlocks:
    """The signed blocks of a chain, whose MACs need not be good; `digests` are d[0] and d[i] of each block."""
    keys: list[bytes] = []
    checks: list[Check] = []
    count = 0
    for at, (block, caveats, owner) in enumerate(zip(blocks, decoded, owners, strict=True)):
        named = _key_named(caveats)
        signed = caveats[-1] if caveats and type(caveats[-1]) is Sig else None
        count += signed is not None
        is_hop = bool(caveats) and type(caveats[0]) is Hop
        if at > 0 and not keys:
            if named is not None or signed is not None:
                checks.append(_refused("hop_unsigned", _BELOW_A_BEARER, owner))
            continue
        if is_hop and (signed is None or named is None):
            checks.append(_refused("hop_unsigned", _HOP_UNSIGNED, owner))
        signer = keys[-1:]
        if named is not None:
            # The classes of `holder`, `hop` and `sig` take canonical texts alone.
            keys.append(canonical_bytes(named))
            checks.append(NamedKey(*owner, keys[-1]))
        # A third party's block has no caveats, so it is never signed.
        if signed is not None and isinstance(block, bytes):
            checks.append(_signature(block, signed, owner, signer[0], (digests[at], digests[at + 1])))
    return SignedBlocks(tuple(keys), tuple(checks), count)


def _key_named(caveats: tuple[Caveat, ...]) -> str | None:
    """The key that a block names. Only the authority's block may have a `holder`, and only others a `hop`."""
    for caveat in caveats:
        if type(caveat) is Holder:
            return caveat.key
        if type(caveat) is Hop:
            return None if caveat.key is UNSET else caveat.key
    return None


def signed_presentation(
    chain: SignedBlocks | None, block: Block, caveats: tuple[Caveat, ...], owner: Owner, digests: tuple[bytes, bytes]
) -> Signature | Refusal | None:
    """The signature of a presentation; the refusal if it lacks one or must not have one; None if it needs none.

    `chain` is that of the capability. `digests` are d of its last block and of the presentation.
    """
    signed = caveats[-1] if type(caveats[-1]) is Sig else None
    keys = () if chain is None else chain.keys
    if not keys:
        return None if signed is None else _refused("hop_unsigned", _BELOW_A_BEARER, owner)
    if signed is None or not isinstance(block, bytes):
        return _refused("hop_unsigned", _PRESENTATION_WITHOUT_SIGNATURE, owner)
    return _signature(block, signed, owner, keys[-1], digests)


def bare(chain: SignedBlocks | None, owner: Owner) -> Refusal | None:
    """The refusal of a token that was sent without a presentation, if its holder has to sign one."""
    return None if chain is None or not chain.keys else _refused("hop_unsigned", _PRESENTATION_WITHOUT_SIGNATURE, owner)


def refusal_of(check: Check) -> Refusal | None:
    """The refusal that a check ends in, or None."""
    if isinstance(check, Refusal):
        return check
    weakness, is_signed = _checks()
    if isinstance(check, NamedKey):
        if weakness(check.public) is None:
            return None
        sentence = "names {}, under which others than its owner could sign, or nobody"
    else:
        if check.is_spelled and is_signed(check.public, check.message, check.signature):
            return None
        sentence = "is not signed by the key that the chain named last, {}"
    from capx.crypto.ed25519 import public_text

    return _refused("hop_signature", sentence.format(public_text(check.public)), (check.hop, check.name))


@cache
def _checks() -> tuple[Callable[[bytes], str | None], Callable[[bytes, bytes, bytes], bool]]:
    """What checks a key and a signature."""
    from capx.crypto.ed25519 import is_signed, weakness  # slow to import, and only keyed tokens need it

    return weakness, is_signed


def sign_block(caveats: tuple[Caveat, ...], parent: bytes, key: SigningKey) -> bytes:
    """The bytes of a block with these caveats and a signature at its end; `parent` is d of the block before it."""
    head = encode_block(caveats)[:-1]
    signature = key.sign(_message(parent, head))
    return encode_block((*caveats, Sig(b64u(signature))))


def _message(parent: bytes, head: bytes) -> bytes:
    return sha256(_SIG + parent + len(head).to_bytes(4) + head).digest()


def _signature(block: bytes, signed: Sig, owner: Owner, public: bytes, digests: tuple[bytes, bytes]) -> Signature:
    parent, own = digests
    message = _message(parent, block[:-ENDING])
    # Valid JSON that ends so has this `sig` as its last caveat: what is signed can be read in one way only.
    is_spelled = block.endswith(b',["sig","%b"]]' % signed.signature.encode())
    return Signature(*owner, public, message, canonical_bytes(signed.signature), own, is_spelled)


def _refused(code: str, sentence: str, owner: Owner) -> Refusal:
    hop, name = owner
    return Refusal(code, sentence, hop=hop, hop_name=name)


_BELOW_A_BEARER = "is signed or names a key, and the authority bound this token to no key"
_HOP_UNSIGNED = "delegates without a signature or a key, and the authority bound this token to a key"
_PRESENTATION_WITHOUT_SIGNATURE = "was presented without the signature of its holder's key"
