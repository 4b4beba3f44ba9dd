"""Each row fails for an adapter that breaks it, with plain and with async tools."""

import asyncio
import contextvars
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from capx.agent.actor import Actor, acting, bundle_of, current_actor
from capx.errors import Unavailable
from capx.testing import NotConformant, Tool, Turn
from capx.testing.adapters import KINDS, play
from capx.testing.rows import ROWS
from capx.tokens.binding import ToolCall
from capx.tokens.wording import sentence
from capx.verify.ask import Pending
from capx.verify.decision import Denied
from capx_caveats import Call
from tests.labs.reference_adapter import Reference, called, converted


class HidesReasons(Reference):
    def told(self, refusal: Denied | Pending) -> str:
        return "An error occurred. Please try again."


class LosesNotes(Reference):
    def told(self, refusal: Denied | Pending) -> str:
        return "; ".join(map(sentence, refusal.refusals)) if isinstance(refusal, Denied) else str(refusal)


class LosesHops(Reference):
    def told(self, refusal: Denied | Pending) -> str:
        return super().told(refusal).replace('hop 1 ("writer")', "somebody")


class EndsTheRun(Reference):
    def told(self, refusal: Denied | Pending) -> str:
        raise RuntimeError("the run has failed") from refusal


class RunsAnyway(Reference):
    """A hook that fails open."""

    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        try:
            return await super().result(tool, args)
        except (Denied, Pending):
            return await called(tool.function, args)


class JudgesWhatTheModelWrote(Reference):
    """A hook in front of the function: it sees neither defaults nor what becomes of a value."""

    async def text(self, tool: Tool, args: Mapping[str, Any]) -> str:
        actor = current_actor()
        assert actor is not None
        sent = ToolCall(tool.action, args)
        token = bundle_of(actor).present("desk", sent).text
        decision = tool.authority.verifier("desk").decide(token, sent, Call(tool.action, args, tenant=tool.tenant))
        if not decision.allowed:
            return self.told(Denied(decision))
        return await called(tool.function, converted(tool, args))


class LeaksTheToken(Reference):
    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        actor = current_actor()
        return f"{await super().result(tool, args)} {actor and bundle_of(actor).text}"


class LeaksInAPrompt(Reference):
    """Part of a token, without its prefix, in something that the model saw beside the results."""

    async def __call__(self, tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
        actor = current_actor()
        prompts = [] if actor is None else [f"Sign with {one.text[-60:]}" for one in bundle_of(actor)]
        return [*await super().__call__(tools, turns), *prompts]


class CallsTwice(Reference):
    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        await super().result(tool, args)
        return await super().result(tool, args)


class TriesAgain(Reference):
    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        try:
            return await super().result(tool, args)
        except RuntimeError:
            return await super().result(tool, args)


class DeniesFailures(Reference):
    """Passes on what a tool raises as if capx had refused the call."""

    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        try:
            return await super().result(tool, args)
        except RuntimeError:
            raise Unavailable("try again") from None


class LosesErrors(Reference):
    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        try:
            return await super().result(tool, args)
        except RuntimeError:
            failure = ValueError("the tool has failed")
        raise failure


class AsksForNothing(Reference):
    """Acts with a bundle, which cannot ask, in place of the agent."""

    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        actor = current_actor()
        if actor is None:
            return await super().result(tool, args)
        with acting(bundle_of(actor)):
            return await super().result(tool, args)


class TellsEverything(Reference):
    """The program's own mistake becomes a text for the model."""

    def told(self, refusal: Denied | Pending) -> str:
        return str(refusal)


class Caches(Reference):
    """Answers a call that was made before without making it."""

    async def __call__(self, tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
        self.cache: dict[str, str] = {}
        return await super().__call__(tools, turns)

    async def text(self, tool: Tool, args: Mapping[str, Any]) -> str:
        key = f"{tool.name} {args}"
        if key not in self.cache:
            self.cache[key] = await super().text(tool, args)
        return self.cache[key]


class ActsForTheFirst(Reference):
    """Keeps who acts in the adapter, for all its runs."""

    def __init__(self) -> None:
        self.first: Actor | None = None

    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        self.first = self.first or current_actor()
        assert self.first is not None
        with acting(self.first):
            return await super().result(tool, args)


class MixesUpResults(Reference):
    async def __call__(self, tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
        return (await super().__call__(tools, turns))[::-1]


class MakesFourAtMost(Reference):
    async def __call__(self, tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
        texts = await super().__call__(tools, [turn[:4] for turn in turns])
        return texts + ["too many calls"] * (sum(map(len, turns)) - len(texts))


class ReturnsTooLittle(Reference):
    async def __call__(self, tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
        return (await super().__call__(tools, turns))[:-1]


class GoesOnByItself(Reference):
    """Each call is a task of its own, which acts for itself, and which nobody cancels."""

    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        actor = current_actor()
        if actor is None:
            return await super().result(tool, args)
        self.own = asyncio.create_task(self.alone(actor, tool, args), context=contextvars.Context())
        return await asyncio.shield(self.own)

    async def alone(self, actor: Actor, tool: Tool, args: dict[str, Any]) -> str:
        with acting(actor):
            return await super().result(tool, args)


class WaitsForItsThreads(Reference):
    """A cancellation waits until the call has ended, and the block around the run is open so long."""

    async def result(self, tool: Tool, args: dict[str, Any]) -> str:
        work = asyncio.create_task(super().result(tool, args))
        cancelled: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError as cancellation:
                cancelled = cancellation
        if cancelled is not None:
            raise cancelled
        return work.result()


BREAKS: list[tuple[str, type[Reference], str]] = [
    ("allowed", CallsTwice, "search, search ran, and search was to run"),
    ("allowed", LeaksTheToken, "the model saw a part of a token"),
    ("allowed", LeaksInAPrompt, "the model saw a part of a token"),
    ("allowed", ReturnsTooLittle, r"a text for each of 1 calls, and returned \[\]"),
    ("default_judged", JudgesWhatTheModelWrote, "the model must read .* is 1000', and read"),
    ("default_judged", RunsAnyway, "search ran, and nothing was to run"),
    ("default_judged", HidesReasons, "the model must read .* and read 'An error"),
    ("coerced_value_judged", JudgesWhatTheModelWrote, "nothing ran, and search was to run"),
    ("coerced_value_judged", RunsAnyway, "search, search ran, and search was to run"),
    ("denied", RunsAnyway, "export, search ran, and search was to run"),
    ("denied", HidesReasons, "the model must read .* and read 'An error"),
    ("denied", EndsTheRun, "the run ended with .*, and the model reads nothing of Denied"),
    ("no_token_is_seen", LeaksTheToken, "the model saw a part of a token"),
    ("no_token_is_seen", LeaksInAPrompt, "the model saw a part of a token"),
    ("granted_within_the_call", AsksForNothing, "the model must read 'noted hello'"),
    ("granted_within_the_call", CallsTwice, "note, note ran, and note was to run"),
    ("pending_then_approved", RunsAnyway, "refund ran, and nothing was to run"),
    ("pending_then_approved", HidesReasons, "the model must read .* was asked: request"),
    ("pending_then_approved", EndsTheRun, "the run ended with .* the model reads nothing of Pending"),
    ("pending_then_approved", CallsTwice, "refund"),
    ("asked_and_refused", LosesNotes, "the model must read .* and read"),
    ("asked_and_refused", RunsAnyway, "export ran, and nothing was to run"),
    ("nobody_acts", TellsEverything, "nobody acted, and the model read"),
    ("nobody_acts", RunsAnyway, "nobody acted, and the model read"),
    ("delegated", LosesHops, r"the model must read 'hop 1 \(\"writer\"\)'"),
    ("delegated", RunsAnyway, "read, search ran, and search was to run"),
    ("completed_in_the_run", Caches, "the model must read 'task .* was completed', and read 'found Acme'"),
    ("completed_in_the_run", RunsAnyway, "finish, search, search ran"),
    ("two_runs_at_once", ActsForTheFirst, "the model must read"),
    ("twelve_calls_at_once", MixesUpResults, "the model must read 'found account 00', and read 'found account 11'"),
    ("twelve_calls_at_once", MakesFourAtMost, "the model must read 'found account 04', and read 'too many calls'"),
    ("twelve_calls_at_once", CallsTwice, "search ran"),
    ("eight_asks_at_once", AsksForNothing, "the model must read 'noted note 0'"),
    ("eight_asks_at_once", MakesFourAtMost, "the model must read 'noted note 4', and read 'too many calls'"),
    ("exception_inside", TriesAgain, "fail, fail ran, and fail was to run"),
    ("exception_inside", DeniesFailures, "the tool failed, and the run ended with Unavailable"),
    ("exception_inside", LosesErrors, "the tool failed, and the run ended with ValueError"),
    ("cancelled_while_waiting", GoesOnByItself, "refund ran, and nothing was to run"),
    ("cancelled_while_waiting", WaitsForItsThreads, "refund ran, and nothing was to run"),
    ("cancelled_while_waiting", AsksForNothing, "the run ended although a person was still to answer"),
]
"""A row, an adapter that breaks it, and how the row says so."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("row", "adapter", "says"), BREAKS)
def test_a_row_fails_for_an_adapter_that_breaks_it(row: str, adapter: type[Reference], says: str, kind: str) -> None:
    with pytest.raises(NotConformant, match=says):
        asyncio.run(play(adapter(), f"{row}-{kind}"))


def test_each_row_has_an_adapter_that_breaks_it() -> None:
    assert {row for row, _, _ in BREAKS} == set(ROWS)
