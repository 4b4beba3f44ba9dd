"""Functions to write caveats with: `allow(action("slides.write", deck=one_of("deck-42")))`, `expires("10m")`.

Law: a builder returns the same value as its class would, or raises InvalidCaveat. A duration stays relative until
somebody appends the caveat to a capability: it counts from then.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

from msgspec import UNSET, Struct

from capx_caveats.amount import Amount, spelt_amount
from capx_caveats.caveat import Caveat
from capx_caveats.caveats import Allow, Budget, Entry, Expires, Fresh, NotBefore, Tenant, UntilCompleted, Where
from capx_caveats.chain_caveats import MaxHops
from capx_caveats.constraint import Constraint
from capx_caveats.constraints import AllOf, AnyConstraint, AnyOf, Each, Fields, Not, Pair
from capx_caveats.errors import InvalidCaveat
from capx_caveats.network import Cidr, Host, Url
from capx_caveats.texts import Argv, Glob, Path, Prefix, Regex
from capx_caveats.value_constraints import Absent, Anything, Contains, Eq, In, Length, Range
from capx_caveats.values import JSON, Literal, Plain
from capx_caveats.when import When, is_relative, parse_duration, parse_instant

__all__ = [
    "absent",
    "action",
    "all_of",
    "allow",
    "any_of",
    "anything",
    "argv",
    "between",
    "budget",
    "cidr",
    "contains",
    "each",
    "expires",
    "fields",
    "fresh",
    "glob",
    "host",
    "length",
    "max_hops",
    "not_",
    "not_before",
    "not_in",
    "one_of",
    "prefix",
    "regex",
    "subset",
    "tenant",
    "until_completed",
    "url",
    "where",
    "within",
]

T = TypeVar("T")


class Relative(Struct, frozen=True):
    """A caveat with a duration, which counts from the moment when the caveat is appended."""

    kind: type[Expires] | type[NotBefore]
    when: str

    def at(self, now: int) -> Caveat:
        """Return the caveat, with its duration counted from `now` (Unix seconds)."""
        return self.kind(parse_instant(self.when, now))


Appendable = Caveat | Relative
"""Anything that can be appended to a capability: a caveat, or one with a duration that counts from then."""


def resolved(caveats: Iterable[Appendable], now: int) -> tuple[Caveat, ...]:
    """Return the caveats, with durations counted from `now` (Unix seconds); InvalidCaveat for what is no caveat."""
    _demand_list(caveats)
    return tuple(caveat.at(now) if isinstance(caveat, Relative) else _caveat(caveat) for caveat in caveats)


def _demand_list(caveats: object) -> None:
    if isinstance(caveats, str) or not isinstance(caveats, Iterable):
        raise InvalidCaveat('give a list of caveats, such as [expires("10m")]')


def _caveat(caveat: object) -> Caveat:
    if not isinstance(caveat, Caveat):
        # Only the type: it may be the text of a token.
        raise InvalidCaveat(f'give caveats, such as expires("10m"), and not a {type(caveat).__name__}')
    return caveat


Meant = Constraint | JSON
"""A constraint, which may be a service's own, or a JSON value, which means `eq`."""


def _timed(kind: type[Expires] | type[NotBefore], when: When) -> Appendable:
    if isinstance(when, str) and is_relative(when):
        return Relative(kind, when)
    # Every other form of time is absolute, so no `now` is needed.
    return kind(parse_instant(when, 0))


def expires(when: When) -> Appendable:
    """Deny calls at or after this time."""
    return _timed(Expires, when)


def not_before(when: When) -> Appendable:
    """Deny calls before this time."""
    return _timed(NotBefore, when)


def tenant(name: str) -> Tenant:
    """Allow only calls for this tenant."""
    return Tenant(name)


def until_completed(task: str) -> UntilCompleted:
    """Deny calls after this task has ended."""
    return UntilCompleted(task)


def fresh(age: int | str) -> Fresh:
    """Deny calls while the verifier's news of revocations is older than this: seconds, or a duration such as `5s`."""
    return Fresh(parse_duration(age) if isinstance(age, str) else age)


def budget(unit: str, limit: Amount, *, counter: str | None = None) -> Budget:
    """Allow at most this much of a unit, for everyone below together; the unit `calls` counts calls. No floats."""
    return Budget(unit, spelt_amount(limit), UNSET if counter is None else counter)


def max_hops(n: int) -> MaxHops:
    """Allow at most n further delegations."""
    return MaxHops(n)


def allow(*entries: str | Entry) -> Allow:
    """Allow only these actions: names or patterns such as `crm.*`, or entries that `action` returns."""
    return Allow(tuple(map(as_entry, entries)))


def where(attribute: str, constraint: Meant) -> Where:
    """Demand that an attribute of each call, or its argument for `args.NAME`, satisfies the constraint."""
    return Where(attribute, as_constraint(constraint))


def action(pattern: str, /, *, args: Mapping[str, Meant] | None = None, **constraints: Meant) -> Entry:
    """Return an entry for `allow`. Without constraints, any arguments are allowed; with `args={}`, none are.

    Use `args` for arguments whose names are not Python names.
    """
    if args is None and not constraints:
        return Entry(pattern)
    return Entry(pattern, _pairs(args, constraints))


def _pairs(named: Mapping[str, Meant] | None, constraints: Mapping[str, Meant]) -> tuple[Pair, ...]:
    both = {**(named or {}), **constraints}
    return tuple(Pair(name, as_constraint(meant)) for name, meant in both.items())


def as_entry(entry: str | Entry) -> Entry:
    """Return the entry; for a text, an entry for this action with any arguments."""
    return Entry(entry, UNSET) if isinstance(entry, str) else entry


def as_constraint(meant: Meant) -> AnyConstraint:
    """Return the constraint; for a JSON value, `eq` with this value."""
    if isinstance(meant, Constraint):
        return cast("AnyConstraint", meant)
    return Eq(_literal(meant))


def _literal(value: JSON) -> Literal:
    if isinstance(value, list | tuple):
        return cast("tuple[Plain, ...]", tuple(value))
    if isinstance(value, Mapping):
        raise InvalidCaveat("an object cannot be a literal: write a constraint with `fields`")
    return value  # type: ignore[return-value] # a scalar


def one_of(*literals: JSON) -> In:
    """The value equals one of these."""
    return In(tuple(map(_literal, literals)))


def not_in(*literals: JSON) -> Not:
    """The value equals none of these, and has the type of at least one; another type cannot be judged."""
    return Not(one_of(*literals))


def subset(*literals: JSON) -> Each:
    """The value is an array of one or more elements, each of which equals one of these."""
    return Each(one_of(*literals))


def contains(*literals: JSON) -> Contains:
    """The value is an array that contains all of these."""
    return Contains(tuple(map(_literal, literals)))


def length(lo: int | None = None, hi: int | None = None) -> Length:
    """The value is a text of lo to hi code points, or an array of lo to hi elements; None leaves an end open."""
    return Length(lo, hi)


def between(lo: float | None, hi: float | None) -> Range:
    """The value is a number from lo to hi, both included; None leaves an end open."""
    return Range(lo, hi)


def prefix(text: str) -> Prefix:
    """The value is a text that begins with this text."""
    return Prefix(text)


def glob(text: str) -> Glob:
    """The whole text matches: `*` is any run without `/`, `**` any run, `?` one character other than `/`."""
    return Glob(text)


def regex(text: str) -> Regex:
    """The whole text matches this regular expression of RE2."""
    return Regex(text)


def argv(*programs: str, arguments: Iterable[Iterable[str]] | None = None) -> Argv:
    """The value is a command as words: one of these programs, then, if any are given, one of these lists."""
    if arguments is None:
        return Argv(programs)
    return Argv(programs, tuple(map(_words, _words(arguments))))


def _words(words: Iterable[T]) -> tuple[T, ...]:
    if isinstance(words, str) or not isinstance(words, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] # foreign
        raise InvalidCaveat(f"{words!r:.40} is not a list of texts: write arguments such as [['-l'], ['-a']]")
    return tuple(words)


def within(root: str) -> Path:
    """The value is this absolute path or one below it."""
    return Path(root)


def url(*hosts: str, schemes: Iterable[str] = ("https",), ports: Iterable[int] = (), path: str | None = None) -> Url:
    """The value is a URL at one of these hosts, and at or below this path; `*.x` means every host below x.

    Without ports, only the scheme's own port is allowed.
    """
    return Url(tuple(schemes), hosts, tuple(ports), UNSET if path is None else path)


def host(*patterns: str) -> Host:
    """The value is one of these host names, or for `*.x`, one below x."""
    return Host(patterns)


def cidr(*networks: str) -> Cidr:
    """The value is an address in one of these networks, such as `10.0.0.0/8`."""
    return Cidr(networks)


def fields(named: Mapping[str, Meant] | None = None, /, **constraints: Meant) -> Fields:
    """The value is an object whose members satisfy these constraints; `"*"` judges all members without a name here.

    Without `"*"`, other members are not allowed. Use `named` for members whose names are not Python names.
    """
    return Fields(_pairs(named, constraints))


def each(constraint: Meant, *, min: int = 1) -> Each:
    """The value is an array of at least `min` elements, each of which satisfies the constraint."""
    return Each(as_constraint(constraint), min)


def any_of(*constraints: Meant) -> AnyOf:
    """At least one of these constraints says yes (Kleene's or)."""
    return AnyOf(tuple(map(as_constraint, constraints)))


def all_of(*constraints: Meant) -> AllOf:
    """All of these constraints say yes (Kleene's and)."""
    return AllOf(tuple(map(as_constraint, constraints)))


def not_(constraint: Meant) -> Not:
    """The constraint says no; a value that it cannot judge still cannot be judged."""
    return Not(as_constraint(constraint))


def absent() -> Absent:
    """The argument is missing."""
    return Absent()


def anything() -> Anything:
    """The argument is present, whatever its value is."""
    return Anything()
