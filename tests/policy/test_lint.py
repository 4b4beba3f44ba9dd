"""What cannot have been meant is remarked upon."""

import pytest

from capx.policy.file import read_policy
from capx.policy.lint import warnings
from tests.labs.policies import ANA, KIM, POLICY, changed, granting


def test_a_policy_that_is_meant_is_not_remarked_upon() -> None:
    assert list(warnings(read_policy(POLICY))) == []


def test_a_grant_that_never_decides_is_remarked_upon() -> None:
    text = granting(
        'how = "ask"\napprovers = ["kim"]\nallow = ["a.b.c", "a.x", "b.c"]\n'
        '[[purpose.work.grant]]\nhow = "at_open"\nallow = ["a.b.*"]\n'
        '[[purpose.work.grant]]\nhow = "on_request"\nallow."a.x" = {}\n'
        '[[purpose.work.grant]]\nhow = "ask"\napprovers = ["kim"]\nallow."b.c" = { x = 1 }\n'
        '[[purpose.work.grant]]\nhow = "at_open"\nallow = ["a.bc"]'
    )
    assert list(warnings(read_policy(text))) == [
        (
            "purpose.work.grant[1].allow[1]: never decides: purpose.work.grant[2] gives the same at open: "
            "remove one of the two"
        ),
        (
            'purpose.work.grant[4].allow."b.c": never decides: purpose.work.grant[1] gives the same before '
            "it, by asking: remove one of the two"
        ),
    ]


def test_a_purpose_that_nobody_may_ask_for_is_remarked_upon() -> None:
    text = changed('"qbr", "refund"', '"refund"')
    assert list(warnings(read_policy(text))) == [
        "purpose.qbr: no principal may ask for it: add it to the purposes of one"
    ]


def test_a_consent_that_one_gives_to_oneself_is_remarked_upon() -> None:
    text = granting('how = "ask"\napprovers = ["ana"]\nallow = ["a.b"]').replace(
        "[principal.ana]", f'[principal.ana]\nkey = "{ANA}"'
    )
    assert list(warnings(read_policy(text))) == [
        "purpose.work.grant[1].approvers: only ana can consent, but not to what ana asks for: add another approver"
    ]


def test_one_person_as_two_principals_with_one_key_is_remarked() -> None:
    text = granting('how = "ask"\napprovers = ["kim"]\nallow = ["a.b"]').replace(
        "[principal.ana]", f'[principal.ana]\nkey = "{KIM}"'
    )
    assert list(warnings(read_policy(text))) == [
        "principal.kim.key: is also the key of ana, so neither can consent for the other: use two keys"
    ]


def test_a_purpose_longer_than_any_task_is_remarked_upon() -> None:
    assert list(warnings(read_policy(granting('allow = ["a.b"]', 'ttl = "1d"')))) == []
    assert list(warnings(read_policy(granting('allow = ["a.b"]', 'ttl = "2d"')))) == [
        "purpose.work.ttl: is over 1d, the default max_ttl: shorten it, or raise max_ttl"
    ]


@pytest.mark.parametrize(("uses", "good"), [("2", "2 calls"), ('"task"', "any number of calls until the task ends")])
def test_a_consent_for_several_calls_is_remarked_upon(uses: str, good: str) -> None:
    text = changed('within = "30m"', f'within = "30m"\nuses = {uses}')
    assert list(warnings(read_policy(text))) == [
        f"purpose.refund.grant[2].uses: one consent is good for {good}: remove the key to ask a person for each call"
    ]
    assert list(warnings(read_policy(changed('within = "30m"', 'within = "30m"\nuses = 1')))) == []


@pytest.mark.parametrize(
    ("pinned", "loose"),
    [
        ("false", "the agent may ask without naming arguments, and the consent is then good for any"),
        ('["ticket"]', 'the agent may change all arguments but "ticket" after the consent'),
    ],
)
def test_a_consent_to_other_arguments_is_remarked_upon(pinned: str, loose: str) -> None:
    text = changed('within = "30m"', f'within = "30m"\npinned = {pinned}')
    assert list(warnings(read_policy(text))) == [
        f"purpose.refund.grant[2].pinned: {loose}: remove the key to pin a consent to the whole call"
    ]
    assert list(warnings(read_policy(changed('within = "30m"', 'within = "30m"\npinned = true')))) == []
