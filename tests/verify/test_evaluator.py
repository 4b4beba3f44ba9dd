"""Every caveat of every block is asked, and every known revocation counts."""

from itertools import count
from typing import Any, cast

import pytest
from msgspec import UNSET

from capx.crypto.base64url import b64u
from capx.crypto.keys import AudienceKeys
from capx.errors import ConfigurationProblem
from capx.store.sqlite.store import SQLiteStore
from capx.tokens import revocation_key
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.verify.admitted import Admitted
from capx.verify.decision import Decision, Denied, is_decision_id
from capx.verify.evaluator import MAX_REPORTED
from capx_caveats import (
    DEFAULT,
    JSON,
    Allow,
    Call,
    Caveat,
    Constraint,
    Each,
    Expires,
    Facts,
    Hop,
    Judgement,
    NotBefore,
    NotUnderstood,
    Refusal,
    Tenant,
    Value,
    action,
    all_of,
    allow,
    any_of,
    budget,
    each,
    encode_block,
    fields,
    fresh,
    is_id,
    max_hops,
    not_,
    one_of,
    tenant,
    until_completed,
    where,
)
from tests.labs.lab import KEY, NONCES, NOW, ROOT_KEY, Lab, appended, codes, codes_of, holding, minted
from tests.labs.own_constraints import Region

READ = ToolCall("a.read")
CALL = Call("a.read")


# One walk, five ways to ask
def killed(lab: Lab, capability: Capability) -> Capability:
    lab.deaths.deaths["T1"] = "task_completed"
    return capability


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
    assert lab.codes(minted()) == ("task_completed",)


def test_staleness_recovers() -> None:
    lab = Lab()
    lab.deaths.years = float("inf")
    assert lab.codes(minted()) == ("unknown_liveness",)
    lab.deaths.years = 0.0
    assert lab.codes(minted()) == ()


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


class InRegion(Constraint, frozen=True, tag="acme.in_region"):
    region: str

    def judge(self, value: Value) -> Judgement:
        return value == self.region if isinstance(value, str) else None

    def sentence(self) -> str:
        return f"lies in {self.region}"


@pytest.mark.parametrize("answer", [0, 1, "", "yes", [], object(), NotImplemented])
def test_a_constraint_that_answers_oddly_is_refused_everywhere(answer: Any) -> None:
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
    class EuropeanRegion(Caveat, frozen=True, tag="acme.region"):
        name: str

        def __post_init__(self) -> None:
            assert {"eu": 1}[self.name]

        def refusal(self, facts: Facts) -> Refusal | None:
            return None

        def sentence(self) -> str:
            return self.name

    lab = Lab(vocabulary=DEFAULT.extended(EuropeanRegion))
    assert lab.codes(appended(minted(), b'[["acme.region","eu"]]')) == ()
    assert lab.codes(appended(minted(), b'[["acme.region","us"]]')) == ("not_understood",)


def test_many_questions_about_many_values_are_refused_unasked() -> None:
    rule = Each(one_of(*range(900)))
    capability = holding([where("args.x", rule)], [where("args.x", rule)], [where("args.x", rule)])
    lab = Lab()
    assert lab.codes(capability, args={"x": [1] * 50}) == ()
    (refusal,) = lab.decide(lab.present(capability, args={"x": [1] * 1000}), args={"x": [1] * 1000}).refusals
    assert refusal.code == "argument_refused"
    assert "too much work" in refusal.sentence
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
    assert "too much work" in refusal.sentence
    objects = [where("args.x", any_of(*[fields()] * 100))]
    (refusal,) = Lab().decide(Lab().present(holding(*[objects] * 7), args={"x": many}), args={"x": many}).refusals
    assert "too much work" in refusal.sentence


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


def test_an_own_constraint_is_refused_where_it_is_unknown() -> None:
    capability = minted(allowed=allow(action("a.read", site=any_of(InRegion("eu"), InRegion("us")))))
    lab = Lab(vocabulary=DEFAULT.extended(InRegion))
    assert lab.codes(capability, args={"site": "us"}) == ()
    assert lab.codes(capability, args={"site": "cn"}) == ("argument_refused",)
    assert lab.codes(capability, args={"site": 1}) == ("argument_refused",)
    assert Lab().codes(capability, args={"site": "us"}) == ("incomplete_authority",)


def test_an_allowlist_not_understood_is_refused() -> None:
    capability = appended(minted(), b'[["allow",[["a.*",[["x",["newer","*"]]]]]]]')
    assert isinstance(capability.caveats[-1][0], NotUnderstood)
    assert not any(isinstance(caveat, Allow) for caveat in capability.caveats[-1])
    assert Lab().codes(capability) == ("not_understood",)


def test_a_newer_versions_tag_is_refused_at_an_older_one() -> None:
    child = minted().attenuate(Region("eu"))
    assert Lab(vocabulary=DEFAULT.extended(Region)).codes(child, attributes={"region": "eu"}) == ()
    assert Lab().codes(child) == ("not_understood",)
    for block in (
        b'[["expires",%d,"newer"]]' % (NOW + 9),
        b'[["allow",[["a.read",[],"newer"]]]]',
        b'[["hop","a","AgICAgICAgI",null]]',
    ):
        assert Lab().codes(appended(minted(), block)) == ("not_understood",)


# What is told of an end

LEAF = minted().delegate(to="middle", nonce=NONCES[0]).delegate(to="leaf", nonce=NONCES[1])


@pytest.mark.parametrize(
    ("key", "code", "refusal"),
    [
        ("T1", "task_completed", Refusal("task_completed", "task T1 was completed", "a live task")),
        ("T1", "task_expired", Refusal("task_expired", "task T1 has expired", "a live task")),
        (LEAF.path[0], "revoked", Refusal("revoked", "the revocation root of this task was revoked", "a live task")),
        (
            LEAF.path[2],
            "revoked",
            Refusal("revoked", "was revoked, and all below it", "a live node", hop=2, hop_name="leaf"),
        ),
        (
            LEAF.ids[1],
            "revoked",
            Refusal(
                "revoked", "this capability, or an ancestor, was revoked", "a live capability", given=b64u(LEAF.ids[1])
            ),
        ),
        (
            revocation_key.of_kid(ROOT_KEY.kid),
            "revoked",
            Refusal(
                "revoked", "the root key that this token was minted with was revoked", "a capability of a live key"
            ),
        ),
        (
            revocation_key.of_instant(NOW),
            "revoked",
            Refusal(
                "revoked",
                "every token issued up to a certain time was revoked, and this is one of them",
                "a newly issued token",
            ),
        ),
    ],
)
def test_each_end_says_what_ended_and_what_would_do(key: bytes | str, code: str, refusal: Refusal) -> None:
    lab = Lab()
    lab.deaths.deaths[key] = code
    assert lab.decide(lab.present(LEAF)).refusals == (refusal,)


def test_stale_news_tell_their_age_and_the_bound() -> None:
    lab = Lab(max_staleness=12.5)
    lab.deaths.years = 31.4
    (refusal,) = lab.decide(lab.present(minted())).refusals
    assert refusal.code == "stale_liveness"
    assert "for 31 s" in refusal.sentence
    assert "12.5 s" in refusal.wanted


def test_only_news_of_the_authority_of_the_keys_count() -> None:
    lab = Lab(keys=AudienceKeys("crm", [KEY], authority="A"))
    assert lab.codes(minted()) == ()
    lab.deaths.authority = "B"
    for age, told in ((0.0, "another authority"), (100.0, "another authority"), (float("inf"), "no news")):
        lab.deaths.years = age
        (refusal,) = lab.decide(lab.present(minted())).refusals
        assert (refusal.code, told in refusal.sentence) == ("unknown_liveness", True)
    # Keys that were never in a file name no authority.
    unnamed = Lab()
    unnamed.deaths.authority = "B"
    assert unnamed.codes(minted()) == ()


def test_a_bound_that_is_no_number_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigurationProblem, match="`max_staleness` must be a number of seconds from 0"):
        Lab(max_staleness=-1.0)


def test_a_recorder_without_room_says_so() -> None:
    lab = Lab()
    lab.records.full = True
    assert lab.decide(lab.present(minted())).refusals == (
        Refusal("unavailable", "cannot record another decision", "try again later"),
    )


def test_the_end_of_a_presentation_is_told_at_the_head() -> None:
    lab = Lab()
    presentation = minted().present(READ, now=NOW)
    lab.deaths.deaths[presentation.id] = "revoked"
    with pytest.raises(Denied) as caught:
        lab.verifier.authenticate(presentation.text)
    assert codes(caught.value) == ("revoked",)


def admitted(lab: Lab, capability: Capability) -> Admitted:
    return lab.verifier.admit(lab.present(capability), READ)


def presented(lab: Lab, capability: Capability) -> tuple[Admitted, bytes]:
    """What was admitted, and the id of its presentation."""
    presentation = capability.present(READ, now=NOW)
    assert presentation.id is not None
    return lab.verifier.admit(presentation.text, READ), presentation.id


def test_a_presentation_that_ends_after_admission_is_refused() -> None:
    lab = Lab()
    one, id_ = presented(lab, minted(Tenant("Acme")))
    lab.deaths.deaths[id_] = "revoked"
    assert codes(one.decide(Call("a.read", tenant="Acme"))) == ("revoked",)
    assert codes(one.missing_row("a.read")) == ("revoked", "wrong_tenant")


def test_a_denial_tells_32_refusals_at_most() -> None:
    lab = Lab()
    many = minted().attenuate(*[allow("b")] * 40)
    assert codes(lab.decide(lab.present(many))) == ("action_not_allowed",) * MAX_REPORTED
    one = admitted(lab, many.attenuate(*[until_completed(f"T{at}") for at in range(2, 9)]))
    lab.deaths.deaths.update((f"T{at}", "task_completed") for at in range(2, 9))
    assert codes(one.decide(CALL)) == ("task_completed",) * 7 + ("action_not_allowed",) * (MAX_REPORTED - 7)


# Tenants


def test_a_foreign_row_is_refused_by_the_authority() -> None:
    lab = Lab()
    (refusal,) = admitted(lab, minted(Tenant("Acme"))).missing_row("a.read").refusals
    assert (refusal.code, refusal.hop, refusal.wanted) == ("wrong_tenant", 0, 'tenant is "Acme"')


def test_why_a_row_is_foreign_is_for_the_log_alone() -> None:
    lab = Lab()
    one = admitted(lab, minted(Tenant("Acme")))
    denied = one.missing_row("a.read", "there is no such row")
    assert [refusal.detail for refusal in denied.refusals] == [""]
    assert [refusal.detail for refusal in lab.records.decisions[-1].refusals] == ["there is no such row"]
    assert [refusal.detail for refusal in one.missing_row("a.read").decision.refusals] == [""]


def test_a_foreign_row_is_told_last_whatever_else_ended() -> None:
    lab = Lab()
    one = admitted(lab, minted(Tenant("Acme")).attenuate(*[until_completed(f"T{at}") for at in range(40)]))
    lab.deaths.deaths.update((f"T{at}", "task_completed") for at in range(40))
    assert codes(one.missing_row("a.read")) == ("task_completed",) * (MAX_REPORTED - 1) + ("wrong_tenant",)
    told = one.as_missing(lab.records.decisions[-1])
    assert codes(told) == ("task_completed",) * (MAX_REPORTED - 1) + ("wrong_tenant",)


def test_a_costly_call_of_another_tenant_is_told_both() -> None:
    rule = where("args.x", Each(one_of(*range(900))))
    capability = minted(Tenant("Acme")).attenuate(rule).attenuate(rule).attenuate(rule)
    call = Call("a.read", {"x": [1] * 1000}, tenant="Globex")
    decision = admitted(Lab(), capability).decide(call)
    assert codes(decision) == ("wrong_tenant", "argument_refused")
    assert [refusal.hop for refusal in decision.refusals] == [0, None]


# Decisions


def test_a_decision_has_a_random_id_that_nothing_else_has() -> None:
    lab = Lab()
    found = {lab.decide("junk").id for _ in range(9)}
    assert len(found) == 9
    assert all(map(is_decision_id, found))
    assert not any(map(is_id, found))


def test_a_decision_has_the_time_at_which_it_was_made() -> None:
    lab = Lab()
    lab.clock.now = NOW + 7
    assert lab.decide("junk").at == NOW + 7
    assert lab.decide(lab.present(minted())).at == NOW + 7
    assert lab.decide(lab.present(minted()), "a.export").at == NOW + 7


def test_an_allowed_call_has_the_time_at_which_it_was_judged() -> None:
    ticks = count(NOW)
    judged: list[int] = []

    class Noting(Caveat, frozen=True, tag="acme.noting"):
        def refusal(self, facts: Facts) -> Refusal | None:
            judged.append(facts.now)
            return None

        def sentence(self) -> str:
            return "is noted"

    lab = Lab(vocabulary=DEFAULT.extended(Noting), clock=lambda: next(ticks))
    decision = lab.decide(minted().attenuate(Noting()).present(READ, now=NOW).text)
    assert decision.allowed
    assert [decision.at] == judged


def test_arguments_have_no_digest_once_all_keys_are_gone() -> None:
    keys = AudienceKeys("crm", [KEY])
    lab = Lab(keys=keys)
    one = admitted(lab, minted())
    assert one.decide(CALL).args_digest is not None
    keys.become(AudienceKeys("crm", []))
    assert one.decide(CALL).args_digest is None


# Budgets


def test_an_explanation_tells_each_budget_without_room(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("eur", 5), budget("calls", 1)).attenuate(budget("eur", 3))
    call = Call("a.read", cost={"eur": 2})
    assert lab.verifier.explain(capability.text, call).allowed
    admitted(lab, capability).judge(call)
    found = lab.verifier.explain(capability.text, call)
    assert [one.refusal and one.refusal.code for one in found.restrictions[-3:]] == [
        None,
        "budget_exhausted",
        "budget_exhausted",
    ]
    assert lab.records.decisions[-1].body()["spent"]
    store.close()
    closed = lab.verifier.explain(capability.text, call)
    assert codes_of(closed.refusals) == ("unavailable",) * 3
    assert all("was closed" in one.sentence for one in closed.refusals)
    assert {one.wanted for one in closed.refusals} == {"try again later"}


def test_an_explanation_without_a_meter_says_so() -> None:
    lab = Lab()
    found = lab.verifier.explain(minted(budget("calls", 1)).text, CALL)
    assert codes_of(found.refusals) == ("no_meter",)


# What a service's own caveat sees, and what is told of it


class Sighted(Caveat, frozen=True, tag="acme.sighted"):
    """Refuses with all that it sees."""

    plain: bool = False

    def refusal(self, facts: Facts) -> Refusal | None:
        call = facts.call
        if self.plain:
            return Refusal("acme.unseen", "saw nothing of it")
        return Refusal("acme.seen", "saw it", given={"args": {**call.args}, "defaults": {**call.defaults}})

    def sentence(self) -> str:
        return "sees it all"


def refused(caveat: Caveat, args: dict[str, JSON], defaults: dict[str, JSON]) -> Refusal:
    lab = Lab(vocabulary=DEFAULT.extended(Sighted, Odd))
    received = ToolCall("a.read", args)
    presentation = minted().attenuate(caveat).present(received, now=NOW)
    decision: Decision = lab.verifier.decide(presentation.text, received, Call("a.read", args, defaults=defaults))
    (refusal,) = decision.refusals
    return refusal


@pytest.mark.parametrize(
    ("defaults", "seen"),
    [({}, '{"args": {"a": 1}, "defaults": {}}'), ({"b": 2}, '{"args": {"b": 2, "a": 1}, "defaults": {}}')],
)
def test_a_services_own_caveat_sees_defaults_as_arguments(defaults: dict[str, JSON], seen: str) -> None:
    assert refused(Sighted(), {"a": 1}, defaults).detail == f"saw it (given {seen})"


def test_of_a_services_own_caveat_only_its_demand_is_told() -> None:
    unseen = refused(Sighted(plain=True), {"a": 1}, {})
    assert (unseen.sentence, unseen.wanted) == ("demands sees it all", "sees it all")
    assert unseen.detail == "saw nothing of it"
    seen = refused(Sighted(), {"a": 1}, {})
    assert (seen.code, seen.sentence, seen.wanted, seen.given) == (
        "acme.seen",
        "demands sees it all",
        "sees it all",
        UNSET,
    )
    failed = refused(Odd("raises"), {}, {})
    assert failed.sentence == "has a caveat that could not be evaluated"


def test_of_capx_caveats_the_given_value_is_told() -> None:
    lab = Lab()
    (refusal,) = lab.decide(lab.present(minted(), "a.export"), "a.export").refusals
    assert (refusal.given, refusal.detail) == ("a.export", "")


def test_capx_caveats_see_defaults_apart() -> None:
    closed = allow(action("a.read", a=1))
    lab = Lab()
    received = ToolCall("a.read", {"a": 1})
    presentation = minted().attenuate(closed).present(received, now=NOW)
    assert lab.verifier.decide(presentation.text, received, Call("a.read", {"a": 1}, defaults={"b": 2})).allowed
