"""What a verifier tells of each refusal, and what it remembers of a token without letting anything through by it."""

import asyncio
import threading

import pytest

from capx.crypto import base64url
from capx.crypto.keys import AudienceKey, AudienceKeys, RootKey
from capx.errors import ConfigurationProblem, Unavailable
from capx.resource.replay import Replay
from capx.tokens import chain, wire
from capx.tokens.binding import HttpRequest, ToolCall
from capx.verify import verifier
from capx.verify.decision import Denied
from capx_caveats import Call, encode_block, expires, max_hops
from tests.labs.lab import KEY, NONCES, NOW, ROOT_KEY, Lab, appended, codes, minted, raw

PARENT = minted()
TOKEN = PARENT.delegate(to="slides-agent", nonce=NONCES[0], allow=["a.read"], now=NOW)
READ = ToolCall("a.read")
REQUEST = HttpRequest(method="GET", target="/x")
CALL = Call("a.read")


# What is told


def test_a_token_of_another_audience_is_told_both() -> None:
    (refusal,) = Lab().decide(Lab("slides").present(minted(audience="slides"))).refusals
    assert (refusal.code, refusal.wanted, refusal.given) == ("wrong_audience", "crm", "slides")
    assert "slides" in refusal.sentence
    assert "crm" in refusal.sentence


def test_a_text_that_is_no_token_is_told_why_and_what_would_be() -> None:
    (refusal,) = Lab().decide("junk").refusals
    assert (refusal.code, refusal.wanted) == ("malformed", "a presentation of a capability")
    assert refusal.sentence == "a token begins with capx1_"


def test_a_presentation_for_another_call_is_told_what_would_do() -> None:
    lab = Lab()
    (refusal,) = lab.verifier.decide(lab.present(TOKEN), REQUEST, CALL).refusals
    assert refusal.code == "call_mismatch"
    assert "another call" in refusal.sentence
    assert "this call" in refusal.wanted


@pytest.mark.parametrize(("at", "when"), [(NOW + 6, "from the future"), (NOW - 61, "too old")])
def test_a_presentation_outside_its_window_is_told_which_side(at: int, when: str) -> None:
    (refusal,) = Lab().decide(TOKEN.present(READ, now=at).text).refusals
    assert (refusal.code, refusal.wanted, refusal.given) == ("call_window", "one made within 60 s", at)
    assert when in refusal.sentence


class Failing(Replay):
    """A memory that cannot tell, and may have to wait."""

    def __init__(self, *, blocking: bool, answer: bool | None = None) -> None:
        self.blocking = blocking
        self.answer = answer
        self.thread: threading.Thread | None = None

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        self.thread = threading.current_thread()
        if self.answer is None:
            raise Unavailable("the disk is full")
        return self.answer


def test_a_memory_that_cannot_tell_is_told_with_what_to_do() -> None:
    lab = Lab(replay=Failing(blocking=False))
    (refusal,) = lab.decide(lab.present(TOKEN)).refusals
    assert (refusal.code, refusal.sentence, refusal.wanted) == ("unavailable", "the disk is full", "try again later")


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize(("answer", "said"), [(None, "unavailable"), (False, "replayed"), (True, None)])
def test_a_burn_that_may_wait_is_done_in_a_thread(answer: bool | None, said: str | None, *, blocking: bool) -> None:
    replay = Failing(blocking=blocking, answer=answer)
    lab = Lab(replay=replay)
    admitting = lab.verifier.admit_async(lab.present(TOKEN), READ)
    if said is None:
        assert asyncio.run(admitting).hops == ("slides-agent",)
    else:
        with pytest.raises(Denied) as denied:
            asyncio.run(admitting)
        assert denied.value.code == said
    assert (replay.thread is not threading.main_thread()) == blocking


def test_a_refusal_before_the_call_is_judged_names_the_action_that_was_presented() -> None:
    lab = Lab()
    early = ("junk", TOKEN.text, raw(b"junk").text, TOKEN.present(READ, now=NOW - 100).text)
    for token in early:
        assert lab.decide(token).action == "a.read"
        assert lab.verifier.decide(token, REQUEST, CALL).action is None
    lab.deaths.deaths["T1"] = "task_completed"
    with pytest.raises(Denied) as denied:
        lab.verifier.admit(lab.present(TOKEN), READ)
    assert denied.value.decision.action == "a.read"


def test_a_verifier_set_up_wrongly_says_what_is_wrong() -> None:
    keys = AudienceKeys("slides", [ROOT_KEY.audience_key("slides")])
    with pytest.raises(ConfigurationProblem, match=r"'slides'.*'crm'"):
        Lab("crm", keys)
    with pytest.raises(ConfigurationProblem, match=r"colour, shape.*tenant"):
        Lab(require=["tenant", "shape", "colour"])


# What is explained


def test_an_explanation_holds_what_could_be_read() -> None:
    lab = Lab()
    unread = lab.verifier.explain("junk", CALL)
    assert (unread.restrictions, codes_of(unread), unread.lineage) == ((), ("malformed",), None)
    misfit = lab.verifier.explain(lab.present(TOKEN), CALL, REQUEST)
    assert (misfit.restrictions, codes_of(misfit)) == ((), ("call_mismatch",))
    assert misfit.lineage is not None
    whole = lab.verifier.explain(lab.present(TOKEN), CALL)
    assert whole.allowed
    assert whole.lineage is not None
    assert whole.lineage.hops == misfit.lineage.hops == ("slides-agent",)


def codes_of(explanation: verifier.Explanation) -> tuple[str, ...]:
    return tuple(refusal.code for refusal in explanation.refusals)


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
    assert codes_of(lab.verifier.explain(token, CALL)) == ("revoked",)
    assert lab.verifier.explain(TOKEN.text, CALL).allowed


# What ends a chain


@pytest.mark.parametrize(("bearer", "said"), [(True, "needs_discharge"), (False, "bearer_refused")])
def test_a_chain_that_ends_with_a_third_party_caveat_is_presented_by_nothing(said: str, *, bearer: bool) -> None:
    token = appended(TOKEN, chain.ThirdParty(b"vid", b"cid")).text
    assert codes(Lab(bearer=bearer).decide(token)) == (said,)


@pytest.mark.parametrize(("signatures", "said"), [(1, "hop_unsigned"), (2, "misplaced"), (3, "misplaced")])
def test_a_presentation_that_is_signed_is_not_understood_yet(signatures: int, said: str) -> None:
    mark = TOKEN.present(READ, now=NOW).blocks[-1]
    assert isinstance(mark, bytes)
    signed = mark[:-1] + b',["sig","%s"]' % base64url.b64u(bytes(64)).encode() * signatures + b"]"
    (refusal,) = Lab().decide(appended(TOKEN, signed).text).refusals
    assert refusal.code == said
    assert said == "misplaced" or "signed" in refusal.sentence


# What is remembered


def test_what_presentations_of_one_capability_share_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    assert lab.codes(TOKEN) == ()
    for module, name in ((verifier, "read_lineage"), (chain, "tail_of"), (wire, "_opening")):
        monkeypatch.delattr(module, name)
    assert lab.codes(TOKEN) == ()
    assert codes(lab.verifier.decide(lab.present(TOKEN), REQUEST, CALL)) == ("call_mismatch",)


class Keys(AudienceKeys):
    """Keys that change."""

    current: AudienceKey | None = KEY

    def get(self, kid: str) -> AudienceKey | None:
        """The key that is live now."""
        return self.current


def test_what_is_remembered_is_good_for_the_very_key_it_was_checked_with() -> None:
    keys = Keys("crm", [KEY])
    lab = Lab(keys=keys)
    token = lab.present(TOKEN)
    assert lab.codes(TOKEN) == ()
    keys.current = AudienceKey(KEY.kid, "crm", bytes(range(1, 33)))
    assert codes(lab.decide(token)) == ("not_authentic",)
    keys.current = None
    assert codes(lab.decide(token)) == ("not_authentic",)
    keys.current = RootKey(bytes(range(32))).audience_key("crm")
    assert keys.current is not KEY
    assert codes(lab.decide(token)) == ()
    assert lab.codes(TOKEN) == ()


def test_a_key_that_is_retired_between_the_head_and_the_body_is_unknown() -> None:
    keys = Keys("crm", [KEY])
    lab = Lab(keys=keys)
    authentic = lab.verifier.authenticate(lab.present(TOKEN))
    keys.current = None
    with pytest.raises(Denied) as denied:
        lab.verifier.admit(authentic, READ)
    assert denied.value.code == "not_authentic"


def test_a_prefix_that_is_remembered_refuses_what_it_refused() -> None:
    lab = Lab()
    ended = PARENT.attenuate(expires(NOW + 10))
    assert lab.codes(ended) == ()
    lab.clock.now = NOW + 10
    assert lab.codes(ended) == ("expired",)
    assert lab.codes(ended) == ("expired",)
    broken = appended(PARENT, encode_block((max_hops(1),))[:-1])
    assert lab.codes(broken) == lab.codes(broken) == ("not_understood",)
