"""What is taken from an intent is a value, whatever it holds: it changes no rule but by standing in its place."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.errors import InvalidRequest
from capx.policy.file import read_policy
from capx.policy.terms import Terms
from capx_caveats import AllOf, AnyOf, Cidr, Contains, Each, Eq, Fields, Host, In, Length, Not, Path, Prefix, Range, Url
from capx_caveats.constraint import Wire
from capx_caveats.values import Literal
from tests.labs.policies import KIM, granting, intent

NASTY = [
    "{intent.other}",
    "{intent.statement}",
    "{{",
    "}}",
    "{",
    '"',
    "'",
    "\\",
    "\n[purpose.work]\n",
    '", "b", "',
    "*",
    "**",
    ".*",
    "*.com",
    "crm.*",
    "{ anything = true }",
    '["anything"]',
    "\x00",
    "\u202e",
    "__proto__",
]
TEXT = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
NUMBER = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15)
SCALAR = TEXT | NUMBER | st.booleans() | st.none()
LITERAL = SCALAR | st.lists(SCALAR, min_size=1, max_size=5)
LABEL = st.sampled_from([one for one in NASTY if one.isprintable()]) | st.text(
    st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), min_size=1, max_size=60
)
STATEMENT = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), min_size=1, max_size=60).filter(
    lambda text: bool(text.strip())
) | st.sampled_from(["{intent.p}", "{{", "a\n[purpose.work]\nb", '"""'])

ANYWHERE = read_policy(
    granting(
        """allow."a.b" = {
            whole = "{intent.p}",
            within = { any = [{ eq = "{intent.p}" }, { in = ["x", "{intent.p}"] }, { not = "{intent.p}" }] },
            fields = { fields = { one = "{intent.p}", statement = "{intent.statement}", tenant = "{intent.tenant}" } },
            agent = "{intent.agent}", principal = "{intent.principal}", purpose = "{intent.purpose}",
            fixed = "{{intent.p}"
        }""".replace("\n", " ")
    )
)


def structure(terms: Terms) -> Any:
    """Everything in the terms but the literals of constraints."""
    return [
        (
            rule.place,
            rule.how,
            rule.approvers,
            rule.within,
            rule.budgets,
            [(offer.audience, offer.entry.pattern, shape(offer.entry.args)) for offer in rule.offers],
        )
        for rule in terms.rules
    ]


def shape(held: Any) -> Any:
    if isinstance(held, Eq):
        return "eq"
    if isinstance(held, In):
        return "in", len(held.literals)
    if isinstance(held, Wire):
        return type(held).__name__, [shape(getattr(held, field)) for field in held.__struct_fields__]
    if isinstance(held, tuple):
        return list(map(shape, held))
    return held


ORDINARY = structure(ANYWHERE.terms(intent("work", "ana", agent="robot", parameters={"p": "x"})))


@given(value=LITERAL, statement=STATEMENT, agent=LABEL)
def test_an_intent_changes_nothing_in_the_structure_of_its_terms(value: Any, statement: str, agent: str) -> None:
    asked = intent("work", "ana", statement=statement, agent=agent, parameters={"p": value})
    terms = ANYWHERE.terms(asked)
    assert structure(terms) == ORDINARY
    ((offer,),) = (rule.offers for rule in terms.rules)
    assert not isinstance(offer.entry.args, msgspec.UnsetType)
    args = {pair.name: pair.constraint for pair in offer.entry.args}
    held = msgspec.convert(value, Literal)
    assert args["whole"] == Eq(held)
    assert args["within"] == AnyOf((Eq(held), In(("x", held)), Not(Eq(held))))
    assert isinstance(args["fields"], Fields)
    assert [pair.constraint for pair in args["fields"].pairs] == [Eq(held), Eq(statement), Eq("Acme")]
    assert [args[name] for name in ("agent", "principal", "purpose")] == [Eq(agent), Eq("ana"), Eq("work")]
    assert args["fixed"] == Eq("{intent.p}")


def test_the_key_of_an_agent_is_taken_as_a_whole() -> None:
    policy = read_policy(granting('allow."a.b" = { key = "{intent.agent_key}" }'))
    ((offer,),) = (rule.offers for rule in policy.terms(intent("work", "ana", agent_key=KIM)).rules)
    assert offer.entry.wire() == ["a.b", [["key", ["eq", KIM]]]]
    with pytest.raises(InvalidRequest, match="takes agent_key from the intent, which does not have it"):
        policy.terms(intent("work", "ana"))


@given(tenant=LABEL, principal=LABEL)
def test_nothing_in_a_name_changes_the_structure_either(tenant: str, principal: str) -> None:
    quoted = [json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f") for name in (tenant, principal)]
    text = granting('allow."a.b" = { t = "{intent.tenant}", p = "{intent.principal}" }')
    text = text.replace("[principal.ana]", f"[principal.{quoted[1]}]").replace('"Acme"', quoted[0])
    if "{" in tenant + principal or principal == "kim":
        return
    terms = read_policy(text).terms(intent("work", principal, tenant=tenant))
    ((offer,),) = (rule.offers for rule in terms.rules)
    assert offer.entry.wire() == ["a.b", [["t", ["eq", tenant]], ["p", ["eq", principal]]]]
    assert terms.tenant == tenant


@given(text=TEXT)
def test_a_text_whose_braces_are_doubled_stands_for_itself(text: str) -> None:
    spelt = json.dumps(text.replace("{", "{{"), ensure_ascii=False).replace("\x7f", "\\u007f")
    terms = read_policy(granting(f'allow."a.b" = {{ x = {spelt} }}')).terms(intent("work", "ana"))
    assert terms.rules[0].offers[0].entry.wire() == ["a.b", [["x", ["eq", text]]]]


@pytest.mark.parametrize(
    ("argument", "value", "made"),
    [
        ('"{intent.p}"', "x", Eq("x")),
        ('"{intent.p}"', 5, Eq(5)),
        ('"{intent.p}"', True, Eq(True)),
        ('"{intent.p}"', None, Eq(None)),
        ('"{intent.p}"', ["a", 1], Eq(("a", 1))),
        ('{ eq = ["a", "{intent.p}"] }', 5, Eq(("a", 5))),
        ('{ in = ["a", "{intent.p}"] }', ["b"], In(("a", ("b",)))),
        ('{ in = "{intent.p}" }', ["b", 1], In(("b", 1))),
        ('{ range = ["{intent.p}", 50] }', 0.5, Range(0.5, 50)),
        ('{ range = { max = "{intent.p}" } }', 9, Range(None, 9)),
        ('{ range = ["{intent.p}", "{intent.p}"] }', 9, Range(9, 9)),
        ('{ length = { max = "{intent.p}" } }', 9, Length(None, 9)),
        ('{ prefix = "{intent.p}" }', "Q-", Prefix("Q-")),
        ('{ path = "{intent.p}" }', "/data/acme", Path("/data/acme")),
        ('{ host = ["{intent.p}", "*.x.example"] }', "y.example", Host(("y.example", "*.x.example"))),
        ('{ host = "{intent.p}" }', ["y.example"], Host(("y.example",))),
        ('{ cidr = ["{intent.p}"] }', "10.1.0.0/16", Cidr(("10.1.0.0/16",))),
        ('{ contains = ["{intent.p}"] }', "t", Contains(("t",))),
        ('{ contains = "{intent.p}" }', ["t", "u"], Contains(("t", "u"))),
        ('{ each = { in = "{intent.p}", min = 2 } }', ["t", "u"], Each(In(("t", "u")), 2)),
        ('{ each = { eq = "t", min = "{intent.p}" } }', 3, Each(Eq("t"), 3)),
        ('{ each = "{intent.p}" }', "t", Each(Eq("t"))),
        ('{ not = { prefix = "{intent.p}" } }', "t", Not(Prefix("t"))),
        ('{ all = [{ prefix = "a" }, { eq = "{intent.p}" }] }', "ab", AllOf((Prefix("a"), Eq("ab")))),
        ('{ url = { hosts = ["{intent.p}"] } }', "x.example", Url(("https",), ("x.example",), ())),
        (
            '{ url = { hosts = ["x.example"], schemes = ["https"], ports = ["{intent.p}"], path = "/v1" } }',
            8443,
            Url(("https",), ("x.example",), (8443,), "/v1"),
        ),
    ],
)
def test_a_value_of_its_kind_stands_where_a_literal_may(argument: str, value: Any, made: Wire) -> None:
    policy = read_policy(granting(f'allow."a.b" = {{ x = {argument} }}'))
    assert policy.purposes["work"].names == {"p"}
    terms = policy.terms(intent("work", "ana", parameters={"p": value}))
    assert terms.rules[0].offers[0].entry.wire() == ["a.b", [["x", made.wire()]]]


@pytest.mark.parametrize(
    ("argument", "value", "told"),
    [
        (
            '{ range = ["{intent.p}", 50] }',
            "5",
            '.range[1]: takes p from the intent, where it is "5", but must be a number',
        ),
        (
            '{ range = ["{intent.p}", 50] }',
            None,
            ".range[1]: takes p from the intent, where it is null, but must be a number",
        ),
        (
            '{ range = [0, "{intent.p}"] }',
            None,
            ".range[2]: takes p from the intent, where it is null, but must be a number",
        ),
        (
            '{ range = [0, "{intent.p}"] }',
            True,
            ".range[2]: takes p from the intent, where it is true, but must be a number",
        ),
        ('{ range = ["{intent.p}", 50] }', 51, ": Range: no number is between 51 and 50: give the smaller end first"),
        ('{ length = { max = "{intent.p}" } }', None, ".length.max: takes p from the intent, where it is null"),
        (
            '{ prefix = "{intent.p}" }',
            5,
            ".prefix: takes p from the intent, where it is 5, but must be a string that is not empty",
        ),
        (
            '{ prefix = "{intent.p}" }',
            ["a"],
            '.prefix: takes p from the intent, where it is ["a"], but must be a string',
        ),
        ('{ path = "{intent.p}" }', "/data/../etc", ": Path: "),
        ('{ path = "{intent.p}" }', "data", ": Path: "),
        (
            '{ host = ["{intent.p}"] }',
            "*.example",
            '.host[1]: takes p from the intent, where it is "*.example", but must be a host without *',
        ),
        ('{ host = "{intent.p}" }', ["*.example"], ".host: takes p from the intent, where it is"),
        ('{ host = "{intent.p}" }', "x.example", ".host: takes p from the intent, where it is"),
        ('{ url = { hosts = ["{intent.p}"] } }', "*.com", ".url.hosts[1]: takes p from the intent"),
        ('{ url = { hosts = ["{intent.p}"] } }', "169.254.169.254", ": Url: "),
        ('{ cidr = ["{intent.p}"] }', "10.0.0.1/8", ": Cidr: "),
        (
            '{ in = "{intent.p}" }',
            "b",
            '.in: takes p from the intent, where it is "b", but must be an array of elements',
        ),
        (
            '{ eq = ["{intent.p}"] }',
            ["b"],
            '.eq[1]: takes p from the intent, where it is ["b"], but must be a string, a number, true',
        ),
        ('{ each = { eq = 1, min = "{intent.p}" } }', -1, ".each.min: takes p from the intent, where it is -1"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_key_path(argument: str, value: Any, told: str) -> None:
    policy = read_policy(granting(f'allow."a.b" = {{ x = {argument} }}'))
    with pytest.raises(InvalidRequest) as caught:
        policy.terms(intent("work", "ana", parameters={"p": value}))
    assert str(caught.value).startswith('purpose.work.grant[1].allow."a.b".x' + told), str(caught.value)


def test_a_budget_may_be_what_the_intent_says() -> None:
    policy = read_policy(granting('allow = ["a.b"]\nbudget = { eur = "{intent.p}", calls = 20 }'))
    for value in (50, "50.00"):
        (rule,) = policy.terms(intent("work", "ana", parameters={"p": value})).rules
        assert [(budget.unit, budget.limit) for budget in rule.budgets] == [("eur", str(value)), ("calls", "20")]


@pytest.mark.parametrize("value", [0.5, -1, "-1", "1e3", "all", True, None, ["1"], 10**15])
def test_a_budget_is_no_other_value(value: Any) -> None:
    policy = read_policy(granting('allow = ["a.b"]\nbudget = { eur = "{intent.p}" }'))
    with pytest.raises(InvalidRequest, match=r"^purpose\.work\.grant\[1\]\.budget\.eur: takes p from the intent"):
        policy.terms(intent("work", "ana", parameters={"p": value}))


def test_a_value_that_no_token_could_hold_opens_nothing() -> None:
    policy = read_policy(granting('allow."a.b" = { x = "{intent.p}" }'))
    with pytest.raises(
        InvalidRequest,
        match=(
            r"^purpose\.work\.grant\[1\]\.allow: a block has more than 256 brackets: shorten this grant, or move a "
            r"part of it to on_request"
        ),
    ):
        policy.terms(intent("work", "ana", parameters={"p": "[" * 300}))


def test_a_name_that_the_intent_lacks_refuses_all_of_it() -> None:
    policy = read_policy(
        granting('allow = ["a.b"]\n[[purpose.work.grant]]\nhow = "at_open"\nallow."a.c" = { x = "{intent.agent}" }')
    )
    with pytest.raises(InvalidRequest, match=r'grant\[2\]\.allow\."a\.c"\.x: takes agent from the intent, which does'):
        policy.terms(intent("work", "ana"))
    assert len(policy.terms(intent("work", "ana", agent="robot")).rules) == 2
