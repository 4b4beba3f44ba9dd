"""An adapter for no framework: the model is a list of calls, and the text of a refusal is the result of its call."""

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from capx.testing import Tool, Turn
from capx.verify.ask import Pending
from capx.verify.decision import Denied


class Reference:
    """Calls the functions themselves: those of one turn at once, plain ones in threads.

    It converts arguments to the types of the function, as many frameworks do.
    """

    async def __call__(self, tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
        known = {tool.name: tool for tool in tools}
        texts: list[str] = []
        for turn in turns:
            texts += await asyncio.gather(*(self.text(known[name], args) for name, args in turn))
        return texts

    async def text(self, tool: Tool, args: Mapping[str, Any]) -> str:
        """What the model reads of one call."""
        try:
            return await self.result(tool, converted(tool, args))
        except (Denied, Pending) as refusal:
            return self.told(refusal)

    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        """What the tool returns."""
        return await called(tool.guarded, args)

    def told(self, refusal: Denied | Pending) -> str:
        """The text for the model; raises what is no affair of a model."""
        if isinstance(refusal, Denied) and refusal.status == 401:
            raise refusal
        return str(refusal)


async def called(function: Any, args: Mapping[str, Any]) -> str:
    """The result of a plain or an async function."""
    if inspect.iscoroutinefunction(function):
        return str(await function(**args))
    return str(await asyncio.to_thread(function, **args))


def converted(tool: Tool, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the function wants them: "7" becomes 7."""
    types = tool.function.__annotations__
    return {name: msgspec.convert(value, types[name], strict=False) for name, value in args.items()}
