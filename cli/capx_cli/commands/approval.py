"""`capx approval`: what an agent does about approvals that its token demands, without an authority."""

import time

import click

from capx_cli import call_approval, calls, intents, name_value, phrases, screen
from capx_cli.token_output import Output, output_options
from capx_cli.tokens import read_bundle, token_option
from capx_cli.view import json_option


@click.group(cls=phrases.InOrder)
def approval() -> None:
    """Ask people to approve one call by file, and add their approval to a token.

    A token can demand that people approve each call (capx delegate --approval-by). This needs no authority and no
    network. With an authority, capx ask --approval asks, and waits for the answer.

    Example: capx approval show call.ask
    """


@approval.command("ask", short_help="Write the request for an approval of one call.")
@calls.call_options
@calls.audience_option
@token_option
def ask(*, action: str | None, args: tuple[str, ...], audience: str | None, token_file: str | None) -> None:
    """Write the request for an approval of one call to standard output, as JSON.

    It holds no token and grants nothing. Send it to the people whom the token names: they answer with capx requests
    approve --file. An approval is for exactly these arguments.

    Example: capx approval ask --action billing.credit --arg amount:=40 > call.ask
    """
    if action is None:
        raise click.UsageError("name the call to approve with --action")
    request = read_bundle(token_file).approval_request(action, name_value.arguments(args), audience=audience)
    screen.as_json(request.document())
    screen.note(f"Next: send it to the owner of {' or '.join(request.caveat.approvers)}", screen.QUIET)


@approval.command("add", short_help="Add an approval to a token.")
@click.argument("file")
@output_options
@token_option
def add(*, file: str, output: Output, token_file: str | None) -> None:
    """Add the approval in FILE to a token, and write the wider token to standard output.

    The approval is of no use without the token that demands it. It goes with each presentation that needs it, until it
    expires or is used up.

    Example: capx approval add call.approval --out approved.token
    """
    from capx.errors import InvalidRequest
    from capx.tokens.approving import has_expired

    added = call_approval.read_discharge(file)
    if has_expired(added, int(time.time())):
        raise InvalidRequest("this approval has expired: ask for another one")
    bundle = read_bundle(token_file).holding(added)
    output.write(
        bundle.text,
        lambda: {"approvals": list(map(call_approval.facts, bundle.approvals)), **phrases.bundle_as_json(bundle)},
        (("the token holds the approval now", screen.GOOD),),
    )


@approval.command("show", short_help="Show a request or an approval in plain words.")
@click.argument("file", default=intents.STDIN)
@json_option
def show(file: str, as_json: bool) -> None:
    """Show in plain words the request or the approval in FILE. Nothing in it is verified.

    Example: capx approval show call.ask
    """
    from capx.tokens.discharge import Discharge

    read = call_approval.read(file)
    if isinstance(read, Discharge):
        if as_json:
            screen.as_json({"verified": False, **call_approval.facts(read)})
            return
        screen.say(call_approval.CLAIMS, screen.LOUD)
        call_approval.show_discharge(read)
        return
    if as_json:
        screen.as_json({"verified": False, "request": read.document(), "approvers": read.caveat.approvers})
    else:
        call_approval.show_request(read)
