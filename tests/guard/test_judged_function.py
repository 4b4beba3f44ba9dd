"""A function that is judged with the arguments that it gets: which of them the caller sent, and which are injected."""

from typing import Any

import pytest
from langchain_core.tools import StructuredTool

from capx.errors import ConfigurationProblem, InvalidRequest
from capx.guard.call_facts import CallSpec
from capx.guard.judged_function import JudgedFunction


class Context:
    """What a framework fills in, and no caveat can see."""


def read(path: str, names: list[str], limit: int = 100, context: Context | None = None) -> None: ...


def judged(injected: tuple[str, ...] = ("context",), **facts: Any) -> JudgedFunction:
    return JudgedFunction(read, CallSpec("files.read", **facts), injected)


def test_injected_parameters_are_no_arguments() -> None:
    context = Context()
    bound = judged().bind((), {"path": "/a", "names": ["x"], "context": context})
    assert bound.stated.stated == ({"path": "/a", "names": ["x"]}, {"limit": 100})
    assert bound.runs.arguments["context"] is context
    with pytest.raises(InvalidRequest, match="cannot be judged"):
        judged(injected=()).bind((), {"path": "/a", "names": [], "context": context})


def test_what_a_framework_fills_in_stays_a_default() -> None:
    passed = {"path": "/a", "names": ["x"], "limit": 100, "context": None}
    bound = judged().bind((), passed, {"path", "names", "unknown"})
    assert bound.stated.stated == ({"path": "/a", "names": ["x"]}, {"limit": 100})
    assert bound.stated.presented.args == {"path": "/a", "names": ["x"]}
    assert bound.runs.arguments == passed


def test_what_a_framework_computes_is_an_argument() -> None:
    passed = {"path": "/a", "names": ["x"], "limit": 10**6, "context": None}
    bound = judged().bind((), passed, {"path", "names"})
    assert bound.stated.stated == ({"path": "/a", "names": ["x"], "limit": 10**6}, {})
    assert bound.stated.presented.args == {"path": "/a", "names": ["x"], "limit": 10**6}


def test_a_default_that_other_code_has_changed_is_an_argument() -> None:
    shared = ["x"]

    def find(names: list[str] = shared) -> None: ...  # the very mistake

    function = JudgedFunction(find, CallSpec("files.find"))
    assert function.bind((), {}).stated.stated == ({}, {"names": ["x"]})
    shared.append("secret")
    assert function.bind((), {}).stated.stated == ({"names": ["x", "secret"]}, {})


def test_the_function_gets_a_copy_of_what_was_judged() -> None:
    names = ["x"]
    bound = judged().bind(("/a", names), {})
    names.append("y")
    assert bound.runs.arguments["names"] == ["x"]
    assert bound.stated.stated.args["names"] == ["x"]


def test_facts_are_derived_from_arguments_only() -> None:
    def of_context(context: object) -> str:
        return "Acme"

    def attributes(path: str, limit: int) -> dict[str, Any]:
        return {"folder": path[:1], "many": limit > 50}

    with pytest.raises(ConfigurationProblem, match="takes context"):
        judged(tenant=of_context)
    derived = judged(attributes=attributes)
    facts = derived.bind(("/a", []), {}).stated.facts(lambda spec, values: spec.action)
    assert (facts.tenant, facts.attributes) == ("files.read", {"folder": "/", "many": True})


def test_an_injected_parameter_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigurationProblem, match="names ctx, which read does not take"):
        judged(injected=("ctx",))


def test_a_tool_of_a_framework_is_no_function() -> None:
    made: Any = StructuredTool.from_function(read, description="Read a file.")
    wanted = "a StructuredTool is no function: put the guard below the decorator that makes a tool of it"
    with pytest.raises(ConfigurationProblem, match=f"^{wanted}$"):
        JudgedFunction(made, CallSpec("files.read"))


def test_one_text_is_no_tuple_of_names() -> None:
    injected: Any = "context"
    with pytest.raises(ConfigurationProblem, match=r"`injected=` is one text: .*\('context',\)"):
        judged(injected=injected)
