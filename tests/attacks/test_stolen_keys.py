"""Whoever steals a token without its key, or signs for somebody else, gets nothing: attacks on signed hops."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from nacl import bindings

from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import PUBLIC, Signer, public_text, weakness
from capx.crypto.hashing import digest
from capx.errors import InvalidRequest, KeyProblem
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.revocation_key import of_key
from capx.tokens.signed_blocks import ENDING, MAX_SIGNATURES, sign_block
from capx_caveats import Caveat, Expires, Holder, Hop, Presented, Sig, allow, encode_block, expires
from tests.labs.keyed import PLANNER, READER, SLIDES, THIEF, hop, key_text, keyed, last_digest, mark, signed
from tests.labs.lab import NONCES, NOW, Lab, appended, codes, minted, raw

READ = ToolCall("a.read")
Change = Callable[[bytes], bytes]


def told(token: Capability, lab: Lab | None = None) -> tuple[str, ...]:
    """The reasons for a call with exactly this token, which is a presentation or bare."""
    return codes((lab or Lab()).decide(token.text))


def presented(token: Capability, key: AgentKey, nonce: str = "A" * 16) -> Capability:
    """A presentation of the token, signed by any key."""
    return signed(token, key, mark(READ, nonce))


def child(parent: Capability | None = None) -> Capability:
    """A capability that the planner delegated to the slides agent, with that agent's key."""
    return (parent or keyed()).delegate(to="slides", to_key=SLIDES, nonce=NONCES[0])


def test_a_signed_chain_is_allowed() -> None:
    lab = Lab(require=["holder"])
    token = keyed()
    for key in (SLIDES, READER, READER):
        assert lab.codes(token) == ()
        token = token.delegate(to=key.name, to_key=key).attenuate(expires("1h"), now=NOW)
    decision = lab.decide(lab.present(token))
    assert decision.allowed
    assert decision.lineage is not None
    assert [public_text(key) for key in decision.lineage.keys] == [
        one.public for one in (PLANNER, SLIDES, READER, READER)
    ]


def test_a_stolen_token_presented_unsigned_is_refused() -> None:
    assert told(appended(keyed(), encode_block((mark(READ),)))) == ("hop_unsigned",)
    assert told(appended(child(), encode_block((mark(READ),)))) == ("hop_unsigned",)


def test_a_stolen_token_sent_bare_is_refused() -> None:
    assert told(keyed(), Lab(bearer=True)) == ("hop_unsigned",)
    assert told(child(), Lab(bearer=True)) == ("hop_unsigned",)
    assert told(minted(), Lab(bearer=True)) == ()


def test_a_stolen_token_signed_by_the_thief_is_refused() -> None:
    assert told(presented(keyed(), THIEF)) == ("hop_signature",)
    assert told(presented(keyed(), PLANNER)) == ()


@pytest.mark.parametrize(("above", "signer"), [(child, PLANNER), (keyed, SLIDES), (child, READER)])
def test_one_agent_signs_for_another_is_refused(above: Callable[[], Capability], signer: AgentKey) -> None:
    # The parent for its child, the child for its parent, a sibling for its sibling.
    assert told(presented(above(), signer)) == ("hop_signature",)


def test_a_thief_delegates_to_itself_is_refused() -> None:
    unsigned = appended(keyed(), encode_block((hop(THIEF),)))
    assert told(presented(unsigned, THIEF)) == ("hop_unsigned",)
    own = signed(keyed(), THIEF, hop(THIEF))
    assert told(presented(own, THIEF)) == ("hop_signature",)


def test_a_signed_hop_without_a_key_is_refused() -> None:
    unkeyed = signed(keyed(), PLANNER, Hop("slides", NONCES[0]))
    assert told(presented(unkeyed, PLANNER)) == ("hop_unsigned",)


def test_a_signature_stripped_from_a_hop_is_refused() -> None:
    # The holder of the token before it can append the same hop once more, without its signature.
    stripped = appended(keyed(), encode_block((hop(SLIDES),)))
    assert told(presented(stripped, SLIDES)) == ("hop_unsigned",)


@pytest.mark.parametrize(
    "blocks",
    [
        [(hop(SLIDES), Sig("A" * 86), Sig("A" * 86))],
        [(Sig("A" * 86), Expires(NOW + 9))],
        [(Holder(key_text(THIEF)),)],
        [(hop(SLIDES), Holder(key_text(THIEF)))],
    ],
)
def test_a_misplaced_signature_or_holder_is_refused(blocks: list[tuple[Caveat, ...]]) -> None:
    token = appended(keyed(), *map(encode_block, blocks))
    assert told(presented(token, PLANNER)) == ("misplaced",)


def test_a_signature_in_the_authoritys_block_is_refused() -> None:
    assert told(presented(minted(Holder(key_text(PLANNER)), Sig("A" * 86)), PLANNER)) == ("misplaced",)


def spelled(block: bytes, ending: Change) -> bytes:
    return block[:-ENDING] + ending(block[-ENDING:])


ENDINGS: dict[str, Change] = {
    "space": lambda end: end[:-2] + b" ]]",
    "line end": lambda end: end + b"\n",
    "escape": lambda end: end.replace(b'"sig"', b'"s\\u0069g"'),
    "space before": lambda end: b" " + end,
    "other base64": lambda end: end[:-4] + bytes([end[-4] ^ 1]) + end[-3:],
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=list(ENDINGS))
def test_an_ending_spelled_otherwise_is_refused(ending: Change) -> None:
    block = sign_block((hop(SLIDES),), last_digest(keyed()), PLANNER)
    token = appended(keyed(), spelled(block, ending))
    assert told(presented(token, SLIDES))[0] in {"hop_signature", "hop_unsigned", "not_understood"}


def test_any_byte_of_a_signed_block_changed_is_refused() -> None:
    block = sign_block((hop(SLIDES), allow("a.read")), last_digest(keyed()), PLANNER)
    lab = Lab()
    for at in range(len(block)):
        for bit in (1, 4, 32):
            changed = appended(keyed(), block[:at] + bytes([block[at] ^ bit]) + block[at + 1 :])
            assert told(presented(changed, SLIDES), lab), (at, bit)
    assert told(presented(appended(keyed(), block), SLIDES), lab) == ()


def test_a_signed_block_moved_elsewhere_is_refused() -> None:
    block = sign_block((hop(SLIDES),), last_digest(keyed()), PLANNER)
    other_mint = keyed(nonce="BQEBAQEBAQEBAQEBAQEBAQ")
    other_parent = keyed().attenuate(expires("1h"), now=NOW)
    deeper = signed(keyed(), PLANNER, hop(PLANNER, NONCES[1]))
    for parent in (other_mint, other_parent, deeper):
        assert told(presented(appended(parent, block), SLIDES)) == ("hop_signature",)


def test_a_presentations_signature_moved_is_refused() -> None:
    (*_, block) = presented(keyed(), PLANNER).blocks
    assert isinstance(block, bytes)
    ending = block[-ENDING + 1 : -1]
    elsewhere = keyed(nonce="BQEBAQEBAQEBAQEBAQEBAQ")
    assert told(appended(elsewhere, block)) == ("hop_signature",)
    other_call = encode_block((mark(ToolCall("a.read", {"id": 1})),))
    token = appended(keyed(), other_call[:-1] + b"," + ending + b"]")
    assert codes(Lab().decide(token.text, args={"id": 1})) == ("hop_signature",)
    as_hop = encode_block((hop(THIEF),))
    moved = appended(keyed(), as_hop[:-1] + b"," + ending + b"]")
    assert told(presented(moved, THIEF)) == ("hop_signature",)


def test_a_delegator_narrows_its_child_unsigned_or_not_at_all() -> None:
    narrowed = appended(child(), encode_block((allow("a.write"),)))
    assert told(presented(narrowed, SLIDES)) == ("action_not_allowed",)
    by_parent = signed(child(), PLANNER, allow("a.read"))
    assert told(presented(by_parent, SLIDES)) == ("hop_signature",)
    by_holder = signed(child(), SLIDES, allow("a.read"))
    assert told(presented(by_holder, SLIDES)) == ()


def test_a_key_or_signature_below_a_bearer_is_refused() -> None:
    named = appended(minted(), encode_block((hop(SLIDES),)))
    assert told(appended(named, encode_block((mark(READ),)))) == ("hop_unsigned",)
    twice = appended(named, encode_block((hop(THIEF),)), encode_block((mark(READ),)))
    assert told(twice) == ("hop_unsigned", "hop_unsigned")
    below = signed(minted(), THIEF, Hop("a", NONCES[0]))
    assert told(appended(below, encode_block((mark(READ),)))) == ("hop_unsigned",)
    assert told(presented(minted(), THIEF)) == ("hop_unsigned",)
    with pytest.raises(InvalidRequest, match="bound to no key"):
        minted().delegate(to="a", to_key=SLIDES)
    with pytest.raises(InvalidRequest, match="bound to no key"):
        minted().with_key(SLIDES)


ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
NOT_CANONICAL = "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"


def mixed_order() -> bytes:
    """A key of a subgroup that is not of prime order: a good key and a point of order 8."""
    good = Signer(bytes(range(32))).public
    return bindings.crypto_core_ed25519_add(good, bytes.fromhex(ORDER_8))


WEAK = {
    "all zero": bytes(32),
    "small order": bytes.fromhex(ORDER_8),
    "not canonical": bytes.fromhex(NOT_CANONICAL),
    "mixed order": mixed_order(),
}


@pytest.mark.parametrize("weak", WEAK.values(), ids=list(WEAK))
def test_a_weak_key_is_refused_wherever_it_is_named(weak: bytes) -> None:
    assert weakness(weak)
    assert told(presented(minted(Holder(b64u(weak))), THIEF))[0] == "hop_signature"
    token = signed(keyed(), PLANNER, Hop("a", NONCES[0], b64u(weak)))
    assert told(presented(token, THIEF))[0] == "hop_signature"
    with pytest.raises(KeyProblem):
        keyed().delegate(to="a", to_key=public_text(weak))


def changed_signature(change: Change) -> Capability:
    token = presented(keyed(), PLANNER)
    (*_, block) = token.blocks
    assert isinstance(block, bytes)
    signature = unb64u(block[-89:-3].decode())
    text = b64u(change(signature)).encode()
    return appended(keyed(), block[:-89] + text + b'"]]')


GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


MALLEABLE: dict[str, Change] = {
    "S + L": lambda s: s[:32] + (int.from_bytes(s[32:], "little") + GROUP_ORDER).to_bytes(32, "little"),
    "R zero": lambda s: bytes(32) + s[32:],
    "R of small order, S zero": lambda _: bytes.fromhex(ORDER_8) + bytes(32),
    "R neutral, S zero": lambda _: (1).to_bytes(32, "little") + bytes(32),
    "zero": lambda _: bytes(64),
}
LENGTHS: dict[str, Change] = {"63 bytes": lambda s: s[:-1], "65 bytes": lambda s: s + b"\0"}


@pytest.mark.parametrize("change", MALLEABLE.values(), ids=list(MALLEABLE))
def test_a_malleable_signature_is_refused(change: Change) -> None:
    assert told(changed_signature(change)) == ("hop_signature",)


@pytest.mark.parametrize("change", LENGTHS.values(), ids=list(LENGTHS))
def test_a_signature_of_another_length_is_refused(change: Change) -> None:
    assert told(changed_signature(change))[0] in {"not_understood", "misplaced", "bearer_refused"}


def test_too_many_signatures_are_refused_unchecked() -> None:
    token = keyed()
    for _ in range(MAX_SIGNATURES - 1):
        token = token.delegate(to="planner", to_key=PLANNER)
    assert Lab().codes(token) == ()
    more = token.delegate(to="planner", to_key=PLANNER)
    assert Lab().codes(more) == ("too_large",)
    assert told(appended(more.delegate(to="planner", to_key=PLANNER), encode_block((mark(READ),)))) == ("too_large",)


def test_another_protocols_signature_is_no_signature_of_a_block() -> None:
    for label in (b"capx/1/intent", b"capx/1/verdict", b"capx/1/feed-page"):
        head = encode_block((mark(READ),))[:-1]
        signature = PLANNER.sign(digest(label, last_digest(keyed()), head))
        token = appended(keyed(), head + b',["sig","%b"]]' % b64u(signature).encode())
        assert told(token) == ("hop_signature",)


def test_a_parent_makes_its_childs_node_and_the_key_tells() -> None:
    mine = child()
    twin = keyed().delegate(to="slides", to_key=THIEF, nonce=NONCES[0])
    assert (mine.node, mine.keys == twin.keys) == (twin.node, False)
    assert Lab().codes(twin) == ()
    assert mine.id != twin.id


@pytest.mark.parametrize("dead", [PLANNER, SLIDES, READER], ids=["planner", "slides", "reader"])
def test_a_dead_key_ends_all_that_it_held(dead: AgentKey) -> None:
    lab = Lab()
    grandchild = child().delegate(to="reader", to_key=READER)
    lab.deaths.deaths[of_key(unb64u(key_text(dead)))] = "revoked"
    assert lab.codes(grandchild) == ("revoked",)
    (refusal,) = lab.decide(lab.present(grandchild)).refusals
    assert dead.public in refusal.sentence
    beside = keyed().delegate(to="thief", to_key=THIEF)
    assert lab.codes(beside) == (("revoked",) if dead is PLANNER else ())


def test_a_remembered_prefix_excuses_nothing_else() -> None:
    lab = Lab()
    token = child()
    assert lab.codes(token) == ()
    assert told(presented(token, THIEF, "B" * 16), lab) == ("hop_signature",)
    bad = signed(token, THIEF, hop(THIEF, NONCES[1]))
    assert told(presented(bad, THIEF, "C" * 16), lab) == ("hop_signature",)
    assert told(presented(bad, THIEF, "D" * 16), lab) == ("hop_signature",)
    forged = signed(keyed(), THIEF, hop(SLIDES))
    assert told(presented(forged, SLIDES, "E" * 16), lab) == ("hop_signature",)
    lab.deaths.deaths[of_key(unb64u(key_text(SLIDES)))] = "revoked"
    assert lab.codes(token) == ("revoked",)


def test_a_remembered_block_excuses_no_weak_key_in_it() -> None:
    lab = Lab()
    token = signed(keyed(), PLANNER, Hop("a", NONCES[0], b64u(bytes(32))))
    below = appended(token, encode_block((Expires(NOW + 60),)))
    for at, one in enumerate([token, token, below, below, token]):
        signs = told(presented(one, THIEF, "ABCDE"[at] * 16), lab)
        assert signs == ("hop_signature", "hop_signature"), "the weak key, and the presentation"
        (weak, _) = lab.decide(presented(one, THIEF, "FGHIJ"[at] * 16).text).refusals
        assert "under which others" in weak.sentence


def test_a_stolen_use_is_burnt_and_logged_once() -> None:
    lab = Lab()
    stolen = presented(keyed(), THIEF).text
    assert codes(lab.decide(stolen)) == ("hop_signature",)
    assert codes(lab.decide(stolen)) == ("replayed",)
    assert [codes(one) for one in lab.records.decisions] == [("hop_signature",)]
    # What is no token of this authority is not logged at all.
    assert codes(lab.decide(presented(raw(encode_block((mark(READ),))), THIEF).text)) != ()
    assert len(lab.records.decisions) == 1


@pytest.mark.parametrize("at", [NOW, NOW - 3600], ids=["unsigned", "too old"])
def test_a_thief_writes_no_agent_into_the_log(at: int) -> None:
    lab = Lab()
    forged = appended(keyed(), encode_block((hop(SLIDES),)))
    decision = lab.decide(appended(forged, encode_block((replace(mark(READ), at=at),))).text)
    assert (decision.allowed, decision.hops, decision.nonces, decision.key) == (False, (), (), None)
    assert decision.path == tuple(map(b64u, keyed().path))
    assert lab.records.decisions == [decision]


def test_a_denial_names_the_hops_that_are_signed() -> None:
    lab = Lab()
    decided = lab.decide(presented(child(), THIEF).text)
    assert (decided.hops, decided.key) == (("slides",), None)
    forged = appended(child(), encode_block((hop(THIEF, NONCES[1]),)))
    decided = lab.decide(presented(forged, THIEF, "B" * 16).text)
    assert (decided.hops, decided.path) == (("slides",), tuple(map(b64u, child().path)))
    # Behind the burn, the signatures of this chain were checked.
    old = replace(mark(READ, "C" * 16), at=NOW - 3600)
    assert lab.decide(signed(child(), SLIDES, old).text).hops == ("slides",)
    assert Lab().decide(signed(child(), SLIDES, old).text).hops == ()


def test_thefts_are_logged_once_a_minute() -> None:
    lab = Lab()
    ids = {lab.decide(presented(keyed(), THIEF, f"{number:016d}").text).id for number in range(20)}
    assert [one.id for one in lab.records.decisions] == list(ids)
    forged = appended(keyed(), encode_block((hop(THIEF), Expires(NOW + 9))))
    assert told(presented(forged, THIEF), lab) == ("hop_unsigned",)
    assert len(lab.records.decisions) == 2
    assert lab.codes(keyed(), "b.read") == ("action_not_allowed",)
    assert len(lab.records.decisions) == 3
    lab.clock.now += 60
    lab.decide(signed(keyed(), THIEF, replace(mark(READ, "Z" * 16), at=NOW + 60)).text)
    assert len(lab.records.decisions) == 4


def test_a_verifier_may_require_keys() -> None:
    lab = Lab(require=["holder"])
    (refusal,) = lab.decide(lab.present(minted())).refusals
    assert (refusal.code, refusal.wanted) == ("incomplete_authority", "holder")


def test_the_sizes_of_keys_are_those_of_the_specification() -> None:
    assert (32, len(b',["sig",""]]') + 86) == (PUBLIC, ENDING)
    assert isinstance(mark(READ), Presented)
