import copy
import json
import pickle
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.crypto import hashing
from capx.errors import CapxError, InvalidRequest, MalformedToken
from capx.tokens import chain, wire
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability, mint, new_nonce
from capx_caveats import (
    Appendable,
    Hop,
    Intent,
    InvalidCaveat,
    MaxHops,
    NotUnderstood,
    Presented,
    Root,
    Step,
    Task,
    UntilCompleted,
    action,
    allow,
    expires,
    tenant,
)
from tests.labs.lab import KEY, NONCES, NOW, Lab, appended, grant, minted, raw

CAPABILITY = minted()
PRESENTED = Presented("tool", "A" * 43, NOW, "A" * 16)


def test_what_is_parsed_is_what_was_written() -> None:
    child = CAPABILITY.delegate(to="slides-agent", allow=["a.read"], nonce=NONCES[0])
    again = Capability.parse(child.text)
    assert again == child
    assert (again.ids, again.path, again.hops, again.task) == (child.ids, child.path, child.hops, "T1")
    assert (again.audience, again.kid, again.issued_at) == ("crm", KEY.kid, NOW)


def test_ids_follow_from_the_bytes_of_the_chain() -> None:
    child = CAPABILITY.attenuate(expires(NOW + 1)).attenuate(expires(NOW + 2))
    digest = hashing.digest(b"capx/1/token", wire.decode(child.text).identifier_bytes)
    expected = [digest[:16]]
    for block in child.blocks:
        assert isinstance(block, bytes)
        digest = hashing.digest(b"capx/1/block", digest, block)
        expected.append(digest[:16])
    assert list(child.ids) == expected
    assert child.ids[:2] == CAPABILITY.ids


def test_nodes_follow_from_the_root_and_the_hop_nonces() -> None:
    child = CAPABILITY.delegate(to="a", nonce=NONCES[0]).attenuate(expires(NOW + 1)).delegate(to="b", nonce=NONCES[1])
    node = hashing.digest(b"capx/1/root", b"R1")[:16]
    expected = [node]
    for nonce in NONCES[:2]:
        node = hashing.digest(b"capx/1/node", node, nonce.encode())[:16]
        expected.append(node)
    assert list(child.path) == expected
    assert child.node == expected[-1]


def test_a_root_with_a_path_begins_where_it_was_granted() -> None:
    steps = (Step("a", NONCES[0]), Step("b", NONCES[1]))
    granted = mint(KEY, (Task("T1"), Root("R1", steps), UntilCompleted("T1")), now=NOW)
    walked = CAPABILITY.delegate(to="a", nonce=NONCES[0]).delegate(to="b", nonce=NONCES[1])
    assert granted.path == walked.path
    assert granted.hops == ("a", "b")
    below = granted.delegate(to="c", nonce=NONCES[2])
    assert below.path == walked.delegate(to="other label", nonce=NONCES[2]).path
    assert below.hops == ("a", "b", "c")


def test_the_same_hop_nonce_below_another_node_is_another_node() -> None:
    one = CAPABILITY.delegate(to="a", nonce=NONCES[0])
    assert one.delegate(to="c", nonce=NONCES[2]).node != CAPABILITY.delegate(to="c", nonce=NONCES[2]).node


def test_only_the_authoritys_block_makes_claims() -> None:
    child = appended(CAPABILITY, b'[["task","T2"],["root","R2"]]', b'[["intent","%s"]]' % (b"A" * 43))
    assert child.task == "T1"
    assert child.path == CAPABILITY.path


def test_attenuating_adds_one_block_and_changes_nothing_else() -> None:
    before = CAPABILITY.text
    child = CAPABILITY.attenuate(tenant("Acme"), expires(NOW + 1))
    assert child.blocks == (*CAPABILITY.blocks, b'[["tenant","Acme"],["expires",%d]]' % (NOW + 1))
    assert CAPABILITY.text == before


def test_a_delegation_is_one_block_that_begins_with_its_hop() -> None:
    child = CAPABILITY.delegate(
        to="slides-agent", allow=[action("a.read", deck="d")], caveats=[expires("10m")], nonce=NONCES[0], now=NOW
    )
    assert child.blocks[-1] == (
        b'[["hop","slides-agent","AgICAgICAgI"],["allow",[["a.read",[["deck",["eq","d"]]]]]],["expires",%d]]'
        % (NOW + 600)
    )


def test_two_identical_attenuations_are_the_same_token() -> None:
    assert CAPABILITY.attenuate(expires(NOW + 1)) == CAPABILITY.attenuate(expires(NOW + 1))
    assert hash(CAPABILITY.attenuate(expires(NOW + 1))) == hash(CAPABILITY.attenuate(expires(NOW + 1)))


def test_two_delegations_are_two_nodes() -> None:
    assert CAPABILITY.delegate(to="a").node != CAPABILITY.delegate(to="a").node
    assert new_nonce() != new_nonce()


def test_a_duration_counts_from_the_now_that_is_given() -> None:
    assert CAPABILITY.attenuate(expires("15m"), now=NOW).caveats[-1] == (expires(NOW + 900),)


FORBIDDEN: dict[str, tuple[Appendable, ...]] = {
    "nothing": (),
    "a task": (Task("T2"),),
    "an intent": (Intent("A" * 43),),
    "a root": (Root("R2"),),
    "a presentation": (PRESENTED,),
    "a hop that is not first": (expires(NOW), Hop("a", NONCES[0])),
    "two hops": (Hop("a", NONCES[0]), Hop("b", NONCES[1])),
    "max_hops twice": (MaxHops(1), MaxHops(2)),
    "what is not understood": (NotUnderstood("x", "y"),),
    "65 caveats": (expires(NOW),) * 65,
    "257 brackets": (allow(*[f"a{n}" for n in range(254)]),),
}


@pytest.mark.parametrize("caveats", FORBIDDEN.values(), ids=list(FORBIDDEN))
def test_a_holder_cannot_append_what_would_refuse_every_call(caveats: tuple[Appendable, ...]) -> None:
    with pytest.raises(InvalidCaveat):
        CAPABILITY.attenuate(*caveats)


LABELS = ["", "a" * 129, "a\nb", "a\0b", "a\x1b[31m", "a\u202eb", "a\u200bb", "a\u2028b", "a\ud800", "\ufeffa", "\x7f"]


@pytest.mark.parametrize("label", LABELS)
def test_a_label_that_shows_not_as_it_compares_is_refused(label: str) -> None:
    with pytest.raises(InvalidCaveat):
        CAPABILITY.delegate(to=label)


@pytest.mark.parametrize("label", ["slides-agent", 'a"],["root","R2"]', "a,b", "a\\", "Zoë 🦊", "a" * 128])
def test_a_label_with_delimiters_is_one_label(label: str) -> None:
    child = Capability.parse(CAPABILITY.delegate(to=label, nonce=NONCES[0]).text)
    assert child.hops == (label,)
    assert len(child.caveats[-1]) == 1


@given(st.text(max_size=60))
def test_no_text_breaks_out_of_the_field_it_is_written_in(text: str) -> None:
    try:
        child = CAPABILITY.delegate(to=text, allow=[action("a.read", deck=text)], caveats=[tenant(text)])
    except InvalidCaveat:
        return
    hop, allowed, only = Capability.parse(child.text).caveats[-1]
    assert isinstance(hop, Hop)
    assert hop.to == text
    assert allowed == allow(action("a.read", deck=text))
    assert only == tenant(text)


@pytest.mark.parametrize("nonce", ["short", "A" * 12, "AgICAgICAgJ", "AgICAgICAg=", "../../../../"])
def test_a_hop_nonce_is_eight_bytes_in_their_one_spelling(nonce: str) -> None:
    with pytest.raises(InvalidCaveat):
        CAPABILITY.delegate(to="a", nonce=nonce)


@pytest.mark.parametrize("nonce", ["short", "AQEBAQEBAQEBAQEBAQEBAR", '","x","'])
def test_a_mint_nonce_is_sixteen_bytes_in_their_one_spelling(nonce: str) -> None:
    with pytest.raises(MalformedToken):
        mint(KEY, grant(), now=NOW, nonce=nonce)


def test_one_text_is_no_list_of_actions() -> None:
    with pytest.raises(InvalidCaveat, match="list"):
        CAPABILITY.delegate(to="a", allow="export")


def test_an_empty_list_of_actions_is_refused() -> None:
    with pytest.raises(InvalidCaveat):
        CAPABILITY.delegate(to="a", allow=[])


def narrowed_until_full(capability: Capability, caveat: Appendable) -> Capability:
    for _ in range(64):
        try:
            capability = capability.attenuate(caveat)
        except MalformedToken as full:
            return capability if full.code == "too_large" else pytest.fail(str(full))
    raise AssertionError("a token grows without end")


SMALL_AND_LARGE = [expires(NOW + 60), *(allow("a.read", "x" * 128, "y" * size) for size in range(40, 128, 8))]


@pytest.mark.parametrize("caveat", SMALL_AND_LARGE, ids=lambda caveat: str(len(repr(caveat))))
def test_room_for_a_presentation_is_kept(caveat: Appendable) -> None:
    full = narrowed_until_full(CAPABILITY, caveat)
    assert len(full.blocks) == 63 or len(full.text) > 0.9 * wire.MAX_TEXT
    assert Lab().codes(full) == ()


def test_a_presentation_is_neither_held_nor_narrowed() -> None:
    token = CAPABILITY.present(ToolCall("a.read"), now=NOW)
    assert token.authorization == f"Capx {token.text}"
    assert not hasattr(token, "attenuate")
    assert not hasattr(token, "present")
    with pytest.raises(MalformedToken, match="presentation"):
        Capability.parse(token.text)


def test_a_holder_may_carry_what_it_does_not_understand() -> None:
    child = appended(CAPABILITY, b'[["acme.region","eu"]]', b"no json")
    again = Capability.parse(child.text)
    assert [type(caveats[0]) for caveats in again.caveats[1:]] == [NotUnderstood, NotUnderstood]
    assert again.attenuate(expires(NOW)).blocks[:3] == child.blocks


def test_thousands_of_brackets_in_a_block_are_shown_and_not_read() -> None:
    capability = appended(CAPABILITY, b"[" * 3000)
    assert isinstance(Capability.parse(capability.text).caveats[1][0], NotUnderstood)


def test_a_third_party_caveat_is_carried() -> None:
    child = appended(CAPABILITY, chain.ThirdParty(b"v", b"c"))
    again = Capability.parse(child.text)
    assert again.ids[-1] == chain.block_digest(_digest(CAPABILITY), chain.ThirdParty(b"v", b"c"))[:16]


def _digest(capability: Capability) -> bytes:
    digest = hashing.digest(b"capx/1/token", wire.decode(capability.text).identifier_bytes)
    for block in capability.blocks:
        assert isinstance(block, bytes)
        digest = chain.block_digest(digest, block)
    return digest


def test_a_token_without_any_block_claims_nothing() -> None:
    bare = raw()
    assert (bare.task, bare.node, bare.path, bare.hops) == (None, None, (), ())


def test_a_token_shows_itself_only_as_its_text() -> None:
    child = CAPABILITY.delegate(to="a")
    secret = wire.decode(child.text).signature
    shown = f"{child!r} {child} {child!s} {wire.decode(child.text)!r}"
    assert child.text not in shown
    assert repr(secret)[2:-1] not in shown
    assert secret.hex() not in shown
    assert not re.search("capx1_", shown)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_token_is_not_pickled_or_copied(copied: object) -> None:
    assert callable(copied)
    for token in (CAPABILITY, CAPABILITY.present(ToolCall("a.read"))):
        with pytest.raises(InvalidRequest, match="secret"):
            copied(token)


def test_a_token_is_no_json() -> None:
    with pytest.raises(TypeError):
        json.dumps(CAPABILITY)
    with pytest.raises(TypeError):
        msgspec.json.encode(CAPABILITY)


@pytest.mark.parametrize("name", ["text", "_frame", "audience", "caveats", "anything"])
def test_a_shared_token_does_not_change(name: str) -> None:
    before = CAPABILITY.text
    with pytest.raises(AttributeError):
        setattr(CAPABILITY, name, "x")
    with pytest.raises(AttributeError):
        delattr(CAPABILITY, name)
    assert CAPABILITY.text == before


@given(st.binary(max_size=300))
def test_any_block_at_all_can_be_read_and_shown(block: bytes) -> None:
    token = appended(CAPABILITY, block)
    try:
        child = Capability.parse(token.text)
    except CapxError:
        return
    assert child.caveats[-1]
    assert all(caveat.sentence() for caveat in child.caveats[-1])
    assert repr(child)
