"""The options with which people type caveats, and the values that commands get from them.

    --allow ACTION[@AUDIENCE]    --with NAME=VALUE and --no-args belong to the --allow, or --may-ask, before them

Law: options that belong to one another are read in the order in which they were typed.
"""

import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from capx_cli.name_value import named_constraint, put

if TYPE_CHECKING:
    from capx.tokens.grants import Grant
    from capx_caveats import Appendable, Entry, Meant

Command = Callable[..., Any]


class Ordered(click.Command):
    """A command that knows the order in which its options were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the order, then parse as any command."""
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            ctx.meta[_ORDER] = [parameter.name for parameter in order]
        return super().parse_args(ctx, args)


_ORDER = "capx.order"


class Once(click.Option):
    """An option that may be given once: of two values, click would silently take the last."""

    def __init__(self, names: Sequence[str], **settings: Any) -> None:
        super().__init__(names, multiple=True, **settings)

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value; None without one, and UsageError for two."""
        values = super().process_value(ctx, value)
        if len(values) > 1:
            raise click.BadParameter("it was given twice: give it once", ctx, self)
        return values[0] if values else None


class Allows(NamedTuple):
    """The values of `--allow`, `--may-ask`, `--with` and `--no-args`; click's context has their order."""

    patterns: tuple[str, ...]
    with_: tuple[str, ...]
    may_ask: tuple[str, ...] | None = None
    """None if the command has no `--may-ask`."""

    def entries(self) -> "list[Entry]":
        """Return what is allowed, in order; UsageError for an entry that names an audience."""
        from capx_caveats import action

        entries: list[Entry] = []
        for pattern, args in self._grouped("allow"):
            if "@" in pattern:
                raise click.UsageError(f"{pattern} names an audience: choose it with --audience")
            entries.append(action(pattern, args=args))
        return entries

    def grants(self) -> "list[Grant]":
        """Return what to grant, each with its audience if one was typed."""
        return self._grants("allow")

    def asks(self) -> "list[Grant]":
        """Return what the holder may ask for, each with its audience if one was typed."""
        return self._grants("may_ask")

    def _grants(self, wanted: str) -> "list[Grant]":
        from capx_caveats import action

        found: list[Grant] = []
        for typed, args in self._grouped(wanted):
            pattern, at, audience = typed.partition("@")
            if at and not audience:
                raise click.UsageError(f"{typed} names no audience after the @")
            entry = action(pattern, args=args)
            found.append((entry, audience) if audience else entry)
        return found

    def _grouped(self, wanted: str) -> "list[tuple[str, dict[str, Meant] | None]]":
        values = {"allow": iter(self.patterns), "may_ask": iter(self.may_ask or ()), "with_": iter(self.with_)}
        groups: list[tuple[str, str, dict[str, Meant] | None]] = []
        for option in click.get_current_context().meta.get(_ORDER, ()):
            if option in {"allow", "may_ask"}:
                groups.append((option, next(values[option]), None))
            elif option in {"with_", "no_args"}:
                if not groups:
                    before = _before(self.may_ask is not None)
                    raise click.UsageError(f"--with and --no-args belong to the {before} before them: give one first")
                kind, pattern, args = groups[-1]
                args = {} if args is None else args
                groups[-1] = (kind, pattern, args)
                if option == "with_":
                    put(args, *named_constraint(next(values["with_"])))
        return [(pattern, args) for kind, pattern, args in groups if kind == wanted]


class Narrowing(NamedTuple):
    """The values of the options for all other caveats."""

    expires: str | None
    not_before: str | None
    max_hops: int | None
    fresh: str | None
    until_completed: tuple[str, ...]
    where: tuple[str, ...]
    budgets: tuple[str, ...]
    tenant: str | None = None
    """Also None if the command has no `--tenant`."""

    def caveats(self) -> "list[Appendable]":
        """Return all caveats that were typed; UsageError for an expiry in the past."""
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
        """Return what was typed, without the tenant and the expiry: the task has its own."""
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
        typed.extend(vocabulary.budget(*_limit(each)) for each in self.budgets)
        return typed


def _before(may_ask: bool) -> str:
    """Name the options to which a `--with` can belong."""
    return "--allow or --may-ask" if may_ask else "--allow"


def _limit(typed: str) -> tuple[str, str]:
    unit, equals, limit = typed.partition("=")
    if not equals:
        raise click.UsageError(f"--budget {typed!r:.80}: write UNIT=LIMIT, such as calls=20 or eur=50.00")
    return unit, limit


def allow_options(
    required: bool = False, audiences: bool = False, may_ask: bool = False
) -> Callable[[Command], Command]:
    """Add `--allow`, `--with` and `--no-args` to an `Ordered` command, which gets them as one `allows`.

    With `may_ask`, add `--may-ask` too.
    """
    naming = " ACTION@AUDIENCE where the audience is not the action's first label." if audiences else ""
    before = _before(may_ask)

    def add(command: Command) -> Command:
        @wraps(command)
        def collected(
            *, allow: tuple[str, ...], with_: tuple[str, ...], may_ask: tuple[str, ...] | None = None, **others: Any
        ) -> Any:
            return command(allows=Allows(allow, with_, may_ask), **others)

        return with_options(
            collected,
            click.option(
                "--allow",
                multiple=True,
                required=required,
                metavar="ACTION[@AUDIENCE]" if audiences else "ACTION",
                help=f"An action to allow: crm.read, or crm.* for all below.{naming} Repeatable.",
            ),
            *((_MAY_ASK,) if may_ask else ()),
            click.option(
                "--with",
                "with_",
                multiple=True,
                metavar="NAME=VALUE",
                help=f"What an argument of the {before} before it must be: deck=deck-42, limit:=10, "
                "amount=range:0..50, file=path:/data, kind=one_of:a,b, ref=prefix:Q-, to=url:x.org, note=eq:any text. "
                "Repeatable: a call with any other argument is denied.",
            ),
            click.option(
                "--no-args", count=True, expose_value=False, help=f"The {before} before it takes no arguments."
            ),
        )

    return add


def caveat_options(tenant: bool = True) -> Callable[[Command], Command]:
    """Add the options for all other caveats to a command, which gets them as one `narrowing`."""

    def add(command: Command) -> Command:
        @wraps(command)
        def collected(**given: Any) -> Any:
            typed = Narrowing(**{name: given.pop(name) for name in Narrowing._fields if name in given})
            return command(narrowing=typed, **given)

        named = click.option("--tenant", metavar="NAME", help="Only calls for this tenant.")
        return with_options(
            collected,
            *((named,) if tenant else ()),
            click.option("--expires", metavar="WHEN", help="Only until then: 15m, 2h, 1d, or 2026-11-25T12:00:00Z."),
            click.option("--not-before", metavar="WHEN", help="Not before then."),
            click.option("--max-hops", type=click.IntRange(min=0), metavar="N", help="At most N further delegations."),
            click.option(
                "--fresh", metavar="AGE", help="Only where the news of revocations is no older than this: 5s, 1m."
            ),
            repeatable("--until-completed", "until_completed", "TASK", "Only until that other task ends, too."),
            repeatable(
                "--where",
                "where",
                "NAME=VALUE",
                "What an attribute of every call, or args.NAME, must be; VALUE as for --with.",
            ),
            repeatable(
                "--budget",
                "budgets",
                "UNIT=LIMIT",
                "At most so much in all: calls=20, or eur=50 where the resource states a cost.",
            ),
        )

    return add


_MAY_ASK = click.option(
    "--may-ask",
    multiple=True,
    metavar="ACTION[@AUDIENCE]",
    help="An action to let it ask for at run time: crm.read, or crm.* for all below, which a policy may grant. With "
    "--with behind it, only for such arguments. Repeatable.",
)


def file_option(name: str, help_text: str) -> Callable[[Command], Command]:
    """Return an option that takes the path of a file."""
    return click.option(name, type=click.Path(path_type=Path), metavar="FILE", help=help_text)


class _Output(click.Path):
    """The path of a file to write; None for `-`, which is standard output."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or None."""
        return None if value == "-" else super().convert(value, param, ctx)


def out_option(help_text: str) -> Callable[[Command], Command]:
    """Return `--out`; without it, and for `-`, the command gets None: it writes to standard output."""
    return click.option("--out", type=_Output(path_type=Path), metavar="FILE", help=help_text)


def repeatable(
    name: str, parameter: str, metavar: str | None, help_text: str, **settings: Any
) -> Callable[[Command], Command]:
    """Return an option that may be given several times; the command gets all its values as `parameter`."""
    return click.option(name, parameter, multiple=True, metavar=metavar, help=f"{help_text} Repeatable.", **settings)


def noted(name: str, key: str, **settings: Any) -> Callable[[Command], Command]:
    """Return an option whose value no command gets: `typed_as(key)` returns it wherever the command needs it."""

    def note(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            context.meta[key] = value

    return click.option(name, expose_value=False, callback=note, **settings)


def typed_as(key: str) -> Any:
    """Return the value of the option that was `noted` under this key; None if it was not typed."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(key)


def with_options(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Add options to a command; its help lists them in this order."""
    for option in reversed(options):
        command = option(command)
    return command
