"""Authority only shrinks below a holder's key, too, and a thief who signs for itself makes nothing that is allowed.

Law 1, restated: if a capability with one more block is allowed to a presentation by the key that it names last, then
the capability without that block is allowed to a presentation by the key that that one names last. Small cases are
enumerated.
"""

from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import unb64u
from capx.crypto.ed25519 import public_text
from capx.resource.replay import Replay
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.signed_blocks import sign_block
from capx.verify.protocols import NO_RECORDER
from capx_caveats import Caveat, Expires, Holder, Hop, MaxHops, Sig, allow, encode_block
from tests.labs.counts import NIGHTLY, repeated, sampled
from tests.labs.keyed import PLANNER, READER, SLIDES, THIEF, hop, key_text, last_digest, mark
from tests.labs.lab import NONCES, NOW, Lab, appended, codes, minted

OWNERS = {key.public: key for key in (PLANNER, SLIDES, READER, THIEF)}
CAVEATS: tuple[tuple[Caveat, ...], ...] = (
    (hop(SLIDES),),
    (hop(THIEF),),
    (hop(PLANNER, NONCES[1]), allow("a.read")),
    (Hop("slides", NONCES[0]),),
    (Hop("slides", NONCES[0], "A" * 43),),
    (allow("a.read"),),
    (allow("a.write"),),
    (Expires(NOW + 9_000_000),),
    (MaxHops(0),),
    (Holder(key_text(THIEF)),),
    (Sig("A" * 86),),
)
SIGNERS: tuple[AgentKey | None, ...] = (None, PLANNER, SLIDES, THIEF)
ROOTS = {
    "keyed": (Holder(key_text(PLANNER)),),
    "keyed, expired": (Holder(key_text(PLANNER)), Expires(NOW)),
    "keyed, no hops": (Holder(key_text(PLANNER)), MaxHops(0)),
    "keyed by a weak key": (Holder("A" * 43),),
    "a bearer's": (),
}


def one_more(token: Capability, caveats: tuple[Caveat, ...], signer: AgentKey | None) -> Capability:
    block = encode_block(caveats) if signer is None else sign_block(caveats, last_digest(token), signer)
    return appended(token, block)


def named_last(token: Capability) -> AgentKey | None:
    """The key that a chain names last, wherever it may name it; None for a bearer's."""
    keys = [
        one.key
        for block in token.caveats
        for one in block
        if isinstance(one, Holder) or (isinstance(one, Hop) and one.key)
    ]
    return OWNERS.get(public_text(unb64u(str(keys[-1])))) if keys else None


PRESENTED = mark(ToolCall("a.read"))


def allowed_to(lab: Lab, token: Capability, key: AgentKey | None) -> bool:
    # The memory of presentations is not what is tested.
    lab.verifier._replay = Replay.process(clock=lambda: NOW - 1_000_000)
    return codes(lab.decide(one_more(token, (PRESENTED,), key).text)) == ()


def chains(most: int) -> Iterator[Capability]:
    for root in ROOTS.values():
        for length in range(most + 1):
            for steps in product(product(CAVEATS, SIGNERS), repeat=length):
                token = minted(*root)
                for caveats, signer in steps:
                    token = one_more(token, caveats, signer)
                yield token


@pytest.mark.timeout(600)
def test_no_block_widens_what_a_key_may_do() -> None:
    lab, allowed = Lab(recorder=NO_RECORDER), 0
    for token in chains(2 if NIGHTLY else 1):
        own = allowed_to(lab, token, named_last(token))
        for caveats, signer in product(CAVEATS, SIGNERS):
            below = one_more(token, caveats, signer)
            if allowed_to(lab, below, named_last(below)):
                allowed += 1
                assert own, (token.caveats, caveats, signer)
    assert allowed > 50


@pytest.mark.timeout(600)
def test_a_thief_makes_nothing_that_is_allowed_to_it() -> None:
    lab = Lab(recorder=NO_RECORDER)
    # The thief saw these tokens, and what others signed elsewhere. It has no key but its own.
    seen = [minted(*ROOTS["keyed"]), one_more(minted(*ROOTS["keyed"]), (hop(SLIDES),), PLANNER)]
    elsewhere = one_more(minted(*ROOTS["keyed"], nonce="BQEBAQEBAQEBAQEBAQEBAQ"), (hop(THIEF),), PLANNER).blocks[-1]
    for token in seen:
        steps = list(product(CAVEATS, (None, THIEF)))
        for first, second in sampled(product(steps, steps)):
            made = one_more(one_more(token, *first), *second)
            assert not allowed_to(lab, made, THIEF)
            assert not allowed_to(lab, made, None)
        assert not allowed_to(lab, appended(token, elsewhere), THIEF)


STEPS = st.tuples(st.sampled_from(CAVEATS), st.sampled_from(SIGNERS))


@settings(max_examples=repeated(300), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(CAVEATS), st.sampled_from(SIGNERS)), max_size=6), st.sampled_from(list(ROOTS))
)
def test_no_generated_chain_allows_more_than_its_parent(
    steps: list[tuple[tuple[Caveat, ...], AgentKey | None]], root: str
) -> None:
    lab, token = Lab(recorder=NO_RECORDER), minted(*ROOTS[root])
    may = allowed_to(lab, token, named_last(token))
    for caveats, signer in steps:
        token = one_more(token, caveats, signer)
        now = allowed_to(lab, token, named_last(token))
        assert may or not now
        may = now
