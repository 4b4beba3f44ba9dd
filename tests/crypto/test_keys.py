"""Root keys, audience keys and their ring: what follows from what, and that none of them shows itself."""

import copy
import json
import pickle
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from capx.crypto import base64url, hashing
from capx.crypto.keys import AudienceKey, AudienceKeys, KeyRing, RootKey
from capx.errors import ConfigurationProblem, InvalidRequest, KeyProblem, MalformedToken
from capx.tokens import wire
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability, mint
from capx.verify.decision import Denied
from capx.verify.verifier import Verifier
from capx_caveats import Call
from tests.labs.key_files import (
    FILES,
    LINE,
    OTHER,
    ROOT_FILES,
    ROOT_KEY_KEYS,
    ROOT_LINE,
    SECRET,
    SEED,
    SIGNER,
    disk_is_full,
    saved,
)
from tests.labs.lab import KEY, NOW, ROOT_KEY, Lab, codes, grant, minted


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


def test_a_kid_and_an_audiences_key_follow_from_the_root_key() -> None:
    assert ROOT_KEY.kid == base64url.b64u(hashing.digest(b"capx/1/kid", SECRET)[:8])
    derived = hashing.mac(SECRET, b"capx/1/audience/crm\x01")
    assert KEY.mac_key == hashing.mac(b"macaroons-key-generator", derived)
    assert RootKey(SECRET).audience_key("crm").mac_key == KEY.mac_key


def test_two_fresh_keys_differ() -> None:
    assert RootKey.generate().kid != RootKey.generate().kid


def test_audiences_whose_names_run_together_have_own_keys() -> None:
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


def test_a_retired_key_is_refused_though_its_chains_are_cached() -> None:
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


def test_what_is_cached_under_one_key_is_refused_under_another() -> None:
    keys = Live("crm", [KEY])
    lab = Lab(keys=keys)
    assert lab.codes(minted()) == ()
    keys.replacement = AudienceKey(KEY.kid, "crm", bytes(range(2, 34)))
    assert lab.codes(minted()) == ("not_authentic",)
    assert lab.codes(mint(keys.replacement, grant(), now=NOW)) == ()


def test_another_key_posing_under_a_cached_kid_is_refused() -> None:
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


def test_a_token_of_one_audience_is_refused_by_anothers_verifier() -> None:
    crm, slides = Lab("crm"), Lab("slides")
    authentic = crm.verifier.authenticate(crm.present(minted()))
    assert codes(slides.verifier.decide(authentic, ToolCall("a.read"), Call("a.read"))) == ("not_authentic",)


def test_an_audiences_key_cannot_mint_for_another() -> None:
    forged = mint(ROOT_KEY.audience_key("slides"), grant(), now=NOW)
    assert Lab("crm").codes(forged) == ("wrong_audience",)
    frame = wire.decode(forged.present(ToolCall("a.read"), now=NOW).text)
    relabelled = wire.Identifier(frame.identifier.kid, "crm", frame.identifier.nonce, NOW)
    assert codes(Lab("crm").decide(wire.encode(relabelled, frame.blocks, frame.signature))) == ("not_authentic",)


def test_an_audiences_key_posing_as_anothers_is_refused() -> None:
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
    with pytest.raises(KeyProblem, match="two different keys"):
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
        "two different keys": lambda: AudienceKeys("crm", [KEY, AudienceKey(KEY.kid, "crm", bytes(range(2, 34)))]),
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


def test_a_verifiers_repr_shows_no_key_and_no_signature() -> None:
    lab = Lab()
    authentic = lab.verifier.authenticate(lab.present(minted()))
    for text in (repr(authentic), repr(lab.verifier), repr(authentic.frame)):
        assert_tells_nothing(text)
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


def test_the_minting_key_is_not_retired_an_unknown_not_activated() -> None:
    ring = KeyRing(ROOT_KEY).added(OTHER)
    with pytest.raises(InvalidRequest, match="activate another one first"):
        ring.retired(ROOT_KEY.kid)
    for change in (ring.retired, ring.activated):
        with pytest.raises(InvalidRequest, match="there is no live key"):
            change(THIRD.kid)


def test_a_traceback_of_a_refusal_shows_no_key_and_no_tail() -> None:
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
