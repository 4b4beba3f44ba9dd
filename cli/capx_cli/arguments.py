"""What people type for caveats and calls, and what it means.

    --allow ACTION[@AUDIENCE]    --with NAME=VALUE and --no-args belong to the --allow before them
    NAME=text                    the text itself        NAME:=JSON             a JSON value
    NAME=eq:text                 whatever it begins with
    NAME=range:0..50             NAME=range:10..        NAME=one_of:a,b        NAME=prefix:Q-
    NAME=path:/data/acme         NAME=glob:*.txt        NAME=regex:[a-z]+      NAME=length:1..10
    NAME=url:x.org,*.x.org       NAME=host:*.x.org      NAME=cidr:10.0.0.0/8   NAME=argv:git,hg
    NAME=contains:a,b            NAME=not_in:a,b        NAME=not:prefix:Q-     NAME=each:prefix:Q-
    NAME=absent:                 NAME=anything:

Law: a value is taken as one value, whatever stands in it; a prefix that is not known is refused, not taken as text.
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from capx.grant import Grant
    from capx_caveats import JSON, AnyConstraint, Appendable, Entry, Meant

Command = Callable[..., Any]

_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(.*)", re.DOTALL)
_RANGE = re.compile(r"(.*?)\.\.(.*)", re.DOTALL)
_LENGTH = re.compile(r"([0-9]{0,16})\.\.([0-9]{0,16})")


class Ordered(click.Command):
    """A command that knows in which order its options were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the order, then parse as any command."""
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            ctx.meta[_ORDER] = [parameter.name for parameter in order]
        return super().parse_args(ctx, args)


_ORDER = "capx.order"


class Allows(NamedTuple):
    """What was typed with `--allow`, `--with` and `--no-args`; the order is in click's context."""

    patterns: tuple[str, ...]
    with_: tuple[str, ...]

    def entries(self) -> "list[Entry]":
        """What is allowed, in order, where nothing may name an audience."""
        from capx_caveats import action

        entries: list[Entry] = []
        for pattern, args in self._grouped():
            if "@" in pattern:
                raise click.UsageError(
                    f"{pattern} names an audience: here --audience chooses among those that are held"
                )
            entries.append(action(pattern, args=args))
        return entries

    def grants(self) -> "list[Grant]":
        """What is to be granted, each with its audience if one was typed."""
        from capx_caveats import action

        found: list[Grant] = []
        for typed, args in self._grouped():
            pattern, at, audience = typed.partition("@")
            if at and not audience:
                raise click.UsageError(f"{typed} names no audience after the @")
            entry = action(pattern, args=args)
            found.append((entry, audience) if audience else entry)
        return found

    def _grouped(self) -> "list[tuple[str, dict[str, Meant] | None]]":
        values = {"allow": iter(self.patterns), "with_": iter(self.with_)}
        groups: list[tuple[str, dict[str, Meant] | None]] = []
        for option in click.get_current_context().meta.get(_ORDER, ()):
            if option == "allow":
                groups.append((next(values["allow"]), None))
            elif option in {"with_", "no_args"}:
                if not groups:
                    raise click.UsageError("--with and --no-args belong to the --allow before them: there is none")
                pattern, args = groups[-1]
                args = {} if args is None else args
                groups[-1] = (pattern, args)
                if option == "with_":
                    _put(args, *named_constraint(next(values["with_"])))
        return groups


class Narrowing(NamedTuple):
    """What was typed with the options for every other caveat."""

    tenant: str | None
    expires: str | None
    not_before: str | None
    max_hops: int | None
    fresh: str | None
    until_completed: tuple[str, ...]
    where: tuple[str, ...]

    def caveats(self) -> "list[Appendable]":
        """All that was typed; UsageError for an expiry that has passed."""
        import capx_caveats as vocabulary

        typed: list[Appendable] = []
        if self.tenant is not None:
            typed.append(vocabulary.tenant(self.tenant))
        if self.expires is not None:
            now = int(time.time())
            at = vocabulary.parse_instant(self.expires, now)
            if at <= now:
                raise click.UsageError(f"--expires {self.expires}: {vocabulary.shown_instant(at)} has passed")
            typed.append(vocabulary.expires(self.expires))
        return [*typed, *self.beside_the_task()]

    def beside_the_task(self) -> "list[Appendable]":
        """What was typed, without the tenant and the expiry: those a task has itself."""
        import capx_caveats as vocabulary

        typed: list[Appendable] = []
        if self.not_before is not None:
            typed.append(vocabulary.not_before(self.not_before))
        if self.max_hops is not None:
            typed.append(vocabulary.max_hops(self.max_hops))
        if self.fresh is not None:
            typed.append(vocabulary.fresh(self.fresh))
        typed.extend(map(vocabulary.until_completed, self.until_completed))
        typed.extend(vocabulary.where(*named_constraint(each)) for each in self.where)
        return typed


def allow_options(required: bool = False, audiences: bool = False) -> Callable[[Command], Command]:
    """`--allow`, `--with` and `--no-args`, for an `Ordered` command; it gets them as one `allows`."""
    naming = " ACTION@AUDIENCE where the audience is not the action's first label." if audiences else ""

    def add(command: Command) -> Command:
        @wraps(command)
        def collected(*, allow: tuple[str, ...], with_: tuple[str, ...], **others: Any) -> Any:
            return command(allows=Allows(allow, with_), **others)

        return _all(
            collected,
            click.option(
                "--allow",
                multiple=True,
                required=required,
                metavar="ACTION[@AUDIENCE]" if audiences else "ACTION",
                help=f"An action to allow: crm.read, or crm.* for all below.{naming} Repeatable.",
            ),
            click.option(
                "--with",
                "with_",
                multiple=True,
                metavar="NAME=VALUE",
                help="What an argument of the --allow before it must be: deck=deck-42, limit:=10, "
                "amount=range:0..50, file=path:/data, kind=one_of:a,b, ref=prefix:Q-, to=url:x.org, note=eq:any text.",
            ),
            click.option("--no-args", count=True, expose_value=False, help="The --allow before it takes no arguments."),
        )

    return add


def caveat_options(tenant: bool = True) -> Callable[[Command], Command]:
    """The options for every other caveat, for a command that gets them as one `narrowing`."""

    def add(command: Command) -> Command:
        @wraps(command)
        def collected(
            *,
            tenant: str | None = None,
            expires: str | None,
            not_before: str | None,
            max_hops: int | None,
            fresh: str | None,
            until_completed: tuple[str, ...],
            where: tuple[str, ...],
            **others: Any,
        ) -> Any:
            typed = Narrowing(tenant, expires, not_before, max_hops, fresh, until_completed, where)
            return command(narrowing=typed, **others)

        named = click.option("--tenant", metavar="NAME", help="Only calls for this tenant.")
        return _all(
            collected,
            *((named,) if tenant else ()),
            click.option("--expires", metavar="WHEN", help="Until then: 15m, 2h, 1d, or 2026-11-25T12:00:00Z."),
            click.option("--not-before", metavar="WHEN", help="Not before then."),
            click.option("--max-hops", type=click.IntRange(min=0), metavar="N", help="At most N further delegations."),
            click.option("--fresh", metavar="AGE", help="Only where news of deaths is no older than this: 5s, 1m."),
            click.option(
                "--until-completed",
                multiple=True,
                metavar="TASK",
                help="Until that task ends, too. Repeatable.",
            ),
            click.option(
                "--where",
                multiple=True,
                metavar="NAME=VALUE",
                help="What an attribute of every call, or args.NAME, must be; VALUE as for --with. Repeatable.",
            ),
        )

    return add


def call_options(command: Command) -> Command:
    """The options that describe a call."""
    return _all(
        command,
        click.option("--action", metavar="ACTION", help="The action to be done."),
        click.option(
            "--arg",
            "args",
            multiple=True,
            metavar="NAME=TEXT",
            help="An argument: deck=deck-42 is text, limit:=10 is JSON. Repeatable.",
        ),
    )


def _all(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def named_constraint(typed: str) -> "tuple[str, Meant]":
    """The name and the constraint of `NAME=VALUE` or `NAME:=JSON`."""
    name, value, is_json = _split(typed)
    return (name, from_json(value, typed)) if is_json else (name, constraint(value, name))


def constraint(value: str, name: str = "NAME") -> "Meant":
    """What a value means: the text, or what its prefix says."""
    match = _PREFIX.fullmatch(value)
    if match is None:
        return value
    known = _PREFIXES.get(match[1])
    if known is None:
        raise click.UsageError(
            f"{match[1]}: is no known kind of value ({', '.join(f'{each}:' for each in _PREFIXES)}); "
            f"for the text itself write {name}=eq:{value}"
        )
    return known(match[2], name)


def arguments(typed: Iterable[str]) -> "dict[str, JSON]":
    """The arguments of a call: texts and JSON values, no constraints."""
    from capx_caveats import demand_json

    args: dict[str, JSON] = {}
    for each in typed:
        name, value, is_json = _split(each)
        meant = from_json(value, each) if is_json else value
        demand_json(meant)
        _put(args, name, meant)
    return args


def from_json(value: str, typed: str) -> Any:
    """A JSON value, strictly: no name twice, nothing that is no JSON."""
    try:
        return json.loads(value, object_pairs_hook=_members, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{typed!r:.80} has no JSON after the :=, {error!s:.80}") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _split(typed: str) -> tuple[str, str, bool]:
    name, equals, value = typed.partition("=")
    is_json = name.endswith(":")
    name = name.removesuffix(":")
    if not equals or not name:
        raise click.UsageError(f"{typed!r:.80} is not NAME=VALUE or NAME:=JSON")
    return name, value, is_json


def _put(values: "dict[str, Any]", name: str, value: Any) -> None:
    if name in values:
        raise click.UsageError(f"{name!r:.80} is given twice")
    values[name] = value


def _eq(value: str, name: str) -> "Meant":  # noqa: ARG001 - one signature for all prefixes
    return value


def _range(value: str, name: str) -> "AnyConstraint":
    from capx_caveats import between

    match = _RANGE.fullmatch(value)
    if match is None:
        raise click.UsageError(f"{name}=range:{value} has no two ends: write range:0..50, range:10.. or range:..50")
    return between(_number(match[1], name), _number(match[2], name))


def _number(value: str, name: str) -> float | None:
    if not value:
        return None
    try:
        number = json.loads(value)
    except (ValueError, RecursionError):
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise click.UsageError(f"{name}=range: wants numbers, such as range:0..50; {value!r:.40} is none")
    return number


def _length(value: str, name: str) -> "AnyConstraint":
    from capx_caveats import length

    match = _LENGTH.fullmatch(value)
    if match is None:
        raise click.UsageError(f"{name}=length:{value} has no two ends: write length:1..10, length:1.. or length:..10")
    lo, hi = (int(end) if end else None for end in match.groups())
    return length(lo, hi)


def _texts(builder: str) -> Callable[[str, str], "AnyConstraint"]:
    """A prefix that takes texts between commas."""
    return lambda value, _: _builder(builder)(*value.split(","))


def _text(builder: str) -> Callable[[str, str], "AnyConstraint"]:
    """A prefix that takes one text, whatever stands in it."""
    return lambda value, _: _builder(builder)(value)


def _builder(name: str) -> "Callable[..., AnyConstraint]":
    import capx_caveats

    return getattr(capx_caveats, name)  # type: ignore[no-any-return] # one of those in the table


def _url(value: str, name: str) -> "AnyConstraint":
    from capx_caveats import url

    hosts = value.split(",")
    if any(set(":/?#@") & set(host) for host in hosts):
        raise click.UsageError(
            f"{name}=url:{value} names more than hosts, which alone stand here: {name}=url:x.org,*.x.org. Schemes, "
            "ports and a path are Python's to name: url('x.org', schemes=['https'], ports=[8443], path='/v1')"
        )
    return url(*hosts)


def _not(value: str, name: str) -> "AnyConstraint":
    from capx_caveats import not_

    return not_(constraint(value, name))


def _each(value: str, name: str) -> "AnyConstraint":
    from capx_caveats import each

    return each(constraint(value, name))


def _absent(value: str, name: str) -> "AnyConstraint":
    from capx_caveats import absent

    return _alone(absent(), value, name)


def _anything(value: str, name: str) -> "AnyConstraint":
    from capx_caveats import anything

    return _alone(anything(), value, name)


def _alone(meant: "AnyConstraint", value: str, name: str) -> "AnyConstraint":
    if value:
        raise click.UsageError(f"nothing may follow absent: or anything:, as {value!r:.40} does for {name}")
    return meant


_PREFIXES: Mapping[str, Callable[[str, str], "Meant"]] = {
    "eq": _eq,
    "range": _range,
    "length": _length,
    "path": _text("within"),
    "glob": _text("glob"),
    "regex": _text("regex"),
    "prefix": _text("prefix"),
    "one_of": _texts("one_of"),
    "not_in": _texts("not_in"),
    "contains": _texts("contains"),
    "url": _url,
    "host": _texts("host"),
    "cidr": _texts("cidr"),
    "argv": _texts("argv"),
    "not": _not,
    "each": _each,
    "absent": _absent,
    "anything": _anything,
}
