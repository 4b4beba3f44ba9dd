"""The rows hold for a reference adapter, and each row fails for an adapter that breaks it."""

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from capx.testing import Tool, conformance
from capx.testing.stage import Turn
from capx.verify.ask import Pending
from capx.verify.decision import Denied


def model_text(error: BaseException) -> str | None:
    """What a model reads of a refusal; None for what is no affair of a model."""
    if isinstance(error, Pending) or (isinstance(error, Denied) and error.status != 401):
        return str(error)
    return None


async def run(tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
    """Calls the functions themselves: those of one turn at once, plain ones in threads, each argument converted."""
    known = {tool.name: tool for tool in tools}
    texts: list[str] = []
    for turn in turns:
        texts += await asyncio.gather(*(called(known[name], args) for name, args in turn))
    return texts


async def called(tool: Tool, args: Mapping[str, Any]) -> str:
    try:
        return await result(tool, converted(tool, args))
    except Exception as error:
        text = model_text(error)
        if text is None:
            raise
        return text


async def result(tool: Tool, args: Mapping[str, Any]) -> str:
    if inspect.iscoroutinefunction(tool.guarded):
        return str(await tool.guarded(**args))
    return str(await asyncio.to_thread(tool.guarded, **args))


def converted(tool: Tool, args: Mapping[str, Any]) -> dict[str, Any]:
    types = tool.function.__annotations__
    return {name: msgspec.convert(value, types[name], strict=False) for name, value in args.items()}


test_reference = conformance(run)
