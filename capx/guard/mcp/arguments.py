"""The arguments of a tool whose function the guard does not have: judged as they were sent, if that is unambiguous.

Laws: a server must not be able to read a value as another one than the guard has judged. So each value has a JSON type
that the tool's schema names, and a text that parses as an array, an object, a boolean or null is refused: some servers
parse such texts, also where the schema says `string`. An operator can name arguments that the server takes as texts. A
name that differs from one of the schema only in upper and lower case is refused. A default of the schema counts as the
argument that was left out. A schema that cannot be followed allows every type, and never more than that. Whatever a
schema holds, a call is compared with it in a bounded number of steps.
"""

import json
from collections.abc import Container, Mapping
from functools import cached_property
from typing import Any, Final

from msgspec import Struct

from capx.api.jsonrpc import Object, list_or_empty, object_or_none
from capx.guard.mcp.member_names import folded
from capx_caveats import shown

_DEEPEST: Final = 32
"""How deep values are followed."""
_MOST_OPTIONS: Final = 64
"""How many schemas are followed from one by `$ref`, `anyOf` and `oneOf`."""
_MOST_STEPS: Final = 2**17
"""How many pairs of a value and a schema are compared for one call."""
_TYPES: Final = {
    "string": str,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
_AMBIGUOUS: Final = "is a text that a server may parse as another value: send the value itself"
_ONLY_TEXT: Final = (
    "is a text that a server may parse as another value: if the server takes it as text, the operator of the guard has "
    "to name it in `texts`"
)
_OTHER_CASE: Final = "has a name that differs from one of the tool's schema only in upper and lower case"


class _Option(Struct, frozen=True):
    """A schema without alternatives; `kinds` are the types that it names, None if it allows every type."""

    schema: Object
    kinds: frozenset[str] | None

    @property
    def is_text(self) -> bool:
        """Whether it says that the value is a text, and not that a server reads something else from that text."""
        encoded = self.schema.keys() & {"contentMediaType", "contentSchema", "contentEncoding"}
        return self.kinds == frozenset({"string"}) and not encoded


_ANY: Final = (_Option({}, None),)


class Schema:
    """The `inputSchema` of a tool."""

    def __init__(self, schema: Any) -> None:
        self._root = object_or_none(schema) or {}
        self._resolved: dict[int, tuple[_Option, ...]] = {}
        self._folded: dict[int, frozenset[str]] = {}

    def problem(self, arguments: Mapping[str, Any], texts: Container[str] = ()) -> str | None:
        """Return why these arguments are ambiguous, or None; the text names the argument.

        `texts` are arguments of which the operator says that the server takes them as the texts that they are.
        """
        comparison = _Comparison(self)
        for name, value in arguments.items():
            if self.differs_in_case(self._root, name):
                return f"{shown(name)} {_OTHER_CASE}"
            if why := comparison.problem(value, _member_schema(self._root, name), 0):
                return f"{shown(name)} {why}"
            # Where the schema says `string`: servers parse arguments, and not what is inside of them.
            if isinstance(value, str) and name not in texts and _parses(value):
                return f"{shown(name)} {_ONLY_TEXT}"
        return None

    def differs_in_case(self, schema: Object, name: str) -> bool:
        """Whether a name is none of an object's schema, and one of it is the same but for upper and lower case."""
        properties = object_or_none(schema.get("properties")) or {}
        if name in properties:
            return False
        if (known := self._folded.get(id(schema))) is None:
            known = self._folded[id(schema)] = folded(properties)
        return name.casefold() in known

    def defaults(self, arguments: Mapping[str, Any]) -> Object:
        """Return the defaults of the arguments that were left out."""
        return {name: value for name, value in self._defaults.items() if name not in arguments}

    @cached_property
    def _defaults(self) -> Object:
        properties = object_or_none(self._root.get("properties")) or {}
        found = ((name, object_or_none(schema) or {}) for name, schema in properties.items())
        return {name: one["default"] for name, one in found if "default" in one}

    def options(self, schema: Any) -> tuple[_Option, ...]:
        """Return the schemas of which one has to fit where this one stands."""
        # By identity: the root holds each part of the schema for as long as this object lives.
        if (found := self._resolved.get(id(schema))) is None:
            found = self._resolved[id(schema)] = self._options(schema)
        return found

    def _options(self, schema: Any) -> tuple[_Option, ...]:
        found: list[_Option] = []
        waiting, seen = [schema], set[int]()
        while waiting:
            one = object_or_none(waiting.pop())
            if one is None or len(seen) > _MOST_OPTIONS:
                return _ANY
            if id(one) in seen:
                continue
            seen.add(id(one))
            choices = list_or_empty(one.get("anyOf")) or list_or_empty(one.get("oneOf"))
            if isinstance(reference := one.get("$ref"), str):
                waiting.append(self._at(reference))
            elif choices:
                waiting += choices
            else:
                found.append(_Option(one, _types(one)))
        return tuple(found) or _ANY

    def _at(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            return None
        at: Any = self._root
        for step in reference[2:].split("/"):
            at = (object_or_none(at) or {}).get(step)
        return at


class _Comparison:
    """The arguments of one call, compared with a schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._found: dict[tuple[int, int], str | None] = {}
        """What is wrong with a value under a schema, by identity: alternatives would compare it again and again."""

    def problem(self, value: Any, schema: Any, depth: int) -> str | None:
        """Return what is wrong with a value for which this schema stands, or None."""
        key = id(value), id(schema)
        if key not in self._found:
            if depth > _DEEPEST or len(self._found) >= _MOST_STEPS:
                return "is nested too deeply, or holds too much, to be judged"
            self._found[key] = self._problem(value, self._schema.options(schema), depth)
        return self._found[key]

    def _problem(self, value: Any, options: tuple[_Option, ...], depth: int) -> str | None:
        fitting = [one for one in options if one.kinds is None or _is_of(value, one.kinds)]
        if not fitting:
            named = sorted({kind for one in options for kind in one.kinds or ()})
            return f"is not of a type that the tool's schema names there ({', '.join(named)})"
        if isinstance(value, str):
            return _AMBIGUOUS if _parses(value) and not all(one.is_text for one in options) else None
        problems = [self._inner_problem(value, one.schema, depth) for one in fitting]
        # Nobody knows which of several schemas a server goes by, so one that makes a text ambiguous is enough.
        return _AMBIGUOUS if _AMBIGUOUS in problems else None if None in problems else problems[0]

    def _inner_problem(self, value: Any, schema: Object, depth: int) -> str | None:
        # With a list of schemas for the first items, nothing is known of the others.
        of_items = None if "prefixItems" in schema else schema.get("items")
        items = ((item, of_items) for item in list_or_empty(value))
        named = object_or_none(value) or {}
        if any(self._schema.differs_in_case(schema, name) for name in named):
            return _OTHER_CASE
        members = ((item, _member_schema(schema, name)) for name, item in named.items())
        problems = (self.problem(item, one, depth + 1) for item, one in (*items, *members))
        return next(filter(None, problems), None)


def _member_schema(schema: Object, name: str) -> Any:
    """Return what a schema of objects says of the member of this name; None if that cannot be followed."""
    properties = object_or_none(schema.get("properties")) or {}
    rest = None if "patternProperties" in schema else schema.get("additionalProperties")
    return properties.get(name, rest)


def _types(schema: Object) -> frozenset[str] | None:
    """The types that a schema names; None if it names none, or one that is unknown."""
    named = schema.get("type")
    found = [named] if isinstance(named, str) else list_or_empty(named)
    known = {*_TYPES, "integer", "number"}
    return frozenset(found) if found and all(isinstance(one, str) and one in known for one in found) else None


def _is_of(value: Any, kinds: frozenset[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in kinds
    if isinstance(value, int | float):
        return "number" in kinds or ("integer" in kinds and (isinstance(value, int) or value.is_integer()))
    return any(kind in kinds and isinstance(value, type_) for kind, type_ in _TYPES.items())


def _parses(text: str) -> bool:
    """Whether the text is an array, an object, a boolean or null in JSON. Numbers stay texts at the servers we know."""
    try:
        # Numbers as texts: a long one costs nothing then, and is no error.
        found = json.loads(text, parse_int=str, parse_float=str)
    except ValueError:
        return False
    except RecursionError:
        # What nests too deeply for this reader may be parsed by another one.
        return True
    return found is None or isinstance(found, bool | list | dict)
