"""`capx ask`: ask for more for a token, at run time."""

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from capx_cli import agent_keys, arguments, call_approval, name_value, phrases, screen, target
from capx_cli.failure import DENIED, DONE, Unusable
from capx_cli.token_output import Output, output_options
from capx_cli.tokens import token_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from capx.authority.authority import Authority
    from capx.tokens.bundle import Bundle
    from capx.verify.ask import Answer, Ask
    from capx_caveats import JSON

_GLANCE = 0.2
_LONGEST = 86_400


_BY_URL = "an agent asks with --url https://… or CAPX_AUTHORITY_URL"


def _no_place(context: click.Context, _: click.Parameter, place: str | None) -> None:
    if place is not None and not context.resilient_parsing:
        raise click.UsageError(f"--authority is for operators: {_BY_URL}, or without both, to ask the home", context)


@click.command(cls=arguments.Ordered)
@click.argument("action", metavar="ACTION[@AUDIENCE]")
@arguments.repeatable(
    "--with",
    "args",
    "NAME=TEXT",
    "An argument of the one call that you ask for: deck=deck-42 is text, limit:=10 is JSON.",
)
@click.option("--no-args", is_flag=True, help="Ask for calls without arguments.")
@click.option("--approval", is_flag=True, help="Ask people to approve this one call, which the token demands.")
@click.option("--wait", metavar="TIME", help="How long to wait for the person who must answer: 30s, 5m.")
@click.option(
    "--url",
    metavar="URL",
    envvar="CAPX_AUTHORITY_URL",
    help="The authority that serves agents, such as https://authority.internal:8411. Else: CAPX_AUTHORITY_URL, the "
    "home. CAPX_AUTHORITY is for operators.",
)
@click.option("--authority", hidden=True, expose_value=False, callback=_no_place, help="Only for operators.")
@output_options
@agent_keys.agent_key_option
@token_option
def ask(
    *,
    action: str,
    args: tuple[str, ...],
    no_args: bool,
    approval: bool,
    wait: str | None,
    url: str | None,
    output: Output,
    agent_key_file: "Path | None",
    token_file: str | None,
) -> int:
    """Ask for an action that the token does not allow yet, and write the wider token to standard output.

    The policy says what the authority grants at once, and what a person must consent to. Nobody gets more than each
    delegator lets the token ask for. Without --with and --no-args, the ask is for any arguments. An ask that needs
    a person's consent must name its arguments, unless the policy leaves them free.

    With --approval, people are asked to approve this one call, as the token demands. The new token then holds their
    approval.

    If nothing is granted, the exit code is 1, and no token is written. Ask again when somebody has answered, or use
    --wait. To widen a token in its own file, use --out FILE --replace. With `> FILE` the shell would empty the file
    before capx reads it.

    Example: capx ask warehouse.stock.read --wait 30s --out wider.token
    """
    from capx.verify.ask import Ask

    name, at, audience = action.partition("@")
    if at and not audience:
        raise click.UsageError(f"{action:.200} names no audience after the @")
    if no_args and args:
        raise click.UsageError("give only one of --with and --no-args")
    pinned = name_value.arguments(args) if args or no_args else None
    seconds = _seconds(wait)
    bundle = agent_keys.read_own_bundle(token_file, agent_key_file)
    if approval:
        wanted = _for_approval(bundle, name, audience if at else None, pinned)
    else:
        wanted = Ask.of(name, audience if at else None, pinned)
    if why := _nothing_to_ask_with(bundle):
        return _refused([{"code": None, "sentence": why}], output)
    answer = _over_http(url, bundle, wanted, seconds) if url else _at_home(bundle, wanted, seconds)
    return _show_answer(bundle, answer, output)


def _for_approval(bundle: "Bundle", action: str, audience: str | None, args: "dict[str, JSON] | None") -> "Ask":
    """Return the ask for the first approval that the token lacks for this call."""
    from capx.verify.ask import Ask

    if args is None:
        raise click.UsageError("people approve one call: name its arguments with --with, or give --no-args")
    request = bundle.approval_request(action, args, audience=audience)
    return Ask.of(action, request.audience, args, request.cid)


def _seconds(wait: str | None) -> float:
    from capx_caveats import parse_duration

    seconds = 0 if wait is None else parse_duration(wait)
    if seconds > _LONGEST:
        raise click.UsageError(f"--wait {wait:.40} is longer than a day, which is the most: ask again later")
    return float(seconds)


def _nothing_to_ask_with(bundle: "Bundle") -> str | None:
    """Return why this bundle can ask for nothing anywhere; None if it can."""
    from capx.tokens.lineage import AUTHORITY

    if AUTHORITY in bundle.audiences:
        return None
    if bundle.hops:
        return "this token may ask for nothing: its delegator must allow that with --may-ask"
    return "this token holds no capability for the authority: join it with a comma to the token that task open wrote"


def _over_http(url: str, bundle: "Bundle", ask: "Ask", seconds: float) -> "Answer":
    try:
        from capx.agent.authority_client import AuthorityClient
    except ModuleNotFoundError as error:
        raise Unusable(f"capx ask --url needs {error.name}: pip install 'capx-auth[httpx]'") from None
    if not url.lower().startswith(("http://", "https://")):
        operators = ", and unix: is for operators" if url.startswith("unix:") else ""
        raise click.UsageError(f"{url!r:.200} is not the URL of an authority: write https://… or http://…{operators}")
    with AuthorityClient(url, bundle) as client, screen.busy("asking"):
        return client.ask(ask.action, audience=ask.audience, args=ask.args, wait=seconds, demand=ask.demand)


def _at_home(bundle: "Bundle", ask: "Ask", seconds: float) -> "Answer":
    from capx.verify.ask import Pending

    if (place := target.elsewhere()) is not None:
        raise click.UsageError(
            f"CAPX_AUTHORITY ({place:.80}) is for operators: {_BY_URL}; unset it to ask the authority in CAPX_HOME"
        )
    ends = time.monotonic() + seconds
    with target.home_authority("capx ask without --url") as authority, screen.busy("asking"):
        while True:
            answer = authority.ask(bundle, ask.action, audience=ask.audience, args=ask.args, demand=ask.demand)
            if not isinstance(answer, Pending) or time.monotonic() >= ends:
                return answer
            _await(authority, answer.request, ends)


def _await(authority: "Authority", request: str, ends: float) -> None:
    """Wait until the request is answered, or the time is over; asking again would write to the log each time."""
    from capx.errors import InvalidRequest

    with suppress(InvalidRequest):
        while (left := ends - time.monotonic()) > 0 and authority.request(request).state == "pending":
            time.sleep(min(_GLANCE, left))


def _show_answer(bundle: "Bundle", answer: "Answer", output: Output) -> int:
    from capx.verify.ask import Approved, Granted, Pending
    from capx.verify.decision import reason

    if isinstance(answer, Granted):
        fuller = bundle.holding(answer.capability)
        granted = type(fuller)([answer.capability])
        output.write(
            fuller.text,
            lambda: {"answer": "granted", **phrases.bundle_as_json(granted)},
            phrases.of_new_token(("granted", screen.GOOD), granted),
        )
        return DONE
    if isinstance(answer, Approved):
        fuller = bundle.holding(answer.discharge)
        output.write(
            fuller.text,
            lambda: {"answer": "approved", "approval": call_approval.facts(answer.discharge)},
            (("approved: the token holds the approval now", screen.GOOD),),
        )
        return DONE
    if isinstance(answer, Pending):
        if output.as_json:
            waiting = {"request": answer.request, "until": answer.until, "approvers": answer.approvers}
            screen.as_json({"wrote": None, "answer": "pending", **phrases.with_instants(waiting)})
        else:
            screen.note(f"pending: {answer}", screen.STRONG)
        return DENIED
    return _refused(list(map(reason, answer.reasons)), output)


def _refused(reasons: "Sequence[Mapping[str, object]]", output: Output) -> int:
    if output.as_json:
        screen.as_json({"wrote": None, "answer": "refused", "reasons": reasons})
        return DENIED
    screen.note("refused", screen.LOUD)
    for each in reasons:
        code = "" if each["code"] is None else f"{each['code']}: "
        screen.note(f"  {code}{each['sentence']}", screen.BAD)
    return DENIED
