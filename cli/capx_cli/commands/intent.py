"""`capx intent`: handle what a person asks for, from their words to its end."""

import time
from typing import TYPE_CHECKING, Any

import click

from capx_cli import agent_keys, intents, own_keys, phrases, screen, target
from capx_cli.arguments import repeatable
from capx_cli.failure import DENIED, DONE
from capx_cli.name_value import arguments
from capx_cli.view import json_option, show_one

if TYPE_CHECKING:
    from capx.authority.intent_use import WithdrawnIntent
    from capx.intents.intent import Intent, SignedIntent


@click.group(cls=phrases.InOrder)
def intent() -> None:
    """Write, sign, check, list and withdraw intents: what people ask for.

    An intent is a document, signed by the person who wants the work. An authority opens a task on it, with what its
    policy gives to work of that purpose. FILE holds an intent, signed or not; - is standard input.

    Example: capx intent list
    """


@intent.command("new", short_help="Write the document of an intent.")
@click.option(
    "--principal",
    metavar="NAME",
    help="Who asks: their name in the policy. Default, for an authority elsewhere: the owner of the key.",
)
@click.option("--purpose", required=True, metavar="NAME", help="The policy's name for this kind of work.")
@click.option("--statement", required=True, metavar="TEXT", help="What they ask for, in their own words.")
@click.option("--tenant", metavar="NAME", help="The customer that the work is for.")
@repeatable(
    "--param", "parameters", "NAME=TEXT", "A parameter that the purpose takes: quarter=Q3 is text, limit:=10 is JSON."
)
@click.option("--agent", metavar="NAME", help="The agent that may do the work.")
@agent_keys.public_option(
    "--agent-key", "Its public key: the tokens are of no use without its key file, also to who opens the intent."
)
@click.option(
    "--max-tasks",
    type=click.IntRange(1, 1_000_000),
    default=1,
    metavar="N",
    help="How many tasks it may open. Default: one.",
)
@click.option(
    "--not-after", default="8h", metavar="WHEN", help="Until when it opens tasks: 1d, or RFC 3339. Default: 8h."
)
@click.option("--for", "epoch", metavar="EPOCH", help="The authority that it is for. Default: that of the home.")
@target.person_options
def new(*, principal: str | None, parameters: tuple[str, ...], epoch: str | None, **asked: Any) -> None:
    """Write the document of an intent to standard output, for its principal to sign.

    An intent is for one authority, which its EPOCH names; capx doctor shows the epoch there. The default is the
    authority of the home, or of --authority. If that authority is restored later, the intent opens nothing any more.

    Example: capx intent new --principal ana --purpose qbr --statement "The Acme QBR" --tenant Acme > qbr.json
    """
    from capx.intents.intent import Intent

    if principal is None:
        if target.origin() is None:
            raise click.UsageError("Missing option '--principal'")
        principal = target.signing_key(None).name
    if epoch is None:
        with target.anyone() as authority:
            epoch = authority.epoch()
    values: Any = arguments(parameters)
    made = Intent.written(principal=principal, authority=epoch, now=int(time.time()), parameters=values, **asked)
    screen.as_json(made.document())


@intent.command("sign", short_help="Sign an intent, with the key of its principal.")
@click.argument("file", default=intents.STDIN)
@own_keys.key_options
def sign(file: str) -> None:
    """Show what FILE asks for, sign it, and write it with its signature to standard output.

    The key is that of its principal, which capx principal new made. An operator who has the signed file can open tasks
    with it, as often as it says, only at the authority that it names.

    Example: capx intent sign qbr.json --key-file ana.key > qbr.intent
    """
    from capx.intents.intent import SignedIntent

    read = intents.read(file)
    if isinstance(read, SignedIntent):
        raise click.UsageError(f"the intent in {file} is signed already")
    key = own_keys.chosen(None if own_keys.is_given() else read.principal)
    signed = key.sign_intent(read)
    intents.say(f"{intents.named(read.principal)} asks for this, and signs it:", screen.STRONG, on_stderr=True)
    intents.tell(read, on_stderr=True)
    if read.not_after <= time.time():
        screen.note("Its time is over: it opens nothing.", screen.BAD)
    screen.as_json({"intent": read.document(), "signature": signed.signature})


@intent.command("show", short_help="Show an intent in plain words; verifies nothing.")
@click.argument("file")
@json_option
def show(file: str, as_json: bool) -> None:
    """Show in plain words what FILE asks for, and whether it is signed. The signature is not verified.

    Example: capx intent show qbr.intent
    """
    from capx.intents.intent import SignedIntent

    read = intents.read(file)
    said = intents.document(read)
    signature = read.signature if isinstance(read, SignedIntent) else None
    if as_json:
        screen.as_json({**intents.as_json(said), "signature": signature})
        return
    intents.say(f"{intents.named(said.principal)} asks for this:", screen.STRONG)
    intents.tell(said)
    screen.say("not signed" if signature is None else "signed; to verify who signed it: capx intent verify")


@intent.command("verify", short_help="Verify who signed an intent.")
@click.argument("file")
@click.option("--key", metavar="ed25519:…", help="Verify against this public key, not against the policy of the home.")
@json_option
def verify(file: str, key: str | None, as_json: bool) -> int:
    """Verify that the principal of the intent in FILE signed it. The exit code is 1 if not.

    The public key is the one in the policy of the home, or the one that --key gives.

    Example: capx intent verify qbr.intent
    """
    signed = intents.read_signed(file, "capx intent sign")
    why = _why_not(signed, key)
    good = f"signed by {signed.intent.principal}: intent {signed.intent.digest}", screen.GOOD
    facts = {**intents.as_json(signed.intent), "signed": why is None, "why": why}
    show_one(as_json, facts, good if why is None else (f"not verified: {why}", screen.BAD))
    return DONE if why is None else DENIED


@intent.command("list", short_help="List the intents that were opened or withdrawn.")
@json_option
@target.authority_option
def list_(as_json: bool) -> None:
    """List the intents that opened a task or were withdrawn, the oldest first.

    Example: capx intent list --json
    """
    with target.authority() as authority:
        found = authority.intents()
    intents.RECORDS.show(found, as_json, nothing="No intent was opened yet: capx task open --intent FILE")


@intent.command("withdraw", cls=phrases.TakesIds, short_help="Withdraw an intent, and its tasks.")
@click.argument("meant", metavar="DIGEST|FILE")
@click.option("--dry-run", is_flag=True, help="Only show what would be dead.")
@json_option
@target.person_options
def withdraw(meant: str, dry_run: bool, as_json: bool) -> None:
    """Withdraw the intent with this DIGEST, or in FILE: it opens nothing any more, and its tasks are withdrawn.

    When the command returns, all tokens of these tasks are dead. You can also withdraw an intent that was never opened.
    At an authority elsewhere, give the FILE of your own intent, signed or not.

    Example: capx intent withdraw qbr.intent
    """
    from capx.intents.intent import is_digest

    read = None if is_digest(meant) else intents.document(intents.read(meant))
    if target.origin() is not None:
        withdrawn = _withdrawn_elsewhere(read, dry_run=dry_run)
    else:
        with target.authority() as authority, screen.busy("withdrawing"):
            withdrawn = authority.withdraw_intent(meant if read is None else read.digest, dry_run=dry_run)
    if as_json:
        screen.as_json(phrases.with_instants(withdrawn))
    else:
        _say(withdrawn)


def _withdrawn_elsewhere(read: "Intent | None", *, dry_run: bool) -> "WithdrawnIntent":
    if read is None:
        raise click.UsageError(
            f"{target.origin()} cannot tell from a digest whose intent it is, if it was never opened: give the FILE of "
            "your intent, signed or not; or end its tasks with capx task withdraw"
        )
    with target.person() as me, screen.busy("withdrawing"):
        return me.withdraw_intent(read, dry_run=dry_run)


def _why_not(signed: "SignedIntent", key: str | None) -> str | None:
    """Return why the signature does not count; None if it does."""
    from capx.crypto.ed25519 import is_signed_by, parse_public

    name = signed.intent.principal
    if key is not None:
        public: bytes | None = parse_public(key)
        whose = f"the key {key}"
    else:
        from capx.authority.home import home_folder
        from capx.policy.file import FILE, PolicyFile

        target.demand_home("capx intent verify without --key", "reads the policy, which stays with its authority")
        found = PolicyFile(home_folder() / FILE)().principals.get(name)
        if found is None:
            return f"the policy of the home has no principal {name}"
        public, whose = found.key, f"the key that the policy has for {name}"
    if public is None:
        return f"the policy of the home has no key for {name}"
    return None if is_signed_by(public, signed.intent.message(), signed.signature) else f"{whose} did not sign this"


def _say(withdrawn: "WithdrawnIntent") -> None:
    from capx_cli.commands.task import say_dying

    what = f"intent {withdrawn.intent}"
    if withdrawn.again and withdrawn.at is not None:
        screen.say(f"{what} was withdrawn before, at {phrases.instant(withdrawn.at)}")
    elif withdrawn.dying is not None:
        screen.say(f"{what} would be withdrawn")
    else:
        phrases.said_end(what, "withdrawn", withdrawn.position, again=False)
    for ended in withdrawn.tasks:
        if withdrawn.dying is None:
            phrases.said_end(f"  task {ended.task}", ended.end, ended.position, again=ended.again)
        else:
            screen.say(f"  task {ended.task} would be {ended.end}")
    if withdrawn.dying is not None and withdrawn.tasks:
        say_dying(withdrawn.dying)
