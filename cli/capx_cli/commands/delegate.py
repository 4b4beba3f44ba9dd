"""`capx delegate`: narrow a token for another agent."""

from itertools import chain
from typing import TYPE_CHECKING

import click

from capx_cli import agent_keys, arguments, call_approval, completion, phrases, screen
from capx_cli.token_output import SEALED, SECRET, Output, output_options
from capx_cli.tokens import token_option

if TYPE_CHECKING:
    from pathlib import Path

    from capx.tokens.approval_caveat import ApprovalTerms
    from capx.tokens.bundle import Bundle
    from capx_cli.view import Line


@click.command(cls=arguments.Ordered)
@click.option("--to", required=True, metavar="AGENT", help="The name of the other agent: a label for people.")
@agent_keys.public_option("--to-key", "Its public key, which a token that is bound to a key needs: only it can use it.")
@arguments.allow_options(may_ask=True)
@arguments.caveat_options()
@arguments.repeatable(
    "--audience", "audiences", None, "Pass on only what is for this audience.", shell_complete=completion.held
)
@call_approval.demand_options
@click.option("--seal", is_flag=True, help="Seal the new token: only the owner of --to-key can read it.")
@output_options
@agent_keys.agent_key_option
@token_option
def delegate(
    *,
    to: str,
    to_key: str | None,
    allows: arguments.Allows,
    narrowing: arguments.Narrowing,
    audiences: tuple[str, ...],
    approval: "ApprovalTerms | None",
    seal: bool,
    output: Output,
    agent_key_file: "Path | None",
    token_file: str | None,
) -> None:
    """Narrow a token for another agent, and write the new one to standard output.

    This needs no root key and no network. The new token allows only actions that --allow names and the old token
    allows. Without --allow, it allows all that the old one allows at services. Its holder may ask at run time only for
    what --may-ask names; without --may-ask, for nothing. The id of its node, with which you can revoke it, goes to
    standard error.

    If the token is bound to a key, so is the new one: --to-key names the key, and --agent-key-file has the key that
    signs. With --seal the new token can wait where others may read it; capx unseal opens it.

    With --approval-by, people must approve each call of the new token. Its holder asks them with capx ask --approval,
    or by file with capx approval ask.

    Example: capx delegate --to slides-agent --allow slides.write --with deck=deck-42 --expires 10m
    """
    from capx.crypto.base64url import b64u

    bundle = agent_keys.read_own_bundle(token_file, agent_key_file)
    _demand_fitting(bundle, to_key, seal=seal)
    child = bundle.delegate(
        to=to,
        to_key=to_key,
        allow=allows.entries() or None,
        may_ask=allows.asks(),
        caveats=narrowing.caveats(),
        audiences=audiences or None,
        approval=approval,
    )
    node = "-" if child.node is None else b64u(child.node)
    delegated = phrases.of_new_token((f"delegated to {to}, node {node}", screen.GOOD), child)
    output.write(
        child.sealed() if seal else child.text,
        lambda: {"sealed_to": to_key if seal else None, **phrases.bundle_as_json(child)},
        chain(delegated, phrases.what_it_may_ask(child), _to_open(child) if seal else ()),
        SEALED if seal else SECRET,
    )


def _to_open(child: "Bundle") -> "tuple[Line, ...]":
    """Say what the other agent must know to open what is sealed for it."""
    return ((f"Next: capx unseal --task {child.task}, where {child.hops[-1]} has its key", screen.QUIET),)


def _demand_fitting(bundle: "Bundle", to_key: str | None, *, seal: bool) -> None:
    if bundle.holder is not None and to_key is None:
        raise click.UsageError("this token is bound to a key: give the public key of the other agent with --to-key")
    if bundle.holder is None and to_key is not None:
        raise click.UsageError(
            "this token is bound to no key, so --to-key would prove nothing: leave it out. To bind, open the task with "
            "--agent-key"
        )
    if bundle.holder is None and seal:
        raise click.UsageError("this token is bound to no key: pipe the new one to capx seal --to ed25519:…")
