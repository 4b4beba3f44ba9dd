"""The arguments of a tool whose function the guard does not have: judged as they were sent, if that is unambiguous.

Laws: a server must not be able to read a value as another one than the guard has judged. So each value has a JSON type
that the tool's schema names, and a text that parses as an array, an object, a boolean or null is refused, unless the
schema says exactly `string` there: some servers parse such texts. A default of the schema counts as the argument that
was left out. A schema that cannot be followed allows every type, and never more than that.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from capx.api.jsonrpc import Object, list_or_empty, object_or_none
from capx_caveats import shown

_DEEPEST: Final = 32
"""How deep values and references of a schema are followed."""
_TYPES: Final = {
    "string": str,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


class Schema:
    """The `inputSchema` of a tool."""

    def __init__(self, schema: Any) -> None:
        self._root = object_or_none(schema) or {}
        self._properties = object_or_none(self._root.get("properties")) or {}

    def problem(self, arguments: Mapping[str, Any]) -> str | None:
        """Return why these arguments are ambiguous, or None; the text names the argument."""
        rest = self._root.get("additionalProperties")
        for name, value in arguments.items():
            if why := self._problem(value, self._properties.get(name, rest), 0):
                return f"{shown(name)} {why}"
        return None

    def defaults(self, arguments: Mapping[str, Any]) -> Object:
        """Return the defaults of the arguments that were left out."""
        found = ((name, object_or_none(schema) or {}) for name, schema in self._properties.items())
        return {name: one["default"] for name, one in found if name not in arguments and "default" in one}

    def _problem(self, value: Any, schema: Any, depth: int) -> str | None:
        if depth > _DEEPEST:
            return "is nested too deeply to be judged"
        options = [*self._options(schema, depth)]
        # Each option that names types must be one that the value has; one without types takes any.
        fitting = [one for one in options if (kinds := _types(one)) is None or _is_of(value, kinds)]
        if not fitting:
            named = sorted({kind for one in options for kind in _types(one) or ()})
            return f"is not of a type that the tool's schema names there ({', '.join(named)})"
        if isinstance(value, str):
            only_text = all(_types(one) == {"string"} for one in options)
            return (
                None
                if only_text or not _parses(value)
                else ("is a text that a server may parse as another value: send the value itself")
            )
        problems = [self._inner_problem(value, one, depth) for one in fitting]
        return None if None in problems else problems[0]

    def _inner_problem(self, value: Any, schema: Object, depth: int) -> str | None:
        known, rest = object_or_none(schema.get("properties")) or {}, schema.get("additionalProperties")
        items = ((item, schema.get("items")) for item in list_or_empty(value))
        members = ((item, known.get(name, rest)) for name, item in (object_or_none(value) or {}).items())
        problems = (self._problem(item, one, depth + 1) for item, one in (*items, *members))
        return next(filter(None, problems), None)

    def _options(self, schema: Any, depth: int) -> Iterator[Object]:
        """Yield the schemas of which one has to fit; one without members for what cannot be followed."""
        found = object_or_none(schema)
        if found is None or depth > _DEEPEST:
            yield {}
            return
        if isinstance(reference := found.get("$ref"), str):
            yield from self._options(self._at(reference), depth + 1)
            return
        for word in ("anyOf", "oneOf"):
            if choices := list_or_empty(found.get(word)):
                for choice in choices:
                    yield from self._options(choice, depth + 1)
                return
        yield found

    def _at(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            return None
        at: Any = self._root
        for step in reference[2:].split("/"):
            at = (object_or_none(at) or {}).get(step)
        return at


def _types(schema: Object) -> set[str] | None:
    """The types that a schema names; None if it names none, or one that is unknown."""
    named = schema.get("type")
    found = [named] if isinstance(named, str) else list_or_empty(named)
    known = {*_TYPES, "integer", "number"}
    return set(found) if found and all(isinstance(one, str) and one in known for one in found) else None


def _is_of(value: Any, kinds: set[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in kinds
    if isinstance(value, int | float):
        return "number" in kinds or ("integer" in kinds and float(value).is_integer())
    return any(kind in kinds and isinstance(value, type_) for kind, type_ in _TYPES.items())


def _parses(text: str) -> bool:
    """Whether the text is an array, an object, a boolean or null in JSON. Numbers stay texts at the servers we know."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        # What nests too deeply for this reader may be parsed by another one.
        return text.lstrip()[:1] in ("[", "{") and len(text) > 1_000
    return found is None or isinstance(found, bool | list | dict)
