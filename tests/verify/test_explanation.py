"""A decision step by step, for people: what is explained, and that to explain changes nothing."""

import pytest

from capx.tokens import chain, wire
from capx.tokens.binding import HttpRequest, ToolCall
from capx_caveats import Call, max_hops
from tests.labs.lab import NONCES, NOW, Lab, codes, codes_of, minted

READ = ToolCall("a.read")
CALL = Call("a.read")
PARENT = minted()
TOKEN = PARENT.delegate(to="slides-agent", nonce=NONCES[0], allow=["a.read"], now=NOW)
REQUEST = HttpRequest(method="GET", target="/x")


def test_explaining_burns_and_records_nothing() -> None:
    lab = Lab()
    token = lab.present(minted())
    explanation = lab.verifier.explain(token, CALL, READ)
    assert explanation.allowed
    assert [(one.sentence, one.refusal) for one in explanation.restrictions] == [
        ("expires at 2026-11-25T10:46:40Z", None),
        ("allows only a.read; a.write", None),
    ]
    assert lab.records.decisions == []
    assert lab.decide(token).allowed
    assert codes(lab.decide(token)) == ("replayed",)


def test_an_explanation_is_not_true_or_false() -> None:
    with pytest.raises(TypeError, match="read its `allowed`"):
        bool(Lab().verifier.explain(minted().text, CALL))


def test_explaining_a_presentation_for_another_call_says_so() -> None:
    lab = Lab()
    assert codes_of(lab.verifier.explain(lab.present(minted()), Call("a.write"), ToolCall("a.write")).refusals) == (
        "call_mismatch",
    )


def test_an_explanation_holds_what_could_be_read() -> None:
    lab = Lab()
    unread = lab.verifier.explain("junk", CALL)
    assert (unread.restrictions, codes_of(unread.refusals), unread.lineage) == ((), ("malformed",), None)
    misfit = lab.verifier.explain(lab.present(TOKEN), CALL, REQUEST)
    assert (misfit.restrictions, codes_of(misfit.refusals)) == ((), ("call_mismatch",))
    assert misfit.lineage is not None
    whole = lab.verifier.explain(lab.present(TOKEN), CALL)
    assert whole.allowed
    assert whole.lineage is not None
    assert whole.lineage.hops == misfit.lineage.hops == ("slides-agent",)


def test_an_explanation_says_whose_each_restriction_is() -> None:
    walk = Lab().verifier.explain(TOKEN.attenuate(max_hops(3)).text, Call("a.write")).restrictions
    assert [(step.hop, step.hop_name) for step in walk] == [(0, None), (0, None), (1, "slides-agent")]
    assert [step.refusal and step.refusal.code for step in walk] == [None, None, "action_not_allowed"]
    assert all(step.sentence for step in walk)


def test_an_explanation_knows_that_a_presentation_was_revoked() -> None:
    lab = Lab()
    token = lab.present(TOKEN)
    presentation = chain.digests(wire.decode(token).identifier_bytes, wire.decode(token).blocks)[-1][:16]
    lab.deaths.deaths[presentation] = "revoked"
    assert codes_of(lab.verifier.explain(token, CALL).refusals) == ("revoked",)
    assert lab.verifier.explain(TOKEN.text, CALL).allowed


def test_of_an_ended_token_only_the_end_is_explained() -> None:
    lab = Lab()
    presentation = TOKEN.present(READ, now=NOW)
    assert presentation.id is not None
    lab.deaths.deaths[presentation.id] = "revoked"
    assert codes_of(lab.verifier.explain(presentation.text, Call("a.write")).refusals) == ("revoked",)
