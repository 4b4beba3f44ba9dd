"""`capx verify`: decide a call, with the keys of this home."""

import time
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability, Presentation, Token
from capx.tokens.lineage import AUTHORITY
from capx_caveats import Call, shown
from capx_cli import agent_keys, call_approval, phrases, screen, target
from capx_cli.calls import judged_call
from capx_cli.failure import DENIED, DONE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from capx.authority.authority import Authority
    from capx.verify.explanation import Explanation
    from capx_cli.tokens import Tokens

_OWN = "A service may decide otherwise: this command does not know the service's own caveats."
_EXPIRED = "This presentation has expired, so a service denies it. Make a new one: capx present"
_BARE = "A service denies this bare token. Send it a presentation instead: capx present or capx call makes one."


@click.command()
@judged_call(must_hold=False)
@agent_keys.agent_key_option
def verify(*, call: Call, audience: str, tokens: "Tokens", as_json: bool, agent_key_file: "Path | None") -> int:
    """Judge a token against a call, with the keys and the revocations of this home. Exits with 1 if it is denied.

    The command shows every restriction, which hop made it, and whether it denies the call. It uses nothing up, and
    records nothing. What only a service understands, such as its own caveats, is denied here and marked (?). A token
    that is bound to a key must be presented, with capx present or, by this command, with --agent-key-file. Otherwise it
    is denied: hop_unsigned.

    Example: capx verify --action slides.write --arg deck=deck-42 --tenant Acme
    """
    from capx.authority.home import home_folder

    bare = phrases.presented(tokens[0]) is None
    texts = {token: _with_approvals(token, tokens, call) for token in tokens}
    if bare and (agent_key_file is not None or (tokens[0].keys and agent_keys.named() is not None)):
        texts = {token: token.text for token in _presented(tokens, call, agent_key_file)}
        bare = False
    with target.home_authority("capx verify") as authority:
        explanation = _explain(authority, audience, texts, call)
    if bare:
        explanation = _without_a_key(explanation)
    expired = phrases.has_expired(tokens[0])
    if as_json:
        screen.as_json({**_as_json(explanation, audience, call), "bare_token": bare, "presentation_expired": expired})
    else:
        _show(explanation, audience, call)
    if not explanation.allowed and any(map(phrases.partly_understood, tokens)):
        screen.note(_OWN)
    if _only_unapproved(explanation):
        screen.note(call_approval.TO_GET_IT)
    if bare:
        screen.note(_BARE)
    if expired:
        screen.note(_EXPIRED, "yellow")
    if any(refusal.code == "not_authentic" for refusal in explanation.refusals):
        screen.note(f"Judged with the keys in {home_folder()}. For another home, set CAPX_HOME.")
    return DONE if explanation.allowed else DENIED


def _with_approvals(token: Token, tokens: "Tokens", call: Call) -> str:
    """Return the text of a token, with the approvals of its holder that may serve the call."""
    from capx.tokens.held_approvals import choose

    if not isinstance(token, Capability):
        return token.text
    return token.text_with(choose(token, tokens.approvals, call, int(time.time())))


def _presented(tokens: "Tokens", call: Call, agent_key_file: "Path | None") -> list[Presentation]:
    """Return the tokens as their holder would present them."""
    capabilities = [token for token in tokens if isinstance(token, Capability)]
    bundle = agent_keys.with_key(Bundle(capabilities, approvals=tokens.approvals), agent_key_file)
    received = ToolCall(call.action, call.args)
    return [bundle.present_capability(capability, received) for capability in bundle]


def _explain(authority: "Authority", audience: str, texts: "Mapping[Any, str]", call: Call) -> "Explanation":
    """Return the decision about the newest capability that allows the call, or only lacks an approval, or any."""
    verifier = authority.own_verifier() if audience == AUTHORITY else authority.verifier(audience)
    held = [text for token, text in texts.items() if token.audience == audience] or list(texts.values())
    explanations = [verifier.explain(text, call) for text in reversed(held)]
    allowed = [each for each in explanations if each.allowed]
    return [*allowed, *filter(_only_unapproved, explanations), *explanations][0]


def _only_unapproved(explanation: "Explanation") -> bool:
    return {refusal.code for refusal in explanation.refusals} == {"needs_discharge"}


def _without_a_key(explanation: "Explanation") -> "Explanation":
    """Return the explanation with one more refusal if the token is bound to a key, which is not here to sign."""
    from capx.tokens.signed_blocks import bare

    lineage = explanation.lineage
    unsigned = None if lineage is None else bare(lineage.signed, lineage.owner)
    return explanation if unsigned is None else replace(explanation, refusals=(*explanation.refusals, unsigned))


def _show(explanation: "Explanation", audience: str, call: Call) -> None:
    from capx.tokens.wording import whose
    from capx.verify.decision import reason

    tenant = "" if call.tenant is None else f" for tenant {shown(call.tenant)}"
    outcome = "ALLOWED" if explanation.allowed else "DENIED"
    style = f"bold {screen.GOOD if explanation.allowed else screen.BAD}"
    screen.say(f"{outcome}  {call.action} at {audience}{tenant}", style)
    for each in explanation.refusals:
        phrases.said_reason(reason(each))
    if explanation.restrictions:
        screen.say("  its restrictions:", screen.QUIET)
    for one in explanation.restrictions:
        mark, style = ("ok", "") if one.refusal is None else ("NO", screen.BAD)
        if one.refusal is not None and one.refusal.code == "not_understood":
            mark, style = "? ", "yellow"
        screen.say(f"  {mark}  {whose(one.hop, one.hop_name)}: {one.sentence}", style)


def _as_json(explanation: "Explanation", audience: str, call: Call) -> dict[str, Any]:
    from capx.verify.decision import reason

    return {
        "allowed": explanation.allowed,
        "action": call.action,
        "audience": audience,
        "tenant": call.tenant,
        "reasons": [reason(refusal) for refusal in explanation.refusals],
        "restrictions": [
            {"hop": one.hop, "hop_name": one.hop_name, "sentence": one.sentence, "ok": one.refusal is None}
            for one in explanation.restrictions
        ],
    }
