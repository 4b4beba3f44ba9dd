"""The phrases that several commands use: what a token can do, who holds it, which id is meant."""

import math
import re
import time
from typing import TYPE_CHECKING, Any

import click

from capx.tokens import revocation_key
from capx_cli import screen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from msgspec import Struct

    from capx.tokens.bundle import Bundle
    from capx.tokens.capability import Token
    from capx.tokens.effective.effective import Effective
    from capx.tokens.revocation_key import RevocationKey
    from capx_caveats import Caveat, Presented
    from capx_cli.target import Anyone, Operations
    from capx_cli.view import Line


def counted(count: int, noun: str) -> str:
    """Return `1 note`, `2 notes`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


class _Help(click.Option):
    """`--help`, shown together with `-h` for a command where `-h` is not declared."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:  # noqa: ARG002 - click's signature
        """Return the line of the help."""
        return "-h, --help", self.help or ""


_OPTION = re.compile(r"(--[a-z][a-z-]*)(=.*)?", re.DOTALL)
"""An option as it is typed. Of ids that begin with two dashes, hardly one has only small letters."""


class TakesIds(click.Command):
    """A command that takes ids. One id in 64 begins with a dash, and even `-h…` is not an option then.

    What can only be an option that does not exist is refused, unless it comes after `--`.
    """

    def __init__(self, name: str | None, **settings: Any) -> None:
        settings["context_settings"] = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
        super().__init__(name, **settings)
        click.help_option("--help", cls=_Help)(self)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an unknown option, then parse as any command."""
        if not ctx.resilient_parsing and "--" not in args:
            values, others, _ = self.make_parser(ctx).parse_args(args=list(args))
            ids = [values.get(each.name) for each in self.params if isinstance(each, click.Argument) and each.name]
            for typed in (*ids, *others):
                if isinstance(typed, str) and (option := _OPTION.fullmatch(typed)):
                    raise click.NoSuchOption(option[1], possibilities=_options(self), ctx=ctx)
        return super().parse_args(ctx, args)


def _options(command: click.Command) -> "list[str]":
    return [name for each in command.params if isinstance(each, click.Option) for name in each.opts]


class Seconds(click.FloatRange):
    """A number of seconds between two bounds; not infinity, and not NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the seconds that were typed."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


class InOrder(click.Group):
    """A group that lists its commands in the order of their use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names, in the order of their declaration."""
        return list(self.commands)


_INSTANTS = {"at", "opened", "expires", "ended", "issued", "last", "asked", "until", "answered", "withdrawn"}
_ID_LENGTH = 22
LAST = 2**53 - 1
"""The largest possible position, the same in a store and over HTTP."""


def task_id(authority: "Anyone", typed: str) -> str:
    """Return the task id that is meant; `last` is the task that was opened last."""
    if typed != "last":
        return typed
    tasks = authority.task_page(limit=1)
    if not tasks:
        from capx_cli.target import origin

        if origin() is not None:
            raise click.UsageError("no task was opened on an intent of yours; capx requests list shows what asks you")
        raise click.UsageError("no task was opened yet: capx task open --allow ACTION")
    return tasks[-1].id


def position(authority: "Operations", option: str, typed: str | None) -> int | None:
    """Return the position of the log that is meant: a number, or the id of a decision."""
    if typed is None or (typed.isascii() and typed.isdigit() and len(typed) < len(str(LAST))):
        return None if typed is None else int(typed)
    found = authority.decision(typed)
    if found is None:
        raise click.UsageError(f"{option} {typed:.80} is neither a position of the log nor the id of a decision in it")
    return found.position


def demand_id(what: str, typed: str | None) -> None:
    """Raise UsageError if this text cannot be the id of a node, presentation or decision, and say why."""
    from capx_caveats import is_id

    of_decision = what == "decision"
    # A program that is not capx may record a decision under an id without `d.`.
    counted = typed.removeprefix("d.") if typed is not None and of_decision else typed
    if counted is None or (len(counted) == _ID_LENGTH and is_id(counted)):
        return
    form = f"{'d. and ' if of_decision else ''}{_ID_LENGTH} characters"
    fault = f"this has {len(counted)}" if len(counted) != _ID_LENGTH else "each a letter, a digit, - or _"
    raise click.UsageError(f"{typed!r:.80} is not the id of a {what}: an id has {form}, {fault}")


def past(typed: str) -> int:
    """Return the instant of RFC 3339, or of a duration before now, `1h`; in Unix seconds, at least 0."""
    from capx_caveats import InvalidCaveat, parse_duration, parse_instant

    now = int(time.time())
    try:
        return max(0, now - parse_duration(typed))
    except InvalidCaveat:
        return max(0, parse_instant(typed, now))


def instant(at: int) -> str:
    """Return an instant, in Unix seconds, as RFC 3339."""
    from capx_caveats import shown_instant

    return shown_instant(at)


def left_of(token: "Token") -> "Effective":
    """Return what a token can still allow now, as far as the token itself says."""
    from capx.tokens.effective.effective import effective

    return effective(token, int(time.time()))


def holder(hops: "Iterable[str]") -> str:
    """Return who holds a token, by the labels of its path; a label that looks like other words is quoted."""
    from capx.tokens.wording import label

    return " > ".join(("task", *map(label, hops)))


def blocks(token: "Token") -> "Iterator[tuple[str, tuple[Caveat, ...]]]":
    """Return the blocks of a token, each with the hop that made it."""
    from capx.tokens.lineage import sections_of
    from capx.tokens.wording import whose
    from capx_caveats import Hop, Presented

    granted_at = len(token.hops) - sum(isinstance(block[0], Hop) for block in token.caveats)
    for section in sections_of(token.caveats, granted_at):
        presents = any(isinstance(caveat, Presented) for caveat in section.caveats)
        yield "this presentation" if presents else whose(section.hop, section.name), section.caveats


def keys(token: "Token") -> "Iterator[tuple[str, str]]":
    """Return each public key that a token names, with the agent that it is for; only the last one can use the token."""
    from capx.tokens.wording import label
    from capx_caveats import Hop

    hops = [isinstance(block[0], Hop) for block in token.caveats]
    agents = ["the first agent", *map(label, token.hops)][-1 - sum(hops) :]
    keyed = [agents[0], *(agents[sum(hops[: at + 1])] for at, is_hop in enumerate(hops) if is_hop)]
    return (("key", f"{key} of {agent}") for key, agent in zip(token.keys, keyed, strict=False))


def of_new_token(made: "Line", bundle: "Bundle") -> "Iterator[Line]":
    """Say how a new token was made, and what each of its capabilities can do at a resource.

    What it can do at the authority is the same for every task, so it is shown only if the token holds nothing else.
    """
    from capx.tokens.lineage import AUTHORITY

    listed = [capability for capability in bundle if capability.audience != AUTHORITY] or list(bundle)
    found = list(map(left_of, listed))
    yield made
    if bundle.holder is not None:
        yield f"  bound to {bundle.holder}"
    for left in found:
        if not left.why_nothing:
            besides = f"; and only where {'; '.join(left.also)}" if left.also else ""
            yield f"  at {left.audience}: {'; '.join(left.sentences())}{besides}"
    for line in nothing_at((left, left.why_nothing[:1]) for left in found):
        yield f"  {line}", screen.QUIET
    if all(left.why_nothing and not left.untold for left in found):
        yield "this token allows nothing any more", screen.BAD


def what_it_may_ask(bundle: "Bundle") -> "Iterator[Line]":
    """Say what the holder of a new token may ask for at run time."""
    from capx.tokens.grants import ASK
    from capx.tokens.lineage import AUTHORITY

    for capability in bundle:
        left = left_of(capability)
        if capability.audience == AUTHORITY and not left.why_nothing:
            for entry, said in zip(left.entries, left.sentences(), strict=True):
                if entry.pattern == ASK:
                    yield f"  {said}"


def outcome(decided: str, audience: str, action: str | None) -> str:
    """Return what was decided. That an agent may ask says nothing of the answer, which has an event of its own."""
    from capx.tokens.grants import ASK, ASK_APPROVAL
    from capx.tokens.lineage import AUTHORITY

    asks = audience == AUTHORITY and action in {ASK, ASK_APPROVAL}
    return "may ask" if asks and decided == "allowed" else decided


def done(sentences: "Iterable[str]") -> "Iterator[str]":
    """Return the same for a new task's capability at the authority, from the sentences in the log."""
    from capx.tokens.effective.may_ask import ANYTHING
    from capx.tokens.grants import OWN_ENTRIES

    for each in sentences:
        yield ANYTHING if each == OWN_ENTRIES[-1].sentence() else each


def nothing_at(found: "Iterable[tuple[Effective, Iterable[str]]]") -> "Iterator[str]":
    """Say where a token allows nothing, or where capx cannot tell; each reason once, with all its audiences."""
    at: dict[str, list[str]] = {}
    for left, reasons in found:
        for why in reasons:
            at.setdefault(f"{'cannot tell' if left.untold else 'nothing'} ({why})", []).append(left.audience)
    for said, audiences in at.items():
        yield f"at {', '.join(dict.fromkeys(audiences))}: {said}"


def of_key(key: "RevocationKey") -> str | None:
    """Name all that a revoked root key or instant covers, in words; None for any other revocation."""
    if (kid := revocation_key.kid_of(key)) is not None:
        return f"all that was minted under key {kid}"
    if (issued := revocation_key.instant_of(key)) is not None:
        return f"all that was issued up to {instant(issued)}"
    if isinstance(key, str) and key.startswith("ed25519:"):
        return f"all that the agent's key {key} holds or has delegated"
    return None


MOST_SHOWN = 50
"""The deaths of one command that are shown line by line."""


def what_died(key: str, *, is_root: bool) -> str:
    """Name what was revoked with this key, in words; `is_root` if it is the id of a root."""
    return of_key(key) or f"{'root of a task' if is_root else 'node or capability'} {key}"


def said_end(what: str, end: str, position: int | None, *, again: bool) -> None:
    """Say that something ended now, or had ended before; people are told no position."""
    when = f"was {end} before" if again else f"is {end}"
    at = "" if position is None else f", at position {position} of the log"
    screen.say(f"{what} {when}{at}", "" if again else screen.GOOD)


def with_instants(facts: "dict[str, Any] | Struct") -> "dict[str, Any]":
    """Return the facts, or those of a record, with their Unix seconds as RFC 3339, as in all our JSON.

    What a bearer sent stays as it is.
    """
    import msgspec

    values: dict[str, Any] = facts if isinstance(facts, dict) else msgspec.to_builtins(facts)
    return {
        name: instant(value) if name in _INSTANTS and isinstance(value, int) else value
        for name, value in values.items()
    }


def lines(left: "Effective") -> "list[tuple[str, str]]":
    """Return what is left of a token, as names and sentences."""
    from capx_caveats import shown

    if left.why_nothing:
        return [("cannot tell" if left.untold else "allows nothing", why) for why in left.why_nothing]
    said = [("may", each.removeprefix("may ")) for each in left.sentences()]
    said += [("and only where", demand) for demand in left.also]
    said.append(("for", "calls without a tenant" if left.tenant is None else f"tenant {shown(left.tenant)}"))
    if left.not_before is not None:
        said.append(("from", instant(left.not_before)))
    if left.expires is not None:
        said.append(("until", f"{instant(left.expires)} (in {time_left(left.expires)})"))
    said += [("or until", f"task {task} ends") for task in left.until]
    said.append(("delegation", delegation(left.hops_left)))
    return said


def delegation(hops_left: int | None) -> str:
    """Say how often a token can still be delegated."""
    if hops_left is None:
        return "without limit"
    return f"{hops_left} more times" if hops_left else "no further"


def presented(token: "Token") -> "Presented | None":
    """Return the binding of a presentation to its call; None for a capability."""
    from capx_caveats import Presented

    return next((caveat for caveat in token.caveats[-1] if isinstance(caveat, Presented)), None)


def has_expired(token: "Token") -> bool:
    """Return whether the token is a presentation whose time is over; what a service says depends on its own clock."""
    from capx.tokens.binding import WINDOW_AFTER

    mark = presented(token)
    return mark is not None and time.time() > mark.at + WINDOW_AFTER


def partly_understood(token: "Token") -> bool:
    """Return whether the token holds a caveat that a service may understand and this process does not."""
    from capx_caveats import NotUnderstood

    return any(isinstance(caveat, NotUnderstood) for block in token.caveats for caveat in block)


def time_left(at: int) -> str:
    """Return the time until then, rounded, in a suitable unit."""
    seconds = at - int(time.time())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{seconds} s"


def token_as_json(token: "Token") -> "dict[str, object]":
    """Return what a token says about itself, not verified; never the token."""
    from capx.crypto.base64url import b64u

    return {
        "kind": "capability" if presented(token) is None else "presentation",
        "audience": token.audience,
        "kid": token.kid,
        "issued_at": instant(token.issued_at),
        "task": token.task,
        "node": None if token.node is None else b64u(token.node),
        "path": [b64u(node) for node in token.path],
        "hops": list(token.hops),
        "id": b64u(token.id),
        "ids": [b64u(id_) for id_ in token.ids],
        "keys": list(token.keys),
        "blocks": [[caveat.sentence() for caveat in block] for block in token.caveats],
        "effective": left_of(token).as_json(),
    }


def bundle_as_json(bundle: "Bundle") -> "dict[str, object]":
    """Return what a new token says about itself, not verified; never the token."""
    from capx.crypto.base64url import b64u

    return {
        "task": bundle.task,
        "node": None if bundle.node is None else b64u(bundle.node),
        "holder": bundle.holder,
        "tokens": list(map(token_as_json, bundle)),
    }


def said_reason(reason: "dict[str, object]") -> None:
    """Show one reason, as the log and problem documents hold it, and what was wanted."""
    screen.say(f"  {reason.get('code')}: {reason.get('sentence')}", screen.BAD)
    if wanted := reason.get("wanted"):
        screen.say(f"    wanted: {wanted}", screen.QUIET)
