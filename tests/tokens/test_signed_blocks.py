"""A holder with a key: what it signs, what it may not do without the key, and what it hands over."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import VerifyKey

from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import parse_public
from capx.crypto.hashing import digest
from capx.crypto.sealed import PREFIX
from capx.errors import InvalidRequest, KeyProblem, MalformedToken
from capx.tokens import chain
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import SEALED, Bundle
from capx.tokens.capability import Capability
from capx.tokens.lineage import unverified_lineage
from capx.tokens.signed_blocks import ENDING, sign_block
from capx_caveats import Holder, Hop, Sig, allow, encode_block, expires
from tests.labs.keyed import PLANNER, READER, SLIDES, THIEF, hop, keyed, last_digest, mark, signed
from tests.labs.lab import NONCES, NOW, Lab, appended, minted

READ = ToolCall("a.read")


class Elsewhere:
    """A key that another process keeps."""

    def __init__(self, key: AgentKey, length: int = 64) -> None:
        self._key, self._length = key, length
        self.signed: list[bytes] = []

    @property
    def public(self) -> str:
        return self._key.public

    def sign(self, message: bytes) -> bytes:
        self.signed.append(message)
        return self._key.sign(message)[: self._length]


def bundle(key: AgentKey | None = PLANNER) -> Bundle:
    tokens = [keyed(), keyed(audience="slides", nonce="BQEBAQEBAQEBAQEBAQEBAQ")]
    return Bundle([Capability.parse(one.text) for one in tokens], key=key)


def test_a_signature_is_over_what_stands_before_it() -> None:
    block = sign_block((mark(READ),), last_digest(keyed()), PLANNER)
    head, ending = block[:-ENDING], block[-ENDING:]
    assert head + b"]" == encode_block((mark(READ),))
    assert ending.startswith(b',["sig","')
    assert keyed().present(READ, now=NOW, nonce="A" * 16).blocks[-1] == block


def test_any_object_that_signs_may_be_the_key() -> None:
    key = Elsewhere(PLANNER)
    token = Capability.parse(keyed().text).with_key(key)
    assert Lab().codes(token.delegate(to="slides", to_key=SLIDES.public).with_key(SLIDES)) == ()
    assert Lab().codes(token) == ()
    assert [len(message) for message in key.signed] == [32, 32]


def test_a_signature_of_another_length_is_not_appended() -> None:
    with pytest.raises(Exception, match="64 bytes"):
        Capability.parse(keyed().text).with_key(Elsewhere(PLANNER, 63)).present(READ)


def test_a_bundle_says_which_key_it_needs() -> None:
    without = bundle(None)
    assert (without.holder, without.key, bundle().key) == (PLANNER.public, None, PLANNER)
    for step in (lambda: without.present("crm", READ), lambda: without.delegate(to="a", to_key=SLIDES)):
        with pytest.raises(InvalidRequest, match=PLANNER.public):
            step()
    assert without.attenuate(expires("1h")).holder == PLANNER.public


def test_another_key_is_refused_early() -> None:
    with pytest.raises(InvalidRequest, match=f"bound to {PLANNER.public}, and this is the key {THIEF.public}"):
        bundle(None).with_key(THIEF)
    with pytest.raises(InvalidRequest, match="bound to no key"):
        Bundle([minted()], key=PLANNER)
    with pytest.raises(InvalidRequest, match="bound to one key, or all to none"):
        Bundle([keyed(), minted(nonce="BQEBAQEBAQEBAQEBAQEBAQ")])


def test_a_child_has_its_key_only_if_it_was_given() -> None:
    given = bundle().delegate(to="slides", to_key=SLIDES, nonce=NONCES[0])
    named = bundle().delegate(to="slides", to_key=SLIDES.public, nonce=NONCES[0])
    assert given == named
    assert (given.key, named.key) == (SLIDES, None)
    assert [one.keys for one in given] == [(PLANNER.public, SLIDES.public)] * 2
    with pytest.raises(InvalidRequest, match="give the key of the next agent"):
        bundle().delegate(to="slides")
    with pytest.raises(KeyProblem, match="is not a public key"):
        bundle().delegate(to="slides", to_key="slides")


def test_a_grant_joins_a_bundle_with_its_key() -> None:
    grant = Capability.parse(keyed(nonce="BgEBAQEBAQEBAQEBAQEBAQ").text)
    held = bundle().holding(grant, now=NOW)
    assert [one.key for one in held] == [PLANNER] * 3
    with pytest.raises(InvalidRequest, match=r"bound to no key|one key, or all to none"):
        bundle().holding(minted(nonce="BgEBAQEBAQEBAQEBAQEBAQ"), now=NOW)


def test_no_text_of_a_bundle_holds_its_key() -> None:
    seed = PLANNER.dump().split()[-1]
    held = bundle()
    assert seed not in held.text + repr(held) + held.delegate(to="a", to_key=SLIDES).sealed()
    assert Bundle.parse(held.text).key is None


def test_a_sealed_bundle_is_opened_by_the_key_it_names() -> None:
    child = bundle().delegate(to="slides", to_key=SLIDES.public)
    opened = Bundle.unseal(child.sealed(), SLIDES, task="T1")
    assert (opened, opened.key) == (child, SLIDES)
    with pytest.raises(MalformedToken):
        Bundle.unseal(child.sealed(), READER, task="T1")


def test_a_sealed_bundle_of_another_task_is_refused() -> None:
    # The attacker's own task, in which the recipient would work for the attacker.
    theirs = Bundle([minted(task="T2", root="R2")]).sealed(to=SLIDES.public)
    with pytest.raises(InvalidRequest, match="is of task T2, and not of T1"):
        Bundle.unseal(theirs, SLIDES, task="T1")
    assert Bundle.unseal(theirs, SLIDES).key is None


def test_a_sealed_bundle_of_anothers_key_is_refused() -> None:
    from capx.crypto.sealed import seal

    theirs = seal(bundle().delegate(to="a", to_key=THIEF).text, "bundle", SLIDES.public)
    with pytest.raises(InvalidRequest, match=f"bound to {THIEF.public}"):
        Bundle.unseal(theirs, SLIDES, task="T1")


def test_a_text_is_told_sealed_or_not_before_it_is_read() -> None:
    assert SEALED == PREFIX
    with pytest.raises(MalformedToken, match=r"this text is sealed: Bundle\.unseal opens it"):
        Bundle.parse(bundle().sealed())
    with pytest.raises(MalformedToken, match=r"not sealed: Bundle\.parse reads a token as it is"):
        Bundle.unseal(bundle().text, PLANNER)
    with pytest.raises(MalformedToken, match="there is no text to open"):
        Bundle.unseal("", PLANNER)


@pytest.mark.parametrize("given", ["planner.key", Path("planner.key"), PLANNER.public], ids=str)
def test_the_file_of_a_key_is_not_taken_for_the_key(given: Any) -> None:
    refused = r"capx\.AgentKey\.load\(FILE\) reads it"
    with pytest.raises(InvalidRequest, match=refused):
        bundle(None).with_key(given)
    with pytest.raises(InvalidRequest, match=refused):
        Bundle(bundle(None), key=given)
    with pytest.raises(InvalidRequest, match=refused):
        Bundle.unseal(bundle().sealed(), given)


def test_a_bundle_is_sealed_to_its_own_key_only() -> None:
    with pytest.raises(KeyProblem, match="is not a public key"):
        bundle().sealed(to="slides.key")
    with pytest.raises(InvalidRequest, match="name the key of the next holder"):
        Bundle([minted()]).sealed()
    with pytest.raises(InvalidRequest, match="could not use them"):
        bundle().sealed(to=SLIDES.public)
    with pytest.raises(KeyProblem, match=r"must be text: pass its public half, key\.public"):
        bundle().sealed(to=PLANNER)  # type: ignore[arg-type]
    assert bundle().sealed(to=PLANNER.public).startswith("capxseal1_")


def test_a_whole_task_is_not_taken_for_its_id() -> None:
    with pytest.raises(InvalidRequest, match=r"is the id of a task, and not a Bundle: pass task\.id"):
        Bundle.unseal(bundle().sealed(), PLANNER, task=bundle())  # type: ignore[arg-type]


def test_what_is_wrong_is_known_without_a_check() -> None:
    unsigned = appended(keyed(), encode_block((*keyed().caveats[0][:0], allow("a.read"), Sig("A" * 86))))
    assert unverified_lineage(unsigned).unsigned == ()
    (refusal,) = unverified_lineage(appended(minted(), encode_block((allow("a.read"), Sig("A" * 86))))).unsigned
    assert (refusal.code, refusal.hop_name) == ("hop_unsigned", "the token's first holder")


def test_the_keys_of_a_chain_are_read_from_first_to_last() -> None:
    token = keyed().delegate(to="slides", to_key=SLIDES).delegate(to="reader", to_key=READER)
    assert token.keys == (PLANNER.public, SLIDES.public, READER.public)
    assert (token.holder_key, minted().holder_key) == (READER.public, None)
    assert [b64u(key) for key in unverified_lineage(token).keys] == [key.removeprefix("ed25519:") for key in token.keys]


def test_the_message_of_a_signature_is_that_of_the_specification() -> None:
    token = keyed()
    block = sign_block((mark(READ),), last_digest(token), PLANNER)
    parts = (b"capx/1/sig", last_digest(token), block[:-ENDING])
    message = sha256(b"".join(len(part).to_bytes(4) + part for part in parts)).digest()
    VerifyKey(parse_public(PLANNER.public)).verify(message, unb64u(block[-89:-3].decode()))
    assert digest(*parts) == message


HOP1 = (1, "slides")
DEFECTS: dict[str, tuple[Capability, str, tuple[int, str | None], str]] = {
    "below a bearer": (
        appended(minted(), encode_block((hop(SLIDES),))),
        "hop_unsigned",
        HOP1,
        "bound this token to no",
    ),
    "an unsigned hop": (appended(keyed(), encode_block((hop(SLIDES),))), "hop_unsigned", HOP1, "delegates without"),
    "a weak key": (
        signed(keyed(), PLANNER, Hop("slides", NONCES[0], "A" * 43)),
        "hop_signature",
        HOP1,
        f"names ed25519:{'A' * 43}, under which others",
    ),
    "a weak holder": (minted(Holder("A" * 43)), "hop_signature", (0, None), "under which others than its owner"),
}


@pytest.mark.parametrize(("token", "code", "owner", "says"), DEFECTS.values(), ids=list(DEFECTS))
def test_a_refusal_says_whose_block_it_is(
    token: Capability, code: str, owner: tuple[int, str | None], says: str
) -> None:
    (refusal,) = unverified_lineage(token).unsigned
    assert (refusal.code, refusal.hop, refusal.hop_name) == (code, *owner)
    assert says in refusal.sentence


def last_refusal(token: Capability, *, bearer: bool = False) -> tuple[str, object, object, str]:
    """Code, hop, label and sentence of the last refusal of this very token."""
    refusal = Lab(bearer=bearer).decide(token.text).refusals[-1]
    return refusal.code, refusal.hop, refusal.hop_name, refusal.sentence


def test_a_wrong_presentation_is_attributed_to_its_holder() -> None:
    child, shown = keyed().delegate(to="slides", to_key=SLIDES), mark(READ)
    lacking = ("hop_unsigned", *HOP1, "was presented without the signature of its holder's key")
    assert last_refusal(appended(child, encode_block((shown,)))) == lacking
    assert last_refusal(child, bearer=True) == lacking
    *owner, said = last_refusal(signed(child, THIEF, shown))
    assert (owner, SLIDES.public in said) == (["hop_signature", *HOP1], True)
    *owner, said = last_refusal(signed(minted(), THIEF, shown))
    assert (owner, "bound this token to no key" in said) == (["hop_unsigned", 0, None], True)


def test_a_third_party_block_among_signed_ones_is_passed_over() -> None:
    token = appended(keyed(), chain.ThirdParty(b"vid", b"cid")).with_key(PLANNER)
    child = token.delegate(to="slides", to_key=SLIDES)
    assert unverified_lineage(child).unsigned == ()
    assert Lab().codes(child) == ("not_understood",)
    assert Lab().codes(signed(token, THIEF, hop(THIEF)).with_key(THIEF)) == ("hop_signature", "not_understood")
