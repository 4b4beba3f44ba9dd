"""Feed keys: what is signed with them, and public keys that prove no signer."""

from pathlib import Path

import pytest
from nacl.signing import SigningKey

from capx.crypto import base64url, hashing
from capx.crypto.ed25519 import is_signed, parse_public
from capx.crypto.keys import AudienceKeys, KeyRing, RootKey
from capx.errors import KeyProblem
from tests.labs.key_files import AUTHORITY, LINE, NAMED, OTHER, RING, ROOT_LINE, SECRET, SEED, SIGNER
from tests.labs.lab import KEY, ROOT_KEY, Lab, minted


def test_the_feeds_key_follows_from_the_root_key_alone() -> None:
    assert SIGNER.public == bytes(SigningKey(SEED).verify_key)
    assert (SIGNER.kid, SIGNER.public) == (ROOT_KEY.kid, RootKey(SECRET).feed_signer().public)
    assert OTHER.feed_signer().public != SIGNER.public
    assert SEED not in {hashing.mac(SECRET, b"capx/1/audience/" + name + b"\x01") for name in (b"", b"feed", b"crm")}


def test_what_is_signed_is_verified_with_the_public_half_alone() -> None:
    signature = SIGNER.sign(b"message")
    assert SigningKey(SEED).verify_key.verify(b"message", signature) == b"message"
    assert is_signed(SIGNER.public, b"message", signature)
    assert not is_signed(SIGNER.public, b"message!", signature)
    assert not is_signed(OTHER.feed_signer().public, b"message", signature)
    for cut in (b"", signature[:-1], signature + b"\0", bytes(64)):
        assert not is_signed(SIGNER.public, b"message", cut)


def test_exported_keys_come_back_from_their_file_with_the_feeds(tmp_path: Path) -> None:
    keys = KeyRing(OTHER, [ROOT_KEY], AUTHORITY).exported("crm")
    assert dict(keys.feed) == {key.kid: key.feed_signer().public for key in (OTHER, ROOT_KEY)}
    keys.save(tmp_path / "crm.keys")
    again = AudienceKeys.load(tmp_path / "crm.keys")
    assert again.feed == keys.feed
    assert again.dump() == keys.dump()
    assert Lab(keys=again).codes(minted()) == ()
    assert f"feed {ROOT_KEY.kid} {base64url.b64u(SIGNER.public)}\n" in keys.dump()


def test_keys_without_the_feeds_are_keys_as_before(tmp_path: Path) -> None:
    RING.audience_keys("crm").save(tmp_path / "crm.keys")
    assert dict(AudienceKeys.load(tmp_path / "crm.keys").feed) == {}


def test_the_keys_of_a_feed_cannot_be_changed_in_place() -> None:
    given = {ROOT_KEY.kid: SIGNER.public}
    keys = AudienceKeys("crm", [KEY], given)
    with pytest.raises(TypeError):
        keys.feed[OTHER.kid] = OTHER.feed_signer().public  # type: ignore[index]
    given.clear()
    assert ROOT_KEY.kid in keys.feed


# Encodings of points of small order, of one that is on no curve, and of one that is not in the group of the base point.
WEAK = {
    "zero": bytes(32),
    "one": bytes([1]) + bytes(31),
    "minus one": (2**255 - 20).to_bytes(32, "little"),
    "of order eight": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "another of order eight": bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    "one, not reduced": (2**255 - 18).to_bytes(32, "little"),
    "on no curve": bytes([2]) + bytes(31),
    "all ones": b"\xff" * 32,
    "short": SIGNER.public[:31],
    "long": SIGNER.public + b"\0",
    "empty": b"",
}


@pytest.mark.parametrize("public", WEAK.values(), ids=list(WEAK))
def test_a_public_key_that_proves_no_signer_is_refused(tmp_path: Path, public: bytes) -> None:
    with pytest.raises(KeyProblem):
        AudienceKeys("crm", [KEY], {ROOT_KEY.kid: public})
    path = tmp_path / "crm.keys"
    path.write_text(f"{LINE}\nfeed {ROOT_KEY.kid} {base64url.b64u(public)}\n")
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match=r"crm\.keys, line 2: "):
        AudienceKeys.load(path)


def test_a_public_key_that_was_cut_is_told_by_its_length() -> None:
    with pytest.raises(KeyProblem, match="has 43 characters after ed25519:, and this has 3: copy it whole"):
        parse_public("ed25519:abc")
    with pytest.raises(KeyProblem, match="has 43 characters of base64url after ed25519:"):
        parse_public(f"ed25519:{'!' * 43}")


FEED_LINE = f"feed {ROOT_KEY.kid} {base64url.b64u(SIGNER.public)}"


@pytest.mark.parametrize(
    "line",
    [
        "feed",
        f"feed {ROOT_KEY.kid}",
        f"{FEED_LINE} x",
        f"feed crm {ROOT_KEY.kid} {base64url.b64u(SIGNER.public)}",
        FEED_LINE.replace("feed", "Feed"),
        FEED_LINE.replace("feed", "audience"),
        FEED_LINE.replace("feed", "root"),
        f"{FEED_LINE}=",
        FEED_LINE.replace(ROOT_KEY.kid, "../../../etc"),
        FEED_LINE.replace(ROOT_KEY.kid, ROOT_KEY.kid[:-1]),
        f"{FEED_LINE[:-3]}!!!",
        f"{FEED_LINE[:-1]}ü",
    ],
)
def test_any_other_line_of_a_feed_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "crm.keys"
    path.write_text(f"# keys\n\n{LINE}\n{line}\n", encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match=r"crm\.keys, line 4: "):
        AudienceKeys.load(path)


def test_a_feeds_key_alone_or_twice_is_refused_as_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "crm.keys"
    path.write_text(f"{FEED_LINE}\n")
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match="holds no key of an audience"):
        AudienceKeys.load(path)
    path.write_text(f"{NAMED}{LINE}\n{FEED_LINE}\n{FEED_LINE}\n")
    assert ROOT_KEY.kid in AudienceKeys.load(path).feed
    path.write_text(f"{NAMED}{LINE}\n{FEED_LINE}\nfeed {ROOT_KEY.kid} {base64url.b64u(OTHER.feed_signer().public)}\n")
    with pytest.raises(KeyProblem, match="two feed keys"):
        AudienceKeys.load(path)


def test_a_root_key_file_holds_no_feeds_key(tmp_path: Path) -> None:
    path = tmp_path / "root.keys"
    path.write_text(f"{ROOT_LINE}\n{FEED_LINE}\n")
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match="line 2"):
        KeyRing.load(path)
