"""Who may ask for what, and which rule decides."""

import pytest

from capx.policy.file import read_policy
from capx.policy.terms import Match, Offer
from capx_caveats import JSON, Budget, Entry, action, between
from tests.labs.policies import POLICY, granting, intent

OURS = read_policy(POLICY)


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


def test_what_decides_says_what_it_offers() -> None:
    terms = OURS.terms(intent("refund", parameters={"ticket": "T-1"}))
    match = terms.match("billing", "billing.refund", None)
    assert match is not None
    assert match.offer == match.rule.offers[0]


def test_without_arguments_the_first_rule_of_an_action_decides() -> None:
    terms = OURS.terms(intent("refund", parameters={"ticket": "T-1"}))
    match = terms.match("billing", "billing.refund", None)
    assert isinstance(match, Match)
    assert match.rule.how == "on_request"
    assert terms.match("billing", "billing.refund", {}) is None


def test_an_action_at_another_audience_is_not_given() -> None:
    terms = OURS.terms(intent("refund", parameters={"ticket": "T-1"}))
    assert terms.match("crm", "billing.refund", None) is None
    assert terms.match("billing", "billing.refund.all", None) is None


def test_what_is_given_at_open_decides_before_what_is_asked_for() -> None:
    grants = [
        ("ask", 'how = "ask"\napprovers = ["kim"]\nallow = ["a.*"]'),
        ("on_request", 'how = "on_request"\nallow = ["a.b", "a.c"]'),
        ("at_open", 'how = "at_open"\nallow = ["a.b"]'),
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


def test_an_offer_is_told_from_others_by_what_it_allows() -> None:
    named = [
        action("a.b", x=between(0, 1)),
        action("a.b", x=between(0, 2)),
        Entry("a.b"),
        Entry("a.*"),
        Entry("a.b", ()),
    ]
    assert len({Offer("a", entry).digest for entry in named}) == len(named)
    assert Offer("a", action("a.b", x=between(0, 1))).digest == Offer("a", named[0]).digest


def test_an_audience_is_the_first_label_unless_it_is_said() -> None:
    terms = read_policy(granting('allow = ["a.b", "c.d"]\naudience = "elsewhere"')).terms(intent("work", "ana"))
    assert {offer.audience for offer in terms.rules[0].offers} == {"elsewhere"}


def test_grants_at_open_share_a_capability_if_they_share_budgets() -> None:
    grants = ['allow = ["a.b"]', 'allow = ["a.c", "d.e"]', 'budget = { calls = 1 }\nallow = ["a.f"]', 'allow = ["a.b"]']
    text = granting("\n[[purpose.work.grant]]\n".join(f'how = "at_open"\n{grant}' for grant in grants))
    terms = read_policy(text).terms(intent("work", "ana"))
    given = [(one.audience, [entry.pattern for entry in one.allowed]) for one in terms.given_at_open]
    assert given == [("a", ["a.f"]), ("a", ["a.b", "a.c"]), ("d", ["d.e"])]
    assert terms.given_at_open is terms.given_at_open


def test_what_an_offer_does_not_name_is_all_that_is_missing() -> None:
    def unnamed(allow: str, **args: JSON) -> tuple[str, ...]:
        terms = read_policy(granting(f'how = "on_request"\n{allow}')).terms(intent("work", "ana"))
        return terms.unnamed("crm", "crm.read", args)

    closed = 'allow."crm.read" = { id = 7 }'
    assert unnamed(closed, id=7, page=1, size=9) == ("page", "size")
    assert unnamed(closed, id=8, page=1) == ()
    assert unnamed(closed, page=1) == ()
    assert unnamed('allow."crm.read" = { id = 7, "*" = { anything = true } }', id=8, page=1) == ()
    assert unnamed('allow = ["crm.read"]', id=7, page=1) == ()


def test_an_argument_left_out_is_told_if_all_others_fit() -> None:
    def missing(allow: str, **args: JSON) -> tuple[str, ...]:
        terms = read_policy(granting(f'how = "on_request"\n{allow}')).terms(intent("work", "ana"))
        return terms.missing("crm", "crm.read", args)

    closed = 'allow."crm.read" = { id = 7, page = { anything = true } }'
    assert missing(closed) == ("id", "page")
    assert missing(closed, page=1) == ("id",)
    assert missing(closed, id=7) == ("page",)
    # Else an agent could try values of the one while it leaves out the other.
    assert missing(closed, id=8) == missing(closed, id=7, size=1) == missing(closed, id=7, page=1) == ()
    assert missing('allow = ["crm.read"]') == missing('allow."crm.write" = { id = 7 }') == ()


def test_what_needs_approvals_is_a_capability_of_its_own() -> None:
    policy = granting(
        'allow = ["a.read"]\n[[purpose.work.grant]]\nhow = "at_open"\nallow = ["a.write"]\napproval = { by = ["kim"] }'
    )
    given = read_policy(policy).terms(intent("work", "ana")).given_at_open
    assert [([entry.pattern for entry in one.allowed], one.approval and one.approval.by) for one in given] == [
        (["a.write"], ("kim",)),
        (["a.read"], None),
    ]
