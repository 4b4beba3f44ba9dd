"""How a policy writes what an argument must be: a value, or a table with one operator of the vocabulary.

    deck = "deck-42"    amount = { range = [0.01, 50] }    to = { url = { hosts = ["*.our.example"] } }

Laws: an operator is called as the vocabulary calls it, and makes what its class would. A table has exactly one; only
`each` takes `min` beside it. What is written is made once, with probes for what is taken from an intent, before any
intent exists; what a probe passes, a value that fits may still fail, and is then told by the same key path.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast, get_args

from msgspec import UNSET, Struct
from msgspec.structs import replace

from capx.policy_reading import (
    Field,
    elements,
    every,
    explained,
    key,
    members,
    name,
    near,
    table,
    wrong,
)
from capx.policy_values import (
    HOST,
    LITERAL,
    NATURAL,
    NETWORK,
    NUMBER,
    PATH,
    SCHEME,
    TEXT,
    Slot,
    Take,
    Taken,
    literal,
    literals,
    probing,
    stated,
    value,
    values,
)
from capx_caveats import AnyConstraint, Pair, is_label

_DEEPEST: Final = 16
"""Constraints within each other."""


class Made(Struct, frozen=True):
    """A constraint to be made: by which operator, at which key path, of which parts, some of them taken."""

    operator: str
    path: str
    parts: tuple[Any, ...]


class Named(Struct, frozen=True):
    """A name and the constraint for what it names."""

    name: str
    path: str
    constraint: Made


def filled(part: Any, take: Take) -> Any:
    """A part of a policy, what it takes put in, and every constraint made; Wrong if one cannot be."""
    if isinstance(part, Taken):
        return take(part)
    if isinstance(part, tuple):
        return every(filled, ((one, take) for one in part))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] # of anything
    if isinstance(part, Named):
        constraint = filled(part.constraint, take)
        return explained(part.path, lambda: Pair(part.name, constraint))
    if isinstance(part, Made):
        made = filled(part.parts, take)
        return explained(part.path, lambda: _MAKES[part.operator](*made))
    return part


def arguments(said: object, path: str) -> tuple[Named, ...]:
    """The arguments that a table names, in its order; Wrong if one of the constraints could never be made."""
    return _named(said, path, 0)


def _named(said: object, path: str, depth: int) -> tuple[Named, ...]:
    read = name(is_label, "an argument's name: 1 to 128 characters, none of them hidden")

    def one(argument: str, held: object) -> Named:
        at = key(path, argument)
        found = Named(read(argument, at), at, _constraint(held, at, depth))
        if depth == 0:
            filled(found, probing)
        return found

    return every(one, table(said, path).items())


def _constraint(said: object, path: str, depth: int) -> Made:
    if depth > _DEEPEST:
        raise wrong(path, f"is more than {_DEEPEST} constraints within each other")
    if isinstance(said, list):
        raise wrong(
            path, "is an array alone: write { in = [ … ] } for one of these, { eq = [ … ] } for an array like this"
        )
    if not isinstance(said, dict):
        return Made("eq", path, (value(said, path, LITERAL),))
    return _operation(cast("dict[str, object]", said), path, depth)


def _operation(said: Mapping[str, object], path: str, depth: int) -> Made:
    if not said:
        raise wrong(path, "has no operator: write { eq = … }, or { anything = true }")
    for operator in said:
        if operator not in _READ:
            raise wrong(key(path, operator), f"is no operator{_instead(operator)}")
    if len(said) > 1:
        raise wrong(path, f"has {len(said)} operators, {' and '.join(said)}: write {{ all = [{{ … }}, {{ … }}] }}")
    (operator, operand), *_ = said.items()
    at = key(path, operator)
    return Made(operator, path, _READ[operator](operand, at, depth))


def _instead(operator: str) -> str:
    if operator in _INSTEAD:
        return f": write {_INSTEAD[operator]}"
    return near(operator, _READ)


_INSTEAD: Final = {
    "not_in": "{ not = { in = [ … ] } }",
    "subset": "{ each = { in = [ … ] } }",
    "one_of": "{ in = [ … ] }",
    "between": "{ range = [lo, hi] }",
    "within": "{ path = … }",
    "min": "{ range = { min = … } }",
    "max": "{ range = { max = … } }",
    "any_of": "{ any = [ … ] }",
    "all_of": "{ all = [ … ] }",
}

Parts = tuple[Any, ...]


def _of(slot: Slot) -> Callable[[object, str, int], Parts]:
    return lambda said, path, _: (value(said, path, slot),)


def _list_of(slot: Slot, what: str) -> Callable[[object, str, int], Parts]:
    return lambda said, path, _: (values(said, path, slot, what),)


def _pattern(said: object, path: str, _: int) -> Parts:
    return (stated(said, path),)


def _ends(slot: Slot) -> Callable[[object, str, int], Parts]:
    end = Field(lambda said, path: value(said, path, slot))

    def read(said: object, path: str, _: int) -> Parts:
        if isinstance(said, dict):
            found = members(cast("object", said), path, {"min": end, "max": end})
            low, high = found.get("min"), found.get("max")
        else:
            both = elements(cast("object", said), path, "two ends") if isinstance(said, list) else []
            if len(both) != 2:
                raise wrong(path, "has not two ends: write [lo, hi], { min = lo } or { max = hi }")
            low, high = every(end.read, both)
        return _tried_with(low, high), _tried_with(high, low)

    return read


def _tried_with(end: Any, other: Any) -> Any:
    """An end, tried with what the other one is, if it is taken and the other one is not."""
    if isinstance(end, Taken) and other is not None and not isinstance(other, Taken):
        return replace(end, slot=replace(end.slot, probe=other))
    return end


def _host_or_pattern(said: object, path: str) -> Any:
    found = value(said, path, TEXT)
    return replace(found, slot=HOST) if isinstance(found, Taken) else found


def _hosts(said: object, path: str) -> Any:
    # A pattern is the policy's to write: of an intent a host is taken, and no pattern.
    if isinstance(said, str):
        return values(said, path, HOST, "hosts")
    return every(_host_or_pattern, elements(said, path, "hosts"))


def _ports(said: object, path: str) -> Any:
    return values(said, path, Slot("a port, 1 to 65535", _is_port, 443), "ports")


def _is_port(given: object) -> bool:
    return type(given) is int and 1 <= given <= 65535


def _texts(said: object, path: str) -> Any:
    return values(said, path, TEXT, "texts")


def _url(said: object, path: str, _: int) -> Parts:
    found = members(
        said,
        path,
        {
            "hosts": Field(_hosts, needed=True),
            "schemes": Field(lambda held, at: values(held, at, SCHEME, "schemes")),
            "ports": Field(_ports),
            "path": Field(lambda held, at: value(held, at, PATH)),
        },
    )
    return found.get("schemes", ("https",)), found["hosts"], found.get("ports", ()), found.get("path", UNSET)


def _argv(said: object, path: str, _: int) -> Parts:
    if not isinstance(said, dict):
        return (_texts(said, path), UNSET)
    lists = Field(lambda held, at: every(_texts, elements(held, at, "arrays of texts")))
    found = members(cast("object", said), path, {"programs": Field(_texts, needed=True), "arguments": lists})
    return found["programs"], found.get("arguments", UNSET)


def _one(said: object, path: str, depth: int) -> Parts:
    return (_constraint(said, path, depth + 1),)


def _each(said: object, path: str, depth: int) -> Parts:
    rest: object = said
    least: Any = 1
    if isinstance(said, dict) and "min" in said:
        given = cast("dict[str, object]", said)
        rest = {operator: operand for operator, operand in given.items() if operator != "min"}
        least = value(given["min"], key(path, "min"), NATURAL)
    return (*_one(rest, path, depth), least)


def _several(said: object, path: str, depth: int) -> Parts:
    return (every(lambda one, at: _constraint(one, at, depth + 1), elements(said, path, "constraints")),)


def _fields(said: object, path: str, depth: int) -> Parts:
    return (_named(said, path, depth + 1),)


def _true(said: object, path: str, _: int) -> Parts:
    if said is not True:
        raise wrong(path, "is not true: there is nothing else to say")
    return ()


_READ: Final[Mapping[str, Callable[[object, str, int], Parts]]] = {
    "eq": lambda said, path, _: (literal(said, path),),
    "in": lambda said, path, _: (literals(said, path),),
    "range": _ends(NUMBER),
    "prefix": _of(TEXT),
    "glob": _pattern,
    "regex": _pattern,
    "path": _of(PATH),
    "url": _url,
    "host": lambda said, path, _: (_hosts(said, path),),
    "cidr": _list_of(NETWORK, "networks"),
    "each": _each,
    "contains": lambda said, path, _: (literals(said, path),),
    "length": _ends(NATURAL),
    "fields": _fields,
    "argv": _argv,
    "any": _several,
    "all": _several,
    "not": _one,
    "absent": _true,
    "anything": _true,
}
"""The operators, each with what reads its operand."""

_MAKES: Final[Mapping[str, Callable[..., AnyConstraint]]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(AnyConstraint)
}
"""The classes of the vocabulary, by their tags."""
OPERATORS: Final = frozenset(_READ)
"""What a table that is a constraint may begin with."""
