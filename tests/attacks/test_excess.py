"""What a holder cannot make a verifier do: repeat large arguments without end, or say what is not so."""

import json

import pytest

from capx.tokens.binding import ToolCall
from capx.tokens.wording import sentence
from capx.verify.decision import Denied
from capx_caveats import Call, InvalidCaveat, absent, action, allow, anything, each, shown, where, within
from tests.labs.lab import NONCES, Lab, appended, minted

LARGE = "\x01" * 500_000


def test_a_refusal_repeats_a_large_argument_once_per_caveat() -> None:
    capability = minted()
    for _ in range(40):
        capability = capability.attenuate(where("args.a", absent()), where("args.a", absent()))
    assert len(Lab().verifier.explain(capability.text, Call("a.read", {"a": LARGE})).refusals) == 80
    lab = Lab()
    sent = ToolCall("a.read", {"a": LARGE})
    decided = lab.verifier.decide(lab.present(capability, sent.action, sent.args), sent, Call("a.read", {"a": LARGE}))
    assert len(decided.refusals) == 32
    assert len(json.dumps(decided.body())) < 32 * 1024


def test_what_is_shown_of_a_value_is_short_however_large_it_is() -> None:
    for value in (LARGE, [LARGE] * 100, {LARGE + str(at): [[[[LARGE]]]] for at in range(100)}, 10**30):
        assert len(shown(value)) <= 80


def test_judging_one_large_argument_again_and_again_is_bounded() -> None:
    assert each("x").judge(["x"] * 1000) is True
    assert each("x").judge(["x"] * 1025) is None
    assert each(each("x")).judge([["x"] * 30] * 30) is True
    assert each(each("x")).judge([["x"] * 40] * 40) is None
    assert each(anything()).judge([{"a": ["x"] * 1025}]) is None
    assert within("/").judge("/" + "a" * 4095) is True
    assert within("/").judge("/" + "a" * 4096) is None


@pytest.mark.parametrize("unsafe", ["\x1b[2J", "\n", "\x85", "\x9b", "\u2028", "\u202e"])
def test_a_denial_as_text_acts_on_no_terminal_and_forges_no_line(unsafe: str) -> None:
    unknown = json.dumps([[f"{unsafe}ERROR:root:all is well"]]).encode()
    lab = Lab()
    for capability in (appended(minted(allowed=allow("a.*")), unknown), minted(allowed=allow(action("a.read", a="b")))):
        sent = ToolCall("a.read", {"a": unsafe})
        with pytest.raises(Denied) as caught:
            lab.verifier.verify(lab.present(capability, sent.action, sent.args), sent, Call("a.read", {"a": unsafe}))
        assert str(caught.value).isprintable()


def test_what_the_first_holder_added_is_not_said_to_be_granted() -> None:
    capability = minted(allowed=allow("a.*")).attenuate(allow("a.read"))
    (refusal,) = Lab().verifier.explain(capability.text, Call("a.write")).refusals
    assert sentence(refusal) == "the token's first holder allows only a.read"


def test_a_label_that_could_be_taken_for_words_is_quoted() -> None:
    child = minted(allowed=allow("a.*")).delegate(to="a): ok  hop 9 (boss", allow=["a.read"], nonce=NONCES[0])
    sent = ToolCall("a.write")
    lab = Lab()
    with pytest.raises(Denied, match=r'^hop 1 \("a\): ok  hop 9 \(boss"\) allows only a\.read$'):
        lab.verifier.verify(lab.present(child, sent.action), sent, Call("a.write"))


def test_a_number_of_thousands_of_digits_is_refused_by_our_error() -> None:
    with pytest.raises(InvalidCaveat):
        Call("a.read", {"a": 10**5000})


@pytest.mark.parametrize("tenant", [["Acme"], {"Acme": 1}, 10**5000], ids=["list", "dict", "digits"])
def test_a_tenant_that_is_no_text_is_refused_by_an_error_of_ours(tenant: object) -> None:
    with pytest.raises(InvalidCaveat):
        Call("a.read", tenant=tenant)  # type: ignore[arg-type] # what a caller without a type checker can do
