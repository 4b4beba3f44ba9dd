"""The call that a command is about: the options that describe it, its body, and its audience.

Law: every command finds the same audience for the same call.
"""

from collections.abc import Callable, Collection
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from capx_cli import completion
from capx_cli.arguments import Command, repeatable, with_options
from capx_cli.failure import contents
from capx_cli.name_value import arguments
from capx_cli.tokens import read_tokens, token_option
from capx_cli.view import json_option

AUTHORITY = "authority"

_ACTION = partial(click.option, "--action", metavar="ACTION", help="The action of the call.")
_ARG = repeatable("--arg", "args", "NAME=TEXT", "An argument: deck=deck-42 is text, limit:=10 is JSON.")
audience_option = click.option(
    "--audience",
    shell_complete=completion.held,
    help="The resource. Default: the action's first label, or the token's only audience.",
)


def call_options(command: Command) -> Command:
    """Add `--action` and `--arg` to a command; neither is required."""
    return with_options(command, _ACTION(), _ARG)


def judged_call(*, must_hold: bool) -> Callable[[Command], Command]:
    """Add the options for a whole call and a token, and `--json`, to a command that judges the call by the token.

    The command gets the `call`, its `audience`, and the `tokens`. With `must_hold`, one of the tokens must be for that
    audience, even if the audience was named.
    """

    def add(command: Command) -> Command:
        @wraps(command)
        def stated(
            *,
            action: str,
            args: tuple[str, ...],
            tenant: str | None,
            attributes: tuple[str, ...],
            audience: str | None,
            token_file: str | None,
            **others: Any,
        ) -> Any:
            from capx_caveats import Call

            call = Call(action, arguments(args), tenant=tenant, attributes=arguments(attributes))
            tokens = read_tokens(token_file)
            held = tuple(dict.fromkeys(token.audience for token in tokens))
            meant = chosen_audience(held, audience, action)
            if meant not in held and (must_hold or audience is None):
                raise click.UsageError(f"this token is for {', '.join(held)}, not for {meant}: give another --audience")
            return command(call=call, audience=meant, tokens=tokens, **others)

        return with_options(
            stated,
            _ACTION(required=True),
            _ARG,
            click.option("--tenant", metavar="NAME", help="The tenant of the call, as the resource states it."),
            repeatable(
                "--attribute",
                "attributes",
                "NAME=TEXT",
                "An attribute the resource states of the call: region=eu is text, level:=3 is JSON.",
            ),
            audience_option,
            json_option,
            token_option,
        )

    return add


def chosen_audience(held: Collection[str], audience: str | None, action: str | None) -> str:
    """Return the audience of a call.

    That is the one that was named, or the one that an action means. UsageError without an action to choose by.
    """
    from capx.tokens.grants import audience_meant

    if audience is not None:
        return audience
    if action is not None:
        return audience_meant(held, action)
    resources = [each for each in held if each != AUTHORITY] or list(held)
    if len(resources) > 1:
        raise click.UsageError(f"this token is for {', '.join(held)}: choose one with --audience")
    return resources[0]


def read_body(data: str | None, data_file: Path | None) -> bytes | None:
    """Return the body that was given, as it is sent."""
    if data is not None and data_file is not None:
        raise click.UsageError("give either --data or --data-file")
    if data_file is None:
        return None if data is None else data.encode(errors="surrogateescape")
    return contents(data_file)
