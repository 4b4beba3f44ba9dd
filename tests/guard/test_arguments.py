"""Arguments that are judged as they were sent: no server can read a value as another one than was judged."""

import json
import random
import time
from typing import Any

import pytest

from capx.guard.mcp.arguments import Schema

AMBIGUOUS = [
    '["secret"]',
    '{"a": 1}',
    "true",
    "false",
    "null",
    " [1] ",
    "\n{}\n",
    "[" * 400 + "]" * 400,
    f"[{10**4000}]",
]
PLAIN = ["secret", "5", "1.5", "", "[a](https://b) " * 100, "[x", '"quoted"', "9" * 5000, "True", "None", "[1] and"]


def properties(**schemas: Any) -> Schema:
    return Schema({"type": "object", "properties": schemas})


def problem(schema: Any, value: Any) -> str | None:
    return properties(x=schema).problem({"x": value})


OPTIONAL_LIST = {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]}


def test_a_client_that_can_only_send_text_is_told_who_can_help() -> None:
    """It would be told to send an object, and then that only text fits."""
    only_text = properties(x={"type": "string"})
    for value, cure in (("{}", "the operator of the guard has to name it in `texts`"), ({}, "(string)")):
        assert cure in (only_text.problem({"x": value}) or "")
    either = properties(x={"type": ["string", "object"]})
    assert "send the value itself" in (either.problem({"x": "{}"}) or "")
    assert either.problem({"x": {}}) is None


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_a_text_that_parses_is_refused_unless_it_is_named(text: str) -> None:
    loose: list[dict[str, Any]] = [OPTIONAL_LIST, {}, {"type": ["string", "null"]}]
    exact: list[dict[str, Any]] = [{"type": "string"}, {"type": ["string"]}]
    for schema in loose:
        assert "may parse" in (problem(schema, text) or "")
        # Naming it helps only where nothing but a text fits.
        assert "may parse" in (properties(x=schema).problem({"x": text}, ("x",)) or "")
    for schema in exact:
        # A server of mcp 2 parses it all the same, if the function says nothing of the type.
        assert "may parse" in (problem(schema, text) or "")
        assert properties(x=schema).problem({"x": text}, ("x",)) is None
        assert problem({"type": "array", "items": schema}, [text]) is None


def test_a_name_in_another_case_is_refused() -> None:
    schema = properties(path={"type": "string"}, deep={"type": "object", "properties": {"Kind": {}}})
    for arguments in ({"path": "/a", "Path": "/b"}, {"PATH": "/b"}, {"deep": {"kind": 1}}, {"deep": {"\u212aind": 1}}):
        assert "upper and lower case" in (schema.problem(arguments) or "")
    assert schema.problem({"path": "/a", "deep": {"Kind": 1}, "other": 1}) is None


@pytest.mark.parametrize("text", PLAIN)
def test_a_text_that_stays_a_text_passes(text: str) -> None:
    for schema in (OPTIONAL_LIST, {}, {"type": "string"}, {"type": ["string", "null"]}):
        assert problem(schema, text) is None


def test_a_text_that_nests_too_deeply_to_be_read_is_refused() -> None:
    assert "may parse" in (problem({}, "[" * 100_000) or "")


def test_a_text_with_a_long_number_is_refused_like_any_other() -> None:
    # Python reads no longer numbers than 4300 digits by itself. Other languages do.
    assert "may parse" in (problem({}, f"[{'9' * 5000}]") or "")


@pytest.mark.parametrize("word", ["contentMediaType", "contentSchema", "contentEncoding"])
def test_a_text_that_holds_another_value_is_not_only_a_text(word: str) -> None:
    schema = {"type": "string", word: "application/json"}
    assert "may parse" in (problem(schema, '["secret"]') or "")
    assert problem(schema, "plain") is None


@pytest.mark.parametrize(
    ("kind", "fitting"),
    [
        ("integer", [0, -5, 1.0, 10**400]),
        ("number", [0, 1.5, 10**400]),
        ("boolean", [True, False]),
        ("array", [[], [1]]),
        ("object", [{}, {"a": 1}]),
        ("null", [None]),
        ("string", ["", "a"]),
    ],
)
def test_a_value_has_a_type_that_the_schema_names(kind: str, fitting: list[Any]) -> None:
    values: list[Any] = [0, 1.5, True, [], {}, None, "5", *fitting]
    for value in values:
        fits = problem({"type": kind}, value) is None
        assert fits == any(value == one and type(value) is type(one) for one in [*fitting, *alike(kind)]), value


def alike(kind: str) -> list[Any]:
    also: dict[str, list[Any]] = {"number": [0, 1.5], "string": ["5"]}
    return also.get(kind, [])


def test_a_text_is_no_number_and_a_number_is_no_truth() -> None:
    for kind, value in (("integer", "5"), ("boolean", 1), ("boolean", "true"), ("integer", True), ("number", False)):
        assert "not of a type" in (problem({"type": kind}, value) or "")


def test_the_argument_is_named_and_its_value_is_not() -> None:
    told = properties(path={"type": "integer"}).problem({"path": "hidden"})
    assert told == '"path" is not of a type that the tool\'s schema names there (integer)'


def test_members_and_items_are_compared_too() -> None:
    schema = {"type": "array", "items": {"type": "object", "additionalProperties": {"type": ["string", "null"]}}}
    assert problem(schema, [{"a": "b"}, {}]) is None
    assert problem(schema, [{"a": "b"}, {"a": "null"}]) is not None
    assert problem(schema, [{"a": 1}]) is not None
    assert problem(schema, [[]]) is not None


def test_one_schema_of_several_makes_a_text_ambiguous() -> None:
    either = {"anyOf": [{"type": "object", "properties": {"a": one}} for one in ({"type": "string"}, OPTIONAL_LIST)]}
    assert problem(either, {"a": "plain"}) is None
    assert "may parse" in (problem(either, {"a": "[1]"}) or "")
    # A schema that the other members rule out does not count.
    ruled_out = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
    other = {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "string"}}}
    assert problem({"oneOf": [ruled_out, other]}, {"a": "[1]", "b": 1}) is None


def test_no_alternative_hides_another() -> None:
    name = {"$ref": "#/$defs/name"}
    for choices in ([{"type": "integer"}, {"oneOf": [{"type": "string"}]}], [{"type": "integer"}, name, dict(name)]):
        schema = Schema({"properties": {"x": {"anyOf": choices}}, "$defs": {"name": {"type": "string"}}})
        assert schema.problem({"x": 1}) is None
        assert schema.problem({"x": "a"}) is None
        assert schema.problem({"x": True}) is not None


def test_what_the_guard_does_not_follow_allows_any_type() -> None:
    for schema in (True, None, 5, {"type": "whole"}, {"type": 5}, {"$ref": "https://x/y"}, {"$ref": "#/$defs/none"}):
        for value in (1, True, None, ["a"], {"a": 1}, "a"):
            assert problem(schema, value) is None
        assert "may parse" in (problem(schema, "[1]") or "")


def test_first_items_and_named_patterns_hide_no_other_schema() -> None:
    text = {"type": "string"}
    assert "may parse" in (problem({"type": "array", "prefixItems": [{}], "items": text}, ["[1]"]) or "")
    patterns: dict[str, Any] = {"type": "object", "patternProperties": {"^a": {}}, "additionalProperties": text}
    assert "may parse" in (problem(patterns, {"a": "[1]"}) or "")
    whole = Schema({"patternProperties": {"^a": {}}, "additionalProperties": text})
    assert whole.problem({"a": "[1]"}) is not None
    assert Schema({"additionalProperties": text}).problem({"a": "[1]"}, ("a",)) is None


def test_references_are_followed_inside_the_schema() -> None:
    schema = Schema({"properties": {"x": {"$ref": "#/$defs/name"}}, "$defs": {"name": {"type": "string"}}})
    assert schema.problem({"x": "[1]"}, ("x",)) is None
    assert schema.problem({"x": 1}) is not None


def test_an_argument_that_the_schema_does_not_name_is_judged() -> None:
    assert properties().problem({"new": "text"}) is None
    assert properties().problem({"new": "[1]"}) is not None


def test_defaults_are_those_of_arguments_that_were_left_out() -> None:
    schema = properties(limit={"type": "integer", "default": 1000}, all={"default": None}, path={"type": "string"})
    assert schema.defaults({}) == {"limit": 1000, "all": None}
    assert schema.defaults({"limit": 5}) == {"all": None}


@pytest.mark.parametrize("schema", [None, 5, "text", [], {}, {"properties": 5}, {"properties": [1]}])
def test_without_a_schema_only_ambiguous_texts_are_refused(schema: Any) -> None:
    assert Schema(schema).problem({"a": 1, "b": [None]}) is None
    assert Schema(schema).problem({"a": "null"}) is not None
    assert Schema(schema).defaults({}) == {}


# Hostile schemas


def quick(schema: Schema, arguments: dict[str, Any]) -> str | None:
    """What the schema says. A guard answers on an event loop, so it must not take long."""
    began = time.process_time()
    found = schema.problem(arguments)
    schema.defaults(arguments)
    assert time.process_time() - began < 5
    return found


def test_circles_of_references_end() -> None:
    circle = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    assert quick(Schema(circle | {"properties": {"x": {"$ref": "#/$defs/a"}}}), {"x": [1]}) is None
    itself = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "string"}]}}}
    assert quick(Schema(itself | {"properties": {"x": {"$ref": "#/$defs/a"}}}), {"x": 1}) is not None
    inner = {"type": "array", "items": {"$ref": "#/$defs/a"}}
    assert quick(Schema({"$defs": {"a": inner}, "properties": {"x": inner}}), {"x": [[[[]]]]}) is None


def test_alternatives_of_alternatives_are_bounded() -> None:
    defs = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 8} for n in range(40)}
    schema = Schema({"properties": {"x": {"$ref": "#/$defs/a0"}}, "$defs": defs})
    assert quick(schema, {"x": ["a"]}) is None
    assert quick(schema, {"x": "[1]"}) is not None


def test_alternatives_at_each_depth_are_bounded() -> None:
    choice: dict[str, Any] = {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/a"}} for _ in range(50)]}
    schema = Schema({"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": choice}})
    value: Any = []
    for _ in range(25):
        value = [value, [*value]]
    quick(schema, {"x": value})


def test_a_value_with_too_much_in_it_is_refused() -> None:
    assert "too much" in (quick(properties(x={"type": "array"}), {"x": [str(n) for n in range(300_000)]}) or "")


def test_values_are_followed_to_a_depth() -> None:
    deepest: Any = []
    for _ in range(32):
        deepest = [deepest]
    for whole in (properties(), properties(x={"type": "array"})):
        assert quick(whole, {"x": deepest}) is None
        assert "nested too deeply" in (quick(whole, {"x": [deepest]}) or "")


@pytest.mark.parametrize("many", [{"anyOf": [{"const": n} for n in range(100_000)]}, {"type": ["string"] * 100_000}])
def test_a_huge_schema_is_bounded(many: dict[str, Any]) -> None:
    schema = properties(**{f"p{n}": {"type": "string", "default": ""} for n in range(100_000)}, x=many)
    for _ in range(20):
        quick(schema, {"x": "text"})


def test_any_schema_at_all_is_answered() -> None:
    chance = random.Random(7)
    words = ["type", "properties", "anyOf", "oneOf", "$ref", "items", "additionalProperties", "default", "prefixItems"]

    def anything(depth: int) -> Any:
        kind = chance.randrange(6) if depth else chance.randrange(3)
        if kind == 5:
            return [anything(depth - 1) for _ in range(chance.randrange(4))]
        if kind >= 3:
            return {chance.choice(words): anything(depth - 1) for _ in range(chance.randrange(5))}
        return chance.choice([None, True, 5, "string", "array", "#/properties/x", "#/items", "#", ""])

    for _ in range(2000):
        schema = Schema(anything(6))
        for value in (None, 1, "[1]", ["a", {"x": "null"}], {"x": [True, 1.5]}, json.loads("[[[[[]]]]]")):
            quick(schema, {"x": value})
