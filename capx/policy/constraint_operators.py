"""The operators with which a policy says what an argument must be, and how the operand of each is written.

    eq = value          in = [value, …]        contains = [value, …]      not = constraint
    range = [lo, hi]    length = [lo, hi]      or { min = lo }, { max = hi }, { min = lo, max = hi }
    prefix = text       glob = text            regex = text               path = "/data/acme"
    host = ["*.x.org"]  cidr = ["10.0.0.0/8"]  url = { hosts = ["x.org"], schemes, ports, path }
    any = [constraint, …]    all = [constraint, …]    each = constraint, whose table may say min
    argv = ["git", …]   or { programs = ["git"], arguments = [["log"], …] }
    fields = { name = constraint, … }          absent = true              anything = true

Law: an operator is called as the vocabulary calls it, and its operand holds what the fields of its class hold. A
pattern is the policy's to write: of an intent a host is taken, and neither a glob nor a regular expression.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from msgspec import UNSET, Struct
from msgspec.structs import replace

from capx.policy.placeholders import (
    HOST,
    NATURAL,
    NETWORK,
    NUMBER,
    PATH,
    SCHEME,
    TEXT,
    Placeholder,
    Slot,
    literal,
    literals,
    stated,
    value,
    values,
)
from capx.policy.toml_reader import Field, elements, every, key, members, near, wrong

Parts = tuple[Any, ...]
"""The fields of a constraint's class, what is taken from an intent not yet put in."""


class Within(Struct, frozen=True):
    """Reads what stands within a constraint: another one, or a table of names and theirs."""

    constraint: Callable[[object, str], Any]
    named: Callable[[object, str], Any]


def operand(operator: str, said: object, path: str, within: Within) -> Parts:
    """What a known operator is given."""
    return _READ[operator](said, path, within)


def instead(operator: str) -> str:
    """What a name that is no operator was meant for, as the end of a sentence."""
    return f": write {_INSTEAD[operator]}" if operator in _INSTEAD else near(operator, _READ)


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


def _of(slot: Slot) -> Callable[[object, str, Within], Parts]:
    return lambda said, path, _: (value(said, path, slot),)


def _ends(slot: Slot) -> Callable[[object, str, Within], Parts]:
    def end(said: object, path: str) -> Any:
        return value(said, path, slot)

    def read(said: object, path: str, _: Within) -> Parts:
        if isinstance(said, dict):
            found = members(cast("object", said), path, {"min": Field(end), "max": Field(end)})
            low, high = found.get("min"), found.get("max")
        else:
            both = elements(cast("object", said), path, "two ends") if isinstance(said, list) else []
            if len(both) != 2:
                raise wrong(path, "has not two ends: write [lo, hi], { min = lo } or { max = hi }")
            low, high = every(end, both)
        return _tried_with(low, high), _tried_with(high, low)

    return read


def _tried_with(end: Any, other: Any) -> Any:
    """An end, tried with what the other one is, if it is taken and the other one is not."""
    if isinstance(end, Placeholder) and other is not None and not isinstance(other, Placeholder):
        return replace(end, slot=replace(end.slot, probe=other))
    return end


def _hosts(said: object, path: str) -> Any:
    if isinstance(said, str):
        return values(said, path, HOST, "hosts")
    return every(_host_or_pattern, elements(said, path, "hosts"))


def _host_or_pattern(said: object, path: str) -> Any:
    found = value(said, path, TEXT)
    return replace(found, slot=HOST) if isinstance(found, Placeholder) else found


def _texts(said: object, path: str) -> Any:
    return values(said, path, TEXT, "texts")


def _ports(said: object, path: str) -> Any:
    return values(said, path, Slot("a port, 1 to 65535", _is_port, 443), "ports")


def _is_port(given: object) -> bool:
    return type(given) is int and 1 <= given <= 65535


def _url(said: object, path: str, _: Within) -> Parts:
    fields = {
        "hosts": Field(_hosts, needed=True),
        "schemes": Field(lambda held, at: values(held, at, SCHEME, "schemes")),
        "ports": Field(_ports),
        "path": Field(lambda held, at: value(held, at, PATH)),
    }
    found = members(said, path, fields)
    return found.get("schemes", ("https",)), found["hosts"], found.get("ports", ()), found.get("path", UNSET)


def _argv(said: object, path: str, _: Within) -> Parts:
    if not isinstance(said, dict):
        return (_texts(said, path), UNSET)
    fields = {
        "programs": Field(_texts, needed=True),
        "arguments": Field(lambda held, at: every(_texts, elements(held, at, "arrays of texts"))),
    }
    found = members(cast("object", said), path, fields)
    return found["programs"], found.get("arguments", UNSET)


def _each(said: object, path: str, within: Within) -> Parts:
    rest: object = said
    least: Any = 1
    if isinstance(said, dict) and "min" in said:
        given = cast("dict[str, object]", said)
        rest = {operator: operand for operator, operand in given.items() if operator != "min"}
        least = value(given["min"], key(path, "min"), NATURAL)
    return within.constraint(rest, path), least


def _several(said: object, path: str, within: Within) -> Parts:
    return (every(within.constraint, elements(said, path, "constraints")),)


def _true(said: object, path: str, _: Within) -> Parts:
    if said is not True:
        raise wrong(path, "is not true: there is nothing else to say")
    return ()


_READ: Final[Mapping[str, Callable[[object, str, Within], Parts]]] = {
    "eq": lambda said, path, _: (literal(said, path),),
    "in": lambda said, path, _: (literals(said, path),),
    "range": _ends(NUMBER),
    "prefix": _of(TEXT),
    "glob": lambda said, path, _: (stated(said, path),),
    "regex": lambda said, path, _: (stated(said, path),),
    "path": _of(PATH),
    "url": _url,
    "host": lambda said, path, _: (_hosts(said, path),),
    "cidr": lambda said, path, _: (values(said, path, NETWORK, "networks"),),
    "each": _each,
    "contains": lambda said, path, _: (literals(said, path),),
    "length": _ends(NATURAL),
    "fields": lambda said, path, within: (within.named(said, path),),
    "argv": _argv,
    "any": _several,
    "all": _several,
    "not": lambda said, path, within: (within.constraint(said, path),),
    "absent": _true,
    "anything": _true,
}
OPERATORS: Final = frozenset(_READ)
"""The operators, which are the tags of the vocabulary."""
