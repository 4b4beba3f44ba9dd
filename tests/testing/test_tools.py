"""The tools of a row: what they note, and what an adapter finds out about them."""

import asyncio
import inspect
import typing

import pytest

import capx
from capx.authority.authority import Authority
from capx.testing import OpensByHand
from capx.testing.tools import Ran, ToolBroke, noting_tools


@pytest.mark.parametrize("is_async", [False, True])
def test_tools_are_functions_as_people_write_them(capx_authority: Authority, is_async: bool) -> None:
    tools = noting_tools(capx_authority, [], is_async=is_async)
    for tool in tools:
        assert tool.name == tool.guarded.__name__ == tool.function.__name__
        assert tool.action == f"desk.{tool.name}"
        assert tool.guarded.__doc__
        assert inspect.iscoroutinefunction(tool.guarded) is is_async
        # What a framework makes a schema of.
        assert set(typing.get_type_hints(tool.guarded)) == {*inspect.signature(tool.guarded).parameters, "return"}
    assert len({tool.name for tool in tools}) == len(tools)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_is_noted_with_what_the_function_got(
    capx_authority: Authority, capx_bundle: OpensByHand, is_async: bool
) -> None:
    ran: list[Ran] = []
    search, *_ = noting_tools(capx_authority, ran, is_async=is_async)
    bundle = capx_bundle("desk.search", tenant="Acme")
    with capx.acting(bundle):
        found = search.guarded("Acme")
        assert (asyncio.run(found) if is_async else found) == "found Acme"
    assert ran == [Ran("search", {"query": "Acme", "limit": 1000}, bundle.task)]


def test_a_run_without_a_decision_is_noted_for_no_task(capx_authority: Authority) -> None:
    ran: list[Ran] = []
    tools = {tool.name: tool for tool in noting_tools(capx_authority, ran, is_async=False)}
    assert tools["finish"].function("done") == "finished done"
    with pytest.raises(ToolBroke, match="the disk is full"):
        tools["fail"].function("the disk is full")
    assert [(one.name, one.task) for one in ran] == [("finish", None), ("fail", None)]


def test_the_tool_that_ends_the_work_ends_the_task(capx_authority: Authority, capx_bundle: OpensByHand) -> None:
    tools = {tool.name: tool for tool in noting_tools(capx_authority, [], is_async=False)}
    with capx.acting(capx_bundle("desk.*", tenant="Acme")):
        tools["finish"].guarded("done")
    assert [task.state for task in capx_authority.tasks()] == ["completed"]
