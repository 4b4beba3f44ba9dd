"""`capx task`: handle tasks, from open to end."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from capx_cli import agent_keys, arguments, completion, inbox, intents, phrases, screen, target
from capx_cli.failure import DONE
from capx_cli.token_output import SEALED, SECRET, Output, output_options
from capx_cli.view import Page, View, json_option, page_options, say_named

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from capx.api.messages.outcomes import Ended, Impact
    from capx.authority.opening import OpenedTask
    from capx.authority.people.messages import OpenedOnIntent
    from capx.authority.requests.answers import GivenAnswer
    from capx.intents.intent import Intent, SignedIntent
    from capx.store.records import RequestRecord, TaskRecord
    from capx.tokens.bundle import Bundle

DRY_RUN = click.option("--dry-run", is_flag=True, help="Only show what would be dead.")


@click.group(cls=phrases.InOrder)
def task() -> None:
    """Open, list, show, complete and withdraw tasks.

    TASK is a task id, or `last` for the task that was opened last.

    Example: capx task complete last
    """


@task.command("open", cls=arguments.Ordered, short_help="Open a task, and write its token.")
@arguments.allow_options(audiences=True)
@arguments.caveat_options()
@click.option("--purpose", metavar="TEXT", help="A word for the kind of work. The log keeps it.")
@click.option(
    "--intent", "file", metavar="FILE", help="Instead of --allow: what the policy gives to this signed intent."
)
@click.option("--attested", metavar="TEXT", help="For an unsigned intent: who checked the principal's login.")
@agent_keys.public_option(
    "--agent-key", "The public key of the first agent: without its key file, nobody can use the token."
)
@agent_keys.public_option("--seal-to", "Seal the token: only the agent with this public key can read it.")
@output_options
@target.person_options
def open_(
    *,
    allows: arguments.Allows,
    narrowing: arguments.Narrowing,
    purpose: str | None,
    file: str | None,
    attested: str | None,
    agent_key: str | None,
    seal_to: str | None,
    output: Output,
) -> int:
    """Open a task, and write the token of its first agent to standard output.

    ACTION may name its audience: refunds.create@billing. The default is the action's first label. The task expires in
    an hour, unless --expires says otherwise.

    With --intent, the policy says what the task may do, and for how long: --expires may only be earlier, and other
    options only narrow. The exit code is 1 if the intent gets nothing, or has opened all its tasks. If the token cannot
    be written, the task is withdrawn.

    With --agent-key, the token is bound to the key of its first agent, and so is all that is delegated of it. The key
    is the one that capx agent-key new made. An intent may name it: then no other can be given.

    At an authority elsewhere (--authority https://…), you open tasks on intents that you have signed, or that name you
    as their agent. If no answer comes, the exit code is 3: the task may be open, and its token is lost.

    Example: capx task open --tenant Acme --allow crm.read --allow slides.write --with deck=deck-42
    """
    from capx.errors import InvalidRequest

    granted, caveats = allows.grants(), narrowing.beside_the_task()
    if file is None and not granted:
        raise click.UsageError("Missing option '--allow' or '--intent'")
    if attested is not None and file is None:
        raise click.UsageError("--attested needs --intent FILE")
    if file is not None and (granted or narrowing.tenant is not None or purpose is not None):
        raise click.UsageError("with --intent, leave out --purpose, --tenant and --allow: intent and policy say them")
    intent = None if file is None else _intent(file, attested)
    _demand_one_key(intent, agent_key, seal_to)
    if target.origin() is not None:
        return _open_elsewhere(_of_person(intent, caveats), narrowing.expires, agent_key, seal_to, output)
    with target.authority() as authority:
        try:
            opened = authority.open(
                intent,
                allow=granted,
                tenant=narrowing.tenant,
                expires=narrowing.expires,
                purpose=purpose,
                caveats=caveats,
                attested=attested,
                agent_key=agent_key,
            )
        except InvalidRequest as why:
            if intent is None:
                raise
            return intents.refused(why)
        with _withdrawn_unless_written(authority, opened):
            sealed = None if seal_to is None else opened.bundle.sealed(to=seal_to)
            _place(output, opened.bundle.text, sealed)
    _tell(output, opened, opened.bundle, seal_to)
    return DONE


def _open_elsewhere(
    intent: "SignedIntent", expires: str | None, agent_key: str | None, seal_to: str | None, output: Output
) -> int:
    """Open a task on an intent as a person."""
    from msgspec import UNSET

    from capx.errors import InvalidRequest

    with target.person() as me:
        try:
            opened = me.open(intent, expires=expires, agent_key=agent_key, seal_to=seal_to)
        except InvalidRequest as why:
            return intents.refused(why)
        bundle = None if opened.bundle is UNSET else opened.bundle
        sealed = None if opened.sealed is UNSET else opened.sealed
        with _withdrawn_unless_written(me, opened):
            _place(output, "" if bundle is None else bundle.text, sealed)
    _tell(output, opened, bundle, seal_to)
    return DONE


def _of_person(intent: "Intent | SignedIntent | None", caveats: "Sequence[object]") -> "SignedIntent":
    """Return the signed intent on which a person opens a task; UsageError for what only an operator can say."""
    from capx.intents.intent import SignedIntent

    if not isinstance(intent, SignedIntent):
        raise click.UsageError(f"{target.origin()} opens tasks on signed intents: give --intent FILE alone")
    if caveats:
        raise click.UsageError(f"at {target.origin()} the policy says what a task may do: only --expires narrows it")
    return intent


def _demand_one_key(intent: "Intent | SignedIntent | None", agent_key: str | None, seal_to: str | None) -> None:
    """Raise UsageError if the token would be sealed to another key than that which can use it."""
    holder = agent_key or (intents.document(intent).agent_key if intent is not None else None)
    if seal_to is not None and isinstance(holder, str) and seal_to != holder:
        raise click.UsageError(f"the token is bound to {holder}, so the owner of {seal_to} could not use it")


def _place(output: Output, text: str, sealed: str | None) -> None:
    output.place(sealed or text, SECRET if sealed is None else SEALED)
    sys.stdout.flush()


def _tell(output: Output, opened: "OpenedTask | OpenedOnIntent", bundle: "Bundle | None", seal_to: str | None) -> None:
    """Tell about a task that was opened; a token that came sealed cannot be read here."""
    on = "" if opened.intent is None else f" for {opened.principal}, on intent {opened.intent}"
    made = f"opened task {opened.id}{on}", screen.GOOD
    lines = (made,) if bundle is None else phrases.of_new_token(made, bundle)
    sealed: tuple[str, ...] = () if seal_to is None else (f"sealed to {seal_to}: only its owner can read the token",)

    def facts() -> dict[str, Any]:
        token = {"task": opened.id, "holder": opened.holder} if bundle is None else phrases.bundle_as_json(bundle)
        to = {} if seal_to is None else {"sealed_to": seal_to}
        return {"principal": opened.principal, "intent": opened.intent, **token, **to}

    output.tell(facts, (*lines, *sealed))


@contextmanager
def _withdrawn_unless_written(authority: "target.Anyone", opened: "OpenedTask | OpenedOnIntent") -> "Generator[None]":
    """Withdraw the task if this block cannot write its token: nobody else could complete it."""
    from capx.errors import CapxError

    try:
        yield
    except BaseException:
        # Also for Ctrl-C: nobody would have the token of this task.
        try:
            authority.withdraw(opened.id)
        except CapxError:
            outcome = f"is still open: capx task withdraw {opened.id}"
        else:
            outcome = "was withdrawn"
        used = "" if opened.intent is None else "; its intent counts as opened"
        screen.warn(f"the token cannot be written: task {opened.id} {outcome}{used}", screen.BAD)
        raise


def _intent(file: str, attested: str | None) -> "Intent | SignedIntent":
    if attested is None:
        return intents.read_signed(file, "sign it with capx intent sign, or name who checked the login with --attested")
    intent = intents.read(file)
    if intents.document(intent) is not intent:
        raise click.UsageError("this intent is signed: leave out --attested")
    return intent


_TASKS: "View[TaskRecord]" = View(
    phrases.with_instants,
    {
        "TASK": "id",
        "STATE": "state",
        "TENANT": "tenant",
        "PURPOSE": "purpose",
        "OPENED": "opened",
        "EXPIRES": "expires",
    },
    {
        "active": screen.GOOD,
        "completed": screen.QUIET,
        "withdrawn": screen.BAD,
        "expired": screen.QUIET,
        "revoked": screen.BAD,
    },
    spare=("OPENED", "PURPOSE", "EXPIRES", "TENANT"),
)


@task.command("list", short_help="List the newest tasks, the newest last.")
@json_option
@click.option("--active", is_flag=True, help="Only tasks that have not ended.")
@click.option("--intent", metavar="DIGEST", help="Only the tasks on this intent.")
@page_options("TASK")
@target.person_options
def list_(
    *, as_json: bool, active: bool, intent: str | None, limit: int | None, before: str | None, after: str | None
) -> None:
    """List the newest tasks, the newest last; at an authority elsewhere, those on your own intents.

    DIGEST is the digest of an intent, which capx intent show and capx task show tell.

    Example: capx task list --active
    """
    from capx.intents.intent import is_digest

    if intent is not None and not is_digest(intent):
        raise click.UsageError(f"{intent!r:.80} is not the digest of an intent: capx intent show FILE tells it")
    page: Page[TaskRecord] = Page(limit, before, after, lambda task: task.id)
    with target.anyone() as authority:
        found = _listed(authority, page.most, before, after, active=active, intent=intent)
        tasks = list(page.shown(found))
    how = "--allow ACTION" if target.origin() is None else "--intent FILE"
    nothing = f"There is no task. Open one: capx task open {how}"
    _TASKS.show(tasks, as_json, nothing=nothing if intent is None else "This intent has opened no task.")


def _listed(
    authority: "target.Anyone",
    most: int | None,
    before: str | None,
    after: str | None,
    *,
    active: bool,
    intent: str | None,
) -> "list[TaskRecord]":
    """Return so many tasks, or all, in the order of their opening; in pieces, because an answer has a bound."""
    found: list[TaskRecord] = []
    while most is None or len(found) < most:
        asked = _PIECE if most is None else min(_PIECE, most - len(found))
        piece = authority.task_page(limit=asked, before=before, after=after, active=active, intent=intent)
        found = [*found, *piece] if after is not None else [*piece, *found]
        if len(piece) < asked:
            break
        before, after = (piece[0].id, None) if after is None else (None, piece[-1].id)
    return found


_PIECE = 1_000


@task.command("show", cls=phrases.TakesIds, short_help="Show a task, and what it was given.")
@click.argument("task_id", metavar="TASK", shell_complete=completion.tasks)
@json_option
@target.person_options
def show(task_id: str, as_json: bool) -> None:
    """Show a task: what it is for, its state, what was minted for it, and what its agents asked for.

    An authority elsewhere does not tell what was minted: capx graph shows what its agents hold.

    Example: capx task show last
    """
    with target.anyone() as authority:
        found = authority.task(phrases.task_id(authority, task_id))
        minted, events = None, authority.minted(found.id)
        if events is not None:
            held = [held for node in authority.graph(found.id).nodes() for held in node.capabilities]
            dead = {one.id: one.dead for one in held}
            facts = [phrases.with_instants(event.facts()) for event in events]
            minted = [{**one, "dead": dead.get(one["ids"][-1])} for one in facts]
        requests, answers = authority.requests(task=found.id), authority.answers(found.id)
    if as_json:
        asked = {
            "requests": list(map(inbox.as_json, requests)),
            "answers": list(map(inbox.answer_as_json, answers)),
        }
        screen.as_json({**phrases.with_instants(found), "minted": minted, **asked})
        return
    screen.say(f"task {found.id}", screen.STRONG)
    say_named(_said(found, minted or (), requests, answers))


def _said(
    found: "TaskRecord",
    minted: "Iterable[dict[str, Any]]",
    requests: "Iterable[RequestRecord]",
    answers: "Iterable[GivenAnswer]",
) -> "Iterator[tuple[str, str]]":
    """Return what is shown of a task, as names and sentences."""
    facts = phrases.with_instants(found)
    position = "" if found.position is None else f", position {found.position} of the log"
    ended = "" if found.ended is None else f" at {facts['ended']}{position}"
    yield "state", f"{found.state}{ended}"
    yield "tenant", found.tenant or "-"
    yield "purpose", found.purpose or "-"
    if found.holder is not None:
        yield "bound to", found.holder
    if found.intent is not None:
        yield "for", f"{found.principal}, on intent {found.intent}"
    yield from ((name, facts[name]) for name in ("root", "opened", "expires"))
    for one in minted:
        granted = one.get("request") is not None
        how, to = ("granted", f", to {phrases.holder(one.get('hops', ()))}") if granted else ("minted", "")
        dead = f"  DEAD: {one['dead']}" if one["dead"] else ""
        yield how, f"{one['ids'][-1]} at {one['audience']}{to}: {'; '.join(phrases.done(one['allow']))}{dead}"
    for answer in inbox.of_people(answers):
        wanted = f"{answer.action} at {answer.audience}, by {phrases.holder(answer.labels)}"
        yield "asked", f"{answer.request} for {wanted}: {inbox.answer_phrase(answer, requests)}"
    for request in inbox.unanswered(requests):
        wanted = f"{request.action} at {request.audience}, by {phrases.holder(request.labels)}"
        yield "asked", f"{request.id} for {wanted}: {inbox.state_phrase(request)}"


def _ends_a_task(command: "Callable[..., None]") -> "Callable[..., None]":
    return arguments.with_options(
        command,
        click.argument("task_id", metavar="TASK", shell_complete=completion.tasks),
        DRY_RUN,
        json_option,
    )


@task.command("complete", cls=phrases.TakesIds, short_help="End a task because its work is done.")
@_ends_a_task
@target.authority_option
def complete(task_id: str, dry_run: bool, as_json: bool) -> None:
    """End a task because its work is done. When the command returns, all its tokens are dead.

    Example: capx task complete last
    """
    with target.authority() as authority:
        _end(authority, task_id, lambda meant: authority.complete(meant, dry_run=dry_run), as_json)


@task.command("withdraw", cls=phrases.TakesIds, short_help="End a task that nobody wants any more.")
@_ends_a_task
@target.person_options
def withdraw(task_id: str, dry_run: bool, as_json: bool) -> None:
    """End a task because nobody wants it any more. When the command returns, all its tokens are dead.

    Example: capx task withdraw last --dry-run
    """
    with target.anyone() as authority:
        _end(authority, task_id, lambda meant: authority.withdraw(meant, dry_run=dry_run), as_json)


def _end(authority: "target.Anyone", task_id: str, how: "Callable[[str], Ended]", as_json: bool) -> None:
    """End the task that is meant, and show the result."""
    meant = phrases.task_id(authority, task_id)
    with screen.busy("ending the task"):
        ended = how(meant)
    if as_json:
        screen.as_json(ended)
    elif ended.dying is not None:
        again = ", as it is already" if ended.again else ""
        screen.say(f"task {ended.task} would be {ended.end}{again}")
        say_dying(ended.dying)
    else:
        phrases.said_end(f"task {ended.task}", ended.end, ended.position, again=ended.again)


def say_dying(dying: "Impact") -> None:
    """Show what is known to die."""
    for name, ids in (("node", dying.nodes), ("capability", dying.capabilities)):
        for id_ in ids[: phrases.MOST_SHOWN]:
            screen.say(f"  {name} {id_} would die")
        if rest := len(ids[phrases.MOST_SHOWN :]):
            screen.say(f"  and {rest:,} more of this kind: --json lists all")
    screen.say("  and everything below, seen or not")
