"""The nine steps, their order, and what each refuses."""

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import chain as joined
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.crypto.keys import AudienceKeys, RootKey
from capx.errors import ConfigurationProblem, Unavailable
from capx.resource.replay import ProcessReplay
from capx.store.sqlite.store import SQLiteStore
from capx.tokens import chain, revocation_key, wire
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability, mint
from capx.verify.decision import STATUS, Decision, Denied
from capx.verify.verifier import Verifier
from capx_caveats import (
    DEFAULT,
    JSON,
    Allow,
    Budget,
    Call,
    CapxError,
    Caveat,
    Constraint,
    Each,
    Expires,
    Facts,
    Holder,
    Hop,
    Intent,
    InvalidCaveat,
    Judgement,
    MaxHops,
    NotBefore,
    NotUnderstood,
    Presented,
    Refusal,
    Root,
    Sig,
    Step,
    Task,
    Tenant,
    UntilCompleted,
    Value,
    Vocabulary,
    action,
    all_of,
    allow,
    any_of,
    each,
    encode_block,
    fields,
    fresh,
    glob,
    max_hops,
    not_,
    one_of,
    regex,
    tenant,
    until_completed,
    where,
    within,
)
from tests.labs.lab import KEY, NONCES, NOW, ROOT_KEY, Lab, appended, codes, grant, minted, raw

READ = ToolCall("a.read")
CALL = Call("a.read")


def holding(*blocks: Iterable[Caveat]) -> Capability:
    """A complete capability with these blocks appended, wherever their marks may stand."""
    return appended(minted(), *(encode_block(tuple(block)) for block in blocks))


# Order

STEPS = {
    "audience": "wrong_audience",
    "mac": "not_authentic",
    "shape": "misplaced",
    "fit": "call_mismatch",
    "window": "call_window",
    "replay": "replayed",
    "death": "task_completed",
    "call": "action_not_allowed",
}
SUBSETS = list(joined.from_iterable(combinations(STEPS, size) for size in range(len(STEPS) + 1)))


@pytest.mark.parametrize("defects", SUBSETS, ids="+".join)
def test_the_steps_are_taken_in_order_and_the_first_to_refuse_is_told(defects: tuple[str, ...]) -> None:
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
    expected = [STEPS[defect] for defect in STEPS if defect in defects]
    together = [code for code in expected if code in {"task_completed", "action_not_allowed"}]
    assert said == tuple(together if together == expected else expected[:1])


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


def test_a_token_authenticated_before_the_body_is_read_goes_on_from_there() -> None:
    lab = Lab()
    authentic = lab.verifier.authenticate(lab.present(minted()))
    assert lab.verifier.verify(authentic, READ, CALL).task == "T1"
    for bad in ("", "junk", lab.present(minted())[:-3] + "AAA"):
        with pytest.raises(Denied) as caught:
            lab.verifier.authenticate(bad)
        assert caught.value.status == 401


# Every reason


def spoiled(token: str) -> str:
    frame = wire.decode(token)
    return wire.encode(frame.identifier, frame.blocks, bytes(32))


def made(lab: Lab, capability: Capability, name: str = "a.read", **args: Any) -> Decision:
    return lab.decide(lab.present(capability, name, args), name, args)


def under(change: Callable[[Lab], object], capability: Capability | None = None) -> Decision:
    lab = Lab()
    change(lab)
    return made(lab, capability or minted())


def twice(token: str, lab: Lab) -> Decision:
    lab.decide(token)
    return lab.decide(token)


def overspent() -> Decision:
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore.create(Path(folder) / "capx.db")
        try:
            return made(Lab(meter=store), minted(Budget("calls", "0")))
        finally:
            store.close()


def died(code: str) -> Callable[[Lab], object]:
    return lambda lab: lab.deaths.deaths.__setitem__("T1", code)


PINNED = minted(allowed=allow(action("a.read", id=1)))
REASONS: dict[str, Callable[[], Decision]] = {
    "no_token": lambda: Lab().decide(""),
    "malformed": lambda: Lab().decide("junk"),
    "truncated": lambda: Lab().decide(minted().text[:50]),
    "too_large": lambda: Lab().decide("capx1_" + "A" * 20_000),
    "unknown_version": lambda: Lab().decide("capx2_AAAA"),
    "wrong_audience": lambda: made(Lab(), minted(audience="slides")),
    "not_authentic": lambda: Lab().decide(spoiled(Lab().present(minted()))),
    "bearer_refused": lambda: Lab().decide(minted().text),
    "call_mismatch": lambda: Lab().decide(Lab().present(minted(), "a.write")),
    "call_window": lambda: Lab().decide(minted().present(READ, now=NOW - 61).text),
    "replayed": lambda: twice(Lab().present(minted()), Lab()),
    "incomplete_authority": lambda: made(Lab(), raw(encode_block((Task("T1"), Root("R1"))))),
    "misplaced": lambda: made(Lab(), holding([Task("T2")])),
    "not_understood": lambda: made(Lab(), appended(minted(), b'[["acme.region","eu"]]')),
    "revoked": lambda: under(lambda lab: lab.deaths.deaths.__setitem__(minted().ids[0], "revoked")),
    "task_completed": lambda: under(died("task_completed")),
    "task_withdrawn": lambda: under(died("task_withdrawn")),
    "task_expired": lambda: under(died("task_expired")),
    "expired": lambda: made(Lab(), holding([Expires(NOW)])),
    "not_yet": lambda: made(Lab(), holding([NotBefore(NOW + 1)])),
    "wrong_tenant": lambda: Lab().decide(Lab().present(minted(tenant("Acme"))), tenant="Globex"),
    "action_not_allowed": lambda: made(Lab(), minted(), "a.export"),
    "argument_refused": lambda: made(Lab(), PINNED, id=2),
    "argument_not_named": lambda: made(Lab(), PINNED, id=1, x=1),
    "attribute_missing": lambda: made(Lab(), holding([where("region", "eu")])),
    "budget_exhausted": overspent,
    "too_many_hops": lambda: made(Lab(), holding([max_hops(0)], [Hop("a", NONCES[0])])),
    "hop_unsigned": lambda: made(Lab(), holding([Hop("a", NONCES[0], "A" * 43)])),
    "needs_discharge": lambda: made(Lab(), appended(minted(), chain.ThirdParty(b"vid", b"cid"))),
    "unknown_liveness": lambda: under(lambda lab: setattr(lab.deaths, "years", float("inf"))),
    "stale_liveness": lambda: under(lambda lab: setattr(lab.deaths, "years", 31.0)),
    "no_meter": lambda: made(Lab(), minted(Budget("calls", "20"))),
    "unavailable": lambda: under(lambda lab: setattr(lab.records, "full", True)),
}


def test_this_table_holds_every_reason() -> None:
    assert list(REASONS) == list(STATUS)


@pytest.mark.parametrize("code", REASONS)
def test_each_reason_can_be_reached_and_says_what_would_do(code: str) -> None:
    decision = REASONS[code]()
    assert codes(decision) == (code,)
    denied = Denied(decision)
    assert denied.code == code
    assert str(denied)
    assert denied.problem()["status"] == STATUS[code]
    assert json.loads(json.dumps(denied.problem()))["decision"] == decision.id
    assert json.loads(json.dumps(decision.body()))["outcome"] == "denied"


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
    assert refusals_of(lambda: lab.verifier.verify(token(), received, call)) == decided.refusals
    assert lab.verifier.explain(token(), call, received).refusals == decided.refusals
    assert lab.verifier.explain(capability.text, call).refusals == decided.refusals
    stepwise = refusals_of(lambda: lab.verifier.admit(token(), received).judge(call))
    assert stepwise == decided.refusals or stepwise == decided.refusals[:1]
    in_turn = refusals_of(lambda: asyncio.run(lab.verifier.admit_async(token(), received)).judge(call))
    assert in_turn == stepwise
    assert decided.allowed == (not decided.refusals)


def test_admit_refuses_the_dead_and_leaves_the_call_to_judge() -> None:
    lab = Lab()
    admitted = lab.verifier.admit(lab.present(minted()), READ)
    with pytest.raises(Denied) as caught:
        admitted.judge(Call("a.export"))
    assert caught.value.code == "action_not_allowed"
    assert admitted.judge(CALL).call == CALL
    lab.deaths.deaths["T1"] = "task_completed"
    with pytest.raises(Denied) as caught:
        lab.verifier.admit(lab.present(minted()), ToolCall("a.read"))
    assert codes(caught.value) == ("task_completed",)


def test_a_task_that_ends_between_admission_and_judgement_is_refused() -> None:
    lab = Lab()
    admitted = lab.verifier.admit(lab.present(minted()), READ)
    assert admitted.judge(CALL).task == "T1"
    lab.deaths.deaths["T1"] = "task_withdrawn"
    with pytest.raises(Denied) as caught:
        admitted.judge(CALL)
    assert caught.value.code == "task_withdrawn"


def test_admitted_and_allowed_state_the_authoritys_claims() -> None:
    lab = Lab()
    steps = (Step("asker", NONCES[3]),)
    block = (Task("T1"), Intent("A" * 43), Root("R1", steps), UntilCompleted("T1"), Expires(NOW + 9), Tenant("Acme"))
    capability = raw(encode_block((*block, allow("a.read")))).delegate(
        to="a", nonce=NONCES[0], caveats=[Expires(NOW + 5), Tenant("Acme")]
    )
    admitted = lab.verifier.admit(lab.present(capability), READ)
    assert (admitted.task, admitted.tenant, admitted.intent, admitted.root) == ("T1", "Acme", "A" * 43, "R1")
    assert (admitted.path, admitted.node, admitted.hops) == (capability.path, capability.node, ("asker", "a"))
    assert admitted.granted_tenant() == "Acme"
    allowed = admitted.judge(Call("a.read", tenant="Acme"))
    assert (allowed.task, allowed.tenant, allowed.intent, allowed.root) == ("T1", "Acme", "A" * 43, "R1")
    assert (allowed.node, allowed.hops, allowed.expires) == (capability.node, ("asker", "a"), NOW + 5)
    assert lab.records.decisions[-1].id == allowed.decision_id


def test_a_tenant_that_only_a_holder_names_is_no_claim() -> None:
    lab = Lab()
    admitted = lab.verifier.admit(lab.present(minted().attenuate(tenant("Acme"))), READ)
    assert admitted.tenant is None
    with pytest.raises(Denied) as caught:
        admitted.granted_tenant()
    assert caught.value.code == "incomplete_authority"
    with pytest.raises(Denied) as caught:
        admitted.judge(Call("a.read", tenant="Acme"))
    assert codes(caught.value) == ("incomplete_authority",)


def test_screening_refuses_what_no_arguments_could_make_good() -> None:
    lab = Lab()
    capability = minted().delegate(to="a", allow=[action("a.read", id=1)])
    admitted = lab.verifier.admit(lab.present(capability), READ)
    admitted.screen("a.read")
    with pytest.raises(Denied) as caught:
        admitted.screen("a.export")
    assert [(refusal.code, refusal.hop) for refusal in caught.value.refusals] == [
        ("action_not_allowed", 0),
        ("action_not_allowed", 1),
    ]


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


def test_explaining_a_presentation_for_another_call_says_so() -> None:
    lab = Lab()
    assert codes_of(lab.verifier.explain(lab.present(minted()), Call("a.write"), ToolCall("a.write")).refusals) == (
        "call_mismatch",
    )


def codes_of(refusals: Iterable[Refusal]) -> tuple[str, ...]:
    return tuple(refusal.code for refusal in refusals)


def test_no_answer_is_true_or_false_by_accident() -> None:
    decision: object = Lab().decide(minted().text)
    explanation: object = Lab().verifier.explain(minted().text, CALL)
    for answer in (decision, explanation):
        with pytest.raises(TypeError, match="allowed"):
            bool(answer)


# Shape: marks and the authority's block

MARKS: dict[str, Caveat] = {
    "task": Task("T1"),
    "another task": Task("T2"),
    "root": Root("R1"),
    "another root": Root("R2", (Step("a", NONCES[3]),)),
    "intent": Intent("A" * 43),
    "call": Presented("tool", READ.digest(), NOW, "A" * 16),
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=list(MARKS))
@pytest.mark.parametrize("bearer", [False, True])
def test_no_mark_of_the_authority_or_the_presenter_stands_in_a_holders_block(mark: Caveat, bearer: bool) -> None:
    lab = Lab(bearer=bearer)
    for block in ([mark, Expires(NOW + 9)], [Expires(NOW + 9), mark], [Hop("a", NONCES[0]), mark]):
        for capability in (holding(block), holding(block, [Expires(NOW + 9)])):
            assert lab.codes(capability) == ("misplaced",)
            assert not bearer or codes(lab.decide(capability.text)) == ("misplaced",)


@pytest.mark.parametrize("mark", [*MARKS.values(), Hop("a", NONCES[0]), MaxHops(5)], ids=[*MARKS, "hop", "max_hops"])
def test_no_mark_stands_twice_in_one_block(mark: Caveat) -> None:
    lab = Lab()
    assert lab.codes(raw(encode_block(grant(mark, mark)))) == ("misplaced",)
    assert lab.codes(holding([mark, mark])) == ("misplaced",)


def test_a_hop_stands_first_in_a_holders_block_and_nowhere_else() -> None:
    lab = Lab()
    hop = Hop("a", NONCES[0])
    assert lab.codes(holding([hop, Expires(NOW + 9)])) == ()
    assert lab.codes(holding([Expires(NOW + 9), hop])) == ("misplaced",)
    assert lab.codes(holding([max_hops(9), hop])) == ("misplaced",)
    assert lab.codes(raw(encode_block((hop, *grant())))) == ("misplaced",)
    assert lab.codes(raw(encode_block(grant(hop)))) == ("misplaced",)


def test_max_hops_may_recur_further_down() -> None:
    assert Lab().codes(holding([max_hops(3)], [max_hops(2)], [max_hops(5), Expires(NOW + 9)])) == ()


COMPLETE: dict[str, Caveat] = dict(zip(("task", "root", "until_completed", "expires", "allow"), grant(), strict=True))


@pytest.mark.parametrize("missing", COMPLETE)
def test_what_the_authoritys_block_lacks_no_holder_can_append(missing: str) -> None:
    lab = Lab()
    rest = raw(encode_block(tuple(caveat for name, caveat in COMPLETE.items() if name != missing)))
    assert lab.codes(rest) == ("incomplete_authority",)
    for block in ([COMPLETE[missing]], [Hop("a", NONCES[0]), COMPLETE[missing]], grant()):
        cured = appended(rest, encode_block(tuple(block)))
        assert lab.codes(cured) in {("incomplete_authority",), ("misplaced",)}
    assert lab.codes(raw(encode_block(tuple(COMPLETE.values())))) == ()


@pytest.mark.parametrize(("required", "caveat"), [("tenant", Tenant("Acme")), ("intent", Intent("A" * 43))])
def test_what_a_verifier_requires_besides_no_holder_can_append(required: str, caveat: Caveat) -> None:
    lab = Lab(require=[required])
    assert lab.codes(minted()) == ("incomplete_authority",)
    assert not lab.decide(lab.present(holding([caveat])), tenant="Acme").allowed
    assert lab.decide(lab.present(minted(caveat)), tenant="Acme" if required == "tenant" else None).allowed


def test_what_cannot_be_required_is_a_configuration_error() -> None:
    for required in (["holder"], ["unheard of"], "tenant"):
        with pytest.raises(ConfigurationProblem):
            Lab(require=required)


def test_the_task_must_be_the_one_it_ends_with() -> None:
    other = (Task("T1"), Root("R1"), UntilCompleted("T2"), Expires(NOW + 9), allow("a.read"))
    assert Lab().codes(raw(encode_block(other))) == ("incomplete_authority",)


@pytest.mark.parametrize("block", [b"", b"[]", b"junk", b"{}", b"null", b"[" * 10, b'[["task","T1"]'])
def test_an_authoritys_block_that_is_not_understood_grants_nothing(block: bytes) -> None:
    assert Lab().codes(raw(block)) == ("incomplete_authority",)


def test_a_third_party_caveat_for_an_authoritys_block_grants_nothing() -> None:
    assert Lab().codes(raw(chain.ThirdParty(b"v", b"c"))) == ("incomplete_authority",)
    assert Lab().codes(raw(chain.ThirdParty(b"v", b"c"), encode_block(grant()))) == ("misplaced",)


def test_a_token_without_any_block_grants_nothing() -> None:
    assert not Lab(bearer=True).decide(raw().text).allowed
    assert not Lab().decide(raw().text).allowed


# Meaning: intersection only


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([[tenant("Globex")]], ("wrong_tenant",)),
        ([[allow("a.*", "b.*")]], ()),
        ([[allow("b.*")]], ("action_not_allowed",)),
        ([[allow("b.*")], [allow("a.*")]], ("action_not_allowed",)),
        ([[Expires(NOW + 9_000_000)]], ()),
        ([[Expires(NOW)], [Expires(NOW + 9_000_000)]], ("expired",)),
        ([[NotBefore(NOW + 1)], [NotBefore(0)]], ("not_yet",)),
        ([[max_hops(0)], [max_hops(9)], [Hop("a", NONCES[0])]], ("too_many_hops",)),
        ([[max_hops(1)], [Hop("a", NONCES[0])], [Hop("b", NONCES[1])]], ("too_many_hops",)),
        ([[max_hops(1)], [Hop("a", NONCES[0])], [Expires(NOW + 9)], [Expires(NOW + 8)]], ()),
        ([[Hop("a", NONCES[0]), max_hops(0)], [Expires(NOW + 9)]], ()),
        ([[Hop("a", NONCES[0]), max_hops(0)], [Hop("b", NONCES[1])]], ("too_many_hops",)),
        ([[where("args.id", not_(5))]], ("attribute_missing",)),
        ([[until_completed("T2")]], ()),
    ],
)
def test_what_is_appended_only_narrows(blocks: list[list[Caveat]], said: tuple[str, ...]) -> None:
    lab = Lab()
    capability = appended(minted(Tenant("Acme")), *(encode_block(tuple(block)) for block in blocks))
    assert codes(lab.decide(lab.present(capability), tenant="Acme")) == said


def test_the_longest_expiry_a_holder_writes_outlives_nothing() -> None:
    lab = Lab()
    capability = minted().attenuate(Expires(2**53 - 1))
    lab.clock.now = NOW + 3599
    assert lab.codes(capability) == ()
    lab.clock.now = NOW + 3600
    assert lab.codes(capability) == ("expired",)


def test_a_clock_that_steps_back_brings_nothing_back_to_life() -> None:
    lab = Lab()
    lab.clock.now = NOW + 3600
    assert lab.codes(minted()) == ("expired",)
    lab.clock.now = NOW
    assert "expired" in codes(lab.decide(minted().present(READ, now=NOW + 3600).text))


def test_every_refusal_is_told_with_whose_it_is() -> None:
    capability = minted(Tenant("Acme")).delegate(
        to="research", nonce=NONCES[0], allow=["a.write"], caveats=[Expires(NOW)]
    )
    capability = capability.attenuate(max_hops(0)).delegate(to="slides", nonce=NONCES[1], allow=["a.x"])
    lab = Lab()
    decision = lab.decide(lab.present(capability), tenant="Globex")
    assert [(refusal.code, refusal.hop, refusal.hop_name) for refusal in decision.refusals] == [
        ("too_many_hops", 1, "research"),
        ("wrong_tenant", 0, None),
        ("action_not_allowed", 1, "research"),
        ("expired", 1, "research"),
        ("action_not_allowed", 2, "slides"),
    ]
    assert str(Denied(decision)) == (
        "hop 1 (research) allows at most 0 more delegations, and 1 came; "
        """the task's grant is for tenant "Acme", not for this call's; """
        "hop 1 (research) allows only a.write; "
        "hop 1 (research) expired at 2026-11-25T09:46:40Z; "
        "hop 2 (slides) allows only a.x"
    )


def test_hop_numbers_go_on_from_the_path_of_the_root() -> None:
    steps = (Step("a", NONCES[0]), Step("b", NONCES[1]))
    block = (Task("T1"), Root("R1", steps), UntilCompleted("T1"), Expires(NOW + 9), allow("a.*"), max_hops(1))
    capability = raw(encode_block(block)).delegate(to="c", nonce=NONCES[2], allow=["a.write"])
    lab = Lab()
    (refusal,) = lab.decide(lab.present(capability)).refusals
    assert (refusal.code, refusal.hop, refusal.hop_name) == ("action_not_allowed", 3, "c")
    below = capability.delegate(to="d", nonce=NONCES[3])
    assert lab.codes(below, "a.write") == ("too_many_hops",)
    assert lab.codes(capability, "a.write") == ()


# A service's own caveats


class Odd(Caveat, frozen=True, tag="acme.odd"):
    how: str

    def refusal(self, facts: Facts) -> Refusal | None:
        if self.how == "raises":
            raise RuntimeError("the region service is down: secret-host")
        if self.how == "own code":
            return Refusal("acme.closed", "is closed on Sundays")
        answers: dict[str, Any] = {"true": True, "false": False, "zero": 0, "text": "", "fine": None}
        return cast("Refusal | None", answers[self.how])

    def sentence(self) -> str:
        return "is odd"


@pytest.mark.parametrize("how", ["raises", "true", "false", "zero", "text"])
def test_a_checker_that_raises_or_answers_oddly_refuses(how: str) -> None:
    lab = Lab(vocabulary=DEFAULT.extended(Odd))
    decision = lab.decide(lab.present(minted().attenuate(Odd(how))))
    assert codes(decision) == ("not_understood",)
    assert "secret-host" not in repr(decision)
    assert codes_of(lab.verifier.explain(minted().attenuate(Odd(how)).text, CALL).refusals) == ("not_understood",)


def test_a_services_own_caveat_has_its_say() -> None:
    lab = Lab(vocabulary=DEFAULT.extended(Odd))
    assert lab.codes(minted().attenuate(Odd("fine"))) == ()
    decision = lab.decide(lab.present(minted().attenuate(Odd("own code"))))
    assert codes(decision) == ("acme.closed",)
    assert Denied(decision).status == 403
    assert Lab().codes(minted().attenuate(Odd("fine"))) == ("not_understood",)


# Death


def family() -> dict[str, Capability]:
    root = minted()
    middle = root.delegate(to="middle", nonce=NONCES[0])
    return {
        "root": root,
        "middle": middle,
        "narrowed": middle.attenuate(Expires(NOW + 99)),
        "leaf": middle.delegate(to="leaf", nonce=NONCES[1]),
        "sibling": root.delegate(to="sibling", nonce=NONCES[2]),
    }


@pytest.mark.parametrize(
    ("killed", "dead"),
    [
        ("node root", {"root", "middle", "narrowed", "leaf", "sibling"}),
        ("node middle", {"middle", "narrowed", "leaf"}),
        ("node leaf", {"leaf"}),
        ("node sibling", {"sibling"}),
        ("id root", {"root", "middle", "narrowed", "leaf", "sibling"}),
        ("id middle", {"middle", "narrowed", "leaf"}),
        ("id narrowed", {"narrowed"}),
        ("id leaf", {"leaf"}),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_exactly_what_lies_below_the_dead_is_dead(killed: str, dead: set[str], warm: bool) -> None:
    lab = Lab()
    if warm:
        assert all(lab.codes(capability) == () for capability in family().values())
    kind, name = killed.split()
    doomed = family()[name]
    key = doomed.node if kind == "node" else doomed.id
    assert key is not None
    lab.deaths.deaths[key] = "revoked"
    assert {name for name, capability in family().items() if lab.codes(capability) == ("revoked",)} == dead
    assert {name for name, capability in family().items() if lab.codes(capability) == ()} == set(family()) - dead


def test_the_id_of_what_was_minted_kills_it() -> None:
    lab = Lab()
    lab.deaths.deaths[minted().ids[0]] = "revoked"
    assert lab.codes(minted()) == ("revoked",)


def test_the_id_of_a_presentation_kills_it_alone() -> None:
    lab = Lab()
    presentation = minted().present(READ, now=NOW)
    lab.deaths.deaths[presentation.id] = "revoked"
    assert codes(lab.decide(presentation.text)) == ("revoked",)
    assert lab.codes(minted()) == ()


@pytest.mark.parametrize("bearer", [False, True])
def test_a_death_is_told_once(bearer: bool) -> None:
    lab = Lab(bearer=bearer)
    lab.deaths.deaths[minted().id] = "revoked"
    assert lab.codes(minted()) == ("revoked",)
    if bearer:
        assert codes(lab.decide(minted().text)) == ("revoked",)
    assert codes_of(lab.verifier.explain(minted().text, CALL).refusals) == ("revoked",)


def test_deaths_are_told_in_one_order_tasks_first() -> None:
    lab = Lab()
    leaf = family()["leaf"].attenuate(until_completed("T2"))
    lab.deaths.deaths.update(dict.fromkeys((*leaf.ids, *leaf.path), "revoked"))
    lab.deaths.deaths.update(T1="task_completed", T2="task_withdrawn")
    assert lab.codes(leaf)[:2] == ("task_completed", "task_withdrawn")
    (named,) = [r for r in lab.decide(lab.present(leaf)).refusals if r.hop == 1]
    assert named.hop_name == "middle"


def test_a_task_that_a_holder_added_ends_what_it_added_it_to() -> None:
    lab = Lab()
    lab.deaths.deaths["T2"] = "task_completed"
    assert lab.codes(minted()) == ()
    assert lab.codes(minted().attenuate(until_completed("T2"))) == ("task_completed",)
    assert lab.codes(minted().attenuate(until_completed("T2")).attenuate(until_completed("T3"))) == ("task_completed",)


def test_a_sibling_that_copies_a_hop_nonce_dies_with_it() -> None:
    lab = Lab()
    original = minted().delegate(to="a", nonce=NONCES[0])
    copied = minted(nonce="AgEBAQEBAQEBAQEBAQEBAQ").delegate(to="innocent", nonce=NONCES[0])
    assert original.node == copied.node
    assert original.node is not None
    lab.deaths.deaths[original.node] = "revoked"
    assert lab.codes(copied) == ("revoked",)


def test_no_other_spelling_of_a_block_keeps_its_node_alive() -> None:
    lab = Lab()
    child = minted().delegate(to="a", nonce=NONCES[0])
    assert child.node is not None
    lab.deaths.deaths[child.node] = "revoked"
    for spelling in (b'[["hop","a","%s"]]', b'[ ["hop", "b", "%s"] ]', b'[["\\u0068op","a","%s"]]'):
        assert lab.codes(appended(minted(), spelling % NONCES[0].encode())) == ("revoked",)


@pytest.mark.parametrize(("age", "said"), [(0.0, ()), (30.0, ()), (30.1, ("stale_liveness",))])
def test_what_is_known_of_deaths_may_be_so_old(age: float, said: tuple[str, ...]) -> None:
    lab = Lab()
    lab.deaths.years = age
    assert lab.codes(minted()) == said


def test_a_verifier_sets_its_own_bound() -> None:
    lab = Lab(max_staleness=1.0)
    lab.deaths.years = 2.0
    assert lab.codes(minted()) == ("stale_liveness",)


def test_a_known_death_is_told_even_when_news_is_stale() -> None:
    lab = Lab()
    lab.deaths.years = 100.0
    lab.deaths.deaths["T1"] = "task_completed"
    assert lab.codes(minted()) == ("task_completed", "stale_liveness")


def test_staleness_recovers() -> None:
    lab = Lab()
    lab.deaths.years = float("inf")
    assert lab.codes(minted()) == ("unknown_liveness",)
    lab.deaths.years = 0.0
    assert lab.codes(minted()) == ()


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


def test_every_decision_on_what_was_presented_properly_is_recorded_once() -> None:
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


def test_what_is_refused_because_its_memory_cannot_tell_does_not_fill_the_log() -> None:
    lab = Lab(replay=Lost(1, lambda: 0.0))
    assert lab.codes(minted()) == ("unavailable",)
    assert lab.records.decisions == []


def test_screening_tells_no_more_than_any_denial() -> None:
    lab = Lab()
    capability = minted().attenuate(*(allow("b") for _ in range(40)))
    admitted = lab.verifier.admit(lab.present(capability), ToolCall("a.read"))
    with pytest.raises(Denied) as caught:
        admitted.screen("a.read")
    assert len(caught.value.refusals) == 32


def test_what_cannot_be_recorded_is_not_allowed_and_a_denial_stands() -> None:
    lab = Lab()
    lab.records.full = True
    assert lab.codes(minted()) == ("unavailable",)
    assert lab.codes(minted(), "a.export") == ("action_not_allowed",)


def test_a_decision_says_what_was_decided_of_whom() -> None:
    lab = Lab()
    presentation = minted(Tenant("Acme")).delegate(to="a", nonce=NONCES[0]).present(READ, now=NOW)
    decision = lab.verifier.decide(presentation.text, READ, Call("a.read", tenant="Acme"))
    assert decision.body() == {
        "id": decision.id,
        "at": NOW,
        "outcome": "allowed",
        "audience": "crm",
        "action": "a.read",
        "task": "T1",
        "tenant": "Acme",
        "intent": None,
        "root": "R1",
        "path": list(map(b64u, presentation.path)),
        "hops": ["a"],
        "ids": list(map(b64u, presentation.ids[:-1])),
        "presentation": b64u(presentation.id),
        "spent": [],
        "reasons": [],
    }
    assert decision.id != lab.decide(lab.present(minted())).id


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


@pytest.mark.parametrize("age", [0.0, 5.0])
def test_knowledge_as_fresh_as_is_demanded_will_do(age: float) -> None:
    lab = Lab()
    lab.deaths.years = age
    assert lab.codes(holding([fresh("5s")])) == ()


def test_a_holder_may_demand_fresher_knowledge_than_the_verifier() -> None:
    lab = Lab()
    lab.deaths.years = 5.1
    assert lab.codes(holding([fresh(5)], [fresh(60)])) == ("stale_liveness",)
    assert lab.codes(holding([fresh(60)])) == ()


def test_a_counter_is_named_by_the_authority_alone() -> None:
    shared = Budget("calls", "20", "C1")
    assert Lab().codes(minted(shared)) == ("no_meter",)
    assert Lab().codes(appended(minted(), encode_block((shared,)))) == ("misplaced",)


def test_a_token_has_so_many_budgets_and_no_more() -> None:
    budgets = [Budget("calls", str(n)) for n in range(9)]
    assert Lab().codes(holding(budgets, budgets[:7])) == ("no_meter",) * 16
    assert Lab().codes(holding(budgets, budgets[:8])) == ("too_large",)


SIGNED = Sig("A" * 86)


def test_signatures_refuse_where_nothing_checks_them() -> None:
    assert Lab().codes(minted(Holder("A" * 43))) == ("hop_unsigned",)
    assert Lab().codes(appended(minted(), encode_block((Hop("a", NONCES[0]), SIGNED)))) == ("hop_unsigned",)
    assert Lab().codes(appended(minted(), encode_block((SIGNED, Expires(NOW + 9))))) == ("misplaced",)
    assert Lab().codes(minted(SIGNED)) == ("misplaced",)
    assert Lab().codes(appended(minted(), encode_block((Holder("A" * 43),)))) == ("misplaced",)


def test_a_signed_presentation_is_refused_and_recorded_by_nobody() -> None:
    lab = Lab()
    mark = Presented("tool", READ.digest(), NOW, "A" * 16)
    assert codes(lab.decide(appended(minted(), encode_block((mark, SIGNED))).text)) == ("hop_unsigned",)
    assert codes(lab.decide(appended(minted(), encode_block((SIGNED, mark))).text)) == ("misplaced",)
    assert lab.records.decisions == []


class InRegion(Constraint, frozen=True, tag="acme.in_region"):
    region: str

    def judge(self, value: Value) -> Judgement:
        return value == self.region if isinstance(value, str) else None

    def sentence(self) -> str:
        return f"lies in {self.region}"


@pytest.mark.parametrize("answer", [0, 1, "", "yes", [], object(), NotImplemented])
def test_a_constraint_that_answers_oddly_cannot_judge_wherever_it_stands(answer: Any) -> None:
    class Odd(Constraint, frozen=True, tag="acme.odd"):
        def judge(self, value: Value) -> Judgement:
            return cast("Judgement", answer)

        def sentence(self) -> str:
            return "is odd"

    lab = Lab(vocabulary=DEFAULT.extended(Odd))
    odd = Odd()
    rules = (odd, not_(odd), any_of(odd), all_of(odd), not_(any_of(odd)), not_(all_of(odd)))
    arrays = (each(odd), not_(each(odd)), each(odd, min=2))
    for rule, value in [*((rule, 1) for rule in rules), *((rule, [1]) for rule in arrays), (fields(a=odd), {"a": 1})]:
        capability = minted(allowed=allow(action("a.read", x=rule)))
        assert lab.codes(capability, args={"x": cast("JSON", value)}) == ("argument_refused",)


def test_an_own_caveat_that_fails_to_be_read_refuses() -> None:
    class Region(Caveat, frozen=True, tag="acme.region"):
        name: str

        def __post_init__(self) -> None:
            assert {"eu": 1}[self.name]

        def refusal(self, facts: Facts) -> Refusal | None:
            return None

        def sentence(self) -> str:
            return self.name

    lab = Lab(vocabulary=DEFAULT.extended(Region))
    assert lab.codes(appended(minted(), b'[["acme.region","eu"]]')) == ()
    assert lab.codes(appended(minted(), b'[["acme.region","us"]]')) == ("not_understood",)


def test_what_one_verifier_knows_of_a_token_is_not_anothers() -> None:
    keys = AudienceKeys("crm", [KEY])
    loose, strict = Lab(keys=keys), Lab(keys=keys, require=["tenant"])
    assert loose.codes(minted()) == ()
    authentic = loose.verifier.authenticate(loose.present(minted()))
    assert codes(strict.verifier.decide(authentic, READ, CALL)) == ("incomplete_authority",)


def test_many_questions_about_many_values_are_refused_unasked() -> None:
    rule = Each(one_of(*range(900)))
    capability = holding([where("args.x", rule)], [where("args.x", rule)], [where("args.x", rule)])
    lab = Lab()
    assert lab.codes(capability, args={"x": [1] * 50}) == ()
    (refusal,) = lab.decide(lab.present(capability, args={"x": [1] * 1000}), args={"x": [1] * 1000}).refusals
    assert refusal.code == "argument_refused"
    assert "more values" in refusal.sentence
    assert Lab().codes(holding([where("args.x", rule)]), args={"x": [1] * 250}) == ()
    explanation = lab.verifier.explain(capability.text, Call("a.read", {"x": [1] * 1000}))
    assert [each.code for each in explanation.refusals] == ["argument_refused"]
    assert explanation.restrictions == ()
    assert explanation.lineage is not None
    assert Lab().codes(minted(), args={"x": [[1] * 1000] * 1000}) == ()


def test_closed_entries_ask_about_every_argument_that_is_there() -> None:
    closed = b'[["allow",[' + b",".join([b'["a.read",[]]'] * 120) + b"]]]"
    capability = appended(minted(), *[closed] * 7)
    (refusal,) = (
        Lab().decide(Lab().present(capability, args=(many := {f"a{at}": 0 for at in range(5000)})), args=many).refusals
    )
    assert "more values" in refusal.sentence
    objects = [where("args.x", any_of(*[fields()] * 100))]
    (refusal,) = Lab().decide(Lab().present(holding(*[objects] * 7), args={"x": many}), args={"x": many}).refusals
    assert "more values" in refusal.sentence


def test_arguments_of_no_name_are_asked_about_within_bounds() -> None:
    entry = action("a.read", args={"*": one_of(*range(400))})
    capability = minted(allowed=allow(entry, entry))
    assert Lab().codes(capability, args={str(at): 1 for at in range(300)}) == ()
    assert Lab().codes(capability, args={str(at): 1 for at in range(400)}) == ("argument_refused",)


class Wordless(Caveat, frozen=True, tag="acme.wordless"):
    def refusal(self, facts: Facts) -> Refusal | None:
        return None

    def sentence(self) -> str:
        raise KeyError("no words")


def test_a_caveat_without_words_is_explained_by_its_name() -> None:
    lab = Lab(vocabulary=DEFAULT.extended(Wordless))
    explanation = lab.verifier.explain(holding([Wordless()]).text, CALL)
    assert explanation.allowed
    assert "Wordless" in explanation.restrictions[-1].sentence


def test_a_services_own_constraint_is_judged_where_it_is_known_and_refused_elsewhere() -> None:
    capability = minted(allowed=allow(action("a.read", site=any_of(InRegion("eu"), InRegion("us")))))
    lab = Lab(vocabulary=DEFAULT.extended(InRegion))
    assert lab.codes(capability, args={"site": "us"}) == ()
    assert lab.codes(capability, args={"site": "cn"}) == ("argument_refused",)
    assert lab.codes(capability, args={"site": 1}) == ("argument_refused",)
    assert Lab().codes(capability, args={"site": "us"}) == ("incomplete_authority",)


def test_an_allowlist_is_never_widened_by_one_that_is_not_understood() -> None:
    capability = appended(minted(), b'[["allow",[["a.*",[["x",["newer","*"]]]]]]]')
    assert isinstance(capability.caveats[-1][0], NotUnderstood)
    assert not any(isinstance(caveat, Allow) for caveat in capability.caveats[-1])
    assert Lab().codes(capability) == ("not_understood",)


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


OPTIMISED = """
from tests.verify.test_verifier import REASONS, Lab, codes, minted
for code, make in REASONS.items():
    print(code, codes(make()))
print("allowed", Lab().codes(minted()))
print("optimised", __debug__)
"""


@pytest.mark.parametrize("option", ["-O", "-OO"])
def test_python_without_assertions_refuses_as_ever(checkout: Path, option: str) -> None:
    done = subprocess.run(
        [sys.executable, option, "-W", "error", "-c", OPTIMISED],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert told == {**{code: f"('{code}',)" for code in REASONS}, "allowed": "()", "optimised": "False"}


@given(
    st.text() | st.text().map(lambda text: f"capx1_{text}") | st.sampled_from(["\0", "\ud800", "capx1_" + "[" * 9000])
)
def test_any_text_at_all_is_refused_as_one_that_shows_no_authority(text: str) -> None:
    lab = Lab()
    decision = lab.decide(text)
    assert Denied(decision).status == 401
    assert lab.records.decisions == []


DECK = minted(allowed=allow(action("a.read", deck="deck-42")))
TWO_RESOURCES: dict[str, dict[str, JSON]] = {
    "a second argument": {"deck": "deck-42", "deck2": "deck-43"},
    "a name in capitals beside it": {"deck": "deck-42", "Deck": "deck-43"},
    "a name with a space beside it": {"deck": "deck-42", "deck ": "deck-43"},
    "a list": {"deck": ["deck-42", "deck-43"]},
    "a list of the one": {"deck": ["deck-42"]},
    "an object": {"deck": {"id": "deck-42", "also": "deck-43"}},
    "a text of both": {"deck": "deck-42,deck-43"},
    "a text in two lines": {"deck": "deck-42\ndeck-43"},
    "a text that ends in NUL": {"deck": "deck-42\0deck-43"},
}


@pytest.mark.parametrize("args", TWO_RESOURCES.values(), ids=list(TWO_RESOURCES))
def test_two_resources_in_one_call_are_not_one(args: dict[str, JSON]) -> None:
    (code,) = Lab().codes(DECK, args=args)
    assert code in {"argument_refused", "argument_not_named"}


def test_of_two_resources_in_a_list_each_must_be_allowed() -> None:
    capability = minted(allowed=allow(action("a.read", decks=each(one_of("deck-42", "deck-44")))))
    assert Lab().codes(capability, args={"decks": ["deck-42", "deck-44"]}) == ()
    for decks in (["deck-42", "deck-43"], ["deck-43", "deck-42"], [["deck-42"]], [], "deck-42"):
        assert Lab().codes(capability, args={"decks": decks}) == ("argument_refused",)


LIKE_IT = {
    "decomposed": "cafe\u0301",
    "a homoglyph": "\u0441af\u00e9",
    "full width": "\uff43af\u00e9",
    "capitals": "CAF\u00c9",
    "a variation selector": "caf\u00e9\ufe0f",
    "a combining grapheme joiner": "caf\u00e9\u034f",
    "a space after it": "caf\u00e9 ",
}
HIDDEN = {"zero width": "ca\u200bf\u00e9", "a soft hyphen": "ca\u00adf\u00e9", "a byte-order mark": "\ufeffcaf\u00e9"}


@pytest.mark.parametrize("other", [*LIKE_IT.values(), *HIDDEN.values()], ids=[*LIKE_IT, *HIDDEN])
def test_what_only_looks_like_a_value_is_another(other: str) -> None:
    for rule, prefix, suffix in (
        ("caf\u00e9", "", ""),
        (within("/caf\u00e9"), "/", "/x"),
        (glob("*/caf\u00e9"), "x/", ""),
        (regex("caf\u00e9"), "", ""),
    ):
        capability = minted(allowed=allow(action("a.read", x=rule)))
        assert Lab().codes(capability, args={"x": f"{prefix}caf\u00e9{suffix}"}) == ()
        assert Lab().codes(capability, args={"x": f"{prefix}{other}{suffix}"}) == ("argument_refused",)


@pytest.mark.parametrize("other", LIKE_IT.values(), ids=list(LIKE_IT))
def test_what_only_looks_like_a_name_is_another(other: str) -> None:
    named = minted(Tenant("caf\u00e9"), allowed=allow(action("a.read", args={"caf\u00e9": 1})))
    lab = Lab()
    assert codes(lab.decide(lab.present(named, args={"caf\u00e9": 1}), args={"caf\u00e9": 1}, tenant="caf\u00e9")) == ()
    for args, tenant_of_it, code in (
        ({other: 1}, "caf\u00e9", "argument_refused"),
        ({"caf\u00e9": 1, other: 1}, "caf\u00e9", "argument_not_named"),
        ({"caf\u00e9": 1}, other, "wrong_tenant"),
    ):
        assert codes(lab.decide(lab.present(named, args=args), args=args, tenant=tenant_of_it)) == (code,)


@pytest.mark.parametrize("name", HIDDEN.values(), ids=list(HIDDEN))
def test_a_call_states_no_name_that_hides_something(name: str) -> None:
    with pytest.raises(InvalidCaveat):
        Call("a.read", {name: 1})
    with pytest.raises(InvalidCaveat):
        Call("a.read", tenant=name)
    with pytest.raises(InvalidCaveat):
        Call(name)


@pytest.mark.parametrize(
    "other", ["\u0430.read", "a\u200b.read", "a.r\u0435ad", "a\uff0eread", "a\u2024read", "A.read", "a.read "]
)
def test_no_action_looks_like_another(other: str) -> None:
    try:
        received, call = ToolCall(other), Call(other)
    except CapxError:
        return
    assert codes(Lab().verifier.decide(minted().present(received, now=NOW).text, received, call)) == (
        "action_not_allowed",
    )


def test_a_tag_that_a_newer_version_appended_refuses_at_an_older_one() -> None:
    class Region(Caveat, frozen=True, tag="acme.region"):
        name: str

        def refusal(self, facts: Facts) -> Refusal | None:
            return None

        def sentence(self) -> str:
            return f"in {self.name}"

    child = minted().attenuate(Region("eu"))
    assert Lab(vocabulary=DEFAULT.extended(Region)).codes(child) == ()
    assert Lab().codes(child) == ("not_understood",)
    for block in (
        b'[["expires",%d,"newer"]]' % (NOW + 9),
        b'[["allow",[["a.read",[],"newer"]]]]',
        b'[["hop","a","AgICAgICAgI",null]]',
    ):
        assert Lab().codes(appended(minted(), block)) == ("not_understood",)


# Kids and instants


def minted_at(issued: int, key: RootKey = ROOT_KEY) -> Capability:
    return mint(key.audience_key("crm"), grant(), now=issued)


def test_what_was_minted_under_a_revoked_kid_is_dead_and_what_was_not_lives() -> None:
    other = RootKey(bytes(range(32, 64)))
    lab = Lab(keys=AudienceKeys("crm", [KEY, other.audience_key("crm")]))
    lab.deaths.deaths[revocation_key.of_kid(ROOT_KEY.kid)] = "revoked"
    refused = lab.decide(lab.present(minted().delegate(to="a", nonce=NONCES[0])))
    assert codes(refused) == ("revoked",)
    (refusal,) = refused.refusals
    assert refusal.sentence == "the key that this was minted with was revoked"
    assert refusal.hop is None
    assert lab.codes(minted_at(NOW, other)) == ()


@pytest.mark.parametrize("issued", [NOW - 1, NOW, NOW + 1])
@pytest.mark.parametrize("instant", [NOW - 1, NOW, NOW + 1])
def test_an_instant_kills_what_was_issued_in_or_before_that_very_second(issued: int, instant: int) -> None:
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


def test_a_kid_is_told_after_the_presentation_and_before_an_instant() -> None:
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
        "the key that this was minted with was revoked",
        "this was issued before an instant up to which everything was revoked",
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


# At the authority itself


class Strict(Caveat, frozen=True, tag="acme.strict"):
    """A service's own caveat that lets nothing through; one about "broken" cannot even be read."""

    what: str

    def __post_init__(self) -> None:
        if self.what == "broken":
            raise LookupError(self.what)

    def refusal(self, facts: Facts) -> Refusal | None:
        return Refusal("strict", "lets nothing through", "nothing")

    def sentence(self) -> str:
        return f"strict about {self.what}"


@pytest.mark.parametrize("vocabulary", [DEFAULT, DEFAULT.extended(Strict)], ids=["unknown", "known"])
@pytest.mark.parametrize("block", [b'[["acme.strict","x"]]', b'[["acme.strict","broken"]]', b'[["acme.strict"]]'])
def test_a_services_own_caveat_is_about_what_is_granted_and_not_judged_at_the_authority(
    vocabulary: Vocabulary, block: bytes
) -> None:
    capability = appended(minted(audience="authority"), block)
    lab = Lab("authority", vocabulary=vocabulary)
    assert lab.codes(capability) == ()
    assert lab.verifier.explain(capability.text, CALL).allowed
    assert len(Lab(vocabulary=vocabulary).codes(appended(minted(), block))) == 1


def test_a_known_caveat_of_a_service_is_left_out_however_it_is_spelt() -> None:
    capability = appended(minted(audience="authority"), b'[ [ "acme\\u002estrict" , "x" ] ]')
    assert Lab("authority", vocabulary=DEFAULT.extended(Strict)).codes(capability) == ()
    assert Lab("authority").codes(capability) == ("not_understood",)


def test_at_the_authority_a_budget_is_neither_judged_nor_spent(tmp_path: Path) -> None:
    store = SQLiteStore.create(tmp_path / "capx.db")
    lab = Lab("authority", meter=store)
    capability = minted(Budget("calls", "0"), Budget("eur", "1"), audience="authority")
    assert lab.codes(capability) == ()
    assert not lab.verifier.admit(lab.present(capability), READ).spends
    with store.read() as reading:
        assert reading.counters() == []
    store.close()
