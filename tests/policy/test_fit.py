"""What fits into no token is told before any intent exists."""

from capx.policy.file import read_policy
from tests.labs.policies import granting, problems


def test_a_block_that_no_token_could_hold_is_refused_early() -> None:
    (line,) = problems(granting('allow."a.b".x.any = [' + "{ eq = 1 }, " * 300 + "]"))
    assert line == (
        "purpose.work.grant[1].allow: a block has more than 256 brackets: shorten this grant, or move a part of "
        "it to on_request"
    )


def limits(count: int) -> str:
    return "".join(f"u{number} = 1\n" for number in range(count))


def together(*actions: str, how: str = "at_open") -> str:
    """Another grant."""
    return f'[[purpose.work.grant]]\nhow = "{how}"\nallow = [{", ".join(map(repr, actions))}]\n'


def test_a_grant_with_more_budgets_than_a_token_may_have_is_told() -> None:
    good = granting('allow = ["a.b"]\n[purpose.work.grant.budget]\n' + limits(16))
    read_policy(good)
    (line,) = problems(good + "more = 1\n")
    assert line == (
        "purpose.work.grant[1].allow: a token has at most 16 budgets: shorten this grant, or move a part of it "
        "to on_request"
    )
    later = 'how = "on_request"\n'
    assert problems(granting(later + 'allow = ["a.b"]\n[purpose.work.grant.budget]\n' + limits(17))) == (
        "purpose.work.grant[1].allow: a.b: a token has at most 16 budgets: shorten this grant",
    )


def test_the_uses_of_a_consent_count_as_a_budget() -> None:
    asking = 'how = "ask"\napprovers = ["kim"]\nallow = ["a.b"]\n'
    read_policy(granting(asking + "[purpose.work.grant.budget]\n" + limits(15)))
    read_policy(granting(asking + 'uses = "task"\n[purpose.work.grant.budget]\n' + limits(16)))
    assert problems(granting(asking + "[purpose.work.grant.budget]\n" + limits(16))) == (
        "purpose.work.grant[1].allow: a.b: a token has at most 16 budgets: shorten this grant",
    )


def test_grants_that_fit_apart_and_not_together_are_refused() -> None:
    half, rest = ([f"a.{half}{number}" for number in range(150)] for half in "xy")
    read_policy(granting(f"allow = {half}"))
    (line,) = problems(granting(f"allow = {half}") + together(*rest))
    assert line == (
        "purpose.work.grant[2].allow: together with purpose.work.grant[1], at a: a block has more than 256 "
        "brackets: shorten this grant, or move a part of it to on_request"
    )
    read_policy(granting(f"allow = {half}") + together(*rest, how="on_request"))


def test_grants_that_are_longer_than_a_block_together_are_told() -> None:
    half, rest = ([f"a.{'x' * 100}{half}{number}" for number in range(18)] for half in "xy")
    read_policy(granting(f"allow = {half}"))
    (line,) = problems(granting(f"allow = {half}") + together(*rest))
    assert "at a: a block has at most 4096 bytes, and this would have" in line


def test_more_capabilities_at_open_than_a_bundle_holds_are_told() -> None:
    read_policy(granting(f"allow = {[f'a{number}.b' for number in range(31)]}"))
    (line,) = problems(granting(f"allow = {[f'a{number}.b' for number in range(32)]}"))
    assert line.startswith("purpose.work: needs 32 capabilities at open")


def test_what_could_be_asked_for_and_never_pinned_is_told() -> None:
    grant = 'how = "ask"\napprovers = ["kim"]\nallow."a.b" = {{ note = "{}" }}'
    read_policy(granting(grant.format("x" * 1000)))
    (line,) = problems(granting(grant.format("x" * 2000)))
    assert line.startswith("purpose.work.grant[1].allow: a.b: a block has at most 4096 bytes")
