"""How people write caveats: `allow(action("slides.write", deck=one_of("deck-42")))`, `expires("10m")`.

Law: a builder makes what its class would, or raises InvalidCaveat; a duration stays relative until it meets a clock.
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
    """A caveat about a time that counts from when it is appended."""

    kind: type[Expires] | type[NotBefore]
    when: str

    def at(self, now: int) -> Caveat:
        """The caveat, counted from `now` (Unix seconds)."""
        return self.kind(parse_instant(self.when, now))


Appendable = Caveat | Relative
"""What may be appended to a capability."""


def resolved(caveats: Iterable[Appendable], now: int) -> tuple[Caveat, ...]:
    """The caveats, durations counted from `now` (Unix seconds)."""
    return tuple(caveat.at(now) if isinstance(caveat, Relative) else caveat for caveat in caveats)


Meant = Constraint | JSON
"""A constraint, also a service's own, or a value that means `eq`."""


def _timed(kind: type[Expires] | type[NotBefore], when: When) -> Appendable:
    if isinstance(when, str) and is_relative(when):
        return Relative(kind, when)
    return kind(parse_instant(when, 0))


def expires(when: When) -> Appendable:
    """No call at or after this time."""
    return _timed(Expires, when)


def not_before(when: When) -> Appendable:
    """No call before this time."""
    return _timed(NotBefore, when)


def tenant(name: str) -> Tenant:
    """Only this tenant's calls."""
    return Tenant(name)


def until_completed(task: str) -> UntilCompleted:
    """No call after that task has ended."""
    return UntilCompleted(task)


def fresh(age: int | str) -> Fresh:
    """No call when news of deaths is older than this: seconds, or a duration such as `5s`."""
    return Fresh(parse_duration(age) if isinstance(age, str) else age)


def budget(unit: str, limit: Amount, *, counter: str | None = None) -> Budget:
    """At most this much of a unit (`calls` counts each call), shared by everyone below; no float is an amount."""
    return Budget(unit, spelt_amount(limit), UNSET if counter is None else counter)


def max_hops(n: int) -> MaxHops:
    """At most n further delegations."""
    return MaxHops(n)


def allow(*entries: str | Entry) -> Allow:
    """Only these actions."""
    return Allow(tuple(map(as_entry, entries)))


def where(attribute: str, constraint: Meant) -> Where:
    """That attribute of each call, or `args.NAME`, must satisfy the constraint."""
    return Where(attribute, as_constraint(constraint))


def action(pattern: str, /, *, args: Mapping[str, Meant] | None = None, **constraints: Meant) -> Entry:
    """An entry of an allowlist; no constraint at all leaves the arguments free, `args={}` allows none.

    `args` takes names that are no Python names.
    """
    if args is None and not constraints:
        return Entry(pattern)
    return Entry(pattern, _pairs(args, constraints))


def _pairs(named: Mapping[str, Meant] | None, constraints: Mapping[str, Meant]) -> tuple[Pair, ...]:
    both = {**(named or {}), **constraints}
    return tuple(Pair(name, as_constraint(meant)) for name, meant in both.items())


def as_entry(entry: str | Entry) -> Entry:
    """An entry, given as one or as its action alone."""
    return Entry(entry, UNSET) if isinstance(entry, str) else entry


def as_constraint(meant: Meant) -> AnyConstraint:
    """The constraint meant: itself, or `eq` for a value."""
    if isinstance(meant, Constraint):
        return cast("AnyConstraint", meant)
    return Eq(_literal(meant))


def _literal(value: JSON) -> Literal:
    if isinstance(value, list | tuple):
        return cast("tuple[Plain, ...]", tuple(value))
    if isinstance(value, Mapping):
        raise InvalidCaveat("an object is no literal: constrain its fields")
    return value  # type: ignore[return-value] # a scalar


def one_of(*literals: JSON) -> In:
    """Equal to one of these."""
    return In(tuple(map(_literal, literals)))


def not_in(*literals: JSON) -> Not:
    """A value of the type of one of these, and equal to none; another type cannot be judged."""
    return Not(one_of(*literals))


def subset(*literals: JSON) -> Each:
    """An array, not empty, of nothing but these."""
    return Each(one_of(*literals))


def contains(*literals: JSON) -> Contains:
    """An array that has all of these among its elements."""
    return Contains(tuple(map(_literal, literals)))


def length(lo: int | None = None, hi: int | None = None) -> Length:
    """A text of lo to hi code points, or an array of so many elements; None leaves an end open."""
    return Length(lo, hi)


def between(lo: float | None, hi: float | None) -> Range:
    """Lo ≤ number ≤ hi; None leaves an end open."""
    return Range(lo, hi)


def prefix(text: str) -> Prefix:
    """Text that begins with this."""
    return Prefix(text)


def glob(text: str) -> Glob:
    """Text that matches whole: `*` any run without `/`, `**` any run, `?` one character but `/`."""
    return Glob(text)


def regex(text: str) -> Regex:
    """Text that matches whole, by RE2."""
    return Regex(text)


def argv(*programs: str, arguments: Iterable[Iterable[str]] | None = None) -> Argv:
    """A command's words: one of these programs, then, if any are given, one of these lists of first arguments."""
    if arguments is None:
        return Argv(programs)
    return Argv(programs, tuple(map(_words, _words(arguments))))


def _words(words: Iterable[T]) -> tuple[T, ...]:
    if isinstance(words, str) or not isinstance(words, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] # foreign
        raise InvalidCaveat(f"{words!r:.40} is no list: arguments are lists of texts")
    return tuple(words)


def within(root: str) -> Path:
    """The path, or one below it."""
    return Path(root)


def url(*hosts: str, schemes: Iterable[str] = ("https",), ports: Iterable[int] = (), path: str | None = None) -> Url:
    """A URL at one of these hosts (`*.x` for all below x), and at this path or below it; no ports: the scheme's own."""
    return Url(tuple(schemes), hosts, tuple(ports), UNSET if path is None else path)


def host(*patterns: str) -> Host:
    """One of these host names, or for `*.x`, one below x."""
    return Host(patterns)


def cidr(*networks: str) -> Cidr:
    """An address within one of these networks, such as `10.0.0.0/8`."""
    return Cidr(networks)


def fields(named: Mapping[str, Meant] | None = None, /, **constraints: Meant) -> Fields:
    """An object of exactly these members, each as its constraint has it; `"*"` judges all others.

    `named` takes names that are no Python names.
    """
    return Fields(_pairs(named, constraints))


def each(constraint: Meant, *, min: int = 1) -> Each:
    """An array of at least `min` elements, each of which satisfies the constraint."""
    return Each(as_constraint(constraint), min)


def any_of(*constraints: Meant) -> AnyOf:
    """At least one of these says yes (Kleene's or)."""
    return AnyOf(tuple(map(as_constraint, constraints)))


def all_of(*constraints: Meant) -> AllOf:
    """Every one of these says yes (Kleene's and)."""
    return AllOf(tuple(map(as_constraint, constraints)))


def not_(constraint: Meant) -> Not:
    """The opposite of yes or no; what cannot be judged stays so."""
    return Not(as_constraint(constraint))


def absent() -> Absent:
    """The argument is not there."""
    return Absent()


def anything() -> Anything:
    """The argument is there, whatever it is."""
    return Anything()
