"""A policy in sentences, and what cannot have been meant."""

from typing import get_args

import pytest

from capx.policy.constraint_operators import OPERATORS
from capx.policy.describe import purpose_sentences
from capx.policy.file import read_policy
from capx.policy.lint import warnings
from capx.policy.policy import Policy
from capx_caveats import AnyConstraint
from tests.labs.policies import ANA, KIM, POLICY, changed, granting


def sentences(policy: Policy, purpose: str) -> list[str]:
    return list(purpose_sentences(policy, policy.purposes[purpose]))


def test_a_policy_knows_each_constraint_of_the_vocabulary() -> None:
    assert {kind.__struct_config__.tag for kind in get_args(AnyConstraint)} == OPERATORS


def test_a_value_is_told_whole_however_long_it_is() -> None:
    allowed = [f"{'a' * 100}{number}" for number in range(30)]
    policy = read_policy(granting(f'allow."crm.read" = {{ account = {{ in = {allowed} }} }}'))
    (gives,) = [sentence for sentence in sentences(policy, "work") if sentence.startswith("At open")]
    assert all(each in gives for each in allowed)
    assert "…" not in gives


def test_a_purpose_is_told_in_sentences() -> None:
    assert sentences(read_policy(POLICY), "refund") == [
        '"ana@our.example" may ask for it.',
        "It is for one tenant, whose name every grant carries, and ends after 1h at the latest.",
        "An intent says ticket.",
        (
            "On request: billing.refund at billing where ticket is the intent's ticket and amount is between 0.01 and "
            "50, at most 1 refunds in the whole task."
        ),
        (
            'With the consent of "finance" ("kim@our.example"), given within 30m: billing.refund at billing where '
            "ticket is the intent's ticket and amount is between 50 and 500, at most 1 refunds in the whole task."
        ),
        "Nothing else is given.",
    ]
    assert sentences(read_policy(POLICY), "nightly") == [
        '"ana@our.example" and "robot" may ask for it.',
        "It is for no tenant, and ends after 30m at the latest.",
        "At open: crm.export at crm without arguments.",
        "Nothing else is given.",
    ]


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ('"{intent.p}"', "x is the intent's p"),
        ('{ in = ["a", "{intent.p}"] }', 'x is one of "a", the intent\'s p'),
        ('{ range = ["{intent.p}", 50] }', "x is at least the intent's p and at most 50"),
        ('{ length = { max = "{intent.p}" } }', "x has a length of at most the intent's p"),
        ('{ prefix = "{intent.p}" }', "x begins with the intent's p"),
        ('{ path = "{intent.p}" }', "x is the path the intent's p or below"),
        ('{ host = ["{intent.p}"] }', "x is a host, one of the intent's p"),
        ('{ cidr = "{intent.p}" }', "x is an address in one of the intent's p"),
        ('{ contains = ["{intent.p}"] }', "x contains the intent's p"),
        ('{ each = { in = "{intent.p}" } }', "x has 1 or more elements, each of which is one of the intent's p"),
        ('{ not = "{intent.p}" }', "x not: is the intent's p"),
        ('{ any = ["{intent.p}", { range = [1, 2] }] }', "x (is the intent's p or is between 1 and 2)"),
        (
            '{ all = [{ prefix = "{intent.p}" }, { any = ["a", "b"] }] }',
            'x (begins with the intent\'s p and (is "a" or is "b"))',
        ),
        ('{ fields = { a = "{intent.p}", b = 1 } }', "x is an object (where a is the intent's p and b is 1)"),
        ('{ argv = ["{intent.p}"] }', "x runs the intent's p"),
        (
            '{ argv = { programs = ["git"], arguments = [["show", "{intent.p}"]] } }',
            'x runs "git" with "show", the intent\'s p first',
        ),
        (
            '{ url = { hosts = ["{intent.p}"], path = "/v1" } }',
            'x is a URL with scheme "https", host the intent\'s p, the scheme\'s own port, path within "/v1"',
        ),
        (
            '{ url = { hosts = ["x.example"], ports = ["{intent.p}"] } }',
            'x is a URL with scheme "https", host "x.example", port the intent\'s p',
        ),
        ('"{{intent.p}"', 'x is "{intent.p}"'),
        ('"the intent\'s p"', 'x is "the intent\'s p"'),
    ],
)
def test_what_is_taken_from_an_intent_is_told_as_such(argument: str, told: str) -> None:
    policy = read_policy(granting(f'allow."a.b" = {{ x = {argument} }}'))
    assert f"At open: a.b at a where {told}." in sentences(policy, "work")


def test_what_anybody_may_do_with_any_arguments_is_told_so() -> None:
    policy = read_policy(changed('"qbr", "refund"', '"refund"'))
    assert sentences(policy, "qbr")[0] == "Nobody may ask for it."
    assert "At open: crm.accounts.read at crm; support.tickets.read at support." in sentences(policy, "qbr")


def test_any_other_argument_is_told_as_such() -> None:
    policy = read_policy(granting('allow."a.b" = { "*" = "{intent.p}", "x y" = "{intent.q}" }'))
    told = "At open: a.b at a where any other argument is the intent's p and \"x y\" is the intent's q."
    assert told in sentences(policy, "work")


def test_a_policy_that_is_meant_is_not_remarked_upon() -> None:
    assert list(warnings(read_policy(POLICY))) == []


def test_a_grant_that_never_decides_is_remarked_upon() -> None:
    text = granting(
        'how = "ask"\napprovers = ["kim"]\nallow = ["a.b.c", "a.x", "b.c"]\n'
        '[[purpose.work.grant]]\nallow = ["a.b.*"]\n'
        '[[purpose.work.grant]]\nhow = "on_request"\nallow."a.x" = {}\n'
        '[[purpose.work.grant]]\nhow = "ask"\napprovers = ["kim"]\nallow."b.c" = { x = 1 }\n'
        '[[purpose.work.grant]]\nallow = ["a.bc"]'
    )
    assert list(warnings(read_policy(text))) == [
        "purpose.work.grant[1].allow[1]: never decides, since purpose.work.grant[2] gives it at open",
        'purpose.work.grant[4].allow."b.c": never decides, since purpose.work.grant[1] gives it before, by asking',
    ]


def test_a_purpose_that_nobody_may_ask_for_is_remarked_upon() -> None:
    text = changed('"qbr", "refund"', '"refund"')
    assert list(warnings(read_policy(text))) == ["purpose.qbr: no principal may ask for it"]


def test_a_consent_that_one_could_only_give_to_oneself_is_remarked_upon() -> None:
    text = granting('how = "ask"\napprovers = ["ana"]\nallow = ["a.b"]').replace(
        "[principal.ana]", f'[principal.ana]\nkey = "{ANA}"'
    )
    assert list(warnings(read_policy(text))) == [
        "purpose.work.grant[1].approvers: ana alone can consent, and not to what ana asks for"
    ]


def test_somebody_who_is_two_principals_with_one_key_is_remarked_upon() -> None:
    text = granting('how = "ask"\napprovers = ["kim"]\nallow = ["a.b"]').replace(
        "[principal.ana]", f'[principal.ana]\nkey = "{KIM}"'
    )
    assert list(warnings(read_policy(text))) == [
        "principal.kim.key: is the key of ana: neither consents to what the other one asks for"
    ]


def test_a_purpose_that_lasts_longer_than_any_task_is_remarked_upon() -> None:
    assert list(warnings(read_policy(granting('allow = ["a.b"]', 'ttl = "1d"')))) == []
    assert list(warnings(read_policy(granting('allow = ["a.b"]', 'ttl = "2d"')))) == [
        "purpose.work.ttl: no task opens for 2d, unless its authority was made with a max_ttl of more than 1d"
    ]
