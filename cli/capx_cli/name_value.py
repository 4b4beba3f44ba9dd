"""The language of NAME=VALUE: the meaning of a typed value.

    NAME=text                    the text itself        NAME:=JSON             a JSON value
    NAME=eq:text                 whatever it begins with
    NAME=range:0..50             NAME=range:10..        NAME=one_of:a,b        NAME=prefix:Q-
    NAME=path:/data/acme         NAME=glob:*.txt        NAME=regex:[a-z]+      NAME=length:1..10
    NAME=url:x.org,*.x.org       NAME=host:*.x.org      NAME=cidr:10.0.0.0/8   NAME=argv:git,hg
    NAME=contains:a,b            NAME=not_in:a,b        NAME=not:prefix:Q-     NAME=each:prefix:Q-
    NAME=absent:                 NAME=anything:

Law: a value is one value, whatever characters it has. An unknown prefix is refused, and not read as text.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from capx_caveats import JSON, AnyConstraint, Meant

_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(.*)", re.DOTALL)
_RANGE = re.compile(r"(.*?)\.\.(.*)", re.DOTALL)
_LENGTH = re.compile(r"([0-9]{0,16})\.\.([0-9]{0,16})")


def named_constraint(typed: str) -> "tuple[str, Meant]":
    """Return the name and the constraint of `NAME=VALUE` or `NAME:=JSON`."""
    name, value, is_json = _split(typed)
    try:
        return (name, from_json(value, typed)) if is_json else (name, constraint(value, name))
    except RecursionError:
        raise click.UsageError(f"{name!r:.80} has too many nested prefixes") from None


def constraint(value: str, name: str = "NAME") -> "Meant":
    """Return the meaning of a value: the text, or what its prefix says."""
    match = _PREFIX.fullmatch(value)
    if match is None:
        return value
    known = _PREFIXES.get(match[1])
    if known is None:
        raise click.UsageError(
            f"{match[1]}: is not a known kind of value ({', '.join(f'{each}:' for each in _PREFIXES)}); "
            f"to mean this text, write {name}=eq:{value}"
        )
    return known(match[2], name)


def arguments(typed: Iterable[str]) -> "dict[str, JSON]":
    """Return the arguments of a call: texts and JSON values, no constraints."""
    from capx_caveats import demand_json

    args: dict[str, JSON] = {}
    for each in typed:
        name, value, is_json = _split(each)
        meant = from_json(value, each) if is_json else value
        demand_json(meant)
        put(args, name, meant)
    return args


def from_json(value: str, typed: str) -> Any:
    """Parse a JSON value strictly: no name twice, and no NaN or infinity."""
    try:
        return json.loads(value, object_pairs_hook=_members, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{typed!r:.80} needs JSON after the :=, {error!s:.80}") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("the object has the same name twice")
    return members


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _split(typed: str) -> tuple[str, str, bool]:
    name, equals, value = typed.partition("=")
    is_json = name.endswith(":")
    name = name.removesuffix(":")
    if not equals or not name:
        raise click.UsageError(f"{typed!r:.80} is not NAME=VALUE or NAME:=JSON")
    return name, value, is_json


def put(values: "dict[str, Any]", name: str, value: Any) -> None:
    """Store a value under a name; UsageError for a name that was given before."""
    if name in values:
        raise click.UsageError(f"{name!r:.80} is given twice")
    values[name] = value


def _range(value: str, name: str) -> "AnyConstraint":
    from capx_caveats import between

    match = _RANGE.fullmatch(value)
    if match is None:
        raise click.UsageError(f"{name}=range:{value:.80} needs two ends: write range:0..50, range:10.. or range:..50")
    return between(_number(match[1], name), _number(match[2], name))


def _number(value: str, name: str) -> float | None:
    if not value:
        return None
    try:
        number = json.loads(value)
    except (ValueError, RecursionError):
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise click.UsageError(f"{name}=range: needs numbers, such as range:0..50, not {value!r:.40}")
    return number


def _length(value: str, name: str) -> "AnyConstraint":
    from capx_caveats import length

    match = _LENGTH.fullmatch(value)
    if match is None:
        raise click.UsageError(f"{name}=length:{value:.80} needs two ends: length:1..10, length:1.. or length:..10")
    lo, hi = (int(end) if end else None for end in match.groups())
    return length(lo, hi)


def _texts(builder: str) -> Callable[[str, str], "AnyConstraint"]:
    """A prefix that takes texts, separated by commas."""
    return lambda value, _: _builder(builder)(*value.split(","))


def _text(builder: str) -> Callable[[str, str], "AnyConstraint"]:
    """A prefix that takes one text, with any characters."""
    return lambda value, _: _builder(builder)(value)


def _builder(name: str) -> "Callable[..., AnyConstraint]":
    import capx_caveats

    return getattr(capx_caveats, name)  # type: ignore[no-any-return] # one of those in the table


def _url(value: str, name: str) -> "AnyConstraint":
    from capx_caveats import url

    hosts = value.split(",")
    if any(set(":/?#@") & set(host) for host in hosts):
        raise click.UsageError(
            f"{name}=url:{value} names more than hosts: write only hosts, {name}=url:x.org,*.x.org. For schemes, ports "
            "and a path use Python: url('x.org', schemes=['https'], ports=[8443], path='/v1')"
        )
    return url(*hosts)


def _of(builder: str) -> Callable[[str, str], "AnyConstraint"]:
    """A prefix before another value, which may have its own prefix."""
    return lambda value, name: _builder(builder)(constraint(value, name))


def _without_value(builder: str) -> Callable[[str, str], "AnyConstraint"]:
    """A prefix that takes no value."""

    def built(value: str, name: str) -> "AnyConstraint":
        if value:
            raise click.UsageError(f"{builder}: takes no value, but {name} has {value!r:.40} after it")
        return _builder(builder)()

    return built


_PREFIXES: Mapping[str, Callable[[str, str], "Meant"]] = {
    "eq": lambda value, _: value,
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
    "not": _of("not_"),
    "each": _of("each"),
    "absent": _without_value("absent"),
    "anything": _without_value("anything"),
}
