"""`capx revoke`: end a node, a capability, a root, a key, all up to an instant, or all of somebody."""

import math
import os
import sys
import time
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from capx_cli import agent_keys, completion, phrases, screen
from capx_cli.commands.task import DRY_RUN, say_dying
from capx_cli.failure import DONE, NOTHING, UNUSABLE
from capx_cli.target import authority as open_authority
from capx_cli.target import home_authority, origin, person, person_options
from capx_cli.tokens import read_bundle, token_option
from capx_cli.view import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capx.api.messages.outcomes import Revocation
    from capx.store.records import FollowerAck
    from capx_cli.target import Operations

_PATIENCE = 30.0
_LONGEST = 3_600.0
_GLANCE = 0.05


def _seconds(_: click.Context, __: click.Parameter, typed: str | None) -> float | None:
    """Return the seconds after an option; if there is something else, it was meant as the target."""
    if typed is None:
        return None
    try:
        seconds = float(typed)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST:
        raise click.BadParameter(
            f"{typed!r:.80} is not a number of seconds: put --wait after TARGET, or write --wait=30"
        )
    return seconds


@click.command(cls=phrases.TakesIds)
@click.argument("target", metavar="[TARGET]", required=False, shell_complete=completion.tasks)
@click.option("--held", is_flag=True, help="Instead of TARGET: the node that holds the given token.")
@click.option(
    "--kid", metavar="KID", shell_complete=completion.kids, help="Instead: all that was minted under this root key."
)
@agent_keys.public_option("--key", "Instead: all that is bound to this agent's key, in all tasks and for ever.")
@click.option(
    "--issued-before",
    metavar="WHEN",
    help="Instead: all that was issued up to this time: now, 5m for five minutes ago, or RFC 3339. If a clock was "
    "ahead, now is the last time at which the log shows that something was issued.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=TEXT",
    help="Instead: the live tasks of tenant=TEXT, purpose=TEXT or principal=TEXT, or in them the nodes of agent=TEXT "
    "that have acted. Repeatable; exits with 1 if none matches.",
)
@click.option(
    "--force",
    is_flag=True,
    help="With --issued-before: also up to a time that has not come yet. Until then, all that is issued is dead.",
)
@DRY_RUN
@click.option(
    "--wait",
    callback=_seconds,
    is_flag=False,
    flag_value=str(_PATIENCE),
    metavar="[SECONDS]",
    help="Wait until all followers have seen it, for 30 s at most or SECONDS. Exits with 3 if some have not.",
)
@click.option(
    "--task",
    "task_id",
    metavar="TASK",
    shell_complete=completion.tasks,
    help="At an authority elsewhere: the task of yours that TARGET is in.",
)
@json_option
@person_options
@token_option
def revoke(
    *,
    target: str | None,
    held: bool,
    kid: str | None,
    key: str | None,
    issued_before: str | None,
    where: tuple[str, ...],
    force: bool,
    dry_run: bool,
    wait: float | None,
    task_id: str | None,
    as_json: bool,
    token_file: str | None,
) -> int:
    """Revoke a node, a capability or a root, and everything below it, at every resource.

    TARGET is an id that `capx graph`, `capx inspect` or `capx delegate` showed, or the id of a task, which means its
    root. `last` is the task that was opened last. You can revoke an id that this authority has never seen. When the
    command returns, the revocation is on disk. What was dead before stays dead.

    With --key, everything dies that names this public key of an agent: what is bound to it, and what was delegated from
    that. No task can be opened for the key any more. An agent whose key was stolen needs a new key.

    At an authority elsewhere, you revoke a node or a capability of a task of yours: capx graph TASK shows them.

    Example: capx revoke last --dry-run
    """
    _demand_one(target=target, held=held, kid=kid, key=key, issued_before=issued_before, where=where)
    if dry_run and wait is not None:
        raise click.UsageError("a dry run revokes nothing, so there is nothing to wait for: leave out --wait")
    if force and issued_before is None:
        raise click.UsageError("--force works only with --issued-before: leave it out")
    if origin() is not None or task_id is not None:
        return _revoke_in_task(target if wait is None else None, task_id, dry_run=dry_run, as_json=as_json)
    selected = _selection(where)
    with open_authority() as authority:
        named: dict[str, Any] = {"kid": kid, "key": key, "where": selected or None}
        if issued_before is not None:
            # The authority knows what now means: its log may have later times than any clock.
            named["issued"] = issued_before if issued_before == "now" else phrases.past(issued_before)
            named["force"] = force
        if held:
            named["target"] = _held(token_file)
        elif target is not None:
            named["target"] = _target(authority, target)
        with screen.busy("revoking"):
            revoked = authority.revoke(dry_run=dry_run, **named)
        # Say this first: reading a long log takes time, and a person who interrupts it must know that it was revoked.
        if not as_json:
            _say(revoked)
            sys.stdout.flush()
            if "agent" in selected and any(killed.is_root for killed in revoked.killed):
                screen.note(
                    "One resource reported more than 1,000 live nodes of that agent in a task: the root of that task "
                    f"{'would be' if dry_run else 'is'} revoked instead",
                    "yellow",
                )
            _say_what_else_matters(authority, revoked, target)
        unaware = _awaited(authority, revoked, wait, as_json)
    if unaware is not None and not as_json:
        _say_who_knows(unaware)
    if not revoked.killed:
        return NOTHING
    return UNUSABLE if unaware else DONE


def _revoke_in_task(target: str | None, task_id: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Revoke something in a task of a person; UsageError for what they cannot name."""
    if (at := origin()) is None:
        raise click.UsageError("--task is for an authority elsewhere: here, TARGET says enough")
    if target is None:
        raise click.UsageError(f"at {at} you can only revoke a TARGET, without --wait")
    if task_id is None:
        raise click.UsageError(
            f"{at} revokes in one task of yours: give --task TASK, or end it as a whole with capx task withdraw"
        )
    with person() as me, screen.busy("revoking"):
        revoked = me.revoke(phrases.task_id(me, task_id), target, dry_run=dry_run)
    if as_json:
        screen.as_json(_as_json(revoked, None, False))
    else:
        _say(revoked)
    return DONE if revoked.killed else NOTHING


def _demand_one(**given: object) -> None:
    if sum(bool(value) for value in given.values()) != 1:
        instead = "--kid, or --key, or --issued-before, or --where"
        raise click.UsageError(f"give either TARGET, or --held and a token, or {instead}")
    target = str(given["target"])
    if target.startswith("ed25519:"):
        raise click.UsageError(f"a public key is not an id: give it with --key {target:.80}")
    if os.path.isfile(target):  # noqa: PTH113 # Path.is_file raises for a name that is too long
        file = quote(target)
        raise click.UsageError(
            f'{target:.200} is a file, and not an id: for a key in it, give --key "$(capx agent-key show {file})"; for '
            f"a token in it, --held --token-file {file}"
        )


def _selection(where: "Sequence[str]") -> dict[str, str]:
    selected: dict[str, str] = {}
    for each in where:
        name, equals, text = each.partition("=")
        if not equals or name in selected:
            names = "tenant=Acme, purpose=qbr, principal=ana or agent=reader"
            raise click.UsageError(f"--where {each!r:.80}: write {names}, each once")
        selected[name] = text
    return selected


def _target(authority: "Operations", typed: str) -> str:
    from capx_cli.events import demand_no_decision

    if typed == "last":
        return phrases.task_id(authority, typed)
    demand_no_decision(typed)
    return typed


def _held(token_file: str | None) -> str:
    """Return the node of an authentic token; a forged token could name the node of somebody else."""
    from capx.crypto.base64url import b64u
    from capx.tokens.lineage import AUTHORITY

    bundle = read_bundle(token_file)
    with home_authority("--held") as authority:
        for capability in bundle:
            own = capability.audience == AUTHORITY
            verifier = authority.own_verifier() if own else authority.verifier(capability.audience)
            verifier.prove(capability.text)
    if bundle.node is None:
        raise click.UsageError("this token has no root, so it belongs to no node: revoke one of its ids")
    return b64u(bundle.node)


def _say(revoked: "Revocation") -> None:
    if not revoked.killed:
        screen.say("nothing alive matches, so nothing was revoked; an agent is found by name only after it has acted")
    # A resource can report very many nodes of an agent.
    shown, rest = revoked.killed[: phrases.MOST_SHOWN], revoked.killed[phrases.MOST_SHOWN :]
    for killed in shown:
        what = phrases.what_died(killed.key, is_root=killed.is_root)
        if revoked.dying is None:
            phrases.said_end(what, "revoked", killed.position, again=killed.again)
        else:
            screen.say(f"{what} {'is dead already' if killed.again else 'would be revoked'}")
    if rest:
        at = revoked.position
        screen.say(f"and {len(rest):,} more: {'--json lists all' if at is None else f'up to position {at} of the log'}")
    if revoked.killed and revoked.dying is not None:
        say_dying(revoked.dying)


def _say_what_else_matters(authority: "Operations", revoked: "Revocation", target: str | None) -> None:
    from capx.tokens.revocation_key import instant_of, kid_of

    if not revoked.killed:
        return
    # The revocations after it are of grants that depend on it, or were selected together with it.
    killed = revoked.killed[0]
    if target is not None and not (killed.again or killed.is_root):
        if revoked.dying is None:
            if _unseen(authority, killed.key):
                screen.say("  this authority has not seen this id so far")
        elif not (revoked.dying.nodes or revoked.dying.capabilities):
            screen.say("  this authority has seen nothing alive with this id so far")
    if (until := instant_of(killed.key)) is not None and until > time.time():
        when = phrases.instant(until)
        would = "would be" if revoked.dying is not None else "is"
        screen.note(f"Until {when}, all that is issued here {would} dead too: no new task works before that", "yellow")
    if (kid := kid_of(killed.key)) is not None:
        kids = list(authority.kids())
        if kid not in kids:
            screen.say("  this authority has no root key with this id")
        elif kid == kids[0]:
            screen.note(
                "This key mints here: capx keys add, export it to every resource, then capx keys activate", "yellow"
            )


def _unseen(authority: "Operations", id_: str) -> bool:
    from capx.errors import CapxError

    try:
        with screen.busy("searching the log"):
            return not authority.tasks(naming=id_)
    except CapxError:
        # The revocation is done. It is not a failure if the log cannot be shown.
        return False


def _awaited(
    authority: "Operations", revoked: "Revocation", wait: float | None, as_json: bool
) -> "list[FollowerAck] | None":
    """Wait, and return the followers that do not know of the revocation yet; None without --wait. Write any JSON.

    If the waiting is cut short, JSON is written all the same: the revocation stands, and `unaware` is null.
    """
    waits = wait is not None and bool(revoked.killed)
    unaware = None
    try:
        if wait is not None and waits:
            unaware = _unaware_after(authority, wait)
    finally:
        if as_json:
            screen.as_json(_as_json(revoked, unaware, waits))
            sys.stdout.flush()
    return unaware


def _unaware_after(authority: "Operations", patience: float) -> "list[FollowerAck]":
    ends = time.monotonic() + patience
    with screen.busy("waiting for the followers"):
        while (unaware := authority.unaware()) and (left := ends - time.monotonic()) > 0:
            time.sleep(min(_GLANCE, left))
    return unaware


def _say_who_knows(unaware: "list[FollowerAck]") -> None:
    for one in unaware:
        known = f"knew {one.deaths} deaths at {phrases.instant(one.at)}"
        screen.say(f"  not seen yet by {one.follower}, which {known}", screen.BAD)
    if not unaware:
        screen.say("every follower has seen it; services on the store file look at each call")
    else:
        screen.note("A follower that gets no news denies everything when its knowledge is too old (30 s by default).")


def _as_json(revoked: "Revocation", unaware: "list[FollowerAck] | None", waits: bool) -> dict[str, Any]:
    said = {"killed": revoked.killed, "dying": revoked.dying, "position": revoked.position}
    known = None if unaware is None else list(map(phrases.with_instants, unaware))
    return {**said, "unaware": known} if waits else said
