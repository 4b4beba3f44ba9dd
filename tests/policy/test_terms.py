"""Who may ask for what, and which rule decides."""

import pytest

from capx.errors import InvalidRequest
from capx.policy.file import read_policy
from capx.policy.policy import NO_POLICY
from capx.policy.terms import Match
from capx_caveats import Budget
from tests.labs.policies import KIM, POLICY, changed, granting, intent

OURS = read_policy(POLICY)


def refusal(*given: object, **said: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        OURS.terms(intent(*given, **said))  # type: ignore[arg-type] # of any kind
    return str(caught.value)


def test_an_intent_gets_what_its_purpose_gives() -> None:
    terms = OURS.terms(intent("refund", parameters={"ticket": "T-1"}))
    assert (terms.purpose, terms.ttl, terms.tenant) == ("refund", 3600, "Acme")
    small, large = terms.rules
    assert [rule.place for rule in terms.rules] == ["purpose.refund.grant[1]", "purpose.refund.grant[2]"]
    assert (small.how, small.approvers, small.within) == ("on_request", (), None)
    assert (large.how, large.approvers, large.within) == ("ask", ("finance",), 1800)
    assert small.budgets == large.budgets == (Budget("refunds", "1"),)
    assert terms.at_open() == ()


@pytest.mark.parametrize(
    ("amount", "place"),
    [(0.01, 1), (50, 1), (50.01, 2), (500, 2), (500.01, None), (0, None)],
)
def test_the_first_rule_that_says_yes_to_the_arguments_decides(amount: float, place: int | None) -> None:
    terms = OURS.terms(intent("refund", parameters={"ticket": "T-1"}))
    match = terms.match("billing", "billing.refund", {"ticket": "T-1", "amount": amount})
    assert (match and match.rule.place) == (place and f"purpose.refund.grant[{place}]")


def test_without_arguments_the_first_rule_of_the_action_decides_and_with_none_at_all_none_does() -> None:
    terms = OURS.terms(intent("refund", parameters={"ticket": "T-1"}))
    match = terms.match("billing", "billing.refund", None)
    assert isinstance(match, Match)
    assert match.rule.how == "on_request"
    assert terms.match("billing", "billing.refund", {}) is None


def test_an_action_at_another_audience_is_not_given() -> None:
    terms = OURS.terms(intent("refund", parameters={"ticket": "T-1"}))
    assert terms.match("crm", "billing.refund", None) is None
    assert terms.match("billing", "billing.refund.all", None) is None


def test_what_is_given_at_open_decides_before_what_is_asked_for_wherever_it_stands() -> None:
    grants = [
        ("ask", 'how = "ask"\napprovers = ["kim"]\nallow = ["a.*"]'),
        ("on_request", 'how = "on_request"\nallow = ["a.b", "a.c"]'),
        ("at_open", 'allow = ["a.b"]'),
        ("on_request", 'how = "on_request"\nallow."a.c" = {}'),
    ]
    text = granting("\n[[purpose.work.grant]]\n".join(grant for _, grant in grants))
    terms = read_policy(text).terms(intent("work", "ana"))
    assert [rule.place[-2] for rule in terms.rules] == ["3", "2", "4", "1"]
    decided = {action: terms.match("a", action, None) for action in ("a.b", "a.c", "a.d")}
    assert {action: match and match.rule.place[-2] for action, match in decided.items()} == {
        "a.b": "3",
        "a.c": "2",
        "a.d": "1",
    }


def test_an_audience_is_the_first_label_unless_it_is_said() -> None:
    terms = read_policy(granting('allow = ["a.b", "c.d"]\naudience = "elsewhere"')).terms(intent("work", "ana"))
    assert {offer.audience for offer in terms.rules[0].offers} == {"elsewhere"}


def test_a_purpose_without_a_tenant_gives_for_none() -> None:
    assert OURS.terms(intent("nightly", "robot", tenant=None)).tenant is None


def test_a_stranger_hears_of_nobody() -> None:
    said = refusal("qbr", "mallory@our.example")
    assert said == 'the policy knows no principal "mallory@our.example": it takes none of their intents'


@pytest.mark.parametrize("purpose", ["refund", "no_such"])
def test_a_purpose_of_others_is_as_if_it_was_not_there(purpose: str) -> None:
    said = refusal(purpose, "robot")
    assert said == f'"robot" may ask for "nightly", by this policy, and not for "{purpose}"'


def test_a_principal_without_purposes_may_ask_for_nothing() -> None:
    assert (
        refusal("qbr", "kim@our.example") == '"kim@our.example" may ask for nothing, by this policy, and not for "qbr"'
    )


@pytest.mark.parametrize("tenant", ["Globex", "acme", "Acme ", "*", "{intent.tenant}"])
def test_a_principal_asks_for_no_tenant_of_others(tenant: str) -> None:
    said = refusal("qbr", tenant=tenant)
    assert said == f'"ana@our.example" asks for "Acme", by this policy, and not for "{tenant}"'


def test_what_a_purpose_takes_is_said_and_nothing_else() -> None:
    assert refusal("qbr", tenant=None) == 'qbr needs "tenant", which the intent does not say'
    assert refusal("refund") == 'refund needs "ticket", which the intent does not say'
    assert refusal("refund", tenant=None) == 'refund needs "tenant", "ticket", which the intent does not say'
    assert refusal("nightly", "robot") == 'nightly is for no tenant, and the intent says "Acme": leave it out'
    tickets = 'the intent says "tickets", which refund does not take: did you mean ticket?'
    assert refusal("refund", parameters={"ticket": "T-1", "tickets": 1}) == tickets
    zone = 'the intent says "zone", which refund does not take: it takes "ticket"'
    assert refusal("refund", parameters={"ticket": "T-1", "zone": 1}) == zone
    quarter = 'the intent says "quarter", which qbr does not take: it takes none'
    assert refusal("qbr", parameters={"quarter": "Q3"}) == quarter


def test_what_was_mistyped_is_told_with_what_is_missing_for_it() -> None:
    missing = 'refund needs "ticket", which the intent does not say'
    tickets = 'the intent says "tickets", which refund does not take: did you mean ticket?'
    zone = 'the intent says "zone", which refund does not take: it takes "ticket"'
    assert refusal("refund", parameters={"tickets": "T-1", "zone": 1}) == f"{missing}; {tickets}; {zone}"


def test_a_parameter_that_a_rule_names_is_taken_without_being_required() -> None:
    policy = read_policy(granting('allow."a.b" = { x = "{intent.deck}" }'))
    assert len(policy.terms(intent("work", "ana", parameters={"deck": "d"})).rules) == 1
    with pytest.raises(InvalidRequest, match='work needs "deck"'):
        policy.terms(intent("work", "ana"))


def test_an_agent_may_be_required() -> None:
    policy = read_policy(granting('allow = ["a.b"]', 'require = ["agent"]'))
    assert policy.purposes["work"].names == frozenset()
    assert len(policy.terms(intent("work", "ana", agent="robot")).rules) == 1
    with pytest.raises(InvalidRequest, match='work needs "agent"'):
        policy.terms(intent("work", "ana"))


def test_no_policy_takes_no_intent_and_says_what_to_write() -> None:
    for policy in (NO_POLICY, read_policy("")):
        with pytest.raises(InvalidRequest, match=r"policy\.toml in its home"):
            policy.terms(intent())


def test_a_group_is_who_is_in_it_and_a_principal_is_one() -> None:
    policy = read_policy(
        changed("[principal.robot]", f'[principal.lee]\nkey = "{KIM}"\ngroups = ["finance"]\n[principal.robot]')
    )
    assert policy.members("finance") == ("kim@our.example", "lee")
    assert policy.members("lee") == ("lee",)
    assert policy.members("nobody") == ()


def test_grants_at_open_share_a_capability_if_they_share_budgets() -> None:
    grants = ['allow = ["a.b"]', 'allow = ["a.c", "d.e"]', 'budget = { calls = 1 }\nallow = ["a.f"]', 'allow = ["a.b"]']
    text = granting("\n[[purpose.work.grant]]\n".join(grants))
    terms = read_policy(text).terms(intent("work", "ana"))
    given = [(one.audience, [entry.pattern for entry in one.allowed]) for one in terms.given_at_open]
    assert given == [("a", ["a.f"]), ("a", ["a.b", "a.c"]), ("d", ["d.e"])]
    assert terms.given_at_open is terms.given_at_open
