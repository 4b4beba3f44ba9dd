"""How a person answers a request: their key, what they are shown, and the question whether they mean it.

Laws: nobody is made to read what they cannot answer, where that is known here; the authority judges each answer
anyhow. What is signed is what was shown. A `no` at the question signs nothing.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from capx_cli import inbox, own_keys, screen, target
from capx_cli.escape import clean
from capx_cli.failure import DONE, NOTHING

if TYPE_CHECKING:
    from capx.authority.requests.verdict import Inquiry
    from capx.intents.principal_key import PrincipalKey
    from capx.policy.policy import Policy


class Answer(NamedTuple):
    """Yes or no, by whom, and with which key if that is not at home; `sure` needs no asking before it is signed."""

    yes: bool
    name: str | None
    key_file: Path | None
    sure: bool
    as_json: bool


def give(typed: str, answer: Answer) -> int:
    """Show the request that is meant, sign the answer to it, and hand it in; gives the exit code."""
    from capx.authority.requests.verdict import Verdict
    from capx.errors import InvalidRequest

    if answer.sure and typed == inbox.LAST:
        raise click.UsageError(f"--yes would sign whatever {typed} is by then: name the request by its id")
    if not answer.sure and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at: read what capx requests show says, then give --yes")
    key = own_keys.load(answer.name, answer.key_file)
    with target.authority() as authority:
        inquiry = authority.inquiry(inbox.request_id(authority, typed))
        if why := inbox.answered(inquiry.request, yes=answer.yes) or _why_not(authority, inquiry, key, yes=answer.yes):
            return _nothing(why)
        inbox.show(inquiry, on_stderr=answer.as_json)
        if not answer.sure and not _means_it(inquiry, key.name, yes=answer.yes):
            return NOTHING
        verdict = Verdict.sign(inquiry, key, yes=answer.yes, at=int(time.time()))
        try:
            decided = authority.answer(verdict)
        except InvalidRequest as problem:
            return _nothing(str(problem))
    if answer.as_json:
        screen.as_json(inbox.as_json(decided))
    else:
        inbox.tell(decided)
    return DONE


def _nothing(why: str) -> int:
    screen.note(f"capx: {why}", screen.BAD)
    return NOTHING


def _means_it(inquiry: "Inquiry", name: str, *, yes: bool) -> bool:
    question = "Consent to all of this" if yes else "Refuse this, for good"
    if click.confirm(f"{question}, as {clean(name)}?", err=True):
        return True
    other = f" To refuse it for good: capx requests deny {inquiry.request.id} --as {name}" if yes else ""
    screen.note(f"Nothing was signed; the request still waits.{other}")
    return False


def _why_not(authority: "target.Operations", inquiry: "Inquiry", key: "PrincipalKey", *, yes: bool) -> str | None:
    """Why this answer of this person cannot count, as far as that is known here; None if it may."""
    from capx.authority.authority import Authority

    # The policy of an authority elsewhere stays there.
    if isinstance(authority, Authority) and (why := _by_policy(authority.policy, inquiry, key, yes=yes)):
        return why
    intent, request = inquiry.intent, inquiry.request
    if yes and key.name in {intent.principal, intent.agent, *request.labels, *request.excluded}:
        return f"{key.name} wanted this work, or is called like an agent that does it: ask another one"
    return None


def _by_policy(policy: "Policy", inquiry: "Inquiry", key: "PrincipalKey", *, yes: bool) -> str | None:
    from capx.crypto.ed25519 import public_text
    from capx.policy.describe import consenting

    person = policy.principals.get(key.name)
    if person is None or person.key is None:
        return f"{key.name} is no principal of the policy with a key"
    approvers = _approvers(policy, inquiry) if yes else inquiry.request.approvers
    if approvers and not any(key.name in policy.members(each) for each in approvers):
        return f"{key.name} is none of those who can answer: {consenting(policy, approvers)}"
    if key.public != public_text(person.key):
        return f"this key of {key.name} is not the one that the policy has for them"
    return None


def _approvers(policy: "Policy", inquiry: "Inquiry") -> tuple[str, ...]:
    """Whose consent the policy asks for now; nobody's where it makes something else of it: the authority tells."""
    import json

    from capx.errors import InvalidRequest

    request = inquiry.request
    args = None if request.args is None else json.loads(request.args)
    try:
        match = policy.terms(inquiry.intent).match(request.audience, request.action, args)
    except InvalidRequest:
        return ()
    return () if match is None else match.rule.approvers
