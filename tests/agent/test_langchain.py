"""Agents of LangChain and graphs of LangGraph whose tools are guarded, with a model that follows a script."""

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Annotated, Any

import pydantic
import pytest
from langchain.tools import InjectedState, ToolRuntime
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from pydantic import BaseModel, Field, SecretStr, field_validator

from capx.agent.actor import acting
from capx.agent.agent import Agent
from capx.agent.framework import delegated_to
from capx.agent.langchain import Guarded, Refusals
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.call_facts import GRANTED
from capx.guard.current import current_allowed
from capx.guard.tool import ToolGuard, on_loop
from capx.testing import Tool, Turn, conformance
from capx.verify.decision import Denied
from capx_caveats import Entry, action, anything, between
from tests.labs.scripted_model import ScriptedModel

# Imported as anything: their types are only partly known.
agent_of: Any = import_module("langchain.agents").create_agent
graphs: Any = import_module("langgraph.graph")
make_tool: Any = StructuredTool.from_function
Runtime = ToolRuntime[None, dict[str, Any]]


def tool_of(function: Callable[..., Any]) -> BaseTool:
    made: BaseTool = make_tool(**{"coroutine" if inspect.iscoroutinefunction(function) else "func": function})
    return made


def tools_of(tools: Sequence[Tool]) -> list[BaseTool]:
    return [tool_of(one.guarded) for one in tools]


async def in_agent(tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
    model = ScriptedModel.of(*turns)
    await agent_of(model, tools_of(tools), middleware=[Refusals()]).ainvoke({"messages": "Begin."})
    return [*model.texts, str(model.read), str(model.tools)]


async def in_plain_run(tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
    """In a thread, without an event loop, where the tools are plain functions."""
    model = ScriptedModel.of(*turns)
    agent = agent_of(model, tools_of(tools), middleware=[Refusals()])
    if any(inspect.iscoroutinefunction(one.guarded) for one in tools):
        await agent.ainvoke({"messages": "Begin."})
    else:
        await asyncio.to_thread(agent.invoke, {"messages": "Begin."})
    return model.texts


async def streamed(tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
    model = ScriptedModel.of(*turns)
    agent = agent_of(model, tools_of(tools), middleware=[Refusals()])
    events = [str(one) async for one in agent.astream({"messages": "Begin."}, stream_mode=["updates", "messages"])]
    return [*model.texts, *events]


async def in_graph(tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
    model = ScriptedModel.of(*turns)
    await graph_of(model, tools_of(tools)).ainvoke({"messages": "Begin."})
    return model.texts


def graph_of(model: ScriptedModel, tools: list[BaseTool]) -> Any:
    """A graph without an agent of LangChain: a model, and a node of tools."""
    refusals = Refusals()
    node = ToolNode(tools, wrap_tool_call=refusals.wrap_tool_call, awrap_tool_call=refusals.awrap_tool_call)

    def call_model(state: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    def next_node(state: dict[str, Any]) -> str:
        last = state["messages"][-1]
        return "tools" if isinstance(last, AIMessage) and last.tool_calls else str(graphs.END)

    graph = graphs.StateGraph(graphs.MessagesState)
    graph.add_node("model", call_model)
    graph.add_node("tools", node)
    graph.add_edge(graphs.START, "model")
    graph.add_conditional_edges("model", next_node, ["tools", graphs.END])
    graph.add_edge("tools", "model")
    return graph.compile()


async def as_foreign_tools(tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
    """The functions are not guarded: the middleware judges their calls."""
    model = ScriptedModel.of(*turns)
    guarded = Guarded(
        ToolGuard(tools[0].authority.verifier),
        {one.name: {"action": one.action, "tenant": one.tenant} for one in tools},
    )
    foreign = [tool_of(one.function) for one in tools]
    await agent_of(model, foreign, middleware=[guarded]).ainvoke({"messages": "Begin."})
    return model.texts


test_an_agent = conformance(in_agent)
test_a_plain_agent = conformance(in_plain_run)
test_an_agent_that_streams = conformance(streamed)
test_a_graph = conformance(in_graph)
test_foreign_tools = conformance(as_foreign_tools)


# Without an event loop


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as authority:
        yield authority


@pytest.fixture
def agent(lab: Authority) -> Iterator[Agent]:
    allowed: list[str | Entry] = [action("web.search", query=anything(), limit=between(1, 20)), "desk.read"]
    with Agent(lab.open(tenant="Acme", allow=allowed).bundle, authority=lab) as agent:
        yield agent


@pytest.fixture
def read(lab: Authority) -> Callable[..., str]:
    @lab.tool("desk.read", tenant=GRANTED)
    def read(account: int) -> str:
        """Read an account."""
        return f"account {account}"

    return read


@pytest.fixture
def export(lab: Authority) -> Callable[..., str]:
    @lab.tool("desk.export", tenant=GRANTED)
    def export(table: str) -> str:
        """Export a table."""
        pytest.fail("it ran")

    return export


READ: Turn = [("read", {"account": 7})]
BOTH: Turn = [("read", {"account": 7}), ("export", {"table": "users"})]


def test_a_plain_run_reads_refusals_too(agent: Agent, read: Any, export: Any) -> None:
    model = ScriptedModel.of(BOTH, READ)
    chain = agent_of(model, [tool_of(read), tool_of(export)], middleware=[Refusals()])
    with acting(agent):
        chain.invoke({"messages": "Begin."})
    assert model.texts[0] == model.texts[2] == "account 7"
    assert "allows only desk.read; the agent asked for more" in model.texts[1]
    (refused,) = [one for one in model.read if isinstance(one, ToolMessage) and one.status == "error"]
    assert refused.name == "export"
    with pytest.raises(Denied) as nobody:
        chain.invoke({"messages": "Begin."})
    assert nobody.value.status == 401


def test_a_plain_graph_reads_refusals_too(agent: Agent, read: Any, export: Any) -> None:
    model = ScriptedModel.of(BOTH)
    with acting(agent):
        graph_of(model, [tool_of(read), tool_of(export)]).invoke({"messages": "Begin."})
    assert model.texts[0] == "account 7"
    assert "allows only desk.read; the agent asked for more" in model.texts[1]


async def test_the_twin_of_a_plain_tool_is_one_too(agent: Agent, read: Any) -> None:
    model = ScriptedModel.of(READ)
    chain = agent_of(model, [tool_of(on_loop(read))], middleware=[Refusals()])
    with acting(agent):
        await chain.ainvoke({"messages": "Begin."})
    assert model.texts == ["account 7"]


def test_what_the_framework_fills_in_is_no_argument(lab: Authority, agent: Agent) -> None:
    @lab.tool("desk.read", tenant=GRANTED, injected=("runtime", "state"))
    def read(account: int, runtime: Runtime, state: Annotated[dict[str, Any], InjectedState]) -> str:
        """Read an account."""
        allowed = current_allowed()
        return f"{runtime.tool_call_id} {len(state['messages'])} {allowed and dict(allowed.call.args)}"

    model = ScriptedModel.of(READ)
    with acting(agent):
        agent_of(model, [tool_of(read)], middleware=[Refusals()]).invoke({"messages": "Begin."})
    assert model.texts == ["0.0 2 {'account': 7}"]


def test_what_the_framework_fills_in_has_to_be_named(lab: Authority, agent: Agent) -> None:
    """Otherwise the run ends with an error about a value that nobody passed."""

    @lab.tool("desk.read", tenant=GRANTED)
    def read(account: int, runtime: Runtime, limit: int = 5) -> str:
        """Read an account."""
        return str(account)

    model = ScriptedModel.of(READ)
    with acting(agent), pytest.raises(ConfigurationProblem, match=r"with injected=\('runtime',\)"):
        agent_of(model, [tool_of(read)], middleware=[Refusals()]).invoke({"messages": "Begin."})
    assert model.read == []


def unfilled(lab: Authority, *, shown: bool = True) -> BaseTool:
    """A tool whose parameter `tenant` is no argument, and which LangChain does not fill in."""

    @lab.tool("desk.read", tenant=GRANTED, injected=("tenant",))
    def read(account: int, tenant: str = "mine") -> str:
        """Read an account."""
        return f"{account} of {tenant}"

    @functools.wraps(read)
    def logged(**given: Any) -> str:
        return read(**given)

    # With a schema of JSON, LangChain passes on whatever the model writes.
    schema = {"title": "read", "type": "object", "properties": {"account": {"type": "integer"}}}
    made: BaseTool = make_tool(logged, **({} if shown else {"args_schema": schema}))
    return made


@pytest.mark.parametrize("adapter", [Refusals(), Guarded(ToolGuard(lambda _: None), {})])  # type: ignore[arg-type, return-value]
async def test_a_model_is_not_called_that_could_inject(lab: Authority, agent: Agent, adapter: Refusals) -> None:
    model = ScriptedModel.of([("read", {"account": 7, "tenant": "evil"})])
    chain = agent_of(model, [unfilled(lab)], middleware=[adapter])
    with acting(agent), pytest.raises(ConfigurationProblem, match="models write tenant of the tool 'read'"):
        chain.invoke({"messages": "Begin."})
    with acting(agent), pytest.raises(ConfigurationProblem, match="take it out of `injected=`"):
        await chain.ainvoke({"messages": "Begin."})
    assert model.read == []


def test_a_graph_does_not_run_a_tool_that_a_model_injects(lab: Authority, agent: Agent) -> None:
    model = ScriptedModel.of([("read", {"account": 7, "tenant": "evil"})])
    with acting(agent), pytest.raises(ConfigurationProblem, match="models write tenant"):
        graph_of(model, [unfilled(lab)]).invoke({"messages": "Begin."})


def test_what_a_schema_did_not_show_is_not_the_models(lab: Authority, agent: Agent) -> None:
    model = ScriptedModel.of([("read", {"account": 7, "tenant": "evil"})])
    with acting(agent):
        agent_of(model, [unfilled(lab, shown=False)], middleware=[Refusals()]).invoke({"messages": "Begin."})
    assert model.texts == ["7 of mine"]


def test_a_sub_agent_is_a_tool_that_acts_for_itself(agent: Agent, read: Any, export: Any) -> None:
    inner = ScriptedModel.of(BOTH)
    writer = agent_of(inner, [tool_of(read), tool_of(export)], middleware=[Refusals()])

    @delegated_to(to="writer", allow=["web.search"])
    def write(text: str) -> str:
        """Have a text written."""
        writer.invoke({"messages": text})
        return inner.texts[0]

    model = ScriptedModel.of([("write", {"text": "a"})], READ)
    with acting(agent):
        agent_of(model, [tool_of(write), tool_of(read)], middleware=[Refusals()]).invoke({"messages": "Begin."})
    assert 'hop 1 ("writer")' in model.texts[0]
    assert model.texts[1] == "account 7"


# What is kept


class Trace(BaseCallbackHandler):
    """All that a tracer gets of a run."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)

        def note(*given: Any, **named: Any) -> None:
            self.seen.append(f"{name} {given} {named}")

        return note


def test_no_token_is_kept_anywhere(
    agent: Agent, read: Any, export: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    saver, trace = InMemorySaver(), Trace()
    config: Any = {"configurable": {"thread_id": "1"}, "callbacks": [trace]}
    model = ScriptedModel.of(BOTH)
    chain = agent_of(model, [tool_of(read), tool_of(export)], middleware=[Refusals()], checkpointer=saver)
    with agent.working():
        chain.invoke({"messages": "Begin."}, config)
    state = chain.get_state(config)
    kept = [str(state), str([*chain.get_state_history(config)]), str([*saver.list(None)]), str(vars(saver))]
    kept += [*trace.seen, caplog.text, *capfd.readouterr(), str(model.read)]
    assert any("account 7" in one for one in trace.seen)
    secrets = ["capx1_", *(one.text[-43:] for one in agent.bundle)]
    assert [text for text in kept for secret in secrets if secret in text] == []


def test_a_run_that_was_interrupted_goes_on_as_the_agent(lab: Authority, agent: Agent) -> None:
    ran: list[int] = []

    @lab.tool("desk.read", tenant=GRANTED)
    def read(account: int) -> str:
        """Read an account."""
        answer = interrupt("Which one?")
        ran.append(account)
        return f"account {account} {answer}"

    model = ScriptedModel.of(READ)
    saver, config = InMemorySaver(), {"configurable": {"thread_id": "1"}}
    chain: Any = agent_of(model, [tool_of(read)], middleware=[Refusals()], checkpointer=saver)
    with agent.working(complete=False):
        assert chain.invoke({"messages": "Begin."}, config)["__interrupt__"]
    assert not ran
    with pytest.raises(Denied):
        chain.invoke(Command(resume="this"), config)
    with agent.working():
        chain.invoke(Command(resume="this"), config)
    assert model.texts == ["account 7 this"]
    assert ran == [7]
    with acting(agent):
        agent_of(again := ScriptedModel.of(READ), [tool_of(read)], middleware=[Refusals()]).invoke(
            {"messages": "Begin."}
        )
    assert "completed" in again.texts[0]


# Tools that are not ours


class Search(BaseModel):
    query: str
    limit: int = 50


def search(**given: Any) -> str:
    return str(given)


def foreign(schema: Any, function: Callable[..., Any] = search, name: str = "search") -> BaseTool:
    return StructuredTool.from_function(function, name=name, description="Search.", args_schema=schema)


def run_guarded(lab: Authority, agent: Agent, tools: Sequence[BaseTool], *turns: Turn, **facts: Any) -> list[str]:
    model = ScriptedModel.of(*turns)
    guarded = Guarded(ToolGuard(lab.verifier), {"search": {"action": "web.search", "tenant": GRANTED, **facts}})
    with acting(agent):
        agent_of(model, tools, middleware=[guarded]).invoke({"messages": "Begin."})
    return model.texts


def test_a_foreign_tool_gets_what_was_judged(lab: Authority, agent: Agent) -> None:
    found, refused, wrong, unknown = run_guarded(
        lab,
        agent,
        [foreign(Search)],
        [("search", {"query": "x", "limit": "5", "more": 1})],
        [("search", {"query": "x"})],
        [("search", {"query": "x", "limit": "many"})],
        [("find", {"query": "x"})],
    )
    assert found == "{'query': 'x', 'limit': 5}"
    assert "limit" in refused
    assert "50" in refused
    assert wrong.startswith("search was not called, because its arguments are wrong: limit: ")
    assert unknown == "there is no tool 'find'"


def test_an_action_alone_names_a_foreign_tool(lab: Authority) -> None:
    model = ScriptedModel.of([("search", {"query": "x", "limit": 5})])
    with acting(lab.open(allow=["web.search"]).bundle):
        guarded = Guarded(ToolGuard(lab.verifier), {"search": "web.search"})
        agent_of(model, [foreign(Search)], middleware=[guarded]).invoke({"messages": "Begin."})
    assert model.texts == ["{'query': 'x', 'limit': 5}"]
    with pytest.raises(ConfigurationProblem, match="has no action"):
        Guarded(ToolGuard(lab.verifier), {"search": {"tenant": "Acme"}})


def test_a_tool_that_is_not_in_the_table_raises(lab: Authority, agent: Agent, read: Any) -> None:
    other = foreign(Search, name="find")
    with pytest.raises(ConfigurationProblem, match="nobody judges the tool 'find'"):
        run_guarded(lab, agent, [other], [("find", {"query": "x"})])
    # A tool of a guarded function judges its calls itself. A decorator around it may not.
    assert run_guarded(lab, agent, [tool_of(read)], READ) == ["account 7"]
    with pytest.raises(ConfigurationProblem, match="nobody judges the tool 'read'"):
        run_guarded(lab, agent, [foreign(None, decorated(read), "read")], READ)


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


class Careless(Search):
    """A schema with a default that its own type refuses."""

    site: str = None  # type: ignore[assignment] # as many tools have it


def test_a_default_that_its_type_refuses_is_judged_all_the_same(lab: Authority) -> None:
    model = ScriptedModel.of([("search", {"query": "x"})], [("search", {"query": "x", "site": "a"})])
    with acting(lab.open(allow=[action("web.search", query="x", limit=50, site=None)]).bundle):
        guarded = Guarded(ToolGuard(lab.verifier), {"search": "web.search"})
        agent_of(model, [foreign(Careless)], middleware=[guarded]).invoke({"messages": "Begin."})
    assert model.texts[0] == "{'query': 'x', 'limit': 50, 'site': None}"
    assert "site" in model.texts[1]


class Options(BaseModel):
    """An argument of which a member is not written."""

    path: str = "/x"
    force: bool = Field(default=True, exclude=True)


class Partial(Search):
    """A schema with such an argument."""

    options: Options = Options()


def test_a_member_that_is_not_written_cannot_be_judged(lab: Authority) -> None:
    model = ScriptedModel.of([("search", {"query": "x", "options": {"path": "/x", "force": False}})])
    guarded = Guarded(ToolGuard(lab.verifier), {"search": "web.search"})
    agent = agent_of(model, [foreign(Partial)], middleware=[guarded])
    with acting(lab.open(allow=["web.search"]).bundle), pytest.raises(ConfigurationProblem, match="leaves out, or"):
        agent.invoke({"messages": "Begin."})


@pydantic.dataclasses.dataclass
class Choices:
    """An argument of another kind, of which a member is not written."""

    path: str = "/x"
    force: bool = Field(default=True, exclude=True)


class Partly(Search):
    """A schema with such an argument."""

    choices: Choices = Choices()


class Secretive(Search):
    """A schema whose secret is written as stars."""

    password: SecretStr


class Measured(Search):
    """A schema with a number that may be none."""

    share: float


@pytest.mark.parametrize(
    ("schema", "args", "why"),
    [(Partly, {}, "leaves out, or"), (Secretive, {"password": "hunter2"}, "changes what it has validated before")],
)
def test_what_is_written_otherwise_cannot_be_judged(
    lab: Authority, schema: type[Search], args: dict[str, Any], why: str
) -> None:
    model = ScriptedModel.of([("search", {"query": "x", **args})])
    guarded = Guarded(ToolGuard(lab.verifier), {"search": "web.search"})
    agent = agent_of(model, [foreign(schema)], middleware=[guarded])
    with acting(lab.open(allow=["web.search"]).bundle), pytest.raises(ConfigurationProblem, match=why):
        agent.invoke({"messages": "Begin."})


@pytest.mark.parametrize("share", ["nan", "inf", 1e300])
def test_a_model_reads_that_a_number_cannot_be_judged(lab: Authority, share: Any) -> None:
    model = ScriptedModel.of([("search", {"query": "x", "share": share})])
    guarded = Guarded(ToolGuard(lab.verifier), {"search": "web.search"})
    with acting(lab.open(allow=["web.search"]).bundle):
        agent_of(model, [foreign(Measured)], middleware=[guarded]).invoke({"messages": "Begin."})
    assert "nobody can judge its arguments" in model.texts[0]


class Shouting(Search):
    """A schema that changes a value each time that it is validated."""

    @field_validator("query")
    @classmethod
    def shout(cls, query: str) -> str:
        return f"{query}!"


class Hiding(Search):
    """A schema that does not say what the function gets."""

    secret: int = Field(default=1, exclude=True)


def variadic(query: str, **kwargs: Any) -> str:
    return f"{query} {kwargs}"


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        (foreign(Shouting), "changes what it has validated before"),
        (foreign(Hiding), "leaves out"),
        (foreign({"type": "object", "properties": {"query": {"type": "string"}}}), "is no pydantic model"),
        (foreign(None, variadic), r"takes \*args or \*\*kwargs"),
    ],
)
def test_a_schema_that_does_not_say_what_runs_is_refused(lab: Authority, agent: Agent, tool: Any, why: str) -> None:
    with pytest.raises(ConfigurationProblem, match=why):
        run_guarded(lab, agent, [tool], [("search", {"query": "x", "limit": 5})])


class Stateful(Search):
    state: Annotated[dict[str, Any], InjectedState]


class StatefulShouting(Shouting):
    state: Annotated[dict[str, Any], InjectedState]


class StatefulNicknamed(Stateful):
    limit: int = Field(default=50, alias="most")


class StatefulStripping(Stateful):
    model_config = {"str_strip_whitespace": True}


def test_what_the_framework_fills_in_is_not_judged(lab: Authority, agent: Agent) -> None:
    def count(query: str, limit: int, state: dict[str, Any]) -> str:
        return f"{query} {limit} {len(state['messages'])}"

    calls: Turn = [("search", {"query": "x", "limit": "5", "state": {"messages": []}})]
    assert run_guarded(lab, agent, [foreign(Stateful, count)], calls) == ["x 5 2"]
    for schema in (StatefulShouting, StatefulNicknamed, StatefulStripping):
        with pytest.raises(ConfigurationProblem, match="has validators, aliases or settings, and parameters"):
            run_guarded(lab, agent, [foreign(schema, count)], calls)


class Nicknamed(Search):
    limit: int = Field(default=50, alias="most")


def test_an_alias_is_the_name_that_is_judged(lab: Authority) -> None:
    turns: list[Turn] = [[("search", {"query": "x", "most": "5"})], [("search", {"query": "x", "limit": 5})]]
    model = ScriptedModel.of(*turns)
    with acting(lab.open(allow=[action("web.search", query="x", most=5)]).bundle):
        guarded = Guarded(ToolGuard(lab.verifier), {"search": "web.search"})
        agent_of(model, [foreign(Nicknamed)], middleware=[guarded]).invoke({"messages": "Begin."})
    assert model.texts[0] == "{'query': 'x', 'limit': 5}"
    # The tool would not read this name, and take its default.
    assert "most" in model.texts[1]
