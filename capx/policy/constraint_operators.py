"""Read the operands of the operators with which a policy constrains an argument.

    eq = value          in = [value, …]        contains = [value, …]      not = constraint
    range = [lo, hi]    length = [lo, hi]      or { min = lo }, { max = hi }, { min = lo, max = hi }
    prefix = text       glob = text            regex = text               path = "/data/acme"
    host = ["*.x.org"]  cidr = ["10.0.0.0/8"]  url = { hosts = ["x.org"], schemes, ports, path }
    any = [constraint, …]    all = [constraint, …]    each = constraint, whose table may say min
    argv = ["git", …]   or { programs = ["git"], arguments = [["log"], …] }
    fields = { name = constraint, … }          absent = true              anything = true

Law: an operator has the name of its constraint class in the vocabulary, and its operand has the fields of that class.
Only the policy writes patterns: a host can come from an intent, but a glob, a regular expression or a host with `*`
cannot.
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
"""The fields of a constraint class; some may be placeholders for values of an intent."""


class NestedReaders(Struct, frozen=True):
    """Readers for what is inside a constraint: another constraint, or a table of names to constraints."""

    constraint: Callable[[object, str], Any]
    named: Callable[[object, str], Any]


def operand(operator: str, raw: object, path: str, within: NestedReaders) -> Parts:
    """Read the operand of an operator of `OPERATORS`."""
    return _READERS[operator](raw, path, within)


def hint(operator: str) -> str:
    """Return a suggestion for an unknown operator, as the end of a sentence."""
    return f": write {_INSTEAD[operator]}" if operator in _INSTEAD else near(operator, _READERS)


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


def _of(slot: Slot) -> Callable[[object, str, NestedReaders], Parts]:
    return lambda raw, path, _: (value(raw, path, slot),)


def _ends(slot: Slot) -> Callable[[object, str, NestedReaders], Parts]:
    def end(raw: object, path: str) -> Any:
        return value(raw, path, slot)

    def read(raw: object, path: str, _: NestedReaders) -> Parts:
        if isinstance(raw, dict):
            found = members(cast("object", raw), path, {"min": Field(end), "max": Field(end)})
            low, high = found.get("min"), found.get("max")
        else:
            both = elements(cast("object", raw), path, "two ends") if isinstance(raw, list) else []
            if len(both) != 2:
                raise wrong(path, "is not a range: write [lo, hi], { min = lo } or { max = hi }")
            low, high = every(end, both)
        return _with_probe(low, high), _with_probe(high, low)

    return read


def _with_probe(end: Any, other: Any) -> Any:
    """If one end of a range comes from the intent, use the other end as its probe.

    Then the range can be built with the probe, whatever the other end is.
    """
    if isinstance(end, Placeholder) and other is not None and not isinstance(other, Placeholder):
        return replace(end, slot=replace(end.slot, probe=other))
    return end


def _hosts(raw: object, path: str) -> Any:
    if isinstance(raw, str):
        return values(raw, path, HOST, "hosts")
    return every(_host_or_pattern, elements(raw, path, "hosts"))


def _host_or_pattern(raw: object, path: str) -> Any:
    found = value(raw, path, TEXT)
    # The policy may write `*.x.org`; a value of the intent must be one host.
    return replace(found, slot=HOST) if isinstance(found, Placeholder) else found


def _texts(raw: object, path: str) -> Any:
    return values(raw, path, TEXT, "strings")


def _ports(raw: object, path: str) -> Any:
    return values(raw, path, Slot("a port, 1 to 65535", _is_port, 443), "ports")


def _is_port(given: object) -> bool:
    # The exact type: a bool is an int in Python, and `true` would be port 1.
    return type(given) is int and 1 <= given <= 65535


def _url(raw: object, path: str, _: NestedReaders) -> Parts:
    fields = {
        "hosts": Field(_hosts, needed=True),
        "schemes": Field(lambda held, at: values(held, at, SCHEME, "schemes")),
        "ports": Field(_ports),
        "path": Field(lambda held, at: value(held, at, PATH)),
    }
    found = members(raw, path, fields)
    return found.get("schemes", ("https",)), found["hosts"], found.get("ports", ()), found.get("path", UNSET)


def _argv(raw: object, path: str, _: NestedReaders) -> Parts:
    if not isinstance(raw, dict):
        return (_texts(raw, path), UNSET)
    fields = {
        "programs": Field(_texts, needed=True),
        "arguments": Field(lambda held, at: every(_texts, elements(held, at, "arrays of strings"))),
    }
    found = members(cast("object", raw), path, fields)
    return found["programs"], found.get("arguments", UNSET)


def _each(raw: object, path: str, within: NestedReaders) -> Parts:
    rest: object = raw
    least: Any = 1
    if isinstance(raw, dict) and "min" in raw:
        given = cast("dict[str, object]", raw)
        # `min` is not an operator here: without it, the rest of the table must be one constraint.
        rest = {operator: operand for operator, operand in given.items() if operator != "min"}
        least = value(given["min"], key(path, "min"), NATURAL)
    return within.constraint(rest, path), least


def _several(raw: object, path: str, within: NestedReaders) -> Parts:
    return (every(within.constraint, elements(raw, path, "constraints")),)


def _true(raw: object, path: str, _: NestedReaders) -> Parts:
    if raw is not True:
        raise wrong(path, "must be true, the only value of this operator")
    return ()


_READERS: Final[Mapping[str, Callable[[object, str, NestedReaders], Parts]]] = {
    "eq": lambda raw, path, _: (literal(raw, path),),
    "in": lambda raw, path, _: (literals(raw, path),),
    "range": _ends(NUMBER),
    "prefix": _of(TEXT),
    "glob": lambda raw, path, _: (stated(raw, path),),
    "regex": lambda raw, path, _: (stated(raw, path),),
    "path": _of(PATH),
    "url": _url,
    "host": lambda raw, path, _: (_hosts(raw, path),),
    "cidr": lambda raw, path, _: (values(raw, path, NETWORK, "networks"),),
    "each": _each,
    "contains": lambda raw, path, _: (literals(raw, path),),
    "length": _ends(NATURAL),
    "fields": lambda raw, path, within: (within.named(raw, path),),
    "argv": _argv,
    "any": _several,
    "all": _several,
    "not": lambda raw, path, within: (within.constraint(raw, path),),
    "absent": _true,
    "anything": _true,
}
OPERATORS: Final = frozenset(_READERS)
"""The names of the operators: the tags of the constraint classes of the vocabulary."""
