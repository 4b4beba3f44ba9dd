"""What a guard states about a call, and which part of it is refused."""

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.call_facts import GRANTED, CallFacts, CallSpec, StatedArguments, unjudgeable
from capx.tokens.binding import HttpRequest, ToolCall
from capx.verify.admitted import Admitted
from capx.verify.decision import Denied, reason
from capx_caveats import JSON, Amount, Call
from tests.labs.lab import NOW, Lab, codes, minted

REQUEST = HttpRequest(method="GET", target="/clients")
NOTHING = StatedArguments({}, {})

BAD: Mapping[str, Any] = {"tenant": "", "args": {"": 1}, "attributes": {"A b": 1}, "cost": {"calls": 1}}
"""For each part of a call, what no call may have."""

TOLD = {
    "args": ("argument_refused", "an argument cannot be judged", "JSON values"),
    "tenant": (
        "wrong_tenant",
        'is for tenant "Acme", and this call is for another one or for none',
        'tenant is "Acme"',
    ),
    "attributes": ("argument_refused", "an attribute cannot be judged", "JSON values"),
    "cost": ("argument_refused", "the cost cannot be counted", "amounts"),
}


@pytest.fixture
def admitted() -> Iterator[Admitted]:
    with Authority.temporary() as authority:
        bundle = authority.open(tenant="Acme", allow=["crm.read"]).bundle
        sent = ToolCall("crm.read", {})
        presented = bundle.candidates("crm", sent)[0].present(sent).text
        yield authority.verifier("crm").admit(presented, sent)


@pytest.mark.parametrize("part", BAD)
def test_the_refusal_names_the_first_part_that_no_call_has(admitted: Admitted, part: str) -> None:
    parts: dict[str, Any] = {"args": {"id": 1}, "tenant": "Acme", "attributes": {"kind": "x"}, "cost": {"eur": 1}}
    for name in [*BAD][[*BAD].index(part) :]:
        parts[name] = BAD[name]
    with pytest.raises(Denied) as caught:
        CallFacts("crm.read", **parts).call(admitted)
    (refusal,) = caught.value.refusals
    code, sentence, wanted = TOLD[part]
    assert (refusal.code, refusal.wanted) == (code, wanted)
    assert refusal.sentence == sentence
    assert refusal.detail == ""
    logged = reason(caught.value.decision.refusals[0])["sentence"]
    assert len(logged) > len(sentence) + 10 or refusal.code == "wrong_tenant"
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_an_action_that_is_none_is_denied_as_that(admitted: Admitted) -> None:
    with pytest.raises(Denied) as caught:
        CallFacts("not an action!", {"": 1}, "Acme").call(admitted)
    (refusal,) = caught.value.refusals
    assert (refusal.code, refusal.wanted) == ("argument_refused", "an action")
    assert refusal.sentence == "the action is not valid"


def test_an_action_of_a_foreign_row_is_not_judged(admitted: Admitted) -> None:
    said = list[str]()
    for action in ("crm.read", "not an action!"):
        with pytest.raises(Denied) as caught:
            CallFacts(action, {}, "Globex").call(admitted)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_a_whole_call_is_made_once(admitted: Admitted, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Call] = []

    def noted(*parts: Any, **named: Any) -> Call:
        made.append(Call(*parts, **named))
        return made[-1]

    monkeypatch.setattr("capx.guard.call_facts.Call", noted)
    facts = CallFacts("crm.read", {"id": 1}, tenant=GRANTED, attributes={"kind": "x"}, cost={"eur": 1})
    assert facts.call(admitted) == Call("crm.read", {"id": 1}, "Acme", {"kind": "x"}, {"eur": 1})
    assert len(made) == 1


@pytest.mark.parametrize("is_json", [False, True])
def test_arguments_are_looked_at_unless_they_are_json(
    admitted: Admitted, monkeypatch: pytest.MonkeyPatch, *, is_json: bool
) -> None:
    looked_at: list[object] = []
    monkeypatch.setattr("capx_caveats.call.demand_members", looked_at.append)
    args, defaults = {"id": 1}, {"limit": 100}
    CallFacts("crm.read", args, "Acme", defaults=defaults, is_json=is_json).call(admitted)
    assert [one for one in looked_at if one] == ([] if is_json else [args, defaults])


def test_a_copy_of_stated_arguments_shares_nothing_mutable() -> None:
    given, left_out = [1], [2]
    copied = StatedArguments({"given": given}, {"left_out": left_out}).copied()
    given.append(3)
    left_out.append(3)
    assert copied == StatedArguments({"given": [1]}, {"left_out": [2]})


def test_facts_are_constants_or_come_from_the_arguments() -> None:
    def tenant_of(tenant: str) -> str:
        return tenant

    def cost_of(price: str) -> dict[str, str]:
        return {"eur": price}

    spec = CallSpec("crm.read", tenant_of, {"kind": "x"}, cost_of)
    facts = spec.facts("Acme", StatedArguments({"id": 1}, {}), {"id": 1, "price": "2"}, sent=True)
    assert facts == CallFacts("crm.read", {"id": 1}, "Acme", {"kind": "x"}, {"eur": "2"}, True, {}, is_json=True)
    with pytest.raises(ConfigurationProblem, match="which the guard cannot give it"):
        spec.demand_derivable(["id", "tenant"])


def test_the_denial_of_a_request_names_the_action_it_meant() -> None:
    sent = REQUEST
    with Authority.temporary() as authority:
        bundle = authority.open(allow=["crm.read"]).bundle
        admitted = authority.verifier("crm").admit(bundle.present("crm", sent).text, sent)
        with pytest.raises(Denied) as caught:
            CallFacts("crm.read", {"": 1}).call(admitted)
        assert caught.value.decision.action == "crm.read"


def test_an_argument_that_is_no_json_is_named_if_it_was_sent(admitted: Admitted) -> None:
    said = dict[bool, str]()
    for sent in (True, False):
        with pytest.raises(Denied) as caught:
            CallFacts("crm.read", {"id": {"x" * 9: float("nan")}}, "Acme", sent=sent).call(admitted)
        said[sent] = str(caught.value)
    assert said[True] == "an argument cannot be judged: a number is beyond ±(2^53 - 1) or not finite: pass it as text"
    assert said[False] == "an argument cannot be judged"


def test_the_denial_of_a_call_names_its_action(admitted: Admitted) -> None:
    with pytest.raises(Denied) as caught:
        CallFacts("crm.read", {"": 1}).call(admitted)
    assert caught.value.decision.action == "crm.read"


def of_kind(kind: str) -> dict[str, JSON]:
    return {"kind": kind}


def of_id(id: int) -> dict[str, JSON]:
    return {"row": id}


def of_price(price: str) -> dict[str, Amount]:
    return {"eur": price}


def of_tenant(tenant: str) -> str:
    return tenant


def test_attributes_come_from_the_arguments_that_they_take() -> None:
    spec = CallSpec("crm.read", attributes=of_kind)
    facts = spec.facts(None, StatedArguments({"id": 1}, {}), {"id": 1, "kind": "x"})
    assert facts == CallFacts("crm.read", {"id": 1}, attributes={"kind": "x"}, defaults={}, is_json=True)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (CallSpec("crm.read", tenant="Ac\nme"), "'Ac\\\\nme' is not a tenant"),
        (CallSpec("crm.read", attributes="Acme"), "`attributes=` is neither a mapping nor a function"),  # type: ignore[arg-type]
        (CallSpec("crm.read", attributes=of_kind), "`attributes=` takes kind"),
        (CallSpec("crm.read", cost=of_price), "`cost=` takes price"),
        (CallSpec("crm.read", tenant=of_tenant), "`tenant=` takes tenant"),
        (CallSpec("crm.read", cost={"calls": 1}), "`cost=`: "),
        (CallSpec("crm.read", attributes={"rate": float("nan")}), "`attributes=`: "),
        (CallSpec("crm.read", attributes={"A b": 1}), "`attributes=`: "),
        (CallSpec("crm.read", attributes=of_id, cost=of_price), "`cost=` takes price"),
    ],
)
def test_a_fact_that_cannot_be_derived_is_refused_by_name(spec: CallSpec, problem: str) -> None:
    with pytest.raises(ConfigurationProblem, match=f"^{problem}"):
        spec.demand_derivable(["id"])


@pytest.mark.parametrize("what", ["attributes", "cost"])
@pytest.mark.parametrize(("wrong", "kind"), [([], "list"), ([1], "list"), ("", "str"), (0, "int"), (False, "bool")])
def test_a_function_that_derives_no_mapping_is_an_error(what: str, wrong: object, kind: str) -> None:
    derivation: dict[str, Any] = {what: lambda: wrong}
    with pytest.raises(ConfigurationProblem) as caught:
        CallSpec("crm.read", **derivation).facts(None, NOTHING, {})
    assert str(caught.value) == f"`{what}=` returned a {kind}: return a mapping of names and values, or None"


@pytest.mark.parametrize("what", ["attributes", "cost"])
def test_a_function_may_derive_no_facts(admitted: Admitted, what: str) -> None:
    for nothing in (None, dict[str, Any]()):
        derivation: dict[str, Any] = {what: functools.partial(copy.copy, nothing)}
        call = CallSpec("crm.read", **derivation).facts("Acme", NOTHING, {}).call(admitted)
        assert (call.attributes, call.cost) == ({}, {})


@pytest.mark.parametrize("what", ["attributes", "cost", "defaults"])
@pytest.mark.parametrize("wrong", [[], "", 0])
def test_stated_facts_that_are_no_mapping_are_denied(admitted: Admitted, what: str, wrong: object) -> None:
    facts: dict[str, Any] = {what: wrong}
    with pytest.raises(Denied) as caught:
        CallFacts("crm.read", {}, "Acme", **facts).call(admitted)
    part = "args" if what == "defaults" else what
    assert caught.value.refusals[0].sentence == TOLD[part][1]


@pytest.fixture
def by_request() -> Iterator[Admitted]:
    """A token for Acme that came with an HTTP request, which names no action."""
    sent = REQUEST
    with Authority.temporary() as authority:
        bundle = authority.open(tenant="Acme", allow=["crm.read"]).bundle
        yield authority.verifier("crm").admit(bundle.present("crm", sent).text, sent)


def test_a_tenant_of_no_row_is_logged_with_its_action(by_request: Admitted, caplog: pytest.LogCaptureFixture) -> None:
    rows = {1: "Acme"}

    def owner_of(id: int) -> str:
        return rows[id]

    spec = CallSpec("crm.read", tenant=owner_of)
    caplog.set_level("INFO")
    assert spec.own_tenant(by_request, {"id": 1}) == "Acme"
    assert not caplog.text
    with pytest.raises(Denied) as caught:
        spec.own_tenant(by_request, {"id": 2})
    assert "`tenant=` of crm.read found no row" in caplog.text
    # A traceback takes time, by which a missing row could be told from a foreign one.
    assert "KeyError" not in caplog.text
    (refusal,) = caught.value.decision.refusals
    assert (refusal.code, refusal.detail) == ("wrong_tenant", "`tenant=` found no row")
    assert caught.value.decision.action == "crm.read"
    assert caught.value.__context__ is None


def test_the_denial_of_a_foreign_row_has_the_action(by_request: Admitted) -> None:
    with pytest.raises(Denied) as caught:
        CallSpec("crm.read", tenant="Globex").own_tenant(by_request, {})
    assert (caught.value.code, caught.value.decision.action) == ("wrong_tenant", "crm.read")
    with pytest.raises(Denied) as caught:
        CallFacts("crm.read", {}, "Globex").call(by_request)
    assert (caught.value.code, caught.value.decision.action) == ("wrong_tenant", "crm.read")


def test_a_guard_that_states_no_tenant_denies_in_the_log_too(by_request: Admitted) -> None:
    with pytest.raises(Denied) as caught:
        CallSpec("crm.read").own_tenant(by_request, {})
    (refusal,) = caught.value.decision.refusals
    assert (refusal.code, caught.value.decision.action) == ("wrong_tenant", "crm.read")
    assert refusal.detail == "the guard states no tenant: give it `tenant=`, such as GRANTED"


def test_the_denial_of_granted_has_the_action_and_all_reasons() -> None:
    lab = Lab()
    admitted = lab.verifier.admit(minted().present(REQUEST, now=NOW).text, REQUEST)
    lab.deaths.deaths["T1"] = "task_completed"
    for deny in (
        lambda: CallSpec("a.read", tenant=GRANTED).own_tenant(admitted, {}),
        lambda: CallFacts("a.read", {}, GRANTED).call(admitted),
    ):
        with pytest.raises(Denied) as caught:
            deny()
        assert codes(caught.value) == ("task_completed", "incomplete_authority")
        assert caught.value.decision.refusals[-1].detail == "the guard states GRANTED"
        assert lab.records.decisions[-1].action == "a.read"


def test_a_default_that_is_no_json_is_an_argument_refused(admitted: Admitted) -> None:
    with pytest.raises(Denied) as caught:
        CallFacts("crm.read", {"id": 1}, "Acme", defaults={"ratio": float("nan")}).call(admitted)
    (refusal,) = caught.value.refusals
    assert refusal.sentence == "an argument cannot be judged"


def test_a_refusal_says_once_that_an_argument_is_unjudgeable() -> None:
    why = "the argument 'when' cannot be judged, because it is not JSON: x"
    assert (unjudgeable(why).sentence, unjudgeable("x").sentence) == (why, "an argument cannot be judged: x")
