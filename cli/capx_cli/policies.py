"""Read policies and cases, and show what a policy gives to an intent, to people and to programs."""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import screen
from capx_cli.failure import UNUSABLE, Unusable, contents

if TYPE_CHECKING:
    from capx.policy.cases import Case
    from capx.policy.policy import Policy
    from capx.policy.terms import Rule, Terms
    from capx.policy.toml_reader import InvalidFile


def read(file: Path | None) -> "tuple[Policy, Path]":
    """Return the policy in a file, or in the home, and its path; Unusable if there is none."""
    from capx.policy.file import PolicyFile, read_policy

    if file is not None:
        return read_policy(_contents(file), str(file)), file
    found = place(None)
    return PolicyFile(found)(), found


def place(file: Path | None) -> Path:
    """Return the given path, or that of the policy in the home; Unusable if there is no policy in the home."""
    from capx.authority.home import home_folder
    from capx.policy.file import FILE

    found = home_folder() / FILE if file is None else file
    if file is None and not os.path.lexists(found):
        raise Unusable(f"there is no policy at {found}: write one, or name a FILE")
    return found


def usable(file: Path | None) -> "Policy":
    """Return the policy in a file, or in the home; if it cannot be used, show all mistakes and exit."""
    with _all_told():
        return read(file)[0]


def cases(file: Path) -> "tuple[Case, ...]":
    """Return the cases in a file; if they cannot be used, show all mistakes and exit."""
    from capx.policy.cases import read_cases

    with _all_told():
        return read_cases(_contents(file), str(file))


def tell(problem: "InvalidFile") -> None:
    """Note all mistakes of a file, one line each."""
    screen.note(f"{problem.name} cannot be used:", screen.BAD)
    for line in problem.lines:
        screen.note(f"  {line}")


@contextmanager
def _all_told() -> Generator[None]:
    from capx.policy.toml_reader import InvalidFile

    try:
        yield
    except InvalidFile as problem:
        tell(problem)
        raise click.exceptions.Exit(UNUSABLE) from None


def _contents(file: Path) -> bytes:
    """Return the bytes of a file, at most one more than allowed: the reader then sees that it is too large."""
    from capx.policy.toml_reader import LARGEST

    return contents(file, LARGEST + 1)


def rows(policy: "Policy", terms: "Terms") -> Iterator[tuple[str, str, str, str]]:
    """Return when, what, where and with which limits something is given, in the order of the decision."""
    from capx.policy.describe import HOW_IN_WORDS

    for rule in terms.rules:
        for offer in rule.offers:
            pattern, _, where = offer.entry.sentence().partition(" where ")
            limits = "; ".join([*((f"where {where}",) if where else ()), *_limits(policy, rule)])
            yield HOW_IN_WORDS[rule.how], pattern, offer.audience, limits or "-"


def ungranted(policy: "Policy", terms: "Terms") -> list[str]:
    """Return the audiences of the policy at which it gives nothing for this."""
    given = {offer.audience for rule in terms.rules for offer in rule.offers}
    return [audience for audience in policy.audiences if audience not in given]


def as_json(policy: "Policy", terms: "Terms") -> dict[str, Any]:
    """Return what terms give, as JSON values; times in seconds."""
    from msgspec.structs import asdict

    return {
        "purpose": terms.purpose,
        "tenant": terms.tenant,
        "ttl": terms.ttl,
        "rules": [
            {
                **asdict(rule),
                "offers": [
                    {"audience": offer.audience, "entry": offer.entry.wire(), "words": offer.entry.sentence()}
                    for offer in rule.offers
                ],
                "budgets": {budget.unit: budget.limit for budget in rule.budgets},
            }
            for rule in terms.rules
        ],
        "never": {"audiences": ungranted(policy, terms)},
    }


def _limits(policy: "Policy", rule: "Rule") -> Iterator[str]:
    from capx.policy.describe import consenting, pins_in_words, uses_in_words
    from capx_caveats import shown_duration

    for budget in rule.budgets:
        yield f"at most {budget.limit} {budget.unit}"
    if rule.within is not None:
        yield f"asks {consenting(policy, rule.approvers)}, who has {shown_duration(rule.within)}"
        yield f"one consent is good for {uses_in_words(rule.uses)} {pins_in_words(rule.pinned)}"
