"""How people write caveats: `allow(action("slides.write", deck=one_of("deck-42")))`, `expires("10m")`.

Law: a builder makes what its class would, or raises InvalidCaveat; a duration stays relative until it meets a clock.
"""

from collections.abc import Iterable, Mapping
from typing import cast

from msgspec import UNSET, Struct

from capx_caveats.caveat import Caveat
from capx_caveats.caveats import Allow, Entry, Expires, NotBefore, Tenant, UntilCompleted, Where
from capx_caveats.constraint import Constraint
from capx_caveats.constraints import (
    Absent,
    AllOf,
    AnyConstraint,
    AnyOf,
    Anything,
    Each,
    Eq,
    In,
    Not,
    Pair,
    Path,
    Prefix,
    Range,
)
from capx_caveats.errors import InvalidCaveat
from capx_caveats.marks import MaxHops
from capx_caveats.values import JSON, Literal, Scalar
from capx_caveats.when import When, is_relative, parse_instant


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


Meant = AnyConstraint | JSON
"""A constraint, or a value that means `eq`."""


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
    pairs = {**(args or {}), **constraints}
    if args is None and not constraints:
        return Entry(pattern)
    return Entry(pattern, tuple(Pair(name, as_constraint(meant)) for name, meant in pairs.items()))


def as_entry(entry: str | Entry) -> Entry:
    """An entry, given as one or as its action alone."""
    return Entry(entry, UNSET) if isinstance(entry, str) else entry


def as_constraint(meant: Meant) -> AnyConstraint:
    """The constraint meant: itself, or `eq` for a value."""
    if isinstance(meant, Constraint):
        return meant
    return Eq(_literal(meant))


def _literal(value: JSON) -> Literal:
    if isinstance(value, list | tuple):
        return cast("tuple[Scalar, ...]", tuple(value))
    if isinstance(value, Mapping):
        raise InvalidCaveat("an object is no literal: constrain its fields")
    return value  # type: ignore[return-value] # a scalar


def one_of(*literals: JSON) -> AnyConstraint:
    """Equal to one of these."""
    return In(tuple(map(_literal, literals)))


def between(lo: float | None, hi: float | None) -> Range:
    """Lo ≤ number ≤ hi; None leaves an end open."""
    return Range(lo, hi)


def prefix(text: str) -> Prefix:
    """Text that begins with this."""
    return Prefix(text)


def within(root: str) -> Path:
    """The path, or one below it."""
    return Path(root)


def each(constraint: Meant, *, min: int = 1) -> Each:
    """An array of at least `min` elements, each of which satisfies the constraint."""
    return Each(as_constraint(constraint), min)


def any_of(*constraints: Meant) -> AnyOf:
    """Kleene's or."""
    return AnyOf(tuple(map(as_constraint, constraints)))


def all_of(*constraints: Meant) -> AllOf:
    """Kleene's and."""
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
