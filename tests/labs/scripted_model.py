"""A chat model of LangChain that makes the calls of a script, turn by turn, and notes what it reads."""

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from capx.testing import Turn


class ScriptedModel(BaseChatModel):
    """It makes the calls of one turn after the other, and then says that it is done."""

    turns: list[Any]
    read: list[BaseMessage] = Field(default_factory=list[BaseMessage])
    """All messages that it was shown last."""
    tools: list[Any] = Field(default_factory=list[Any])

    @classmethod
    def of(cls, *turns: Turn) -> "ScriptedModel":
        return cls(turns=[list(turn) for turn in turns])

    @property
    def texts(self) -> list[str]:
        """What it read of each call, in the order of the calls."""
        results = {one.tool_call_id: str(one.content) for one in self.read if isinstance(one, ToolMessage)}
        calls = sorted(results, key=lambda name: tuple(map(int, name.split("."))))
        return [results[name] for name in calls]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **settings: Any) -> Any:
        del settings
        self.tools[:] = tools
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **settings: Any,
    ) -> ChatResult:
        del stop, run_manager, settings
        self.read[:] = messages
        turn = sum(isinstance(one, AIMessage) for one in messages)
        calls: Turn = self.turns[turn] if turn < len(self.turns) else []
        made: list[Any] = [
            {"name": name, "args": dict(args), "id": f"{turn}.{number}"} for number, (name, args) in enumerate(calls)
        ]
        message = AIMessage("" if made else "done", tool_calls=made)
        return ChatResult(generations=[ChatGeneration(message=message)])
