"""The public bytes of a chain as JSON: what its digests are computed from, without its signature.

    {"identifier": TEXT, "blocks": [BLOCK, …]}          BLOCK: TEXT, or [VID, CID] of a third party, or [BYTES]

TEXT is the block itself if it is UTF-8; VID, CID and BYTES are base64url. Each sequence of bytes has one form.

Law: it is no token, and nobody can make one from it: that needs the signature, or a key of the audience.
"""

from collections.abc import Iterable
from typing import Self

from msgspec import Struct

from capx.crypto.base64url import b64u, unb64u
from capx.errors import MalformedToken
from capx.tokens.chain import Block, ThirdParty, digests

BlockText = str | tuple[str, ...]
"""One block."""


class ChainText(Struct, frozen=True, forbid_unknown_fields=True):
    """The identifier and the blocks of a chain."""

    identifier: str
    blocks: tuple[BlockText, ...]

    @classmethod
    def of(cls, identifier: bytes, blocks: Iterable[Block]) -> Self:
        """The text of these bytes."""
        return cls(identifier.decode("ascii"), tuple(map(block_text, blocks)))

    def read(self) -> tuple[bytes, tuple[Block, ...]]:
        """The identifier and the blocks; MalformedToken for another form of them."""
        if not self.identifier.isascii():
            raise MalformedToken("the identifier of this chain is not ASCII")
        return self.identifier.encode(), tuple(map(read_block, self.blocks))

    def digests(self) -> tuple[bytes, ...]:
        """d[0], and d[i] of each block, 32 bytes each; MalformedToken as in `read`."""
        return digests(*self.read())


def block_text(block: Block) -> BlockText:
    """The text of one block."""
    if isinstance(block, ThirdParty):
        return b64u(block.vid), b64u(block.cid)
    try:
        return block.decode()
    except UnicodeDecodeError:
        return (b64u(block),)


def read_block(text: BlockText) -> Block:
    """The block of a text; MalformedToken if `block_text` does not write it so."""
    try:
        match text:
            case str():
                return text.encode()
            case (vid, cid):
                return ThirdParty(unb64u(vid), unb64u(cid))
            case (only,) if block_text(block := unb64u(only)) == text:
                return block
            case _:
                pass
    except UnicodeEncodeError:
        pass
    raise MalformedToken("this is not the text of a block")
