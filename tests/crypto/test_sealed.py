"""Sealed text: only the owner of the key opens it, and nobody learns from an error what was wrong."""

import pytest
from nacl import bindings

from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import Signer, parse_public, public_text
from capx.crypto.sealed import MAX_SEALED, PREFIX, is_sealed, seal, unseal
from capx.errors import InvalidRequest, KeyProblem, MalformedToken

SEED = bytes(range(32))
KEY = AgentKey("slides", Signer(SEED))
OTHER = AgentKey("thief", Signer(SEED[::-1]))
TEXT = "capx1_tökens,capx1_more"


def test_what_was_sealed_is_opened_by_its_owner() -> None:
    sealed = seal(TEXT, "bundle", KEY.public)
    assert is_sealed(sealed)
    assert KEY.unseal(sealed, "bundle") == TEXT
    assert unseal(seal("", "keys", KEY.public), "keys", SEED) == ""


def test_a_sealed_text_is_a_box_of_libsodium() -> None:
    raw = unb64u(seal(TEXT, "bundle", KEY.public).removeprefix(PREFIX))
    public, secret = bindings.crypto_sign_seed_keypair(SEED)
    opened = bindings.crypto_box_seal_open(
        raw,
        bindings.crypto_sign_ed25519_pk_to_curve25519(public),
        bindings.crypto_sign_ed25519_sk_to_curve25519(secret),
    )
    assert opened == b"capx/1/seal\nbundle\n" + TEXT.encode()


def box(content: bytes) -> str:
    """Any bytes in a box for the key."""
    return PREFIX + b64u(
        bindings.crypto_box_seal(content, bindings.crypto_sign_ed25519_pk_to_curve25519(parse_public(KEY.public)))
    )


SEALED = seal(TEXT, "bundle", KEY.public)
WRONG = {
    "sealed to another": seal(TEXT, "bundle", OTHER.public),
    "keys as a bundle": seal(TEXT, "keys", KEY.public),
    "a box of 32 bytes, as a demand has": box(bytes(32)),
    "no kind": box(TEXT.encode()),
    "a kind that nobody knows": box(b"capx/1/seal\nnote\n" + TEXT.encode()),
    "no line end behind the kind": box(b"capx/1/seal\nbundle" + TEXT.encode()),
    "no UTF-8": box(b"capx/1/seal\nbundle\n\xff"),
    "a changed byte": SEALED[:-2] + ("A" if SEALED[-2] != "A" else "B") + SEALED[-1],
    "one character more": SEALED + "A",
    "one character less": SEALED[:-1],
    "padded": SEALED + "=",
    "another prefix": SEALED.replace("seal1", "seal2"),
    "only the prefix": PREFIX,
    "nothing": "",
    "no ASCII": PREFIX + "ä",
    "too long": PREFIX + "A" * (MAX_SEALED + 1 - len(PREFIX)),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=list(WRONG))
def test_anything_else_is_refused_with_one_error(text: str) -> None:
    with pytest.raises(MalformedToken) as refused:
        KEY.unseal(text, "bundle")
    with pytest.raises(MalformedToken) as empty:
        KEY.unseal("", "bundle")
    assert str(refused.value) == str(empty.value)
    assert str(refused.value).startswith("this cannot be opened: it was sealed to another key, holds no token, or was")
    assert str(refused.value).endswith(f"Ask the sender to seal it to {KEY.public}")
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)


def test_any_character_changed_is_refused() -> None:
    for at in range(len(PREFIX), len(SEALED)):
        other = "A" if SEALED[at] != "A" else "B"
        with pytest.raises(MalformedToken):
            KEY.unseal(SEALED[:at] + other + SEALED[at + 1 :], "bundle")


@pytest.mark.parametrize("weak", [bytes(32), (1).to_bytes(32, "little"), b"\xee" + b"\xff" * 30 + b"\x7f"])
def test_a_weak_key_gets_nothing_sealed(weak: bytes) -> None:
    with pytest.raises(KeyProblem, match="not a safe public key"):
        seal(TEXT, "bundle", public_text(weak))


def test_what_is_too_long_is_not_sealed() -> None:
    most = (MAX_SEALED - len(PREFIX)) * 3 // 4 - 48 - len("capx/1/seal\nbundle\n")
    assert len(KEY.unseal(seal("x" * most, "bundle", KEY.public), "bundle")) == most
    with pytest.raises(InvalidRequest, match="too long to be sealed"):
        seal("x" * (most + 1), "bundle", KEY.public)


def test_no_frame_of_an_error_holds_the_seed() -> None:
    with pytest.raises(MalformedToken) as refused:
        KEY.unseal("", "bundle")
    trace = refused.value.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith("sealed.py"):
            assert SEED not in trace.tb_frame.f_locals.values()
        trace = trace.tb_next
