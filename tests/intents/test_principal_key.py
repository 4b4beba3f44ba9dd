import copy
import json
import pickle
import traceback
from pathlib import Path

import msgspec
import pytest
from nacl.signing import SigningKey, VerifyKey

from capx.crypto import key_file
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import Signer, is_signed_by, parse_public, public_text
from capx.crypto.named_key import file_name
from capx.errors import InvalidRequest, KeyProblem
from capx.intents.intent import Intent
from capx.intents.principal_key import PrincipalKey

SEED = bytes(range(32))
ANA = PrincipalKey("ana@our.example", Signer(SEED))
ORDER_1 = "0100000000000000000000000000000000000000000000000000000000000000"
WEAK = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    ORDER_1,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]
"""Points of small order, and such that are not in their one canonical form."""


def intent(principal: str = ANA.name) -> Intent:
    return Intent(
        principal=principal,
        authority="OYZ7VqUQJ9PBa0YXjDBPsw.1795500000",
        purpose="qbr",
        statement="Prepare the quarterly review.",
        max_tasks=1,
        issued=1,
        not_after=2,
        nonce="q83vEjRWeJCrze8SNFZ4kA",
    )


def test_a_public_half_is_read_as_it_is_written() -> None:
    assert ANA.public == f"ed25519:{b64u(bytes(SigningKey(SEED).verify_key))}"
    assert public_text(parse_public(ANA.public)) == ANA.public


def test_a_signature_is_one_of_ed25519() -> None:
    signature = ANA.sign(b"message")
    VerifyKey(parse_public(ANA.public)).verify(b"message", unb64u(signature))
    assert is_signed_by(parse_public(ANA.public), b"message", signature)


def test_two_fresh_keys_differ() -> None:
    assert PrincipalKey.generate("ana").public != PrincipalKey.generate("ana").public


@pytest.mark.parametrize("signature", ["", "A", "A" * 86, "ä", "A" * 85 + "B", "=" * 86])
def test_what_is_no_signature_signs_nothing(signature: str) -> None:
    assert not is_signed_by(parse_public(ANA.public), b"message", signature)


def test_a_signature_over_another_text_or_of_another_is_refused() -> None:
    other = PrincipalKey.generate("ana@our.example")
    assert not is_signed_by(parse_public(ANA.public), b"message", ANA.sign(b"massage"))
    assert not is_signed_by(parse_public(ANA.public), b"message", other.sign(b"message"))


def test_a_signature_with_a_raised_scalar_is_refused() -> None:
    signature = unb64u(ANA.sign(b"message"))
    order = 2**252 + 27742317777372353535851937790883648493
    raised = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert not is_signed_by(parse_public(ANA.public), b"message", b64u(raised))


@pytest.mark.parametrize("point", WEAK)
def test_a_weak_public_key_is_refused(point: str) -> None:
    with pytest.raises(KeyProblem, match="not a safe public key"):
        parse_public(public_text(bytes.fromhex(point)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519:",
        "ed25519",
        b64u(SEED),
        "ed25519:AAAA",
        "ed25519:ä",
        f"{ANA.public}=",
        f"{ANA.public}A",
        "rsa:AAAA",
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(KeyProblem):
        parse_public(text)


def test_a_key_signs_no_intent_of_somebody_else() -> None:
    with pytest.raises(InvalidRequest, match=r"this is the key of ana@our\.example, and bo must sign this intent"):
        ANA.sign_intent(intent("bo"))
    signed = ANA.sign_intent(intent())
    assert is_signed_by(parse_public(ANA.public), signed.intent.message(), signed.signature)


@pytest.mark.parametrize(
    "name", ["ana@our.example", "Ana María", "a/../../b", "100 %", "ana\u2003bo", "-x", "..", "x" * 128]
)
def test_a_key_file_gives_back_the_key_of_any_principal(tmp_path: Path, name: str) -> None:
    key = PrincipalKey(name, Signer(SEED))
    file = tmp_path / file_name(name)
    assert file.parent == tmp_path
    key.save(file)
    assert file.stat().st_mode & 0o777 == 0o600
    again = PrincipalKey.load(file)
    assert (again.name, again.public) == (key.name, key.public)
    assert list(tmp_path.iterdir()) == [file]


def test_key_files_of_long_names_that_begin_alike_differ() -> None:
    one, other = (file_name("é" * 127 + last) for last in "ab")
    assert one != other
    assert max(len(one), len(other)) < 255


@pytest.mark.parametrize("name", ["", "a\nb", "a\u202eb", "a\x1b[31m", "x" * 129])
def test_a_key_of_nobody_is_refused(name: str) -> None:
    with pytest.raises(KeyProblem, match="cannot name a principal"):
        PrincipalKey.generate(name)


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "ana.key"
    ANA.save(file)
    with pytest.raises(KeyProblem, match="it is there already"):
        PrincipalKey.generate("ana").save(file)
    assert PrincipalKey.load(file).public == ANA.public


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ana.key"
    ANA.save(file)
    file.chmod(0o640)
    with pytest.raises(KeyProblem, match="may be read or changed by others: chmod 600"):
        PrincipalKey.load(file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no key"),
        (f"root AAAAAAAAAAA {b64u(SEED)}\n", "line 1: wanted `principal NAME SEED`"),
        (f"principal {b64u(SEED)}\n", "line 1: wanted `principal NAME SEED`"),
        (f"principal ana {b64u(SEED)[:-1]}\n", "line 1: "),
        (f"principal ana {b64u(SEED[:-1])}\n", "line 1: a key has exactly 32 bytes, this one 31"),
        (f"principal ana {'A' * 43}\n", "line 1: one repeated byte is a placeholder"),
        (f"principal an%61 {b64u(SEED)}\n", "line 1: the name is not the percent-encoded name of a principal"),
        (f"principal %0A {b64u(SEED)}\n", "line 1: the name is not the percent-encoded name of a principal"),
        (f"principal %ff {b64u(SEED)}\n", "line 1: the name is not the percent-encoded name of a principal"),
        (f"{ANA.dump()}{PrincipalKey('bo', Signer(SEED[::-1])).dump()}", "holds 2 keys"),
    ],
)
def test_a_file_that_holds_no_key_is_refused_by_line_unshown(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "ana.key"
    file.touch(0o600)
    file.write_text(text)
    with pytest.raises(KeyProblem) as caught:
        PrincipalKey.load(file)
    assert says in str(caught.value)
    assert b64u(SEED)[:8] not in "".join(traceback.format_exception(caught.value))


def test_a_key_never_shows() -> None:
    secret = b64u(SEED)
    signer = Signer(SEED)
    for shown in (repr(ANA), str(ANA), f"{ANA}", repr(signer), repr(vars(PrincipalKey))):
        assert secret not in shown
        assert repr(SEED) not in shown
    for taken in (pickle.dumps, copy.deepcopy, json.dumps, msgspec.json.encode):
        for one in (ANA, signer):
            with pytest.raises((KeyProblem, TypeError)):
                taken(one)


@pytest.mark.parametrize("seed", [b"", bytes(31), b"secret-secret-secret-secret-sec", b"\7" * 32])
def test_no_frame_holds_the_seed_of_a_key_that_is_refused(seed: bytes) -> None:
    with pytest.raises(KeyProblem) as caught:
        Signer(seed)
    trace = caught.value.__traceback__
    held: list[object] = []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith("ed25519.py"):
            held += trace.tb_frame.f_locals.values()
        trace = trace.tb_next
    assert held
    assert seed not in held


class _Interrupted:
    """Keys while which are written somebody presses ^C."""

    def dump(self) -> str:
        raise KeyboardInterrupt


def test_an_interrupted_writer_leaves_no_empty_key_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        key_file.write(tmp_path / "ana.key", _Interrupted())
    assert list(tmp_path.iterdir()) == []
