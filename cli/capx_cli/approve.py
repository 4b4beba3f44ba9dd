"""Let a person answer a request: load their key, show the request, ask whether they mean it, sign.

Laws: nobody has to read a request that they cannot answer, as far as this command can know that. The authority judges
each answer anyway. What is signed is what was shown. A `no` to the question signs nothing.
"""

import sys
import time
from typing import TYPE_CHECKING

import click

from capx_cli import call_approval, inbox, screen, target
from capx_cli.escape import clean
from capx_cli.failure import DONE, NOTHING

if TYPE_CHECKING:
    from capx.authority.requests.inquiry import Inquiry
    from capx.intents.principal_key import PrincipalKey
    from capx.policy.policy import Policy


def give(
    typed: str,
    *,
    yes: bool,
    name: str | None,
    sure: bool,
    as_json: bool,
    signing: call_approval.Signing = call_approval.AS_USUAL,
) -> int:
    """Show the request, sign the answer to it and hand it in; return the exit code.

    `name` says who answers. If `sure`, sign without a question. `signing` is for a request for an approval.
    """
    from capx.authority.requests.verdict import Verdict
    from capx.errors import InvalidRequest

    if sure and typed == inbox.LAST:
        raise click.UsageError(f"{typed} may mean another request when --yes signs it: name the request by its id")
    if not sure and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: read the output of capx requests show, then give --yes")
    key = target.signing_key(name)
    with target.anyone(key) as authority:
        inquiry = authority.inquiry(inbox.request_id(authority, typed))
        is_call = inquiry.request.to_approve is not None
        if not is_call and (signing.uses is not None or signing.lasts is not None):
            raise click.UsageError("--uses and --lasts are for the approval of a call: the policy says it for a grant")
        if why := inbox.answered(inquiry.request, yes=yes) or _why_not(authority, inquiry, key, yes=yes):
            return call_approval.nothing(why)
        inbox.show(inquiry, on_stderr=as_json)
        if not sure and not _means_it(inquiry, key.name, yes=yes):
            return NOTHING
        try:
            if yes and is_call:
                decided, _ = call_approval.sign_online(authority, inquiry, key, signing)
            else:
                decided = authority.answer(Verdict.sign(inquiry, key, yes=yes, at=int(time.time())))
        except InvalidRequest as problem:
            return call_approval.nothing(str(problem))
    if as_json:
        screen.as_json(inbox.as_json(decided))
    else:
        inbox.tell(decided)
    return DONE


def _means_it(inquiry: "Inquiry", name: str, *, yes: bool) -> bool:
    consent = "Consent to all of this" if inquiry.request.to_approve is None else "Approve this call"
    question = consent if yes else "Refuse this, for good"
    if click.confirm(f"{question}, as {clean(name)}?", err=True):
        return True
    other = f" To refuse it for good: capx requests deny {inquiry.request.id} --as {name}" if yes else ""
    screen.note(f"Nothing was signed; the request still waits.{other}")
    return False


def _why_not(authority: "target.Anyone", inquiry: "Inquiry", key: "PrincipalKey", *, yes: bool) -> str | None:
    """Return why this person cannot give this answer, as far as this command knows; None if they may."""
    from capx.authority.authority import Authority

    if yes and inquiry.request.to_approve is not None:
        from capx.tokens.approval_request import ApprovalRequest

        return call_approval.why_not(ApprovalRequest.parse(inquiry.request.to_approve).caveat, key)
    # This process cannot read the policy of an authority elsewhere.
    if isinstance(authority, Authority) and (why := _by_policy(authority.policy, inquiry, key, yes=yes)):
        return why
    intent, request = inquiry.intent, inquiry.request
    if yes and key.name in {intent.principal, intent.agent, *request.labels, *request.excluded}:
        same = "requested this work, or has the same name or key as one of its agents"
        return f"{key.name} {same}: someone else must approve"
    return None


def _by_policy(policy: "Policy", inquiry: "Inquiry", key: "PrincipalKey", *, yes: bool) -> str | None:
    from capx.crypto.ed25519 import public_text
    from capx.policy.describe import consenting

    person = policy.principals.get(key.name)
    if person is None or person.key is None:
        return f"the policy has no principal {key.name} with a key: an operator adds one with capx principal add"
    approvers = _approvers(policy, inquiry) if yes else inquiry.request.approvers
    if approvers and not any(key.name in policy.members(each) for each in approvers):
        return f"{key.name} cannot answer this request; who can: {consenting(policy, approvers)}"
    if key.public != public_text(person.key):
        return f"this key of {key.name} is not the key that the policy has for them"
    return None


def _approvers(policy: "Policy", inquiry: "Inquiry") -> tuple[str, ...]:
    """Return whose consent the policy asks for now.

    Return nobody if the policy has changed and no longer asks for it: the authority then says why.
    """
    import json

    from capx.errors import InvalidRequest

    request = inquiry.request
    args = None if request.args is None else json.loads(request.args)
    try:
        match = policy.terms(inquiry.intent).match(request.audience, request.action, args)
    except InvalidRequest:
        return ()
    return () if match is None else match.rule.approvers
