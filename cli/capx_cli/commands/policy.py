"""`capx policy`: check and test a policy before an authority uses it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from capx_cli import intents, phrases, policies, screen, target
from capx_cli.failure import DENIED, DONE, UNUSABLE
from capx_cli.view import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capx.policy.cases import Case, Failing
    from capx.policy.policy import Policy
    from capx.policy.terms import Terms

_FILE = click.Path(path_type=Path)
_option = click.option(
    "--policy", "file", type=_FILE, metavar="FILE", help="Use this policy instead of the one in the home."
)


@click.group(cls=phrases.InOrder)
def policy() -> None:
    """Check a policy, try it on an intent, explain it, and test it with cases.

    A policy says who may ask for which kinds of work. It says what each kind gets at once, on request, or with the
    consent of a person. It is policy.toml in the home of an authority. The authority reads the file again whenever it
    changes. So check a draft elsewhere, and then move it into place.

    Example: capx policy check
    """


@policy.command(short_help="Check a policy: show every mistake, by key path.")
@click.argument("file", required=False, type=_FILE)
@json_option
def check(file: Path | None, as_json: bool) -> int:
    """Check the policy in FILE, or in the home, and show everything that is wrong with it, one line each.

    The exit code is 3 if the policy cannot be used. If it can be used, the command still points out parts that are
    surely mistakes, such as a grant that never decides.

    Example: capx policy check draft.toml
    """
    from capx.policy.lint import warnings
    from capx.policy.toml_reader import InvalidFile

    try:
        found, place = policies.read(_given(file, "capx policy check"))
    except InvalidFile as problem:
        if as_json:
            screen.as_json({"good": False, "problems": list(problem.lines), "remarks": []})
        else:
            policies.tell(problem)
        return UNUSABLE
    made = list(warnings(found))
    if as_json:
        facts = {"digest": found.digest, "principals": list(found.principals), "purposes": list(found.purposes)}
        screen.as_json({"good": True, "problems": [], "remarks": made, **facts})
        return DONE
    principals = phrases.counted(len(found.principals), "principal")
    purposes = phrases.counted(len(found.purposes), "purpose")
    screen.say(f"{place} is good: {principals}, {purposes}, digest {found.digest}", screen.GOOD)
    for line in made:
        screen.note(f"  {line}", "yellow")
    return DONE


@policy.command("try", short_help="Show what an intent would get: now, on request, by asking, never.")
@click.argument("intent", metavar="INTENT")
@_option
@json_option
def try_(intent: str, file: Path | None, as_json: bool) -> int:
    """Show what the intent in the file INTENT would get: at open, on request, by asking, and never.

    The intent may be signed or not. No signature is verified: capx intent verify does that. Nothing is opened. The exit
    code is 1 if the policy gives it nothing, and the command says why.

    Example: capx policy try qbr.intent --policy draft.toml
    """
    from capx.errors import InvalidRequest
    from capx_caveats.shown_values import whole

    found = policies.usable(_given(file, "capx policy try"))
    asked = intents.document(intents.read(intent))
    try:
        terms = found.terms(asked)
    except InvalidRequest as why:
        return intents.refused(why)
    with whole():
        if as_json:
            said = {"digest": found.digest, "principal": asked.principal, **policies.as_json(found, terms)}
            screen.as_json(said)
            return DONE
        _tell(found, terms, asked.principal)
    screen.note("No signature was verified, and nothing was opened.", screen.QUIET)
    return DONE


def _tell(found: "Policy", terms: "Terms", principal: str) -> None:
    from capx_caveats import shown, shown_duration

    whose = "no tenant" if terms.tenant is None else f"tenant {shown(terms.tenant)}"
    ends = f"ends after {shown_duration(terms.ttl)} at the latest"
    intents.say(f"{terms.purpose} for {shown(principal)}, {whose}, {ends}", screen.STRONG)
    elsewhere = policies.ungranted(found, terms)
    never = ("never", "anything else", "anywhere", f"nothing at {', '.join(elsewhere)}" if elsewhere else "-")
    styles = {"at open": screen.GOOD, "never": screen.BAD}
    screen.table(("WHEN", "ACTION", "AT", "LIMITS"), [*policies.rows(found, terms), never], styles)


@policy.command(short_help="Say what a policy gives, in plain sentences.")
@click.argument("purpose", required=False)
@_option
@json_option
def explain(purpose: str | None, file: Path | None, as_json: bool) -> None:
    """Say in plain sentences what the policy gives to PURPOSE, or to each purpose.

    Example: capx policy explain qbr
    """
    from capx.policy.describe import purpose_sentences
    from capx.policy.toml_reader import near

    found = policies.usable(_given(file, "capx policy explain"))
    if purpose is not None and purpose not in found.purposes:
        raise click.UsageError(f"{purpose!r:.40} is not a purpose of this policy{near(purpose, found.purposes)}")
    wanted = [each for name, each in found.purposes.items() if purpose in {None, name}]
    if as_json:
        screen.as_json({each.name: purpose_sentences(found, each) for each in wanted})
        return
    if not wanted:
        screen.say("The policy has no purpose, so nobody can open a task on an intent.")
    for each in wanted:
        screen.say(each.name, screen.STRONG)
        for sentence in purpose_sentences(found, each):
            intents.say(f"  {sentence}")


@policy.command(short_help="Test a policy with cases: what it must give, and must not.")
@click.argument("cases", type=_FILE)
@_option
@json_option
def test(cases: Path, file: Path | None, as_json: bool) -> int:
    """Test the policy with the cases in the file CASES: calls, each with the decision that is expected.

    It prints a line for each call that is decided differently. Then the exit code is 1. It also points out a case with
    `opens = false` if the policy does not have its principal or purpose: the name may be misspelt.

    Example: capx policy test cases.toml --policy draft.toml
    """
    from capx.policy.cases import failing, unknown

    found = policies.usable(_given(file, "capx policy test"))
    read = policies.cases(cases)
    failed = [one for case in read for one in failing(found, case)]
    remarks = [line for case in read for line in unknown(found, case)]
    calls = sum(len(case.expected) or 1 for case in read)
    if as_json:
        counts = {"cases": len(read), "expectations": calls}
        failing_ = [
            {"path": one.path, "case": one.case.path, "says": one.case.says, "sentence": one.sentence} for one in failed
        ]
        screen.as_json({**counts, "failing": failing_, "remarks": remarks})
    else:
        for line in remarks:
            screen.note(f"  {line}", "yellow")
        for one in failed:
            says = f" ({one.case.says})" if one.case.says else ""
            screen.say(f"{one.path}{says}: {one.sentence}", screen.BAD)
        _sum_up(read, calls, failed)
    return DENIED if failed else DONE


def _sum_up(read: "Sequence[Case]", calls: int, failed: "Sequence[Failing]") -> None:
    what = f"of {phrases.counted(calls, 'expectation')} in {phrases.counted(len(read), 'case')}"
    if failed:
        screen.note(f"{len(failed)} {what} failed", screen.BAD)
    else:
        screen.say(f"all {what} hold", screen.GOOD)


def _given(file: Path | None, what: str) -> Path | None:
    """Return the named file; without one, raise UsageError unless the home is meant."""
    if file is None:
        target.demand_home(what, "reads the policy, which stays with its authority")
    return file
