"""The demand for an approval: a third-party caveat that only the signatures of named people discharge.

    cid      [1,COUNT,["KEY",…],LASTS,"NONCE",["BOX",…]]          compact ASCII JSON, at most 4096 bytes
    vid      N and SecretBox(tail[i-1], N, HMAC("macaroons-key-generator", K))         72 bytes
    N        H("capx/1/vid", tail[i-1], HMAC("macaroons-key-generator", K), cid)[:24]

K are 32 random bytes. KEY is the public key of an approver, BOX is K sealed to it, in the same order. COUNT of the
people must sign. An approval is good for LASTS seconds at most.

Laws:

- Whoever demands an approval names the people: a verifier has no list of them.
- A cid has one spelling. Any other is not understood, and is never discharged here.
- The same demand in the same place gives the same bytes. Two demands never share a nonce under one tail, because the
  nonce follows from the tail, the key and the cid.
- Whoever demands knows K, and could make the MACs of a discharge alone. So the MACs alone count for nothing.

Source: macaroons (Birgisson et al., NDSS 2014), section III.C; libmacaroons' layout of third-party caveats.
"""

import os
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Struct

from capx.crypto.base64url import b64u, canonical_bytes
from capx.crypto.hashing import digest, macaroon_key
from capx.crypto.instants import is_whole
from capx.errors import InvalidRequest, KeyProblem
from capx.tokens.chain import ThirdParty
from capx.tokens.wire import MAX_BLOCK
from capx_caveats import Caveat, InvalidCaveat, parse_duration, shown_duration

MAX_APPROVERS: Final = 16
"""The most people that a demand names."""
MAX_LASTS: Final = 86_400
"""The most seconds for which an approval may be good."""
LASTS: Final = 900
"""The seconds for which an approval is good if nothing else is said."""

_KEY: Final = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"
_BOX: Final = "[A-Za-z0-9_-]{106}[AEIMQUYcgkosw048]"
_FORM: Final = re.compile(
    rf'\[1,([1-9]|1[0-6]),\["({_KEY}(?:","{_KEY}){{0,15}})"\],([1-9][0-9]{{0,4}}),'
    rf'"([A-Za-z0-9_-]{{21}}[AQgw])",\["({_BOX}(?:","{_BOX}){{0,15}})"\]\]'
)


class ApprovalCaveat(Struct, frozen=True):
    """What a demand says: `count` of the owners of `keys` (32 bytes each) must sign, for `lasts` seconds at most.

    `boxes` has the key of the demand for each of them, in the order of the keys. `cid` are the bytes of all this.
    """

    count: int
    keys: tuple[bytes, ...]
    lasts: int
    nonce: str
    boxes: tuple[bytes, ...]
    cid: bytes

    @property
    def approvers(self) -> tuple[str, ...]:
        """The public keys as people write them: `ed25519:` and 43 characters."""
        return tuple(f"ed25519:{b64u(key)}" for key in self.keys)

    def sentence(self) -> str:
        """The demand in plain words."""
        return f"each call needs {self.wanted()}"

    def wanted(self) -> str:
        """What discharges the demand, in plain words."""
        who = " or ".join(self.approvers) if self.count == 1 else f"{self.count} of {', '.join(self.approvers)}"
        return f"the approval of {who}"


class ApprovalDemanded(Caveat, frozen=True):
    """A demand for an approval, as whoever reads a token sees it: it stands in a block of its own, and has no tag."""

    words: str

    def sentence(self) -> str:
        """Return the demand in plain words."""
        return self.words


@lru_cache(maxsize=1024)
def read_approval_caveat(cid: bytes | str) -> ApprovalCaveat | None:
    """The demand in a cid; None if that is not a demand in its only spelling, or if a key in it is not safe."""
    from capx.crypto.ed25519 import weakness  # slow to import, and only tokens with a demand need it

    text = cid if isinstance(cid, str) else cid.decode("latin-1")
    match = _FORM.fullmatch(text) if len(text) <= MAX_BLOCK else None
    if match is None:
        return None
    count, lasts = int(match[1]), int(match[3])
    # The expression takes canonical texts alone.
    keys = tuple(map(canonical_bytes, match[2].split('","')))
    boxes = tuple(map(canonical_bytes, match[5].split('","')))
    if not count <= len(keys) == len(boxes) == len(set(keys)) or lasts > MAX_LASTS or any(map(weakness, keys)):
        return None
    return ApprovalCaveat(count, keys, lasts, match[4], boxes, text.encode())


class KeyedCaveat(Struct, frozen=True):
    """A demand with the key of its MACs, HMAC("macaroons-key-generator", K): whoever appends it needs both.

    `repr` does not show the key.
    """

    cid: bytes
    key: bytes

    @property
    def approvers(self) -> tuple[bytes, ...]:
        """The public keys of those who may approve, 32 bytes each; none if the cid is no demand that capx writes."""
        found = read_approval_caveat(self.cid)
        return () if found is None else found.keys

    def below(self, tail: bytes) -> ThirdParty:
        """The third-party caveat to append behind this tail; the same arguments give the same bytes."""
        from capx.crypto.boxes import NONCE, lock

        nonce = digest(b"capx/1/vid", tail, self.key, self.cid)[:NONCE]
        return ThirdParty(lock(self.key, nonce, tail), self.cid)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.cid)} bytes)"


def caveat_key(tail: bytes, block: ThirdParty) -> bytes | None:
    """The key of a demand's MACs (32 bytes), if the tail before the caveat opens its vid; None if it does not."""
    from capx.crypto.boxes import unlock

    return unlock(block.vid, tail)


class ApprovalTerms(Struct, frozen=True):
    """Whose approval a token is to demand: `count` of the owners of the public keys `by`, for `lasts` seconds at most.

    `approval` makes it.
    """

    by: tuple[str, ...]
    count: int
    lasts: int

    def drawn(self, key: bytes | None = None, nonce: bytes | None = None) -> KeyedCaveat:
        """A new demand on these terms; without arguments, its key (32 bytes) and nonce (16 bytes) are random.

        One approval serves every token that has this very demand.
        """
        from capx.crypto.boxes import KEY, seal_box
        from capx.crypto.ed25519 import parse_public

        key = os.urandom(KEY) if key is None else key
        keys = [parse_public(public) for public in self.by]
        parts = [1, self.count, [b64u(each) for each in keys], self.lasts, b64u(nonce or os.urandom(16))]
        cid = msgspec.json.encode([*parts, [b64u(seal_box(key, each)) for each in keys]])
        return KeyedCaveat(cid, macaroon_key(key))


def approval(*, by: Iterable[str], count: int = 1, lasts: str | int = LASTS) -> ApprovalTerms:
    """Demand, for each call, the approval of people: for `delegate(approval=…)` and `attenuate(approval=…)`.

    `by` has the public keys (`ed25519:` and 43 characters) of 1 to 16 people, `count` of whom must sign. An approval is
    good for `lasts` at most: seconds, or a text such as `15m`; at most a day. InvalidRequest for anything else.
    """
    given = _public_keys(by)
    if not is_whole(count, 1, len(given)):
        raise InvalidRequest(f"`count` must be a whole number from 1 to {len(given)}, the number of people in `by`")
    try:
        seconds = parse_duration(lasts) if isinstance(lasts, str) else lasts
    except InvalidCaveat as error:
        raise InvalidRequest(f"`lasts`: {error}") from None
    if not is_whole(seconds, 1, MAX_LASTS):
        raise InvalidRequest(f"an approval lasts from 1s to {shown_duration(MAX_LASTS)}: write `lasts` such as 15m")
    return ApprovalTerms(given, count, seconds)


def _public_keys(by: Iterable[str]) -> tuple[str, ...]:
    from capx.crypto.ed25519 import parse_public

    if isinstance(by, str) or not isinstance(by, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] # not everybody checks types
        raise InvalidRequest("`by` is a list of public keys: write [lea.public]")
    given: Sequence[str] = tuple(by)
    for public in given:
        if not isinstance(public, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidRequest("`by` has public keys: write lea.public, and not the key itself")
        try:
            parse_public(public)
        except KeyProblem as problem:
            raise InvalidRequest(f"an approver's key cannot be used: {problem}") from None
    if not given:
        raise InvalidRequest("nobody could approve: name a public key in `by`, as capx principal show prints it")
    if len(given) > MAX_APPROVERS:
        raise InvalidRequest(f"a demand names at most {MAX_APPROVERS} people, and this has {len(given)}")
    if len(set(given)) < len(given):
        raise InvalidRequest("a key is in `by` twice: name each person once")
    return tuple(given)
