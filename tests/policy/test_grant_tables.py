"""One grant of a purpose, read key by key."""

from typing import Any

import pytest

from capx.policy.grant_tables import HOUR, FileContext, can_answer, read_grants
from capx.policy.policy import Principal
from capx.policy.rule_templates import RuleTemplate
from capx.policy.toml_reader import Wrong
from capx.tokens.grants import ApprovalRule
from capx_caveats import Budget, Entry, Eq, Pair

KNOWN = FileContext(frozenset({"crm", "billing"}), {"ana": True, "finance": True, "keyless": False})
AT = "purpose.p.grant"


def read(known: FileContext = KNOWN, **grant: Any) -> RuleTemplate:
    (found,) = read_grants([{"how": "at_open", "allow": ["crm.read"], **grant}], AT, known).grants
    return found


def wrong(known: FileContext = KNOWN, **grant: Any) -> tuple[str, ...]:
    with pytest.raises(Wrong) as caught:
        read(known, **grant)
    return caught.value.lines


@pytest.mark.parametrize(
    ("rest", "line"),
    [
        ({}, 'add how = "at_open", "on_request" or "ask"'),
        ({"approvers": ["finance"]}, 'add how = "ask"'),
        ({"pinned": False}, 'add how = "ask"'),
    ],
)
def test_a_grant_cut_off_before_its_how_is_refused(rest: dict[str, Any], line: str) -> None:
    with pytest.raises(Wrong) as caught:
        read_grants([{"allow": ["crm.read"], **rest}], AT, KNOWN)
    (said,) = caught.value.lines
    assert said.startswith(f"{AT}[1].how: is missing: {line}")


def test_a_grant_gives_without_limits_by_default() -> None:
    rule = read().fixed
    assert rule is not None
    assert (rule.place, rule.how, rule.budgets, rule.approvers, rule.within) == (f"{AT}[1]", "at_open", (), (), None)
    assert [(offer.audience, offer.entry) for offer in rule.offers] == [("crm", Entry("crm.read"))]


def test_a_grant_that_asks_has_approvers_and_a_time() -> None:
    asking: dict[str, Any] = {"how": "ask", "approvers": ["finance", "ana"]}
    assert (read(**asking).approvers, read(**asking).within) == (("finance", "ana"), HOUR)
    assert read(**asking, within="15m").within == 900
    assert wrong(how="ask") == (f"{AT}[1].approvers: is missing: add it",)
    for how in ("at_open", "on_request"):
        assert wrong(how=how, within="15m") == (
            f'{AT}[1].within: works only with how = "ask", but this grant is {how}: remove the key, or change how',
        )
        assert wrong(how=how, approvers=["ana"])[0].startswith(f"{AT}[1].approvers: works only with")


def test_a_consent_is_good_for_one_call_or_as_many_as_is_said() -> None:
    asking: dict[str, Any] = {"how": "ask", "approvers": ["finance"]}
    assert read(**asking).uses == 1
    for uses, good in ((3, 3), (1_000_000, 1_000_000), ("task", None)):
        assert read(**asking, uses=uses).uses == good
    rule = read(**asking, uses=3).fixed
    assert rule is not None
    assert rule.uses == 3
    several: tuple[Any, ...] = (0, -1, 1_000_001, True, 1.0, "once", "3", [], None)
    for other in several:
        assert wrong(**asking, uses=other) == (f'{AT}[1].uses: must be a whole number from 1 to 1000000, or "task"',)
    for how in ("at_open", "on_request"):
        assert read(how=how).uses is None
        assert wrong(how=how, uses=1)[0].startswith(f"{AT}[1].uses: works only with how = ")


def test_a_consent_is_pinned_to_the_whole_call_by_default() -> None:
    asking: dict[str, Any] = {"how": "ask", "approvers": ["finance"], "allow": {"crm.send": {"to": "a", "body": "b"}}}
    assert read(**asking).pinned is True
    for pinned, found in ((True, True), (False, False), (["to"], ("to",)), (["body", "to"], ("body", "to"))):
        rule = read(**asking, pinned=pinned).fixed
        assert rule is not None
        assert rule.pinned == found
    others: list[Any] = [1, "all", None, {}]
    for other in others:
        assert wrong(**asking, pinned=other) == (
            f"{AT}[1].pinned: must be true, false, or an array of names of arguments",
        )
    lists: list[Any] = [[], [1], ["to", "to"], [""]]
    for other in lists:
        assert wrong(**asking, pinned=other)[0].startswith(f"{AT}[1].pinned")
    assert wrong(**asking, pinned=["to", "*"]) == (
        f"{AT}[1].pinned: has *, which is no argument: write pinned = true to pin all of them",
    )
    for how in ("at_open", "on_request"):
        assert read(how=how).pinned is False
        assert wrong(how=how, pinned=True)[0].startswith(f"{AT}[1].pinned: works only with how = ")


def test_a_misspelt_argument_to_pin_is_reported() -> None:
    asking: dict[str, Any] = {"how": "ask", "approvers": ["finance"], "pinned": ["to", "sbject"]}
    assert wrong(**asking, allow={"crm.send": {"to": "a", "subject": "b"}}) == (
        f'{AT}[1].pinned[2]: is "sbject", which is no argument of its actions: did you mean subject?',
    )
    # Where an action takes any arguments, nobody can tell.
    for free in ({"crm.send": {"to": "a", "*": {"anything": True}}}, ["crm.send"]):
        assert read(**asking, allow=free).pinned == ("to", "sbject")
    for known in ({"crm.send": {"to": "a"}, "crm.reply": {"sbject": "b"}},):
        assert read(**asking, allow=known).pinned == ("to", "sbject")


def test_each_wrong_key_is_reported_once_with_its_path() -> None:
    assert wrong(how=5) == (f'{AT}[1].how: is a number, but must be a string: write it in " "',)
    assert wrong(how="at_opn")[0].startswith(f'{AT}[1].how: is "at_opn", which is unknown: did you mean at_open?')
    assert wrong(audience="crn") == (f"{AT}[1].audience: is crn, which [audience] does not list: did you mean crm?",)
    assert wrong(audience="Crm")[0].startswith(f'{AT}[1].audience: "Crm" is not an audience: use lower-case letters')
    assert wrong(allow=[]) == (f"{AT}[1].allow: is empty: list actions, or remove the key",)
    assert wrong(allow=["crm.read", ""]) == (f"{AT}[1].allow[2]: is empty: write at least one character",)
    assert wrong(allow={}) == (f"{AT}[1].allow: is empty: name an action",)
    assert wrong(allow=5) == (
        f"{AT}[1].allow: must be an array of actions, or a table of actions with their arguments",
    )
    assert wrong(approvers=5, how="ask")[0] == (
        f"{AT}[1].approvers: is a number, but must be an array of principals or groups: write it in [ ]"
    )
    assert wrong(approvers=["a\nb"], how="ask")[0].endswith("is not the name of a principal or a group")
    assert wrong(budget=5)[0] == f"{AT}[1].budget: is a number, but must be a table such as {{ name = value }}"
    with pytest.raises(Wrong) as caught:
        read_grants(5, AT, KNOWN)
    assert "must be an array of grants, each as [[purpose.NAME.grant]]" in caught.value.lines[0]
    with pytest.raises(Wrong) as caught:
        read_grants([5], AT, KNOWN)
    assert caught.value.lines == (f"{AT}[1]: is a number, but must be a table such as {{ name = value }}",)


def test_a_named_audience_applies_to_every_action() -> None:
    named = read(audience="billing", allow=["crm.read", "Big.Name"])
    assert [(one.path, one.audience, one.pattern) for one in named.allowed] == [
        (f"{AT}[1].allow[1]", "billing", "crm.read"),
        (f"{AT}[1].allow[2]", "billing", "Big.Name"),
    ]
    assert read(allow={"crm.read": {"id": 1}}).allowed[0].path == f'{AT}[1].allow."crm.read"'
    pinned = read(audience="billing", allow={"crm.read": {"id": 1}}).fixed
    assert pinned is not None
    assert [(offer.audience, offer.entry) for offer in pinned.offers] == [
        ("billing", Entry("crm.read", (Pair("id", Eq(1)),))),
    ]
    own = read(allow=["crm.read.all", "billing.x"]).allowed
    assert [(one.path, one.audience) for one in own] == [(f"{AT}[1].allow[1]", "crm"), (f"{AT}[1].allow[2]", "billing")]
    assert wrong(allow=["Big.Name"])[0].startswith(f'{AT}[1].allow[1]: begins with "Big", which cannot be an audience')


def test_an_unquoted_action_gets_a_hint_to_quote_it() -> None:
    (line,) = wrong(allow={"billing": {"refund": {"amount": 5}}})
    assert line.startswith(f"{AT}[1].allow.billing: looks like part of an action: quote names with dots")
    assert "is not an audience" not in line
    assert wrong(allow={"billing": 5})[0].startswith(f"{AT}[1].allow.billing: is a number")
    assert read(FileContext(None, None), allow={"billing": {"amount": {"eq": 5}}}).allowed[0].pattern == "billing"
    assert read(FileContext(None, None), allow={"billing": {"amount": 5}}).allowed[0].pattern == "billing"


def test_budgets_are_kept_with_their_places() -> None:
    made = read(budget={"eur": "0.50", "calls": 3})
    assert [(one.unit, one.path) for one in made.limits] == [
        ("eur", f"{AT}[1].budget.eur"),
        ("calls", f"{AT}[1].budget.calls"),
    ]
    assert made.fixed is not None
    assert made.fixed.budgets == (Budget("eur", "0.50"), Budget("calls", "3"))


def test_a_group_answers_where_one_of_its_members_has_a_key() -> None:
    def person(name: str, key: bytes | None) -> Principal:
        return Principal(name=name, key=key, tenants=(), purposes=(), groups=("both", name + "s"))

    assert can_answer([person("a", None), person("b", b"k" * 32), person("c", None)]) == {
        "a": False,
        "as": False,
        "b": True,
        "bs": True,
        "both": True,
        "c": False,
        "cs": False,
    }
    assert wrong(how="ask", approvers=["keyless"])[0].startswith(
        f'{AT}[1].approvers[1]: is "keyless", but nobody there'
    )
    assert read(FileContext(None, None), how="ask", approvers=["anybody"]).approvers == ("anybody",)


# Approvals


def approval(**said: Any) -> ApprovalRule:
    found = read(approval=said).approval
    assert found is not None
    return found


def test_an_approval_names_people_a_count_and_a_time() -> None:
    assert approval(by=["finance"]) == ApprovalRule(("finance",), 1, 900, principal=False)
    both = FileContext(KNOWN.audiences, {"ana": 1, "finance": 2})
    assert read(both, approval={"by": ["finance", "ana"], "count": 3, "lasts": "1h"}).approval == ApprovalRule(
        ("finance", "ana"), 3, 3600, principal=False
    )
    assert read().approval is None


def test_an_approval_takes_its_bounds_themselves() -> None:
    assert approval(by=["ana"], count=1, lasts="24h") == ApprovalRule(("ana",), 1, 86_400, principal=False)
    many = FileContext(KNOWN.audiences, {"finance": 16})
    found = read(many, approval={"by": ["finance"], "count": 16}).approval
    assert found == ApprovalRule(("finance",), 16, 900, principal=False)


def test_whoever_wanted_the_work_may_confirm_it() -> None:
    assert approval(by=["{intent.principal}"]) == ApprovalRule((), 1, 900, principal=True)
    assert approval(by=["{intent.principal}", "ana"], count=2) == ApprovalRule(("ana",), 2, 900, principal=True)


@pytest.mark.parametrize("how", ["at_open", "on_request"])
def test_each_kind_of_grant_may_need_approvals(how: str) -> None:
    rule = read(how=how, approval={"by": ["ana"]}).fixed
    assert rule is not None
    assert rule.approval == ApprovalRule(("ana",), 1, 900, principal=False)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({}, ".by: is missing: add it"),
        ({"by": []}, ".by: is empty"),
        ({"by": ["bo"]}, '.by[1]: "bo" is neither a principal nor a group'),
        ({"by": ["keyless"]}, '.by[1]: is "keyless", but nobody there has a key'),
        ({"by": ["{intent.tenant}"]}, ".by[1]: "),
        ({"by": ["ana"], "count": 0}, ".count: must be a whole number from 1 to 16"),
        ({"by": ["ana"], "count": 17}, ".count: must be a whole number from 1 to 16"),
        ({"by": ["ana"], "count": True}, ".count: must be a whole number from 1 to 16"),
        ({"by": ["ana"], "count": 2}, ".count: is 2, but only 1 there have a key"),
        ({"by": ["ana"], "lasts": "25h"}, ".lasts: is longer than 1d"),
        ({"by": ["ana"], "lasts": 5}, ".lasts: "),
        ({"by": ["ana"], "who": "ana"}, ".who: "),
    ],
)
def test_an_approval_with_a_mistake_says_where(said: dict[str, Any], line: str) -> None:
    (told, *_) = wrong(approval=said)
    assert told.startswith(f"{AT}[1].approval{line}")


@pytest.mark.parametrize("said", [None, "ana", ["ana"], 1, True])
def test_an_approval_is_a_table(said: Any) -> None:
    assert wrong(approval=said)[0].startswith(f"{AT}[1].approval: ")
