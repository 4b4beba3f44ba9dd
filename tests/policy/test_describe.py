"""A policy in sentences, and what cannot have been meant."""

from typing import get_args

import pytest

from capx.policy.constraint_operators import OPERATORS
from capx.policy.describe import purpose_sentences
from capx.policy.file import read_policy
from capx.policy.policy import Policy
from capx_caveats import AnyConstraint
from tests.labs.policies import POLICY, changed, granting


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
        "An intent must have ticket.",
        (
            "On request: billing.refund at billing where ticket is the intent's ticket and amount is between 0.01 and "
            "50, refunds: at most 1 in the whole task."
        ),
        (
            'With the consent of "finance" ("kim@our.example"), given within 30m and good for one call with the '
            "arguments that they see: billing.refund at billing where ticket is the intent's ticket and amount is "
            "between 50 and 500, refunds: at most 1 in the whole task."
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


@pytest.mark.parametrize(
    ("pinned", "words"),
    [
        ("true", "the arguments that they see"),
        ('["ticket"]', 'the "ticket" that they see, and any other arguments'),
        ('["ticket", "amount"]', 'the "ticket" and "amount" that they see, and any other arguments'),
        ("false", "the arguments that they see, or with any if they see none"),
    ],
)
def test_it_is_told_to_what_a_consent_is_pinned(pinned: str, words: str) -> None:
    text = changed('within = "30m"', f'within = "30m"\npinned = {pinned}')
    (told,) = [one for one in sentences(read_policy(text), "refund") if one.startswith("With the consent")]
    assert f"good for one call with {words}: billing.refund at billing" in told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('by = ["kim"]', 'each call needs the approval of "kim", good for 15m at most'),
        (
            'by = ["kim", "{intent.principal}"], count = 2, lasts = "1h"',
            'the approval of 2 of "kim" or the person who wanted the work, which is a confirmation',
        ),
    ],
)
def test_an_approval_is_told_with_the_grant(said: str, told: str) -> None:
    policy = read_policy(granting(f'allow = ["crm.read"]\napproval = {{ {said} }}'))
    (gives,) = [sentence for sentence in sentences(policy, "work") if sentence.startswith("At open")]
    assert told in gives
