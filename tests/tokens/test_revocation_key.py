"""Kids and instants: what they kill, and that neither can be forged."""

import time

import pytest

from capx.authority.authority import Authority
from capx.crypto.keys import AudienceKeys, RootKey
from capx.tokens import revocation_key, wire
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability, mint
from capx_caveats import (
    Call,
    Expires,
)
from tests.labs.lab import KEY, NONCES, NOW, ROOT_KEY, Lab, codes, grant, minted

READ = ToolCall("a.read")
CALL = Call("a.read")


# Kids and instants
def minted_at(issued: int, key: RootKey = ROOT_KEY) -> Capability:
    return mint(key.audience_key("crm"), grant(), now=issued)


def test_what_a_revoked_kid_minted_is_refused_and_nothing_else() -> None:
    other = RootKey(bytes(range(32, 64)))
    lab = Lab(keys=AudienceKeys("crm", [KEY, other.audience_key("crm")]))
    lab.deaths.deaths[revocation_key.of_kid(ROOT_KEY.kid)] = "revoked"
    refused = lab.decide(lab.present(minted().delegate(to="a", nonce=NONCES[0])))
    assert codes(refused) == ("revoked",)
    (refusal,) = refused.refusals
    assert refusal.sentence == "the root key that this token was minted with was revoked"
    assert refusal.hop is None
    assert lab.codes(minted_at(NOW, other)) == ()


@pytest.mark.parametrize("issued", [NOW - 1, NOW, NOW + 1])
@pytest.mark.parametrize("instant", [NOW - 1, NOW, NOW + 1])
def test_an_instant_kills_what_was_issued_up_to_its_second(issued: int, instant: int) -> None:
    lab = Lab()
    lab.deaths.deaths[revocation_key.of_instant(instant)] = "revoked"
    capability = minted_at(issued)
    expected = ("revoked",) if issued <= instant else ()
    assert lab.codes(capability) == expected
    # What a holder makes later was still issued then.
    assert lab.codes(capability.delegate(to="a", nonce=NONCES[0]).attenuate(Expires(NOW + 9))) == expected


def test_the_latest_of_several_instants_counts_and_is_told_once() -> None:
    lab = Lab()
    for instant in (NOW - 9, NOW, NOW - 5):
        lab.deaths.deaths[revocation_key.of_instant(instant)] = "revoked"
    assert lab.codes(minted_at(NOW)) == ("revoked",)
    assert lab.codes(minted_at(NOW + 1)) == ()


def test_a_time_of_issue_cannot_be_forged() -> None:
    lab = Lab()
    lab.deaths.deaths[revocation_key.of_instant(NOW)] = "revoked"
    frame = wire.decode(lab.present(minted_at(NOW)))
    old = frame.identifier
    later = wire.Identifier(old.kid, old.audience, old.nonce, NOW + 1)
    assert codes(lab.decide(wire.encode(later, frame.blocks, frame.signature))) == ("not_authentic",)


def test_a_kid_cannot_be_forged() -> None:
    other = RootKey(bytes(range(32, 64)))
    lab = Lab(keys=AudienceKeys("crm", [KEY, other.audience_key("crm")]))
    lab.deaths.deaths[revocation_key.of_kid(ROOT_KEY.kid)] = "revoked"
    frame = wire.decode(lab.present(minted()))
    old = frame.identifier
    moved = wire.Identifier(other.kid, old.audience, old.nonce, old.issued_at)
    assert codes(lab.decide(wire.encode(moved, frame.blocks, frame.signature))) == ("not_authentic",)


def test_a_kid_is_told_between_the_presentation_and_an_instant() -> None:
    lab = Lab()
    presented = minted().present(READ, now=NOW)
    lab.deaths.deaths |= {
        revocation_key.of_instant(NOW): "revoked",
        revocation_key.of_kid(ROOT_KEY.kid): "revoked",
        presented.id: "revoked",
        "T1": "task_completed",
    }
    told = [refusal.sentence for refusal in lab.decide(presented.text).refusals]
    assert [sentence.split(",")[0] for sentence in told] == [
        "task T1 was completed",
        "this capability",
        "the root key that this token was minted with was revoked",
        "every token issued up to a certain time was revoked",
    ]


def test_kids_and_instants_die_in_a_real_store_and_stay_dead() -> None:
    with Authority.temporary() as authority:
        before = authority.open(allow=["a.read"]).bundle
        authority.revoke(issued=int(time.time()))
        after = authority.open(allow=["a.read"]).bundle
        verifier = authority.verifier("a")

        def said(bundle: Bundle) -> tuple[str, ...]:
            return codes(verifier.decide(bundle.present("a", READ).text, READ, CALL))

        assert said(before) == ("revoked",)
        assert said(before.delegate(to="b")) == ("revoked",)
        assert said(after) == ()
        (kid,) = authority.kids()
        authority.revoke(kid=kid)
        assert said(after) == ("revoked",)
        assert said(before) == ("revoked", "revoked")
