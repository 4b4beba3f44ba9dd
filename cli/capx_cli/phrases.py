"""How the same things are said in every command: what a token can do, where it is held, who is meant."""

import math
import time
from typing import TYPE_CHECKING, Any

import click

from capx_cli import screen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from msgspec import Struct

    from capx.tokens.bundle import Bundle
    from capx.tokens.capability import Token
    from capx.tokens.effective.effective import Effective
    from capx.tokens.revocation_key import RevocationKey
    from capx_caveats import Caveat, Presented
    from capx_cli.target import Operations


class _Help(click.Option):
    """`--help`, shown with the `-h` that asks for it where it stands alone."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:  # noqa: ARG002 - click's signature
        """Give what the help says of it."""
        return "-h, --help", self.help or ""


class TakesIds(click.Command):
    """A command that takes ids: one in 64 begins with a dash, and is no option, not even with `-h`."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        settings["context_settings"] = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
        super().__init__(name, **settings)
        click.help_option("--help", cls=_Help)(self)


COUNT = click.IntRange(min=1, max=10**9)
"""How many of something are wanted."""


class Seconds(click.FloatRange):
    """So many seconds, between two bounds: no clock waits for ever, or until what is no number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the seconds that were typed."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return seconds


class InOrder(click.Group):
    """A group that lists its commands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Give the names, as they were declared."""
        return list(self.commands)


_INSTANTS = {"at", "opened", "expires", "ended", "issued", "last", "asked", "until", "answered", "withdrawn"}
_ID_LENGTH = 22


def task_id(authority: "Operations", typed: str) -> str:
    """The task meant: an id, or `last` for the one that was opened last."""
    if typed != "last":
        return typed
    tasks = authority.tasks()
    if not tasks:
        raise click.UsageError("no task was opened yet: capx task open --allow ACTION")
    return tasks[-1].id


def demand_id(what: str, typed: str | None) -> None:
    """Raise UsageError for what cannot be the id of a node, presentation or decision, and says why."""
    from capx_caveats import is_id

    if typed is None or (len(typed) == _ID_LENGTH and is_id(typed)):
        return
    fault = f"this has {len(typed)}" if len(typed) != _ID_LENGTH else "each a letter, a digit, - or _"
    raise click.UsageError(f"{typed!r:.80} is not the id of a {what}: an id has {_ID_LENGTH} characters, {fault}")


def past(typed: str) -> int:
    """The instant meant by a duration that lies behind, `1h`, or by RFC 3339; in Unix seconds, at least 0."""
    from capx_caveats import InvalidCaveat, parse_duration, parse_instant

    now = int(time.time())
    try:
        return max(0, now - parse_duration(typed))
    except InvalidCaveat:
        return max(0, parse_instant(typed, now))


def instant(at: int) -> str:
    """An instant, in Unix seconds, as it is written everywhere: RFC 3339."""
    from capx_caveats import shown_instant

    return shown_instant(at)


def left_of(token: "Token") -> "Effective":
    """What a token can still allow now, as far as it says itself."""
    from capx.tokens.effective.effective import effective

    return effective(token, int(time.time()))


def holder(hops: "Iterable[str]") -> str:
    """Who holds a token, by the labels of its path; one that could be taken for the words around it is quoted."""
    from capx.tokens.wording import label

    return " > ".join(("task", *map(label, hops)))


def blocks(token: "Token") -> "Iterator[tuple[str, tuple[Caveat, ...]]]":
    """The blocks of a token, each with whose restrictions it holds."""
    from capx.tokens.lineage import sections_of
    from capx.tokens.wording import whose
    from capx_caveats import Hop, Presented

    granted_at = len(token.hops) - sum(isinstance(block[0], Hop) for block in token.caveats)
    for section in sections_of(token.caveats, granted_at):
        presents = any(isinstance(caveat, Presented) for caveat in section.caveats)
        yield "this presentation" if presents else whose(section.hop, section.name), section.caveats


def what_is_left(bundle: "Bundle") -> None:
    """Note on standard error what each capability of a new token can do at a resource.

    What it can do at the authority itself is the same for every task: it is said of a token that holds nothing else.
    """
    from capx.tokens.lineage import AUTHORITY

    nothing: list[str] = []
    told = [capability for capability in bundle if capability.audience != AUTHORITY] or list(bundle)
    for capability in told:
        left = left_of(capability)
        if left.why_nothing:
            nothing += () if left.untold else left.why_nothing[:1]
            screen.note(f"  at {left.audience}: {nothing_at(left)} ({left.why_nothing[0]})", screen.QUIET)
        else:
            screen.note(f"  at {left.audience}: {'; '.join(doing(left))}")
    if len(nothing) == len(told):
        screen.note(f"this token allows nothing any more: {nothing[0]}", screen.BAD)


def what_it_may_ask(bundle: "Bundle") -> None:
    """Note on standard error what the holder of a new token may ask for at run time."""
    from capx.tokens.grants import ASK
    from capx.tokens.lineage import AUTHORITY

    for capability in bundle:
        left = left_of(capability)
        if capability.audience == AUTHORITY and not left.why_nothing:
            for entry, said in zip(left.entries, doing(left), strict=True):
                if entry.pattern == ASK:
                    screen.note(f"  {said}")


def doing(left: "Effective") -> list[str]:
    """What each entry lets the holder do; asking for more in the words for that, where it has a usual form."""
    from capx.tokens.lineage import AUTHORITY
    from capx_cli.may_ask import sentence

    own = left.audience == AUTHORITY
    return [(own and sentence(entry)) or entry.sentence() for entry in left.entries]


def done(sentences: "Iterable[str]") -> "Iterator[str]":
    """The same of what the log keeps of a new task's capability for the authority, in sentences."""
    from capx.tokens.grants import OWN_ENTRIES
    from capx_cli.may_ask import ANYTHING

    for each in sentences:
        yield ANYTHING if each == OWN_ENTRIES[-1].sentence() else each


def nothing_at(left: "Effective") -> str:
    """That a token allows nothing, or that it cannot be told here what it does."""
    return "cannot tell" if left.untold else "nothing"


def of_key(key: "RevocationKey") -> str | None:
    """All that dies by the death of a root key or an instant, in words; None for any other death."""
    from capx.tokens.revocation_key import instant_of, kid_of

    if (kid := kid_of(key)) is not None:
        return f"all that was minted under key {kid}"
    if (issued := instant_of(key)) is not None:
        return f"all that was issued up to {instant(issued)}"
    return None


def what_died(key: str, *, is_root: bool) -> str:
    """What died by this key, in words; `is_root` of the id of a root."""
    return of_key(key) or f"{'root of a task' if is_root else 'node or capability'} {key}"


def said_end(what: str, end: str, position: int | None, *, again: bool) -> None:
    """Say that something ended now, or had before."""
    when = f"was {end} before" if again else f"is {end}"
    screen.say(f"{what} {when}, at position {position} of the log", "" if again else screen.GOOD)


def with_instants(facts: "dict[str, Any] | Struct") -> "dict[str, Any]":
    """The same facts, or those of a record, their Unix seconds as RFC 3339, as in all our JSON.

    What a bearer sent stays as it is.
    """
    import msgspec

    values: dict[str, Any] = facts if isinstance(facts, dict) else msgspec.to_builtins(facts)
    return {
        name: instant(value) if name in _INSTANTS and isinstance(value, int) else value
        for name, value in values.items()
    }


def lines(left: "Effective") -> "list[tuple[str, str]]":
    """What is left of a token, as names and sentences."""
    from capx_caveats import shown

    if left.why_nothing:
        return [("cannot tell" if left.untold else "allows nothing", why) for why in left.why_nothing]
    said = [("may", each.removeprefix("may ")) for each in doing(left)]
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
    """How often a token can still be delegated, in words."""
    if hops_left is None:
        return "without limit"
    return f"{hops_left} more times" if hops_left else "no further"


def presented(token: "Token") -> "Presented | None":
    """The binding of a presentation to its call; None for a capability."""
    from capx_caveats import Presented

    return next((caveat for caveat in token.caveats[-1] if isinstance(caveat, Presented)), None)


def partly_understood(token: "Token") -> bool:
    """Whether it holds what is not understood here, and may be where it is presented."""
    from capx_caveats import NotUnderstood

    return any(isinstance(caveat, NotUnderstood) for block in token.caveats for caveat in block)


def time_left(at: int) -> str:
    """How long it is until then, to the nearest of the unit that is good for it."""
    seconds = at - int(time.time())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{seconds} s"


def token_as_json(token: "Token") -> "dict[str, object]":
    """What a token says of itself, not verified; never the token."""
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
        "blocks": [[caveat.sentence() for caveat in block] for block in token.caveats],
        "effective": left_of(token).as_json(),
    }


def said_reason(reason: "dict[str, object]") -> None:
    """Say one reason, as the log and problem documents hold it, and what was wanted."""
    screen.say(f"  {reason.get('code')}: {reason.get('sentence')}", screen.BAD)
    if wanted := reason.get("wanted"):
        screen.say(f"    wanted: {wanted}", screen.QUIET)
