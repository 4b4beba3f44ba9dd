"""Every caveat of every block is asked, and every known revocation counts."""

from typing import Any, cast

import pytest

from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.verify.decision import Denied
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
    each,
    encode_block,
    fields,
    fresh,
    max_hops,
    not_,
    one_of,
    tenant,
    until_completed,
    where,
)
from tests.labs.lab import NONCES, NOW, Lab, appended, codes, codes_of, holding, minted

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
