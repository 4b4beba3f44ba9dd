"""The intersection of several allowlists, as one allowlist.

Law: a call satisfies the common entries exactly if it satisfies each list. An entry that provably no call can satisfy
is left out. If that is not known, or only with much work, the entry stays in.
"""

from collections.abc import Iterable
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import UNSET

from capx_caveats import (
    MISSING,
    OTHERS,
    Absent,
    AllOf,
    AnyConstraint,
    AnyOf,
    Anything,
    Argv,
    Cidr,
    Contains,
    Each,
    Entry,
    Eq,
    Fields,
    Glob,
    Host,
    In,
    Length,
    Literal,
    Not,
    Pair,
    Path,
    Prefix,
    Range,
    Regex,
    Url,
)

N = TypeVar("N", int, float)

_ALL = frozenset({"number", "text", "array", "object", "other"})
_KINDS: dict[type, frozenset[str]] = {
    Range: frozenset({"number"}),
    **dict.fromkeys((Prefix, Glob, Regex, Path, Url, Host, Cidr), frozenset({"text"})),
    **dict.fromkeys((Each, Contains, Argv), frozenset({"array"})),
    Length: frozenset({"text", "array"}),
    Fields: frozenset({"object"}),
}
_JUDGEMENTS = 2**18
"""Literals are checked against other constraints up to this product: their number, times the bytes of those."""


def work(written: int, entries: int, those: tuple[Entry, ...]) -> int:
    """About how many bytes of work it takes to combine `entries` entries of `written` bytes in all with `those`."""
    other = size(those)
    return len(those) * written + entries * other + written * other // 64


def size(entries: Iterable[Entry]) -> int:
    """The number of bytes of these entries on the wire."""
    return sum(len(spelled(entry)) for entry in entries)


def entries_in_common(these: Iterable[Entry], those: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries that satisfy both lists, pair by pair; without duplicates and entries that a wider one covers."""
    others = tuple(those)
    return _once(entry_in_common(this, that) for this in these for that in others)


def simplest(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The same allowlist without impossible entries, duplicates, and entries that a wider one covers."""
    return _once(entry_in_common(entry, entry) for entry in entries)


def _once(entries: Iterable[Entry | None]) -> tuple[Entry, ...]:
    found = {spelled(entry): entry for entry in entries if entry is not None}
    free = {entry.pattern for entry in found.values() if entry.args is UNSET}
    return tuple(entry for entry in found.values() if not _covered(entry, free))


def entry_in_common(this: Entry, that: Entry) -> Entry | None:
    """The entry that a call satisfies exactly if it satisfies both; None if no call can."""
    pattern = pattern_in_common(this.pattern, that.pattern)
    if pattern is None:
        return None
    if this.args is UNSET or that.args is UNSET:
        return Entry(pattern, that.args if this.args is UNSET else this.args)
    args = _pairs_in_common(this.args, that.args)
    return None if args is None else Entry(pattern, args)


def pattern_in_common(this: str, that: str) -> str | None:
    """The narrower of two patterns, if it is within the other; else None, because they share no action."""
    if _within(this, that):
        return this
    return that if _within(that, this) else None


def constraint_in_common(*constraints: AnyConstraint) -> AnyConstraint | None:
    """One constraint that accepts exactly the values that all of these accept; None if there are none."""
    parts = _distinct(_flat(constraints))
    if any(type(part) is Absent for part in parts):
        return Absent() if all(part.judge(MISSING) is True for part in parts) else None
    if any(type(part) in _LISTS for part in parts):
        return _one_of(parts)
    if not _ALL.intersection(*map(_kinds, parts)):
        return None
    merged: list[AnyConstraint] = []
    for part in parts:
        if merged and type(merged[-1]) is type(part):
            both = _merged(merged.pop(), part)
            if both is None:
                return None
            merged.extend(both)
        else:
            merged.append(part)
    if any(part.judge(MISSING) is not True for part in merged if type(part) is not Anything):
        merged = [part for part in merged if type(part) is not Anything]
    return _all_of(merged)


def _within(pattern: str, other: str) -> bool:
    return pattern == other or (other.endswith(".*") and pattern.startswith(other[:-1]))


def _covered(entry: Entry, free: set[str]) -> bool:
    labels = entry.pattern.removesuffix(".*").split(".")
    above = {".".join(labels[:at]) + ".*" for at in range(1, len(labels))}
    # `a.b` and `a.b.*` are within `a.*`. An entry does not cover itself, but it covers one that constrains arguments.
    return bool(free & above) or (entry.args is not UNSET and entry.pattern in free)


def _pairs_in_common(these: tuple[Pair, ...], those: tuple[Pair, ...]) -> tuple[Pair, ...] | None:
    left = {pair.name: pair.constraint for pair in these}
    right = {pair.name: pair.constraint for pair in those}
    rest_left, rest_right = left.pop(OTHERS, None), right.pop(OTHERS, None)
    pairs: list[Pair] = []
    for name in dict.fromkeys((*left, *right)):
        one, other = left.get(name), right.get(name)
        if one is not None and other is not None:
            both = constraint_in_common(one, other)
        elif one is not None:
            both = _judged_by_rest(one, rest_right)
        else:
            both = _judged_by_rest(right[name], rest_left)
        if both is None:
            return None
        pairs.append(Pair(name, both))
    if rest_left is not None and rest_right is not None:
        rest = constraint_in_common(rest_left, rest_right)
        if rest is not None:
            pairs.append(Pair(OTHERS, rest))
    return tuple(pairs)


def _judged_by_rest(named: AnyConstraint, rest: AnyConstraint | None) -> AnyConstraint | None:
    """The rule for a named argument, where the other list has only a rule for unnamed arguments, or none."""
    optional = named.judge(MISSING) is True
    if rest is None:
        return Absent() if optional else None
    if type(rest) is Anything:
        return named
    return constraint_in_common(named, AnyOf((Absent(), rest)) if optional else rest)


def _flat(constraints: Iterable[AnyConstraint]) -> Iterable[AnyConstraint]:
    for constraint in constraints:
        if type(constraint) is AllOf:
            yield from _flat(constraint.constraints)
        else:
            yield constraint


def _distinct(parts: Iterable[AnyConstraint]) -> list[AnyConstraint]:
    # Sorted by type, so that constraints of one type are neighbours and can be merged.
    found = {spelled(part): part for part in parts}
    return sorted(found.values(), key=lambda part: type(part).__name__)


def spelled(what: Entry | AnyConstraint) -> bytes:
    """The bytes to compare by: as Python values, `eq true` and `eq 1` are equal."""
    return msgspec.json.encode(what.wire())


def _all_of(parts: list[AnyConstraint]) -> AnyConstraint:
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


_LISTS = frozenset({Eq, In})
_Key: TypeAlias = tuple[object, ...]


def _one_of(parts: list[AnyConstraint]) -> AnyConstraint | None:
    """The literals that all lists contain and all other constraints accept, as one constraint; None if none."""
    lists = [_literals(part) for part in parts if type(part) in _LISTS]
    judges = [part for part in parts if type(part) not in _LISTS]
    allowed = [set(map(_key, literals)) for literals in lists[1:]]
    left = tuple(literal for literal in lists[0] if all(_key(literal) in keys for keys in allowed))
    if len(left) * sum(len(spelled(part)) for part in judges) > _JUDGEMENTS:
        # Too much work to check each literal: keep both parts. That is still exact.
        return _all_of([In(left), *judges])
    for part in judges:
        left = tuple(literal for literal in left if part.judge(literal) is True)
    if not left:
        return None
    return Eq(left[0]) if len(left) == 1 else In(left)


def _literals(part: AnyConstraint) -> tuple[Literal, ...]:
    if isinstance(part, Eq):
        return (part.literal,)
    return part.literals if isinstance(part, In) else ()


def _key(literal: Literal) -> _Key:
    """A key that is equal for equal JSON literals: 1 and 1.0 are equal, 1 and true are not, unlike in Python."""
    return tuple(map(_key, literal)) if isinstance(literal, tuple) else (isinstance(literal, bool), literal)


def _kinds(part: AnyConstraint) -> frozenset[str]:
    """The kinds of values that a constraint can judge; it accepts no others."""
    return _kinds(part.constraint) if type(part) is Not else _KINDS.get(type(part), _ALL)


def _merged(this: AnyConstraint, that: AnyConstraint) -> list[AnyConstraint] | None:
    """Two constraints of one type as one, if possible, else both; None if no value satisfies both."""
    both: AnyConstraint | None = None
    if type(this) is Range and type(that) is Range:
        lo, hi = _highest(this.lo, that.lo), _lowest(this.hi, that.hi)
        both = None if lo is not None and hi is not None and lo > hi else Range(lo, hi)
    elif type(this) is Length and type(that) is Length:
        least, most = _highest(this.lo, that.lo), _lowest(this.hi, that.hi)
        both = None if least is not None and most is not None and least > most else Length(least, most)
    elif type(this) is Prefix and type(that) is Prefix:
        both = _narrower(this, this.text, that, that.text)
    elif type(this) is Path and type(that) is Path:
        both = _narrower(this, this.root, that, that.root)
    else:
        return [this, that]
    return None if both is None else [both]


def _highest(one: N | None, other: N | None) -> N | None:
    return max((end for end in (one, other) if end is not None), default=None)


def _lowest(one: N | None, other: N | None) -> N | None:
    return min((end for end in (one, other) if end is not None), default=None)


def _narrower(this: AnyConstraint, at: str, that: AnyConstraint, other: str) -> AnyConstraint | None:
    if that.judge(at) is True:
        return this
    return that if this.judge(other) is True else None
