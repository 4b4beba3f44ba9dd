"""The steps of a decision, their order, what is told of each refusal, and what a verifier remembers and records."""

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain as joined
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.crypto import base64url
from capx.crypto.keys import AudienceKey, AudienceKeys, RootKey
from capx.errors import ConfigurationProblem, Unavailable
from capx.resource.replay import ProcessReplay, Replay
from capx.tokens import chain, wire
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.capability import Capability
from capx.verify import verifier
from capx.verify.approvals import with_approvals
from capx.verify.decision import Denied
from capx.verify.meter import Payer
from capx.verify.verifier import Verifier
from capx_caveats import (
    Call,
    Caveat,
    Expires,
    Hop,
    Refusal,
    Root,
    Task,
    Vocabulary,
    allow,
    budget,
    encode_block,
    expires,
    max_hops,
    regex,
    tenant,
    where,
)
from tests.labs.approving import ARGS, BEN, ApprovalLab, approved, demanding, keyed
from tests.labs.enumerations import each_case
from tests.labs.keyed import PLANNER, mark
from tests.labs.keyed import keyed as keyed_token
from tests.labs.lab import (
    KEY,
    NONCES,
    NOW,
    ROOT_KEY,
    Deaths,
    Lab,
    appended,
    codes,
    codes_of,
    holding,
    minted,
    raw,
    spoiled,
)
from tests.labs.meters import NotingMeter

READ = ToolCall("a.read")
CALL = Call("a.read")


# Order
STEPS = {
    "audience": "wrong_audience",
    "mac": "not_authentic",
    "shape": "misplaced",
    "death": "task_completed",
    "window": "call_window",
    "fit": "call_mismatch",
    "replay": "replayed",
    "call": "action_not_allowed",
}


SUBSETS = list(joined.from_iterable(combinations(STEPS, size) for size in range(len(STEPS) + 1)))


@each_case("defects", SUBSETS, ids="+".join)
def test_the_steps_go_in_order_and_the_first_refusal_is_told(defects: tuple[str, ...]) -> None:
    lab = Lab()
    capability = minted(audience="slides" if "audience" in defects else "crm")
    if "shape" in defects:
        capability = appended(capability, b'[["root","R2"]]')
    wanted = "a.export" if "call" in defects else "a.read"
    made_for = ToolCall("a.write") if "fit" in defects else ToolCall(wanted)
    token = capability.present(made_for, now=NOW - 100 if "window" in defects else NOW).text
    if "mac" in defects:
        frame = wire.decode(token)
        token = wire.encode(frame.identifier, frame.blocks, bytes(32))
    if "replay" in defects:
        lab.verifier.decide(token, ToolCall(wanted), Call(wanted))
    if "death" in defects:
        lab.deaths.deaths["T1"] = "task_completed"
    said = codes(lab.verifier.decide(token, ToolCall(wanted), Call(wanted)))
    assert said == tuple(STEPS[defect] for defect in STEPS if defect in defects)[:1]


class Watched(Vocabulary):
    """Counts the blocks that are read."""

    __slots__ = ("blocks",)
    blocks: list[bytes]

    def decode(self, block: bytes) -> tuple[Caveat, ...]:
        self.blocks.append(block)
        return super().decode(block)


def test_no_block_is_read_before_the_whole_chain_is_authentic() -> None:
    watched = Watched(Expires, Task)
    watched.blocks = []
    lab = Lab(vocabulary=watched)
    frame = wire.decode(lab.present(minted()))
    for at in range(32):
        signature = bytearray(frame.signature)
        signature[at] ^= 1
        assert codes(lab.decide(wire.encode(frame.identifier, frame.blocks, bytes(signature)))) == ("not_authentic",)
    assert watched.blocks == []
    lab.decide(lab.present(minted()))
    assert watched.blocks


def test_a_token_authenticated_before_its_body_goes_on() -> None:
    lab = Lab()
    authentic = lab.verifier.authenticate(lab.present(minted()))
    assert lab.verifier.verify(authentic, READ, CALL).task == "T1"
    for bad in ("", "junk", lab.present(minted())[:-3] + "AAA"):
        with pytest.raises(Denied) as caught:
            lab.verifier.authenticate(bad)
        assert caught.value.status == 401


# One walk, five ways to ask
def killed(lab: Lab, capability: Capability) -> Capability:
    lab.deaths.deaths["T1"] = "task_completed"
    return capability


def unheard(lab: Lab, capability: Capability) -> Capability:
    lab.deaths.years = 100.0
    return capability


SCENARIOS: dict[str, Callable[[Lab], tuple[Capability, Call]]] = {
    "allowed": lambda _: (minted(), CALL),
    "an action that is not allowed": lambda _: (minted(), Call("a.export")),
    "refused at two hops": lambda _: (holding([Hop("a", NONCES[0]), allow("a.write"), Expires(NOW)]), CALL),
    "a tenant the authority did not name": lambda _: (minted(), Call("a.read", tenant="Acme")),
    "another tenant": lambda _: (minted(tenant("Acme")), Call("a.read", tenant="Globex")),
    "misplaced": lambda _: (holding([Root("R2")]), CALL),
    "incomplete": lambda _: (raw(b"[]"), CALL),
    "not understood": lambda _: (appended(minted(), b"junk"), CALL),
    "too large": lambda _: (appended(minted(), b"[" * 300), CALL),
    "dead and expired": lambda lab: (killed(lab, holding([Expires(NOW)])), CALL),
    "stale": lambda lab: (unheard(lab, minted()), CALL),
    "wrong audience": lambda _: (minted(audience="slides"), CALL),
}


def refusals_of(ask: Callable[[], object]) -> tuple[Refusal, ...]:
    try:
        ask()
    except Denied as denied:
        return denied.refusals
    return ()


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_verify_decide_and_explain_agree(scenario: Callable[[Lab], tuple[Capability, Call]]) -> None:
    lab = Lab()
    capability, call = scenario(lab)
    received = ToolCall(call.action, call.args)

    def token() -> str:
        return capability.present(received, now=NOW).text

    decided = lab.verifier.decide(token(), received, call)
    # By their codes: the sentence about a call of another tenant does not say whether it has one.
    assert codes_of(refusals_of(lambda: lab.verifier.verify(token(), received, call))) == codes_of(decided.refusals)
    assert lab.verifier.explain(token(), call, received).refusals == decided.refusals
    assert lab.verifier.explain(capability.text, call).refusals == decided.refusals
    stepwise = refusals_of(lambda: lab.verifier.admit(token(), received).judge(call))
    assert codes_of(stepwise) in (codes_of(decided.refusals), codes_of(decided.refusals[:1]))
    in_turn = refusals_of(lambda: asyncio.run(lab.verifier.admit_async(token(), received)).judge(call))
    assert in_turn == stepwise
    assert decided.allowed == (not decided.refusals)


def test_an_explanation_names_the_token_of_a_misfit() -> None:
    lab = Lab()
    explained = lab.verifier.explain(lab.present(minted()), CALL, ToolCall("a.read", {"id": 7}))
    assert (codes_of(explained.refusals), explained.restrictions) == (("call_mismatch",), ())
    assert explained.lineage is not None
    assert explained.lineage.task == "T1"
    # Without what was received, it is taken for a presentation of this call.
    assert lab.verifier.explain(lab.present(minted()), CALL).allowed
    assert lab.verifier.explain("junk", CALL).restrictions == ()


def test_an_explanation_knows_that_a_presentation_was_revoked() -> None:
    lab = Lab()
    presented = minted().present(READ, now=NOW)
    lab.deaths.deaths[presented.ids[-1]] = "revoked"
    assert codes_of(lab.verifier.explain(presented.text, CALL).refusals) == ("revoked",)


def test_a_pattern_in_the_last_block_of_a_bare_token_is_read() -> None:
    capability = holding([where("args.id", regex("A.*"))])
    assert Lab().verifier.explain(capability.text, Call("a.read", {"id": "A1"})).allowed


# The cache
def test_a_cache_of_one_entry_and_of_none_still_decide_rightly() -> None:
    for size in (0, 1):
        lab = Lab(cache_size=size)
        for _ in range(3):
            assert lab.codes(minted()) == ()
            assert lab.codes(holding([allow("b.x")])) == ("action_not_allowed",)


def test_two_verifiers_share_no_cache() -> None:
    token = minted()
    assert Lab().codes(token) == ()
    assert Lab(require=["tenant"]).codes(token) == ("incomplete_authority",)


# The record
def test_every_proper_decision_is_recorded_once() -> None:
    lab = Lab()
    lab.codes(minted())
    lab.codes(minted(), "a.export")
    assert [decision.allowed for decision in lab.records.decisions] == [True, False]
    assert lab.records.slots == 0


def test_who_holds_no_authority_cannot_fill_the_log() -> None:
    lab = Lab()
    for token in ("", "junk", spoiled(lab.present(minted())), lab.present(minted(audience="slides"))):
        lab.decide(token)
    assert lab.records.decisions == []


def test_one_presentation_sent_without_end_does_not_fill_the_log() -> None:
    lab = Lab()
    token = lab.present(minted())
    used = wire.decode(token)
    block = encode_block((Expires(NOW),))
    extended = wire.encode(used.identifier, (*used.blocks, block), chain.extend(used.signature, block))
    for _ in range(3):
        lab.decide(token)
        assert codes(lab.decide(extended)) == ("misplaced",)
    lab.decide(minted().text)
    lab.codes(holding([Root("R2")]))
    assert [decision.allowed for decision in lab.records.decisions] == [True]


def test_a_refusal_for_a_silent_memory_does_not_fill_the_log() -> None:
    lab = Lab(replay=Lost(1, lambda: 0.0))
    assert lab.codes(minted()) == ("unavailable",)
    assert lab.records.decisions == []


def test_what_cannot_be_recorded_is_refused_a_denial_stands() -> None:
    lab = Lab()
    lab.records.full = True
    assert lab.codes(minted()) == ("unavailable",)
    assert lab.codes(minted(), "a.export") == ("action_not_allowed",)


class Lost(ProcessReplay):
    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        raise Unavailable("the memory is gone")


def test_a_replay_memory_that_cannot_tell_refuses() -> None:
    lab = Lab(replay=Lost(1, lambda: 0.0))
    assert lab.codes(minted()) == ("unavailable",)
    with pytest.raises(Denied) as caught:
        asyncio.run(lab.verifier.admit_async(lab.present(minted()), READ))
    assert caught.value.status == 503


def test_a_verifier_is_for_one_audience() -> None:
    lab = Lab()
    with pytest.raises(ConfigurationProblem):
        Verifier("slides", AudienceKeys("crm", [KEY]), liveness=lab.deaths, replay=lab.replay)
    assert ROOT_KEY.audience_key("crm").mac_key == KEY.mac_key


def test_what_one_verifier_knows_of_a_token_is_not_anothers() -> None:
    keys = AudienceKeys("crm", [KEY])
    loose, strict = Lab(keys=keys), Lab(keys=keys, require=["tenant"])
    assert loose.codes(minted()) == ()
    authentic = loose.verifier.authenticate(loose.present(minted()))
    assert codes(strict.verifier.decide(authentic, READ, CALL)) == ("incomplete_authority",)


def test_a_flood_of_forgeries_leaves_nothing_behind() -> None:
    lab = Lab()
    forged = spoiled(lab.present(minted()))
    assert lab.decide(forged).refusals[0].code == "not_authentic"
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(200):
        lab.decide(forged)
    gc.collect()
    assert len(gc.get_objects()) - before < 50


@given(
    st.text() | st.text().map(lambda text: f"capx1_{text}") | st.sampled_from(["\0", "\ud800", "capx1_" + "[" * 9000])
)
def test_any_text_is_refused_as_one_that_shows_no_authority(text: str) -> None:
    lab = Lab()
    decision = lab.decide(text)
    assert Denied(decision).status == 401
    assert lab.records.decisions == []


PARENT = minted()
TOKEN = PARENT.delegate(to="slides-agent", nonce=NONCES[0], allow=["a.read"], now=NOW)
REQUEST = HttpRequest(method="GET", target="/x")


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


@pytest.mark.parametrize(("at", "when"), [(NOW + 6, "6 s in the future"), (NOW - 61, "61 s old")])
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


def test_an_early_refusal_names_the_action_that_was_presented() -> None:
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
    with pytest.raises(ConfigurationProblem, match=r"colour, shape: only holder, intent, tenant$"):
        Lab(require=["tenant", "shape", "colour"])
    with pytest.raises(ConfigurationProblem, match="What a policy calls agent_key is holder here"):
        Lab(require=["agent_key"])


def test_keys_and_revocations_are_those_of_one_authority() -> None:
    keys = AudienceKeys("crm", [KEY], authority="A")
    with pytest.raises(ConfigurationProblem, match="those of authority A, and the revocations those of B: use the "):
        Lab(keys=keys, liveness=Deaths("B"))
    unnamed = AudienceKeys("crm", [KEY])
    known = [(keys, "A"), (keys, None), (unnamed, "B"), (unnamed, None)]
    for some, authority in known:
        assert Lab(keys=some, liveness=Deaths(authority)).verifier.audience == "crm"


# What ends a chain


@pytest.mark.parametrize(("bearer", "said"), [(True, "not_understood"), (False, "bearer_refused")])
def test_a_third_party_caveat_at_the_end_is_presented_by_nothing(said: str, *, bearer: bool) -> None:
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
    authentic = lab.verifier.authenticate(lab.present(TOKEN))
    assert codes(lab.verifier.decide(authentic, READ, CALL)) == ()
    assert codes(lab.verifier.decide(lab.present(TOKEN), REQUEST, CALL)) == ("call_mismatch",)


class Keys(AudienceKeys):
    """Keys that change."""

    current: AudienceKey | None = KEY

    def get(self, kid: str) -> AudienceKey | None:
        """The key that is live now."""
        return self.current


def test_what_is_remembered_is_good_for_its_very_key_alone() -> None:
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


def test_a_key_retired_between_head_and_body_is_refused() -> None:
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


class Broken(Replay):
    """A memory that fails with an error of its own, which carries the presentation."""

    blocking = False

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        raise OSError(f"no route to the memory {now}")


def test_a_memory_that_breaks_refuses_and_says_why_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same sentence is written at most once a minute.
    monkeypatch.setattr("capx.diagnostics._said", dict[str, float]())
    lab = Lab(replay=Broken())
    assert lab.decide(lab.present(TOKEN)).refusals == (
        Refusal("unavailable", "the memory of presentations failed", "try again later"),
    )
    assert f"a presentation cannot be burnt: OSError: no route to the memory {NOW}" in caplog.text


def test_a_presentation_that_grew_old_behind_its_head_is_refused() -> None:
    lab = Lab()
    authentic = lab.verifier.authenticate(lab.present(TOKEN))
    lab.clock.now = NOW + 61
    (refusal,) = lab.verifier.decide(authentic, READ, CALL).refusals
    assert (refusal.code, refusal.wanted, refusal.given) == ("call_window", "one made within 60 s", NOW)
    assert "61 s old" in refusal.sentence


# Whose token it is, and what pays


def test_an_ended_token_still_proves_that_it_is_authentic() -> None:
    lab = Lab()
    token = lab.present(TOKEN)
    lab.clock.now = NOW + 3600
    with pytest.raises(Denied) as denied:
        lab.verifier.authenticate(token)
    assert codes(denied.value) == ("expired",)
    lab.verifier.prove(token)
    with pytest.raises(Denied) as denied:
        lab.verifier.prove(token[:-1] + ("A" if token[-1] != "A" else "Q"))
    assert codes(denied.value) == ("not_authentic",)
    assert denied.value.__context__ is None


def test_a_denial_of_a_stranger_is_not_recorded() -> None:
    lab = Lab()
    refusal = Refusal("malformed", "two tokens were presented", "one presentation")
    assert lab.verifier.denial(refusal).refusals == (refusal,)
    assert [lab.verifier.denial(refusal, action).decision.action for action in ("a.read", None)] == ["a.read", None]
    assert lab.records.decisions == []


def test_a_presentation_pays_under_its_id(meter: NotingMeter) -> None:
    lab = Lab(meter=meter)
    capability = minted(budget("calls", 2))
    presentation = capability.attenuate(max_hops(3)).present(READ, now=NOW)
    assert lab.decide(presentation.text).allowed
    (payer,) = meter.payers
    assert (payer.presentation, payer.capability) == (presentation.id, capability.ids[1])
    assert (payer.audience, payer.text) == ("crm", presentation.text)
    assert len(payer.admission) == 16
    assert payer.admission != payer.presentation


def test_a_bare_token_pays_anew_for_each_admission(meter: NotingMeter) -> None:
    lab = Lab(meter=meter, bearer=True)
    capability = minted(budget("calls", 2))
    text = capability.attenuate(max_hops(3)).text
    assert [codes(lab.decide(text)) for _ in range(3)] == [(), (), ("budget_exhausted",)]
    assert len({payer.admission for payer in meter.payers}) == 3
    for payer in meter.payers:
        assert payer == Payer(payer.admission, payer.admission, capability.ids[1], "crm", "")
        assert len(payer.admission) == 16


# Who sends


def test_a_good_mac_says_of_which_capability_a_presentation_is() -> None:
    lab = Lab()
    shown = lab.present(TOKEN)
    # Whatever the token allows, and though it has ended.
    assert lab.verifier.capability(shown) == wire.decode(shown).identifier_bytes
    lab.deaths.deaths["T1"] = "task_completed"
    assert lab.verifier.capability(shown) == wire.decode(shown).identifier_bytes
    for other in ("", "x", TOKEN.text, spoiled(shown), lab.present(minted(audience="mail"))):
        assert lab.verifier.capability(other) is None


def test_a_pattern_of_no_token_says_nothing_of_the_sender() -> None:
    assert Lab().verifier.capability(holding([where("args.id", regex("A.*"))]).text) is None


def test_the_sender_of_an_old_presentation_is_not_known() -> None:
    lab = Lab()
    shown = lab.present(minted())
    for age, is_known in ((60, True), (61, False)):
        lab.clock.now = NOW + age
        assert (lab.verifier.capability(shown) is not None) == is_known


def test_whether_a_token_has_ended_is_asked_of_the_news() -> None:
    lab = Lab()
    expired, token = (lab.verifier.authenticate(lab.present(each)) for each in (minted(expires=NOW + 5), minted()))
    assert not lab.verifier.has_ended(token)
    assert not lab.verifier.has_ended(expired)
    lab.clock.now = NOW + 5
    assert lab.verifier.has_ended(expired)
    assert not lab.verifier.has_ended(token)
    lab.deaths.deaths["T1"] = "task_completed"
    assert lab.verifier.has_ended(token)


# Approvals


class Counted(ApprovalLab):
    """Counts how often what a discharge says is joined to a lineage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        super().__init__(**options)
        self.joined = 0

        def joining(*given: Any) -> Any:
            self.joined += 1
            return with_approvals(*given)

        monkeypatch.setattr(verifier, "with_approvals", joining)


def test_the_approvals_that_came_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Counted(monkeypatch)
    capability, other = demanding(), keyed(BEN, nonce=b"2" * 16)
    one, two = approved(capability, uses=9), approved(capability, uses=8)
    for expected, discharge in ((1, one), (1, one), (2, two), (2, two), (3, one)):
        assert lab.told(capability, discharge) == ()
        assert lab.joined == expected
    # As many, of another demand; and one more.
    both = capability.demanding(other)
    of_ben = approved(both, BEN, said={"cid": other.cid}, uses=9)
    for expected, discharges in ((4, (one,)), (5, (of_ben,)), (6, (one, of_ben)), (7, (one,)), (7, (one,))):
        lab.told(both, *discharges)
        assert lab.joined == expected


def test_a_bare_token_is_approved_as_well() -> None:
    lab = ApprovalLab(bearer=True)
    capability = demanding()
    bound = approved(capability).bound_to(wire.decode(capability.text).signature)
    assert lab.told_of(f"{capability.text},{bound}") == ()


@pytest.mark.parametrize("remembers", [True, False])
def test_what_another_verifier_has_read_is_approved_as_well(remembers: bool) -> None:
    lab = ApprovalLab()
    there = Lab(keys=lab.verifier._keys)
    text = lab.text(demanding(), approved(demanding(), uses=9))
    if remembers:
        lab.verifier.explain(text, Call("a.write", ARGS))
    found = there.verifier.authenticate(text)
    received = ToolCall("a.write", ARGS)
    assert lab.verifier.decide(found, received, Call("a.write", ARGS)).allowed


def test_what_another_verifier_read_is_recorded_with_its_bytes() -> None:
    lab = Lab()
    there = Lab(keys=lab.verifier._keys)
    found = there.verifier.authenticate(lab.present(TOKEN))
    lab.verifier.admit(found, READ).judge(CALL)
    (decision,) = lab.records.decisions
    assert decision.presentation is not None


def test_a_presentation_pays_with_its_approvals(meter: NotingMeter) -> None:
    lab = ApprovalLab(meter=meter)
    text = lab.text(demanding(None, budget("calls", 2)), approved(demanding(None, budget("calls", 2))))
    assert lab.told_of(text) == ()
    assert {payer.text for payer in meter.payers} == {text}


class Awaited(Failing):
    """A memory for async code, with a burn of its own."""

    async def burn_async(self, presentation: bytes, until: int, now: int) -> bool:
        self.thread = None
        return self.burn(presentation, until, now)


@pytest.mark.parametrize(("answer", "said"), [(None, "unavailable"), (False, "replayed"), (True, None)])
def test_a_memory_for_async_code_is_awaited(answer: bool | None, said: str | None) -> None:
    replay = Awaited(blocking=True, answer=answer)
    lab = Lab(replay=replay)
    expected: AbstractContextManager[object] = nullcontext()
    if said is not None:
        expected = pytest.raises(Denied, check=lambda denied: denied.code == said)
    with expected as denied:
        asyncio.run(lab.verifier.admit_async(lab.present(TOKEN), READ))
    if isinstance(denied, pytest.ExceptionInfo) and answer is None:
        assert denied.value.decision.refusals[0].sentence == "the disk is full"
    # Not in a thread of a pool.
    assert replay.thread is threading.main_thread()


def test_an_explanation_takes_a_bare_token_for_a_signed_one() -> None:
    lab = Lab()
    token = keyed_token(PLANNER)
    assert lab.verifier.explain(token.text, CALL).allowed
    unsigned = appended(token, encode_block((mark(READ),)))
    assert lab.verifier.explain(unsigned.text, CALL).refusals == lab.decide(unsigned.text).refusals != ()


def test_an_explanation_says_what_approvals_do_not_fit() -> None:
    lab = ApprovalLab()
    # Of another audience than this one.
    text = lab.text(demanding(), approved(demanding(), said={"audience": "mail"}))
    told = lab.verifier.explain(text, Call("a.write", ARGS))
    assert "bad_discharge" in codes_of(told.refusals)
    assert codes_of(told.refusals) == codes(lab.verifier.decide(text, ToolCall("a.write", ARGS), Call("a.write", ARGS)))
    assert told.refusals


@pytest.mark.parametrize("stated", [True, False])
def test_a_verifier_in_the_stead_of_its_audience_says_so(*, stated: bool) -> None:
    evidence = Lab(stated=stated).decide(Lab().present(minted())).evidence
    assert evidence is not None
    assert evidence.stated == stated
