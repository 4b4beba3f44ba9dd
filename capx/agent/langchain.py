"""LangChain 1 and LangGraph 1: how a refusal reaches the model, and a guard for tools that are not yours.

    from capx.agent.langchain import Refusals
    from langchain.agents import create_agent
    from langchain_core.language_models.fake_chat_models import FakeListChatModel

    model = FakeListChatModel(responses=["done"])
    agent = create_agent(model, tools=[], middleware=[Refusals()])

Guard your own functions with `Authority.tool` or `ToolGuard.tool`, and make tools of the guarded functions. Set the
actor around the run, with `agent.working()` or `capx.acting`, and resume an interrupted run in such a block, too.

Laws:

- A refusal is the result of that one tool call, with status `error`. The fault of the program ends the run.
- If a call is cancelled while its tool waits in a thread for a person, the tool does not run.
- Nothing of capx is in messages, state, configuration or checkpoints.
- What `Guarded` judges is what the tool gets. It calls no tool that it does not know.
- A parameter in `injected=` never gets what a model wrote.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from inspect import signature
from typing import Any, Final, cast

from msgspec import Struct

from capx.agent.framework import caller_scope, model_text
from capx.agent.library_version import demand_library
from capx.agent.protocols import JudgesCalls
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.tokens.guarded_function import guard_of, injected_parameters
from capx_caveats import InvalidCaveat, demand_json

# Outside of these ranges, hooks are called in another way, or not at all.
demand_library("langchain", at_least=(1, 3, 8), below=2, extra="langchain")
demand_library("langgraph", at_least=(1, 2), below=2, extra="langchain")

from langchain.agents.middleware import (  # noqa: E402 # its version is checked first
    AgentMiddleware,
    ModelRequest,
    ModelResponse,
    ToolCallRequest,
)
from langchain_core.messages import ToolMessage  # noqa: E402
from langchain_core.tools import BaseTool, StructuredTool  # noqa: E402
from langchain_core.utils.pydantic import get_fields  # noqa: E402
from langgraph.types import Command  # noqa: E402
from pydantic import BaseModel, ValidationError  # noqa: E402
from pydantic.dataclasses import is_pydantic_dataclass  # noqa: E402
from pydantic.fields import FieldInfo  # noqa: E402

__all__ = ["Guarded", "Refusals"]

Result = ToolMessage | Command[Any]

_SYNTHETIC: Final = frozenset({"args", "kwargs"})
"""Fields that stand for `*args` and `**kwargs` in a schema."""


class Refusals(AgentMiddleware[Any, Any, Any]):
    """Middleware that gives the model the reason of a refusal, as the result of the tool call.

    Put it last in `middleware`, so that it is next to the tool: middleware between them would get the refusal as an
    error, and perhaps call again. With LangGraph only: `ToolNode(tools, wrap_tool_call=refusals.wrap_tool_call,
    awrap_tool_call=refusals.awrap_tool_call)`, always both.

    ConfigurationProblem if a model can write a parameter that `injected=` names: before the model is called, and if the
    tool comes later, before it runs.
    """

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model, unless it could write an injected parameter of a tool."""
        _demand_filled(request.tools)
        return handler(request)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """`wrap_model_call`, for async runs."""
        _demand_filled(request.tools)
        return await handler(request)

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Result]) -> Result:
        """Call the tool, or return the message of a refusal."""
        try:
            with caller_scope():
                return handler(_without_injected(request))
        except Exception as error:
            if (text := model_text(error)) is None:
                raise
            return _message(request, text)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Result]]
    ) -> Result:
        """`wrap_tool_call`, for async runs."""
        try:
            # If this call is cancelled, its tool may still be in a thread.
            with caller_scope():
                return await handler(_without_injected(request))
        except Exception as error:
            if (text := model_text(error)) is None:
                raise
            return _message(request, text)


class Guarded(Refusals):
    """`Refusals` that also guards tools whose functions are not yours, such as those of a toolkit.

    `tools` has the name of each such tool, and its action; or the keywords of `ToolGuard.judging`, as in
    `{"search": {"action": "web.search", "tenant": GRANTED}}`. The arguments are validated with the tool's own schema,
    judged with its defaults as JSON, and the tool gets exactly these. Tools that were made of guarded functions pass.
    ConfigurationProblem for a call of any other tool, and for a tool whose schema does not say what its function gets:
    guard these where they run.
    """

    def __init__(self, guard: JudgesCalls, tools: Mapping[str, str | Mapping[str, Any]]) -> None:
        super().__init__()
        self._guard = guard
        self._facts = {
            name: {"action": facts} if isinstance(facts, str) else {**facts} for name, facts in tools.items()
        }
        for name, facts in self._facts.items():
            if "action" not in facts:
                raise ConfigurationProblem(f'the tool {name!r:.80} has no action: write it as "action"')

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Result]) -> Result:
        """Judge the call and make it, or return the message of a refusal."""

        def judged(asked: ToolCallRequest) -> Result:
            stated = self._stated(asked)
            if not isinstance(stated, _Stated):
                return stated or handler(asked)
            with self._guard.judging(args=stated.judged, **stated.terms):
                return handler(stated.request(asked))

        return super().wrap_tool_call(request, judged)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Result]]
    ) -> Result:
        """`wrap_tool_call`, for async runs."""

        async def judged(asked: ToolCallRequest) -> Result:
            stated = self._stated(asked)
            if not isinstance(stated, _Stated):
                return stated or await handler(asked)
            async with self._guard.judging_async(args=stated.judged, **stated.terms):
                return await handler(stated.request(asked))

        return await super().awrap_tool_call(request, judged)

    def _stated(self, request: ToolCallRequest) -> "_Stated | ToolMessage | None":
        """Return the call to judge; a message if there is nothing to call; None if the tool judges it by itself."""
        name = request.tool_call["name"]
        facts, tool = self._facts.get(name), request.tool
        if tool is None:
            # Not to the handler: middleware behind this one may know a tool of this name.
            return _message(request, f"there is no tool {name!r:.80}")
        if facts is None:
            if _guards_itself(tool):
                return None
            raise ConfigurationProblem(f"nobody judges the tool {name!r:.80}: give its action to Guarded")
        try:
            judged, given = _validated(tool, request.tool_call["args"])
            demand_json(judged)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            return _message(request, f"{name} was not called, because its arguments are wrong: {wrong}")
        except InvalidCaveat as error:
            return _message(request, f"{name} was not called, because nobody can judge its arguments: {error}")
        return _Stated(facts, judged, given)


class _Stated(Struct, frozen=True):
    """A call that is about to be judged: the keywords of `judging`, the arguments, and those that the tool is given."""

    terms: Mapping[str, Any]
    judged: Mapping[str, Any]
    given: dict[str, Any]

    def request(self, asked: ToolCallRequest) -> ToolCallRequest:
        """The request with these arguments."""
        return asked.override(tool_call={**asked.tool_call, "args": self.given})


def _message(request: ToolCallRequest, text: str) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")


def _demand_filled(tools: Iterable[object]) -> None:
    for tool in tools:
        # A tool of the model's own provider is a table.
        if isinstance(tool, BaseTool):
            names = _injected(tool)
            if _guards_itself(tool) and (filled := sorted(_needed(tool) - names - _shown(tool))):
                raise ConfigurationProblem(
                    f"models do not write {', '.join(filled)} of the tool {tool.name!r:.80}, so it is no argument: "
                    f"guard the function with injected={tuple(filled)}"
                )


def _needed(tool: BaseTool) -> set[str]:
    """The parameters without a default of the functions of a tool."""
    functions = (one for name in ("func", "coroutine") if (one := getattr(tool, name, None)) is not None)
    parameters = (each for one in functions for each in signature(one).parameters.values())
    return {each.name for each in parameters if each.default is each.empty}


def _shown(tool: BaseTool) -> set[str]:
    """The parameters that models see."""
    schema: Any = tool.tool_call_schema
    return {*(get_fields(schema) if isinstance(schema, type) else schema.get("properties", {}))}


def _injected(tool: BaseTool) -> frozenset[str]:
    """Return the parameters of a tool that no caveat sees; ConfigurationProblem if the model is shown one of them."""
    names = injected_parameters(getattr(tool, "func", None)) | injected_parameters(getattr(tool, "coroutine", None))
    if names and (written := sorted(names & _shown(tool))):
        raise ConfigurationProblem(
            f"models write {', '.join(written)} of the tool {tool.name!r:.80}, which no caveat would see: take it "
            "out of `injected=`, or annotate it as LangChain does what it fills in, such as ToolRuntime"
        )
    return names


def _without_injected(request: ToolCallRequest) -> ToolCallRequest:
    """The request without what the model wrote for parameters that its schema did not show."""
    call, tool = request.tool_call, request.tool
    if tool is None or (names := _injected(tool)).isdisjoint(call["args"]):
        return request
    return request.override(
        tool_call={**call, "args": {name: value for name, value in call["args"].items() if name not in names}}
    )


def _guards_itself(tool: BaseTool) -> bool:
    """Whether all functions of a tool are guarded ones."""
    if not isinstance(tool, StructuredTool):
        return False
    functions = [one for one in (tool.func, tool.coroutine) if one is not None]
    try:
        for function in functions:
            guard_of(function)
    except InvalidRequest:
        return False
    return bool(functions)


def _validated(tool: BaseTool, args: Mapping[str, Any]) -> "tuple[dict[str, Any], dict[str, Any]]":
    """Return the arguments that the function of a tool gets, as JSON, and those of them that the tool is to be given.

    The tool validates again, so what it then makes of them must be what is judged.
    """
    schema = _schema(tool)
    validated = schema.model_validate({**args})
    if _is_dumped_otherwise(validated):
        raise _unclear(tool, "leaves out, or writes in a way of its own, a member of an argument")
    judged = _dumped(validated)
    if not {*judged} >= {field.alias or name for name, field in schema.model_fields.items()}:
        raise _unclear(tool, "leaves out some arguments")
    # `limit: int = None` is a default that its own type refuses: leave it to the tool.
    given = {name: value for name, value in judged.items() if name in args or value is not None}
    try:
        again = schema.model_validate({**given})
    except ValidationError:
        again = None
    # Not what is written alone: a SecretStr is written as stars, and then it is stars.
    if again is None or _dumped(again) != judged or again != validated:
        raise _unclear(tool, "changes what it has validated before")
    return judged, given


def _is_dumped_otherwise(validated: BaseModel) -> bool:
    """Whether a model, or one inside of it, is written otherwise than the function gets it."""
    waiting: list[Any] = [validated]
    while waiting:
        value = waiting.pop()
        kind: Any = value.__class__
        if isinstance(value, BaseModel) or is_pydantic_dataclass(kind):
            decorators = kind.__pydantic_decorators__
            if decorators.field_serializers or decorators.model_serializers:
                return True
            if any(field.exclude for field in kind.__pydantic_fields__.values()):
                return True
            waiting += vars(value).values()
        elif is_dataclass(value):
            if any(isinstance(one.default, FieldInfo) for one in fields(value)):
                return True
            waiting += vars(value).values()
        elif isinstance(value, dict):
            waiting += [*value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += cast("list[Any]", value)
    return False


def _dumped(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True)


def _schema(tool: BaseTool) -> type[BaseModel]:
    """The schema of what a model may write, without what LangGraph fills in."""
    whole: object = tool.args_schema
    if not isinstance(whole, type) or not issubclass(whole, BaseModel):
        raise _unclear(tool, "is no pydantic model")
    if not _SYNTHETIC.isdisjoint(whole.model_fields):
        raise _unclear(tool, "takes *args or **kwargs")
    written = cast("type[BaseModel]", tool.tool_call_schema)
    if {*written.model_fields} == {*whole.model_fields}:
        return whole
    # LangChain copies the types of the fields into a smaller model, and leaves everything else behind.
    if _has_more_than_types(whole):
        raise _unclear(tool, "has validators, aliases or settings, and parameters that the framework fills in")
    return written


def _has_more_than_types(schema: type[BaseModel]) -> bool:
    decorators = schema.__pydantic_decorators__
    return (
        bool(decorators.field_validators or decorators.model_validators or decorators.validators)
        or any(field.validation_alias is not None for field in schema.model_fields.values())
        or not {*schema.model_config} <= {"arbitrary_types_allowed"}
    )


def _unclear(tool: BaseTool, why: str) -> ConfigurationProblem:
    return ConfigurationProblem(
        f"the schema of the tool {tool.name!r:.80} {why}, so nobody can say what its function gets: guard it where it "
        "runs"
    )
