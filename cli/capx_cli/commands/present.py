"""`capx present`: bind a token to one call."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capx_cli import agent_keys, calls, name_value, phrases, screen
from capx_cli.arguments import file_option
from capx_cli.token_output import Output, output_options_for
from capx_cli.tokens import token_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capx.tokens.binding import Received
    from capx.tokens.capability import Token
    from capx.tokens.discharge import Discharge


@click.command()
@calls.call_options
@click.option("--http", nargs=2, metavar="METHOD TARGET", help="An HTTP request instead of an action: GET /a?b=c.")
@click.option("--data", metavar="TEXT", help="The body of the HTTP request.")
@file_option("--data-file", "The body, from a file.")
@click.option("--content-type", metavar="TYPE", help="The Content-Type of the HTTP request, exactly as it is sent.")
@calls.audience_option
@click.option("--header", is_flag=True, help="Write the whole header: Authorization: Capx ….")
@output_options_for("the presentation")
@agent_keys.agent_key_option
@token_option
def present(
    *,
    action: str | None,
    args: tuple[str, ...],
    http: tuple[str, str] | None,
    data: str | None,
    data_file: Path | None,
    content_type: str | None,
    audience: str | None,
    header: bool,
    output: Output,
    agent_key_file: Path | None,
    token_file: str | None,
) -> None:
    """Bind a token to one call, and write the presentation to standard output.

    A presentation works once, for about a minute, and only for this call. The token itself stays here. If it is bound
    to a key, that key signs the presentation.

    Example: capx present --action slides.write --arg deck=deck-42
    """
    from capx.tokens.binding import HttpRequest, ToolCall

    if (action is None) == (http is None):
        raise click.UsageError("give either --action or --http METHOD TARGET")
    bundle = agent_keys.read_own_bundle(token_file, agent_key_file)
    body = calls.read_body(data, data_file)
    if action is not None:
        if body is not None or content_type is not None:
            raise click.UsageError("--data, --data-file and --content-type need --http")
        received: HttpRequest | ToolCall = ToolCall(action, name_value.arguments(args))
    else:
        if args:
            raise click.UsageError("--arg needs --action")
        method, target = http or ("", "")
        received = HttpRequest(method=method, target=target, content_type=content_type, body=body or b"")
    presenting = bundle.candidates(calls.chosen_audience(bundle.audiences, audience, action), received)[0]
    presentation = bundle.present_capability(presenting, received)
    why = _refused_by_itself(presenting, received, bundle.approvals)
    denied = () if why is None else ((f"this will be denied: {why}", screen.BAD),)
    output.write(
        f"Authorization: {presentation.authorization}" if header else presentation.text,
        lambda: {"tokens": [phrases.token_as_json(presentation)], "will_be_denied": why},
        (f"good once at {presentation.audience}, for a minute", *denied),
    )


def _refused_by_itself(token: "Token", received: "Received", approvals: "Sequence[Discharge]") -> str | None:
    """Return why the token itself denies this call at every resource; None if it does not."""
    from capx.tokens.binding import ToolCall
    from capx.tokens.effective.effective import effective
    from capx.tokens.effective.prediction import certain_refusals, predict
    from capx_caveats import Call

    now = int(time.time())
    left = effective(token, now)
    if left.why_nothing and not left.untold:
        return left.why_nothing[0]
    if not isinstance(received, ToolCall):
        return None
    first = next(certain_refusals(predict(token, Call(received.action, received.args), now, approvals)), None)
    return None if first is None else f"{first.whose}: {first.why or first.sentence}"
