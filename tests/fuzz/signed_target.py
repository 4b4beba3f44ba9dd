"""Whatever is appended to a token that is bound to a key, both verifiers agree, and no thief is allowed.

An input is blocks with NULs between, appended under good MACs. A block that begins with `1`, `2` or `3` is signed by
the holder, by the next agent or by a thief; the last block is a presentation of a fixed call if it is one.
"""

from collections.abc import Iterable

from capx.crypto.agent_key import AgentKey
from capx.errors import CapxError
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.wire import MAX_BLOCK, MAX_BLOCKS
from capx.verify.decision import Decision
from capx_caveats import encode_block
from tests.fuzz import words
from tests.fuzz.presentation_target import decided, naively
from tests.labs.keyed import PLANNER, SLIDES, THIEF, hop, keyed, last_digest, mark, raw_signature
from tests.labs.lab import Lab, appended, codes
from tests.models import naive

READ = ToolCall("a.read", {"x": 1})
SIGNERS: dict[bytes, AgentKey] = {b"1": PLANNER, b"2": SLIDES, b"3": THIEF}
_UNSIGNED = b"0"


def seeds() -> Iterable[bytes]:
    shown, delegated = encode_block((mark(READ),)), encode_block((hop(SLIDES),))
    for signer in (*SIGNERS, _UNSIGNED):
        yield signer + shown
        for other in (*SIGNERS, _UNSIGNED):
            yield other + delegated + b"\0" + signer + shown
    for block in words.BLOCKS:
        yield _UNSIGNED + block + b"\0" + b"1" + shown
        yield b"1" + block + b"\0" + b"1" + shown


def check(data: bytes) -> None:
    token, by_thief = keyed(), True
    blocks = data.split(b"\0")
    if len(blocks) > MAX_BLOCKS - 4:
        return
    for block in blocks:
        signer = SIGNERS.get(block[:1])
        raw = block[1:] if signer is None else signed(block[1:], token, signer)
        if len(raw) > MAX_BLOCK:
            return
        by_thief = by_thief and signer in {None, THIEF}
        try:
            token = appended(token, raw)
        except CapxError:  # too large
            return
    decision = judged(token)
    assert not (decision.allowed and by_thief), "a thief without the key is allowed"
    if not any(b"regex" in block for block in blocks):
        said = naively(token.text, READ)
        assert decision.allowed == (not said), "only one of both verifiers allows"
        if [naive.UNKNOWN] not in [naive.read(block) for block in token.blocks if isinstance(block, bytes)]:
            assert list(codes(decision)) == said, "both verifiers refuse, and give other reasons"


def judged(token: Capability) -> Decision:
    return decided(Lab(), token.text, READ)


def signed(block: bytes, parent: Capability, key: AgentKey) -> bytes:
    """The block with a signature at its end, whether or not it is JSON."""
    head = block[:-1]
    return head + b',["sig","%b"]]' % raw_signature(head, last_digest(parent), key).encode()
