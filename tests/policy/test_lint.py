"""What cannot have been meant is remarked upon."""

from capx.policy.file import read_policy
from capx.policy.lint import warnings
from tests.labs.policies import ANA, KIM, POLICY, changed, granting


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


def test_a_consent_that_one_gives_to_oneself_is_remarked_upon() -> None:
    text = granting('how = "ask"\napprovers = ["ana"]\nallow = ["a.b"]').replace(
        "[principal.ana]", f'[principal.ana]\nkey = "{ANA}"'
    )
    assert list(warnings(read_policy(text))) == [
        "purpose.work.grant[1].approvers: ana alone can consent, and not to what ana asks for"
    ]


def test_one_person_as_two_principals_with_one_key_is_remarked() -> None:
    text = granting('how = "ask"\napprovers = ["kim"]\nallow = ["a.b"]').replace(
        "[principal.ana]", f'[principal.ana]\nkey = "{KIM}"'
    )
    assert list(warnings(read_policy(text))) == [
        "principal.kim.key: is the key of ana: neither consents to what the other one asks for"
    ]


def test_a_purpose_longer_than_any_task_is_remarked_upon() -> None:
    assert list(warnings(read_policy(granting('allow = ["a.b"]', 'ttl = "1d"')))) == []
    assert list(warnings(read_policy(granting('allow = ["a.b"]', 'ttl = "2d"')))) == [
        "purpose.work.ttl: no task opens for 2d, unless its authority was made with a max_ttl of more than 1d"
    ]
