import copy
import json
import os
import pickle
import socket
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from nacl.signing import SigningKey

from capx.crypto import base64url, hashing
from capx.crypto.ed25519 import is_signed
from capx.crypto.keys import AudienceKey, AudienceKeys, KeyRing, RootKey
from capx.errors import ConfigurationProblem, InvalidRequest, KeyProblem, MalformedToken
from capx.tokens import wire
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability, mint
from capx.verify.decision import Denied
from capx.verify.verifier import Verifier
from capx_caveats import Call
from tests.labs.lab import KEY, NOW, ROOT_KEY, Lab, codes, grant, minted

OTHER = RootKey(bytes(range(1, 33)))
SECRET = bytes(range(32))


class Live(AudienceKeys):
    """Keys that an operator can retire or replace while a verifier runs."""

    retired = False
    replacement: AudienceKey | None = None

    def get(self, kid: str) -> AudienceKey | None:
        return None if self.retired else self.replacement or super().get(kid)


def with_kid(capability: Capability, kid: str) -> str:
    frame = wire.decode(capability.present(ToolCall("a.read"), now=NOW).text)
    identifier = wire.Identifier(kid, frame.identifier.audience, frame.identifier.nonce, frame.identifier.issued_at)
    return wire.encode(identifier, frame.blocks, frame.signature)


def test_a_kid_and_an_audiences_key_follow_from_the_root_key_alone() -> None:
    assert ROOT_KEY.kid == base64url.b64u(hashing.digest(b"capx/1/kid", SECRET)[:8])
    derived = hashing.mac(SECRET, b"capx/1/audience/crm\x01")
    assert KEY.mac_key == hashing.mac(b"macaroons-key-generator", derived)
    assert RootKey(SECRET).audience_key("crm").mac_key == KEY.mac_key


def test_two_fresh_keys_differ() -> None:
    assert RootKey.generate().kid != RootKey.generate().kid


def test_audiences_whose_names_run_together_have_keys_of_their_own() -> None:
    names = ("crm", "crm1", "crm.1", "cr", "m")
    assert len({ROOT_KEY.audience_key(name).mac_key for name in names}) == len(names)


def test_an_unknown_kid_is_not_authentic() -> None:
    assert codes(Lab().decide(with_kid(minted(), OTHER.kid))) == ("not_authentic",)


@pytest.mark.parametrize(
    "kid", ["", "../../../../etc/passwd", "A" * 200, "AAAAAAAAAA", "%2e%2e%2f%2e%2e", "AAAAAAAAAA\n", "A\0AAAAAAAAA"]
)
def test_an_empty_path_like_or_huge_kid_is_malformed(kid: str) -> None:
    with pytest.raises(MalformedToken):
        wire.decode(with_kid(minted(), kid))


def test_a_kid_of_another_live_key_is_not_authentic() -> None:
    lab = Lab(keys=AudienceKeys("crm", [KEY, OTHER.audience_key("crm")]))
    assert codes(lab.decide(with_kid(minted(), OTHER.kid))) == ("not_authentic",)
    assert lab.codes(minted()) == ()
    assert lab.codes(mint(OTHER.audience_key("crm"), grant(), now=NOW)) == ()


def test_a_retired_key_is_an_unknown_key_also_where_its_chains_are_cached() -> None:
    keys = Live("crm", [KEY])
    lab = Lab(keys=keys)
    capability = minted()
    assert lab.codes(capability) == ()
    held = lab.verifier.authenticate(lab.present(capability))
    keys.retired = True
    assert lab.codes(capability) == ("not_authentic",)
    assert codes(lab.verifier.decide(held, ToolCall("a.read"), Call("a.read"))) == ("not_authentic",)
    keys.retired = False
    assert lab.codes(capability) == ()


def test_what_is_cached_under_one_key_is_not_found_under_another_of_the_same_kid() -> None:
    keys = Live("crm", [KEY])
    lab = Lab(keys=keys)
    assert lab.codes(minted()) == ()
    keys.replacement = AudienceKey(KEY.kid, "crm", bytes(range(2, 34)))
    assert lab.codes(minted()) == ("not_authentic",)
    assert lab.codes(mint(keys.replacement, grant(), now=NOW)) == ()


def test_another_key_that_poses_under_a_cached_kid_is_not_authentic() -> None:
    lab = Lab()
    assert lab.codes(minted()) == ()
    forger = AudienceKey(ROOT_KEY.kid, "crm", bytes(range(2, 34)))
    assert lab.codes(mint(forger, grant(), now=NOW, nonce="AQEBAQEBAQEBAQEBAQEBAQ")) == ("not_authentic",)


def test_a_token_of_one_audience_is_refused_at_another() -> None:
    slides = Lab("slides")
    token = slides.present(minted())
    decision = slides.decide(token)
    assert codes(decision) == ("wrong_audience",)
    assert decision.refusals[0].given == "crm"


def test_a_token_authenticated_at_one_audience_is_refused_by_the_verifier_of_another() -> None:
    crm, slides = Lab("crm"), Lab("slides")
    authentic = crm.verifier.authenticate(crm.present(minted()))
    assert codes(slides.verifier.decide(authentic, ToolCall("a.read"), Call("a.read"))) == ("not_authentic",)


def test_an_audiences_key_cannot_mint_for_another() -> None:
    forged = mint(ROOT_KEY.audience_key("slides"), grant(), now=NOW)
    assert Lab("crm").codes(forged) == ("wrong_audience",)
    frame = wire.decode(forged.present(ToolCall("a.read"), now=NOW).text)
    relabelled = wire.Identifier(frame.identifier.kid, "crm", frame.identifier.nonce, NOW)
    assert codes(Lab("crm").decide(wire.encode(relabelled, frame.blocks, frame.signature))) == ("not_authentic",)


def test_an_audiences_key_posing_as_anothers_mints_nothing_authentic() -> None:
    derived = hashing.mac(SECRET, b"capx/1/audience/slides\x01")
    posing = AudienceKey(ROOT_KEY.kid, "crm", derived)
    assert Lab("crm").codes(mint(posing, grant(), now=NOW)) == ("not_authentic",)


def test_no_verifier_is_built_with_keys_of_another_audience() -> None:
    lab = Lab()
    with pytest.raises(ConfigurationProblem):
        Verifier("slides", AudienceKeys("crm", [KEY]), liveness=lab.deaths, replay=lab.replay)
    with pytest.raises(KeyProblem):
        AudienceKeys("slides", [KEY])


def test_two_keys_under_one_kid_are_refused() -> None:
    with pytest.raises(KeyProblem, match="two keys"):
        AudienceKeys("crm", [KEY, AudienceKey(KEY.kid, "crm", bytes(range(2, 34)))])
    assert AudienceKeys("crm", [KEY, RootKey(SECRET).audience_key("crm")]).get(KEY.kid) is not None


@pytest.mark.parametrize(
    "secret", [b"", b"short", bytes(31), bytes(range(31)), bytes(range(33)), bytes(32), b"\xff" * 32, b"x" * 32]
)
def test_weak_short_and_placeholder_keys_are_refused(secret: bytes) -> None:
    with pytest.raises(KeyProblem):
        RootKey(secret)
    with pytest.raises(KeyProblem):
        AudienceKey(ROOT_KEY.kid, "crm", secret)


@pytest.mark.parametrize("audience", ["", "CRM", "crm/../slides", "crm\n", "a" * 64, "-crm", "crm slides", "é"])
def test_a_key_names_an_audience(audience: str) -> None:
    with pytest.raises(KeyProblem):
        ROOT_KEY.audience_key(audience)


@pytest.mark.parametrize("kid", ["", "short", "../../etc/x", "A" * 11 + "=", "A" * 200])
def test_a_key_has_a_key_id(kid: str) -> None:
    with pytest.raises(KeyProblem):
        AudienceKey(kid, "crm", SECRET)


# Files


def test_keys_come_back_from_their_file(tmp_path: Path) -> None:
    ring = KeyRing(OTHER, [ROOT_KEY])
    ring.save(tmp_path / "root.keys")
    again = KeyRing.load(tmp_path / "root.keys")
    assert again.active.kid == OTHER.kid
    assert again.get(ROOT_KEY.kid) is not None
    assert again.get("AAAAAAAAAAA") is None

    ring.audience_keys("crm").save(tmp_path / "crm.keys")
    keys = AudienceKeys.load(tmp_path / "crm.keys")
    assert keys.audience == "crm"
    assert Lab(keys=keys).codes(minted()) == ()


def test_a_key_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KeyRing(ROOT_KEY).save(tmp_path / "root.keys")
        ROOT_KEY_KEYS.save(tmp_path / "crm.keys")
    finally:
        os.umask(before)
    assert (tmp_path / "root.keys").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "crm.keys").stat().st_mode & 0o777 == 0o600


ROOT_KEY_KEYS = AudienceKeys("crm", [KEY])


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_a_key_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    for path, save, load in (
        (tmp_path / "root.keys", KeyRing(ROOT_KEY).save, KeyRing.load),
        (tmp_path / "crm.keys", ROOT_KEY_KEYS.save, AudienceKeys.load),
    ):
        save(path)
        path.chmod(mode)
        with pytest.raises(KeyProblem, match="chmod 600"):
            load(path)
        path.chmod(0o400)
        load(path)


def test_a_key_file_is_never_overwritten_nor_written_through_a_link(tmp_path: Path) -> None:
    KeyRing(ROOT_KEY).save(tmp_path / "root.keys")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for taken in ("root.keys", "link"):
        with pytest.raises(KeyProblem, match=r"it is there already: choose another name, or remove it$"):
            KeyRing(OTHER).save(tmp_path / taken)
    assert KeyRing.load(tmp_path / "root.keys").active.kid == ROOT_KEY.kid
    assert not (tmp_path / "elsewhere").exists()


def spoilt(line: str, other: str) -> dict[str, str]:
    """What is no key file, made of one's line and the kind of the other."""
    before, key = line.rsplit(" ", 1)
    return {
        "nothing": "",
        "a comment alone": "# keys\n",
        "the other kind": line.replace(line.split(maxsplit=1)[0], other, 1),
        "a missing field": before,
        "another field": f"{line} x",
        "no base64": f"{before} {key[:-3]}!!!",
        "no ascii": f"{before} {key[:-1]}ü",
        "a short key": line[:-4],
        "padding": f"{line}=",
        "a placeholder": f"{before} {'A' * 43}",
        "no ascii in another line": f"{line}\nü",
        "a good line and a bad one": f"{line}\n{line}=\n",
        "a path for a kid": line.replace(ROOT_KEY.kid, "../../../etc"),
        "another's kid": line.replace(ROOT_KEY.kid, OTHER.kid) if other == "audience" else f"{line}\n{other}",
    }


LINE, ROOT_LINE = KEY.line(), ROOT_KEY.line()
FILES = {**spoilt(LINE, "root"), "two audiences": f"{LINE}\n{ROOT_KEY.audience_key('slides').line()}"}
ROOT_FILES = spoilt(ROOT_LINE, "audience")


@pytest.mark.parametrize("text", FILES.values(), ids=list(FILES))
def test_any_other_file_is_refused_and_its_keys_not_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "crm.keys"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(KeyProblem) as caught:
        AudienceKeys.load(path)
    assert LINE.rsplit(" ", 1)[1][:20] not in str(caught.value)


@pytest.mark.parametrize("text", ROOT_FILES.values(), ids=list(ROOT_FILES))
def test_any_other_root_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "root.keys"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match=r"root\.keys"):
        KeyRing.load(path)


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(KeyProblem):
            KeyRing.load(path)


def test_a_root_key_under_another_kid_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "root.keys"
    path.write_text(ROOT_KEY.line().replace(ROOT_KEY.kid, OTHER.kid))
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match="kid"):
        KeyRing.load(path)


def test_a_key_file_of_another_audience_is_refused_where_one_is_named(tmp_path: Path) -> None:
    ROOT_KEY_KEYS.save(tmp_path / "crm.keys")
    with pytest.raises(KeyProblem):
        AudienceKeys.load(tmp_path / "crm.keys", "slides")


# The feed's keys

SEED = hashing.mac(SECRET, b"capx/1/feed\x01")
SIGNER = ROOT_KEY.feed_signer()


def test_the_feeds_key_follows_from_the_root_key_alone_and_is_no_audiences() -> None:
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
    keys = KeyRing(OTHER, [ROOT_KEY]).exported("crm")
    assert dict(keys.feed) == {key.kid: key.feed_signer().public for key in (OTHER, ROOT_KEY)}
    keys.save(tmp_path / "crm.keys")
    again = AudienceKeys.load(tmp_path / "crm.keys")
    assert again.feed == keys.feed
    assert again.dump() == keys.dump()
    assert Lab(keys=again).codes(minted()) == ()
    assert f"feed {ROOT_KEY.kid} {base64url.b64u(SIGNER.public)}\n" in keys.dump()


def test_keys_without_the_feeds_are_keys_as_before(tmp_path: Path) -> None:
    KeyRing(ROOT_KEY).audience_keys("crm").save(tmp_path / "crm.keys")
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
def test_a_public_key_that_proves_no_signer_is_refused_wherever_it_stands(tmp_path: Path, public: bytes) -> None:
    with pytest.raises(KeyProblem):
        AudienceKeys("crm", [KEY], {ROOT_KEY.kid: public})
    path = tmp_path / "crm.keys"
    path.write_text(f"{LINE}\nfeed {ROOT_KEY.kid} {base64url.b64u(public)}\n")
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match=r"crm\.keys, line 2: "):
        AudienceKeys.load(path)


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


def test_a_feeds_key_alone_is_no_audiences_file_and_two_under_one_id_are_none(tmp_path: Path) -> None:
    path = tmp_path / "crm.keys"
    path.write_text(f"{FEED_LINE}\n")
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match="holds no key of an audience"):
        AudienceKeys.load(path)
    path.write_text(f"{LINE}\n{FEED_LINE}\n{FEED_LINE}\n")
    assert ROOT_KEY.kid in AudienceKeys.load(path).feed
    path.write_text(f"{LINE}\n{FEED_LINE}\nfeed {ROOT_KEY.kid} {base64url.b64u(OTHER.feed_signer().public)}\n")
    with pytest.raises(KeyProblem, match="two feed keys"):
        AudienceKeys.load(path)


def test_a_root_key_file_holds_no_feeds_key(tmp_path: Path) -> None:
    path = tmp_path / "root.keys"
    path.write_text(f"{ROOT_LINE}\n{FEED_LINE}\n")
    path.chmod(0o600)
    with pytest.raises(KeyProblem, match="line 2"):
        KeyRing.load(path)


# Secrets

HOLDERS = [ROOT_KEY, KEY, KeyRing(ROOT_KEY), ROOT_KEY_KEYS, SIGNER, KeyRing(ROOT_KEY).exported("crm")]


def secrets() -> Iterator[str]:
    derived = hashing.mac(SECRET, b"capx/1/audience/crm\x01")
    for secret in (SECRET, derived, KEY.mac_key, SEED, SEED + SIGNER.public):
        yield from (base64url.b64u(secret), secret.hex(), repr(secret)[2:-1])


def assert_tells_nothing(text: str) -> None:
    assert not [secret for secret in secrets() if secret in text]


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
def test_a_key_never_shows_in_repr_str_or_format(holder: object) -> None:
    assert_tells_nothing(f"{holder!r} {holder} {[holder]} %s" % holder)


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_is_neither_pickled_nor_copied(holder: object, copied: Callable[[object], object]) -> None:
    with pytest.raises(KeyProblem) as caught:
        copied(holder)
    assert_tells_nothing(str(caught.value))


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
@pytest.mark.parametrize("encode", [json.dumps, msgspec.json.encode, msgspec.to_builtins, vars])
def test_a_key_is_no_json_and_has_no_dictionary(holder: object, encode: Callable[[object], object]) -> None:
    with pytest.raises(TypeError):
        encode(holder)


def with_locals(error: BaseException) -> str:
    """What an error reporter sends of a failure: all frames below the caller's, with their variables."""
    assert error.__traceback__ is not None
    told = traceback.TracebackException(type(error), error, error.__traceback__.tb_next, capture_locals=True)
    return "".join(told.format())


def attempts(folder: Path) -> dict[str, Callable[[], object]]:
    """All that fails with a key in hand."""
    made: dict[str, Callable[[], object]] = {
        "no audience": lambda: ROOT_KEY.audience_key("NO AUDIENCE"),
        "no audience's key": lambda: AudienceKey(ROOT_KEY.kid, "NO AUDIENCE", SECRET),
        "no kid": lambda: AudienceKey("no kid", "crm", SECRET),
        "a long root key": lambda: RootKey(SECRET + b"!"),
        "a long key": lambda: AudienceKey(ROOT_KEY.kid, "crm", SECRET + b"!"),
        "another's key": lambda: AudienceKeys("slides", [KEY]),
        "two keys": lambda: AudienceKeys("crm", [KEY, AudienceKey(KEY.kid, "crm", bytes(range(2, 34)))]),
        "a pickle": lambda: pickle.dumps(ROOT_KEY),
        "an active key": lambda: KeyRing(ROOT_KEY).retired(ROOT_KEY.kid),
    }
    taken, crm = saved(folder), folder / "crm.keys"
    ROOT_KEY_KEYS.save(crm)
    (folder / "nobody.keys").write_text(ROOT_KEY.line())
    (folder / "nobody.keys").chmod(0o644)
    made |= {
        "a root key file over another": lambda: KeyRing(ROOT_KEY).save(taken),
        "a key file over another": lambda: ROOT_KEY_KEYS.save(crm),
        "a key file over a folder": lambda: ROOT_KEY_KEYS.save(folder, replace=True),
        "a key file in no folder": lambda: ROOT_KEY_KEYS.save(folder / "no" / "x", replace=True),
        "a change that raises": lambda: KeyRing.change(taken, lambda ring: ring.retired(ROOT_KEY.kid)),
        "an audience's file for a root's": lambda: KeyRing.load(crm),
        "a root's file for an audience's": lambda: AudienceKeys.load(taken),
        "a file of another audience": lambda: AudienceKeys.load(crm, "slides"),
        "a file that others may read": lambda: KeyRing.load(folder / "nobody.keys"),
    }
    loads: tuple[tuple[Callable[[Path], object], dict[str, str]], ...] = (
        (KeyRing.load, ROOT_FILES),
        (AudienceKeys.load, FILES),
    )
    for load, files in loads:
        for name, text in files.items():
            file = folder / f"{load.__qualname__} {name}"
            file.write_text(text, encoding="utf-8")
            file.chmod(0o600)
            made[file.name] = partial(load, file)
    return made


def test_a_traceback_with_locals_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = attempts(tmp_path)
    full = {
        "a full disk": lambda: ROOT_KEY_KEYS.save(tmp_path / "full.keys"),
        "a full disk in a change": lambda: KeyRing.change(tmp_path / "root.keys", lambda ring: ring.added(OTHER)),
    }
    shown: dict[str, str] = {}
    for name, fails in (made | full).items():
        if name in full:
            monkeypatch.setattr("os.fsync", disk_is_full)
        with pytest.raises((KeyProblem, InvalidRequest)) as caught:
            fails()
        assert caught.value.__context__ is None or caught.value.__suppress_context__
        shown[name] = with_locals(caught.value)
    assert "audience = 'NO AUDIENCE'" in shown["no audience"]
    assert "AudienceKey('NO AUDIENCE', kid=" in shown["no audience's key"]
    assert "RootKey(kid='')" in shown["a long root key"]
    written = (LINE.split()[-1], ROOT_LINE.split()[-1], OTHER.line().split()[-1])
    for name, text in shown.items():
        assert_tells_nothing(text)
        assert not [secret for secret in written if secret[:20] in text], name


def test_what_a_verifier_holds_shows_no_key_and_no_signature_in_its_repr() -> None:
    lab = Lab()
    authentic = lab.verifier.authenticate(lab.present(minted()))
    for text in (repr(authentic), repr(lab.verifier), repr(authentic.frame)):
        assert_tells_nothing(text)
        assert repr(authentic.tail)[2:-1] not in text
        assert repr(authentic.frame.signature)[2:-1] not in text
        assert "capx1_" not in text


def test_no_denial_tells_a_token_or_a_key() -> None:
    lab = Lab()
    forged = minted(audience="crm").present(ToolCall("a.read"), now=NOW).text[:-4] + "AAAA"
    for token in (forged, lab.present(minted()), with_kid(minted(), OTHER.kid), "capx1_" + "A" * 50):
        decision = lab.decide(token, "a.export")
        text = json.dumps(decision.body()) + repr(decision)
        assert not decision.allowed
        assert_tells_nothing(text)
        assert token[10:] not in text


def test_what_the_log_gets_holds_no_token() -> None:
    lab = Lab()
    token = lab.present(minted())
    assert lab.decide(token).allowed
    (decision,) = lab.records.decisions
    text = json.dumps(decision.body())
    assert base64url.b64u(wire.decode(token).signature) not in text
    assert_tells_nothing(text)


THIRD = RootKey(bytes(range(2, 34)))


def test_a_key_is_added_then_mints_then_the_old_one_is_let_go() -> None:
    ring = KeyRing(ROOT_KEY)
    added = ring.added(OTHER)
    assert (added.active.kid, added.kids) == (ROOT_KEY.kid, (ROOT_KEY.kid, OTHER.kid))
    activated = added.added(THIRD).activated(OTHER.kid)
    assert (activated.active.kid, activated.kids) == (OTHER.kid, (OTHER.kid, ROOT_KEY.kid, THIRD.kid))
    retired = activated.retired(ROOT_KEY.kid)
    assert (retired.active.kid, retired.kids) == (OTHER.kid, (OTHER.kid, THIRD.kid))
    assert retired.audience_keys("crm").get(ROOT_KEY.kid) is None
    assert ring.kids == (ROOT_KEY.kid,)


def test_rotation_refuses_no_token_that_was_minted_on_the_way() -> None:
    before = KeyRing(ROOT_KEY)
    added = before.added(OTHER)
    activated = added.activated(OTHER.kid)
    old, new = minted(), mint(activated.active.audience_key("crm"), grant(), now=NOW)
    assert Lab(keys=added.audience_keys("crm")).codes(old) == ()
    assert Lab(keys=added.audience_keys("crm")).codes(new) == ()
    assert Lab(keys=activated.audience_keys("crm")).codes(old) == ()
    retired = activated.retired(ROOT_KEY.kid)
    assert Lab(keys=retired.audience_keys("crm")).codes(old) == ("not_authentic",)
    assert Lab(keys=retired.audience_keys("crm")).codes(new) == ()


def test_the_key_that_mints_is_not_retired_and_an_unknown_one_neither_activated() -> None:
    ring = KeyRing(ROOT_KEY).added(OTHER)
    with pytest.raises(InvalidRequest, match="activate another one first"):
        ring.retired(ROOT_KEY.kid)
    for change in (ring.retired, ring.activated):
        with pytest.raises(InvalidRequest, match="there is no live key"):
            change(THIRD.kid)


def disk_is_full(_: int) -> None:
    raise OSError(28, "No space left on device")


def saved(folder: Path) -> Path:
    path = folder / "root.keys"
    KeyRing(ROOT_KEY).save(path)
    return path


def test_a_change_replaces_the_file_as_a_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = path.stat().st_ino
    changed = KeyRing.change(path, lambda ring: ring.added(OTHER))
    assert changed.kids == KeyRing.load(path).kids == (ROOT_KEY.kid, OTHER.kid)
    assert path.stat().st_ino != before
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["root.keys"]


def test_a_change_follows_a_link_and_leaves_it_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = saved(tmp_path / "elsewhere")
    link = tmp_path / "root.keys"
    link.symlink_to(path)
    KeyRing.change(link, lambda ring: ring.added(OTHER))
    assert link.is_symlink()
    assert KeyRing.load(path).kids == (ROOT_KEY.kid, OTHER.kid)


def test_a_change_that_raises_is_none(tmp_path: Path) -> None:
    path = saved(tmp_path)
    text = path.read_text()
    with pytest.raises(InvalidRequest):
        KeyRing.change(path, lambda ring: ring.retired(ROOT_KEY.kid))
    with pytest.raises(InvalidRequest):
        KeyRing.change(path, lambda ring: ring.activated(OTHER.kid))
    assert path.read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == ["root.keys"]


def test_what_a_change_that_was_cut_short_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (tmp_path / "root.keys.new").write_text("root half a li")
    KeyRing.change(path, lambda ring: ring.added(OTHER))
    assert KeyRing.load(path).kids == (ROOT_KEY.kid, OTHER.kid)
    assert [file.name for file in tmp_path.iterdir()] == ["root.keys"]


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    text = path.read_text()

    monkeypatch.setattr("os.fsync", disk_is_full)
    with pytest.raises(KeyProblem, match="No space left"):
        KeyRing.change(path, lambda ring: ring.added(OTHER))
    assert path.read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == ["root.keys"]


def test_a_change_gives_up_on_one_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    monkeypatch.setattr("capx.crypto.private_file._PATIENCE", 0.1)

    def twice(ring: KeyRing) -> KeyRing:
        return KeyRing.change(path, lambda inner: inner.added(OTHER))

    with pytest.raises(KeyProblem, match="another process is changing"):
        KeyRing.change(path, twice)
    assert KeyRing.load(path).kids == (ROOT_KEY.kid,)


def test_an_audiences_key_file_is_replaced_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "crm.keys"
    ring = KeyRing(ROOT_KEY)
    ring.audience_keys("crm").save(path, replace=True)
    more = ring.added(OTHER).audience_keys("crm")
    with pytest.raises(KeyProblem, match="it is there already"):
        more.save(path)
    more.save(path, replace=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert AudienceKeys.load(path).get(OTHER.kid) is not None
    with pytest.raises(KeyProblem, match=r"cannot write .*crm\.keys: No such file"):
        more.save(tmp_path / "nowhere" / "crm.keys", replace=True)


def make_a_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def make_a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize("make", [make_a_pipe, make_a_socket, Path.mkdir])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_not_replaced(make: Callable[[Path], None], linked: bool, tmp_path: Path) -> None:
    path = named = tmp_path / "x"
    make(path)
    if linked:
        named = tmp_path / "link"
        named.symlink_to("x")
    before = path.lstat()
    with pytest.raises(KeyProblem, match="is no regular file"):
        ROOT_KEY_KEYS.save(named, replace=True)
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert not list(tmp_path.glob("*.new"))


def test_a_key_file_that_is_replaced_through_links_is_the_one_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "svc").mkdir()
    file = tmp_path / "svc" / "crm.keys"
    ROOT_KEY_KEYS.save(file)
    first, second = tmp_path / "first", tmp_path / "svc" / "second"
    second.symlink_to("crm.keys")
    first.symlink_to("svc/second")
    KeyRing(ROOT_KEY, [OTHER]).audience_keys("crm").save(first, replace=True)
    assert AudienceKeys.load(file).get(OTHER.kid) is not None
    assert first.is_symlink()
    assert second.is_symlink()


def test_a_link_that_leads_nowhere_or_to_itself_is_not_replaced(tmp_path: Path) -> None:
    nowhere, itself = tmp_path / "nowhere", tmp_path / "itself"
    nowhere.symlink_to("not there")
    itself.symlink_to("itself")
    for link, why in ((nowhere, "leads nowhere"), (itself, "leads from link to link")):
        with pytest.raises(KeyProblem, match=why):
            ROOT_KEY_KEYS.save(link, replace=True)
        assert link.is_symlink()
    assert not (tmp_path / "not there").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_link_does_not_choose_what_is_overwritten(tmp_path: Path) -> None:
    file, link = saved(tmp_path), tmp_path / "his" / "crm.keys"
    text = file.read_text()
    link.parent.mkdir(0o755)
    link.symlink_to(file)
    os.chown(link, 65534, 65534, follow_symlinks=False)
    for change in (lambda: ROOT_KEY_KEYS.save(link, replace=True), lambda: KeyRing.change(link, lambda ring: ring)):
        with pytest.raises(KeyProblem, match="a link of another user"):
            change()
    assert file.read_text() == text
    assert link.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_is_replaced_stays_its_owners(tmp_path: Path) -> None:
    path = saved(tmp_path)
    os.chown(path, 65534, 65534)
    KeyRing.change(path, lambda ring: ring.added(OTHER))
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("link", [False, True])
def test_a_file_that_anybody_could_have_put_there_gets_no_key(tmp_path: Path, link: bool) -> None:
    tmp_path.chmod(0o777)
    path = tmp_path / "crm.keys"
    if link:
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("mine")
    os.chown(path, 65534, 65534, follow_symlinks=False)
    with pytest.raises(KeyProblem, match="belongs to another user, in a folder that others may write"):
        ROOT_KEY_KEYS.save(path, replace=True)
    assert [file.name for file in tmp_path.iterdir()] == ["crm.keys"]


def test_a_traceback_with_locals_of_a_refusal_shows_no_key_and_nothing_to_forge_with() -> None:
    lab = Lab()
    token = lab.present(minted())
    frame = wire.decode(token)
    forged = wire.encode(frame.identifier, frame.blocks, bytes(32))
    for sent in (forged, lab.present(minted(), "a.export"), minted().text, token[:-3]):
        with pytest.raises(Denied) as caught:
            lab.verifier.verify(sent, ToolCall("a.export"), Call("a.export"))
        text = with_locals(caught.value)
        assert "received = ToolCall" in text
        assert_tells_nothing(text)
        for tail in (wire.decode(minted().text).signature, frame.signature):
            assert repr(tail)[2:-1] not in text


def test_a_pipe_in_the_place_of_a_key_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "root.keys", 0o600)
    with pytest.raises(KeyProblem, match="no regular file"):
        KeyRing.load(tmp_path / "root.keys")
    with pytest.raises(KeyProblem, match="no regular file"):
        AudienceKeys.load(tmp_path / "root.keys")
