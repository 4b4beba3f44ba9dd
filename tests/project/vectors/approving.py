"""Makes demands for approvals and discharges with hashlib, hmac and PyNaCl alone, and cases of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from nacl.bindings import crypto_secretbox
from nacl.signing import SigningKey

from tests.project.vectors import about_keys
from tests.project.vectors.about_keys import FIRST, KEYED, SECOND, hop, public
from tests.project.vectors.generate import ROOT_KEY, b64u, compact, digest, field, mac
from tests.project.vectors.making import (
    ID16,
    KEY32,
    NOW,
    READ,
    WHOLE,
    Block,
    Case,
    as_bytes,
    audience_key,
    caveat,
    identifier,
    mark,
    nodes,
    plain,
    raw,
    signed,
    token,
)

LEA, BEN, CLEO, THIEF = (SigningKey(bytes([number]) * 31 + b"\0") for number in range(11, 15))
K, OTHER_K = bytes(range(100, 132)), bytes(range(132, 164))
ZERO = bytes(32)
NODE = nodes()[0]
ID32 = KEY32
SHOWN = KEY32
"""No resource looks at it."""
LASTS = 900
ONCE = ["budget", "calls", "1"]


class Held(NamedTuple):
    """A discharge as it is held: it is not bound yet."""

    cid: bytes
    blocks: tuple[bytes, ...]
    k: bytes = K

    def tail(self) -> bytes:
        """The last t, which is the signature."""
        tail = mac(generated(self.k), self.cid)
        for block in self.blocks:
            tail = mac(tail, block)
        return tail

    def digests(self) -> list[bytes]:
        """dd of the demand, and of each block."""
        dd = [digest(b"capx/1/discharge", self.cid)]
        for block in self.blocks:
            dd.append(digest(b"capx/1/block", dd[-1], block))
        return dd

    def ids(self) -> list[str]:
        return [b64u(each[:16]) for each in self.digests()]

    def narrowed(self, *blocks: list[Any] | bytes) -> "Held":
        return self._replace(blocks=(*self.blocks, *map(as_bytes, blocks)))

    def signed(self, *by: tuple[int, SigningKey]) -> "Held":
        """The same with these signatures, each under the number of a key."""
        message = digest(b"capx/1/approval", self.digests()[1])
        return self.narrowed(*([["signed", number, b64u(key.sign(message).signature)]] for number, key in by))


def generated(k: bytes) -> bytes:
    return mac(b"macaroons-key-generator", k)


def spelled(count: int, keys: Sequence[str], lasts: int = LASTS, nonce: str = ID16, **other: Any) -> bytes:
    """A cid of these parts; no verifier opens a box."""
    boxes = [b64u(bytes([number]) * 80) for number in range(1, len(keys) + 1)]
    return compact([1, count, list(keys), lasts, nonce, other.get("boxes", boxes)]).encode()


def asking(*people: SigningKey, count: int = 1, lasts: int = LASTS, number: int = 1) -> bytes:
    """The cid of a demand; one with another number is another demand."""
    return spelled(count, list(map(public, people)), lasts, b64u(bytes([number]) * 16))


def demand(cid: bytes, *before: Block, k: bytes = K, audience: str = "crm") -> tuple[bytes, bytes]:
    """The third-party caveat behind these blocks."""
    tail = signed(audience_key(ROOT_KEY, audience), identifier(audience=audience), before)
    nonce = digest(b"capx/1/vid", tail, generated(k), cid)[:24]
    return nonce + crypto_secretbox(generated(k), nonce, tail), cid


def chain(*parts: Block, grant: Block = WHOLE, audience: str = "crm") -> list[Block]:
    """An authority's block and these, each text of a cid as the demand that it is there."""
    blocks = [grant]
    for part in parts:
        asked = part if isinstance(part, bytes) and part.startswith(b"[1,") else None
        blocks.append(part if asked is None else demand(asked, *blocks, audience=audience))
    return blocks


def statement(*more: Any, at: int = NOW, ends: int = NOW + 600, **other: Any) -> list[Any]:
    """What the approval of crm.read without arguments says, and what else it says."""
    said = ["approved", other.get("audience", "crm"), other.get("node", NODE), SHOWN, at]
    claims = [said, ["task", other.get("task", "T1")], *([["intent", other["intent"]]] if "intent" in other else [])]
    return [*claims, ["allow", other.get("allow", [["crm.read", []]])], ["expires", ends], *more]


LEAS, BENS = asking(LEA), asking(BEN, number=2)


def unsigned(said: list[Any] | bytes, cid: bytes = LEAS, k: bytes = K) -> Held:
    return Held(cid, (as_bytes(said),), k)


def given(*more: Any, cid: bytes = LEAS, by: SigningKey = LEA, **parts: Any) -> Held:
    """The approval of the first person of a demand."""
    return unsigned(statement(*more, **parts), cid).signed((0, by))


GOOD, BENS_GOOD = given(), given(cid=BENS, by=BEN)
DEMANDING = chain(LEAS)


def written(held: Held, signature: bytes) -> str:
    head = b"\x02" + field(1, b"approval") + field(2, held.cid) + b"\0"
    return discharge(head + b"".join(map(caveat, held.blocks)) + b"\0" + field(6, signature))


def discharge(data: bytes) -> str:
    return "capxd1_" + b64u(data)


def bytes_of(text: str) -> bytes:
    return raw("capx1_" + text.removeprefix("capxd1_"))


def bound_to(presented: str, tail: bytes) -> bytes:
    """The signature of a discharge that is bound to a token."""
    return mac(ZERO, mac(ZERO, raw(presented)[-32:]) + mac(ZERO, tail))


def bound(held: Held, presented: str) -> str:
    return written(held, bound_to(presented, held.tail()))


def credential(presented: str, *discharges: Held | str) -> str:
    """The text of a token, and these behind it: bound to it, or as they stand."""
    return ",".join([presented, *(one if isinstance(one, str) else bound(one, presented) for one in discharges)])


def shown(blocks: Sequence[Block], received: Case = READ, by: SigningKey | None = None, audience: str = "crm") -> str:
    """The presentation of these blocks, signed by whoever holds them if that must be."""
    last = [mark(received)]
    return token(*blocks, last if by is None else about_keys.signed(by, last, *blocks), audience=audience)


def case(
    name: str, expected: str, *discharges: Held | str, blocks: Sequence[Block] = DEMANDING, by: Any = None, **more: Any
) -> Case:
    """These blocks, presented with these discharges."""
    presented = shown(blocks, more.get("received", READ), by, more.get("audience", "crm"))
    return plain(name, expected, credential(presented, *discharges), **more)


def below(cid: bytes) -> list[Block]:
    blocks = chain(cid, grant=KEYED)
    return [*blocks, about_keys.signed(FIRST, [hop(SECOND)], *blocks)]


KEYED_DEMAND = chain(LEAS, grant=KEYED)
