"""Cases say what a policy is meant to decide, and fail where it decides otherwise."""

import pytest

from capx.errors import ConfigurationProblem
from capx.policy.cases import failing, read_cases, unknown
from capx.policy.file import read_policy
from tests.labs.policies import POLICY, granting

OURS = read_policy(POLICY)

GOOD = """\
[[case]]
says = "small refunds go through"
principal = "ana@our.example"
purpose = "refund"
tenant = "Acme"
parameters = { ticket = "T-1" }
on_request = ["billing.refund", { call = "billing.refund@billing", with = { ticket = "T-1", amount = 20 } }]
ask = [{ call = "billing.refund", with = { ticket = "T-1", amount = 80 } }]
never = ["billing.export", { call = "billing.refund", with = {} }]

[[case]]
principal = "ana@our.example"
purpose = "qbr"
tenant = "Acme"
at_open = ["crm.accounts.read", { call = "crm.accounts.read", with = { deep = [{ a = 1 }] } }]

[[case]]
principal = "ana@our.example"
purpose = "qbr"
tenant = "Globex"
opens = false
"""


def failures(text: str) -> list[str]:
    return [f"{one.path}: {one.sentence}" for case in read_cases(text) for one in failing(OURS, case)]


def test_cases_that_hold_fail_nothing() -> None:
    assert failures(GOOD) == []
    first, *_ = read_cases(GOOD)
    assert first.says == "small refunds go through"
    assert len(first.expected) == 5


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "amount = 80",
            "amount = 800",
            (
                'case[1].ask[1]: billing.refund at billing, with ticket "T-1" and amount 800: expected ask, '
                "but the policy says never; purpose.refund.grant[1] allows billing.refund only where amount is between "
                '0.01 and 50; "amount" is 800; purpose.refund.grant[2] allows billing.refund only where amount is '
                'between 50 and 500; "amount" is 800'
            ),
        ),
        (
            '"billing.export"',
            '"billing.refund"',
            "case[1].never[1]: billing.refund at billing: expected never, but the policy says on_request",
        ),
        (
            "at_open = [",
            'never = ["crm.accounts.read"]\nat_open = [',
            "case[2].never[1]: crm.accounts.read at crm: expected never, but the policy says at_open",
        ),
        (
            'purpose = "qbr"\ntenant = "Acme"',
            'purpose = "qbr"\ntenant = "Globex"',
            (
                'case[2]: the policy refuses the intent: "ana@our.example" may not ask for the tenant "Globex": the '
                'policy lets them ask only for "Acme"'
            ),
        ),
        (
            'purpose = "qbr"\ntenant = "Globex"',
            'purpose = "qbr"\ntenant = "Acme"',
            "case[3].opens: the policy accepts the intent, but must refuse it",
        ),
    ],
)
def test_a_case_that_is_decided_otherwise_fails(old: str, new: str, told: str) -> None:
    assert old in GOOD
    assert failures(GOOD.replace(old, new, 1)) == [told]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file has no cases: write one under [[case]]"),
        ("# nothing", "the file has no cases: write one under [[case]]"),
        ("case = []", "case: is empty: list cases, each as [[case]], or remove the key"),
        ("[case]", "case: is a table, but must be an array of cases, each as [[case]]: write it in [ ]"),
        ("[[cases]]", "cases: unknown key: did you mean case?"),
        ("[[case]]", "case[1].principal: is missing: add it"),
        ("x = [", "the file is not TOML"),
    ],
)
def test_a_file_without_cases_tests_nothing_and_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigurationProblem) as caught:
        read_cases(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "opens = false",
            "opens = true",
            (
                "case[3].opens: can only be false. "
                "If the intent opens, remove this key and list the calls that the policy must allow"
            ),
        ),
        ("opens = false", "", "case[3]: expects nothing: add at_open, on_request, ask, never, or opens = false"),
        (
            "opens = false",
            'opens = false\nnever = ["a.b"]',
            "case[3]: has opens = false and calls, but a refused intent gives nothing: remove opens, or the calls",
        ),
        ("at_open = [", "at_once = [", "case[2].at_once: unknown key: did you mean"),
        ('"billing.export"', '"billing.*"', "case[1].never[1]: 'billing.*' is not an action"),
        ('"billing.export"', '"Billing.export"', "case[1].never[1]: 'Billing' is not an audience"),
        ('"billing.export"', '"authority.x"', "case[1].never[1]: the audience authority is reserved"),
        ('"billing.export"', "{ with = {} }", "case[1].never[1].call: is missing: add it"),
        (
            '"billing.export"',
            '{ call = "a.b", with = { at = 2026-11-25 } }',
            "case[1].never[1].with: a date is not a JSON value",
        ),
        ("parameters = {", "parameters = { tenant = 1, ", "case[1]: 'tenant' cannot name a parameter"),
        ("never = [", 'never = "x" #', "case[1].never: is a string, but must be an array of calls"),
    ],
)
def test_an_ill_formed_case_is_told_by_its_key_path(old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigurationProblem) as caught:
        read_cases(GOOD.replace(old, new, 1), "cases.toml")
    assert told in str(caught.value)


def test_what_fits_no_token_once_asked_for_is_never_given() -> None:
    asked = """
[[case]]
principal = "ana@our.example"
purpose = "refund"
tenant = "Acme"
parameters = { ticket = "%s" }
ask = [{ call = "billing.refund", with = { ticket = "%s", amount = 80 } }]
"""
    assert failures(asked % (1000 * "x", 1000 * "x")) == []
    (line,) = failures(asked % (2000 * "x", 2000 * "x"))
    assert line.startswith(
        "case[1]: the policy refuses the intent: purpose.refund.grant[1].allow: billing.refund: a block has"
    )


def test_a_call_that_no_ask_can_be_pinned_to_is_never_given() -> None:
    policy = read_policy(granting('how = "on_request"\nallow."a.b" = { x = { anything = true } }'))
    (case,) = read_cases(
        '[[case]]\nprincipal = "ana"\npurpose = "work"\ntenant = "Acme"\n'
        'never = [{ call = "a.b", with = { x = [[1]] } }]\non_request = [{ call = "a.b", with = { x = 1 } }]\n'
    )
    assert failing(policy, case) == []


def test_a_refusal_for_a_name_unknown_to_the_policy_is_remarked() -> None:
    refused = '[[case]]\nprincipal = "{}"\npurpose = "{}"\nopens = false\n'
    (good,) = read_cases(refused.format("ana@our.example", "qbr"))
    assert list(unknown(OURS, good)) == []
    (mistyped,) = read_cases(refused.format("anna@our.example", "qbrr"))
    assert list(unknown(OURS, mistyped)) == [
        'case[1].principal: the policy has no principal "anna@our.example": did you mean "ana@our.example"?',
        'case[1].purpose: the policy has no purpose "qbrr": did you mean qbr?',
    ]
