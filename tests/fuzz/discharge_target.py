"""Whatever follows a token, both verifiers agree, and only the approvals that people gave are of use.

An input is `T` and a text, or `B` and bytes to be spelled: they follow one presentation of a token with two demands.
Or it is the letter of a token, and discharges with 0xFF between, made under the keys of their demands and bound to it.
Of each, the first character is the number of its demand. Behind it are blocks with NULs between. A block such as `s21`
is the signature of the third person under the number 1.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import permutations, product

from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import Signer, is_signed
from capx.crypto.hashing import macaroon_key
from capx.errors import MalformedToken
from capx.intents.principal_key import PrincipalKey
from capx.tokens import wire
from capx.tokens.approval_caveat import KeyedCaveat
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability, Presentation
from capx.tokens.discharge import MAX_DISCHARGES, PREFIX, Discharge, tail_of, written
from capx_caveats import DEFAULT, Approved, Caveat, Expires, Intent, NotUnderstood, Task, TooLarge, allow, encode_block
from tests.fuzz import words
from tests.fuzz.presentation_target import decided, naively
from tests.fuzz.same_demands import same_demand
from tests.labs.approving import BEN, CLEO, KEY, LEA, signed_too
from tests.labs.keyed import keyed
from tests.labs.lab import NONCES, NOW, Lab, codes, minted
from tests.models import naive, naive_ed25519, naive_secretbox

# The naive ones take long. The same few keys and vids come again and again; signatures are the matter of `signed`.
naive_ed25519.is_signed = is_signed
naive_ed25519.is_key = lru_cache(4096)(naive_ed25519.is_key)
naive_secretbox.opened = lru_cache(4096)(naive_secretbox.opened)

READ = ToolCall("a.read", {"x": 1})
DIGEST = "A" * 43
PEOPLE = (LEA, BEN, CLEO, PrincipalKey("thief", Signer(b"\x04" * 31 + b"\x7f")))
"""Who may sign. No demand names the last of them."""
CLEO_ACTS = AgentKey("cleo", Signer(b"\x03" * 31 + b"\x7f"))
"""The key of a person who approves, in the hands of an agent."""
DEMANDS = (
    same_demand(LEA),
    same_demand(LEA, BEN, CLEO, count=2),
    KeyedCaveat(b"somebody else's", macaroon_key(KEY)),
    same_demand(LEA, nonce=b"n" * 16),
)
"""No token here has the last one."""
COUNTS = (1, 2, 0, 1)
"""How many people must sign each."""


def presented(token: Capability, *numbers: int) -> Presentation:
    """A presentation of a token with these demands."""
    for number in numbers:
        token = token.demanding(DEMANDS[number])
    return token.present(READ, now=NOW, nonce="A" * 16)


CHILD = minted().delegate(to="a", nonce=NONCES[0], now=NOW)
SHOWN = {
    b"M": presented(minted(), 0, 1),
    b"I": presented(minted(Intent(DIGEST)), 1),
    b"K": presented(keyed(CLEO_ACTS), 1),
    b"F": presented(minted(), 0, 2),
    b"D": presented(CHILD, 0, 0),
}
NODES = [b64u(node) for node in (*minted().path, *CHILD.path[1:], bytes(16))]


def statement(*more: Caveat, node: str = NODES[0], audience: str = "crm", at: int = NOW, ends: int = 600) -> bytes:
    """What a person signs for the call that is made here; `more` stands behind its task."""
    claims = (Approved(audience, node, DIGEST, at), Task("T1"))
    return encode_block((*claims, *more, allow("a.read"), Expires(at + ends)))


def made(number: int, *blocks: bytes) -> Discharge:
    """A discharge of a demand; a block such as `s21` is a signature."""
    demand = DEMANDS[number]
    found = written(demand.cid, (), tail_of(demand.key, demand.cid))
    for block in blocks:
        if found.blocks and len(block) == 3 and block[:1] == b"s" and block[1:].isdigit():
            found = signed_too(found, int(block[2:]), PEOPLE[int(block[1:2]) % len(PEOPLE)])
        else:
            found = found.extended(block)
    return found


def joined(shown: Presentation, *discharges: Discharge) -> str:
    """A presentation with these discharges behind it."""
    signature = wire.decode(shown.text).signature
    return ",".join([shown.text, *(one.bound_to(signature) for one in discharges)])


ONE = made(0, statement(), b"s00")
PAIR = made(1, statement(), b"s22", b"s00")
NARROW = PAIR.attenuate(Expires(NOW + 5), now=NOW)
"""What people gave, and one that its holder has narrowed."""
GOOD = {joined(SHOWN[b"M"], *given) for other in (PAIR, NARROW) for given in permutations((ONE, other))}
SIGNED = (b"s00\0s11", b"s22\0s00", b"s33\0s00", b"s00\0s00", b"s00\0s17", b"s10\0s00")


def seeds() -> Iterable[bytes]:
    for text in (*GOOD, joined(SHOWN[b"M"], ONE), f"{SHOWN[b'M'].text},{ONE.text},{PAIR.text}", SHOWN[b"M"].text * 2):
        _, _, behind = text.partition(",")
        yield b"T" + behind.encode()
        for one in behind.split(",")[:1]:
            yield b"B" + unb64u(one.removeprefix(PREFIX))
    times = ((NOW + 5, 900), (NOW + 6, 900), (NOW, 901), (NOW - 60, 60))
    statements = (
        statement(),
        statement(Intent(DIGEST)),
        statement(audience="erp"),
        *(statement(node=node) for node in NODES),
        *(statement(at=at, ends=ends) for at, ends in times),
    )
    for kind in SHOWN:
        for said in statements:
            yield kind + b"0" + said + b"\0s00\xff1" + said + b"\0s00\0s11"
        for said, signed in product(statements[:2], SIGNED):
            yield kind + b"1" + said + b"\0" + signed
        yield kind + b"0" + statement() + b"\0s00"
        yield kind + b"0" + statement() + b"\0s00\xff0" + statement() + b"\0s00"
        yield kind + b"2" + statement() + b"\xff3" + statement() + b"\0s00"
    for block in words.BLOCKS:
        yield b"M0" + statement() + b"\0s00\0" + block + b"\xff1" + statement() + b"\0s00\0s22"
        yield b"M0" + statement()[:-1] + b"," + block[1:] + b"\0s00\xff1" + statement() + b"\0s00\0s11"


def check(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind == b"T":
        behind(rest.decode(errors="surrogateescape"))
    elif kind == b"B":
        behind(PREFIX + b64u(rest))
    elif kind in SHOWN:
        given = rest.split(b"\xff")
        if len(given) > MAX_DISCHARGES + 1 or any(one[:1] not in (b"0", b"1", b"2", b"3") for one in given):
            return
        try:
            discharges = [made(int(one[:1]), *one[1:].split(b"\0")) for one in given]
        except MalformedToken:  # too large
            return
        approving(SHOWN[kind], discharges)


def behind(text: str) -> None:
    """A text behind a token with two demands: only what people gave is of use, as it was given."""
    for one in text.split(","):
        parsed(one)
    credential = f"{SHOWN[b'M'].text},{text}"
    decision = decided(Lab(), credential, READ)
    assert decision.allowed == (credential in GOOD), "what was changed is of use, or what was given is not"
    assert list(codes(decision)) == naively(credential, READ), "both verifiers refuse, and give other reasons"


def approving(shown: Presentation, discharges: list[Discharge]) -> None:
    """Discharges of any blocks at all, under good MACs."""
    credential = joined(shown, *discharges)
    decision = decided(Lab(), credential, READ)
    for one in discharges:
        parsed(one.text)
    blocks = [block for one in discharges for block in one.blocks]
    if not any(map(is_beyond, blocks)):
        said = naively(credential, READ)
        assert decision.allowed == (not said), "only one of both verifiers allows"
        if all(map(is_understood, blocks)):
            assert list(codes(decision)) == said, "both verifiers refuse, and give other reasons"
    for at, one in enumerate(discharges if decision.allowed else ()):
        wider = joined(shown, *discharges[:at], unnarrowed(one), *discharges[at + 1 :])
        assert decided(Lab(), wider, READ).allowed, "a block more allows what was refused without it"


def unnarrowed(discharge: Discharge) -> Discharge:
    """A discharge without its last block, if that is its holder's."""
    number = next(at for at, demand in enumerate(DEMANDS) if demand.cid == discharge.cid)
    blocks = discharge.blocks[: max(len(discharge.blocks) - 1, COUNTS[number] + 1)]
    return written(discharge.cid, blocks, tail_of(DEMANDS[number].key, discharge.cid, blocks))


def parsed(text: str) -> None:
    """A text is malformed, or a discharge in its one spelling, as the naive verifier reads it."""
    try:
        found = Discharge.parse(text)
    except MalformedToken:
        assert naively_read(text) is None, "a discharge was refused"
        return
    assert naively_read(text) == (found.cid, [*found.blocks], found.signature), "a discharge was misread"
    again = written(found.cid, found.blocks, found.signature)
    assert (again.text, again.body) == (text, found.body), "a discharge has two spellings"
    assert len(found.ids) == len(found.blocks) + 1
    assert all(one.sentence() for caveats in found.caveats for one in caveats), "a caveat without a sentence"


def naively_read(text: str) -> tuple[bytes, list[bytes], bytes] | None:
    """The parts of a discharge, as the naive verifier has them; None if it is none."""
    try:
        found: tuple[bytes, list[bytes], bytes] = naive.discharge(text)
    except PermissionError:
        return None
    return found


def is_beyond(block: bytes) -> bool:
    """Whether the naive verifier cannot tell: it has no RE2, and does not bound the patterns of an approval."""
    return b"regex" in block or (b"glob" in block and len(block) > 200)


def is_understood(block: bytes) -> bool:
    """Whether both read the same: of a block that is no JSON in one caveat, the naive one reads nothing."""
    try:
        return not any(isinstance(one, NotUnderstood) for one in DEFAULT.decode(block))
    except TooLarge:
        return True
