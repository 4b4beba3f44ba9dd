"""`capx revoke`: the end of a node, a capability or a root."""

import sys
from typing import TYPE_CHECKING

import click

from capx_cli import completion, screen, words
from capx_cli.commands.task import say_dying
from capx_cli.tokens import read_bundle, token_option

if TYPE_CHECKING:
    from capx.authority import Authority
    from capx.bundle import Bundle
    from capx.ending import Revoked


@click.command(context_settings=words.IDS)
@click.argument("target", metavar="[TARGET]", required=False, shell_complete=completion.tasks)
@click.option("--held", is_flag=True, help="Instead of TARGET: the node at which the given token is held.")
@click.option("--dry-run", is_flag=True, help="Only say what is known to die.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@token_option
def revoke(target: str | None, held: bool, dry_run: bool, as_json: bool, token_file: str | None) -> None:
    """Kill a node, a capability or a root, and everything below it, at every resource.

    TARGET is an id that `capx graph`, `capx inspect` or `capx delegate` showed, or the id of a task, which
    stands for its root; `last` is the task that was opened last. What was never seen can be revoked too.

    Example: capx revoke last --dry-run
    """
    import msgspec

    from capx.authority import Authority

    if held == (target is not None):
        raise click.UsageError("give either TARGET, or --held and a token")
    with Authority.open_home() as authority:
        if target is None:
            target = _node(authority, read_bundle(token_file))
        elif target == "last":
            target = words.task_id(authority, target)
        else:
            _demand_no_decision(authority, target)
        with screen.busy("revoking"):
            revoked = authority.revoke(target, dry_run=dry_run)
        # Said before anything else is looked at: the log may be long, and whoever interrupts that must know.
        if as_json:
            screen.as_json(msgspec.to_builtins(revoked))
        else:
            _say(revoked)
            sys.stdout.flush()
            if not (revoked.again or revoked.is_root) and _unseen(authority, revoked.id):
                screen.say("  nothing with this id was seen so far")


def _demand_no_decision(authority: "Authority", target: str) -> None:
    """Raise UsageError for the id of a decision: it looks like a node's, and nothing would die by it."""
    from capx_cli.events import Decided

    event = authority.decision(target)
    if event is not None:
        node = event.read(Decided).node
        cure = f"its node is {node}: capx revoke {node}" if node else "no node is known of it"
        raise click.UsageError(f"{target} is a decision, and nothing dies by it; {cure}")


def _say(revoked: "Revoked") -> None:
    kind = "root of a task" if revoked.is_root else "node or capability"
    if revoked.dying is None:
        words.said_end(f"{kind} {revoked.id}", "revoked", revoked.position, again=revoked.again)
        return
    screen.say(f"{kind} {revoked.id} {'is dead already' if revoked.again else 'would be revoked'}")
    say_dying(revoked.dying)


def _unseen(authority: "Authority", id_: str) -> bool:
    from capx.chain import unb64u
    from capx.errors import CapxError

    try:
        with screen.busy("reading the log"):
            return not any(authority.graph().below(unb64u(id_)))
    except CapxError:
        # The revocation stands, and a log that cannot be drawn does not make it a failure.
        return False


def _node(authority: "Authority", bundle: "Bundle") -> str:
    """The node of an authentic token: what a forged one names is somebody else's."""
    from capx.chain import b64u

    for capability in bundle:
        authority.verifier(capability.audience).authenticate(capability.text)
    if bundle.node is None:
        raise click.UsageError("this token names no root, so it is held at no node")
    return b64u(bundle.node)
