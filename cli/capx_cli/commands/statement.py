"""`capx statement`: state that a call is permitted, for a third party that holds no key."""

from typing import TYPE_CHECKING, Any

import click

from capx_cli import agent_keys, calls, name_value, phrases, screen, target
from capx_cli.failure import Unusable
from capx_cli.token_output import Output, output_options_for
from capx_cli.tokens import token_option

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@click.command()
@calls.call_options
@calls.audience_option
@click.option(
    "--url",
    metavar="URL",
    envvar="CAPX_AUTHORITY_URL",
    help="The authority that serves agents, such as https://authority.internal:8411. Else: CAPX_AUTHORITY_URL, the "
    "home.",
)
@output_options_for("the statement")
@agent_keys.agent_key_option
@token_option
def statement(
    *,
    action: str | None,
    args: tuple[str, ...],
    audience: str | None,
    url: str | None,
    output: Output,
    agent_key_file: "Path | None",
    token_file: str | None,
) -> None:
    """State that one call is permitted, for a third party that holds no key: a JWT on standard output.

    The policy lists the third party in [statement]. The authority judges the call with this token, spends what it costs
    and records it. The third party verifies the JWT with the public keys that capx keys jwks prints. It is good for
    seconds: send it at once, in the header Capx-Statement.

    Example: capx statement --action partner.quote --arg sku=A-7
    """
    if action is None:
        raise click.UsageError("name the call with --action")
    bundle = agent_keys.read_own_bundle(token_file, agent_key_file)
    meant = calls.chosen_audience(bundle.audiences, audience, action)
    asked: dict[str, Any] = {"audience": meant, "args": name_value.arguments(args)}
    if url:
        try:
            from capx.agent.authority_client import AuthorityClient
        except ModuleNotFoundError as error:
            raise Unusable(f"capx statement --url needs {error.name}: pip install 'capx-auth[httpx]'") from None
        with AuthorityClient(url, bundle) as client, screen.busy("asking"):
            stated = client.statement(action, **asked)
    else:
        with target.home_authority("capx statement without --url") as authority:
            stated = authority.statement(bundle, action, **asked)
    claims = _claims(stated)
    lines = ((f"{action} at {meant} is permitted until {phrases.instant(claims['exp'])}", screen.GOOD),)
    output.write(stated, lambda: {"claims": claims}, lines, "a statement, good for seconds")


def _claims(stated: str) -> "Mapping[str, Any]":
    from capx.crypto.base64url import unb64u
    from capx.crypto.strict_json import read

    return read(unb64u(stated.split(".")[1]), dict[str, Any])
