"""The stage of a row: what it demands of each run, and what it finds behind the errors of frameworks."""

import asyncio
from collections.abc import Sequence

import pytest

from capx.errors import InvalidRequest
from capx.testing import NotConformant, Tool, Turn
from capx.testing.stage import Stage, causes, demand_told, reasons_of, refusal_in, until
from tests.labs.reference_adapter import Reference

SEARCH = ("search", {"query": "Acme", "limit": 5})


class Fixed:
    """An adapter that returns the same, whatever was called."""

    def __init__(self, *texts: str) -> None:
        self.texts = [*texts]

    async def __call__(self, tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
        return self.texts


def read(adapter: Fixed, *turns: Turn, leak: bool = False) -> list[str]:
    with Stage(adapter, is_async=True) as stage:
        agent = stage.agent()
        if leak:
            adapter.texts.append(next(iter(agent.bundle)).text[-43:])
        return asyncio.run(stage.read(agent, *turns))


def test_the_results_come_back_in_the_order_of_the_calls() -> None:
    assert read(Fixed("one", "two", "a prompt"), [SEARCH], [SEARCH]) == ["one", "two"]


@pytest.mark.parametrize("texts", [(), ("one",), ("one", None)])
def test_an_adapter_must_return_a_text_for_each_call(texts: tuple[str, ...]) -> None:
    with pytest.raises(NotConformant, match="a text for each of 2 calls, and returned"):
        read(Fixed(*texts), [SEARCH, SEARCH])


def test_the_end_of_a_token_is_found_in_what_the_model_saw() -> None:
    with pytest.raises(NotConformant, match="the model saw a part of a token"):
        read(Fixed("found Acme"), [SEARCH], leak=True)


def test_a_presentation_is_found_in_what_the_model_saw() -> None:
    with pytest.raises(NotConformant, match="the model saw a part of a token"):
        read(Fixed("found capx1_abc"), [SEARCH])


def test_an_error_of_the_adapter_itself_passes_through() -> None:
    with Stage(Reference(), is_async=False) as stage, pytest.raises(KeyError):
        asyncio.run(stage.read(stage.agent(), [("no_such_tool", {})]))


def test_what_ran_is_compared_in_any_order() -> None:
    with Stage(Reference(), is_async=False) as stage:
        asyncio.run(stage.read(stage.agent(), [("note", {"text": "hello"})], [SEARCH]))
        stage.demand_ran("search", "note")
        with pytest.raises(NotConformant, match=r"^note, search ran, and nothing was to run$"):
            stage.demand_ran()


def test_a_call_to_compare_with_must_be_denied() -> None:
    with Stage(Reference(), is_async=True) as stage:
        agent = stage.agent()
        denial = asyncio.run(stage.denial(agent, "export", table="users"))
        assert len([*reasons_of(denial)]) == len(denial.refusals) + len(denial.notes) > 1
        with pytest.raises(RuntimeError, match="search was to be denied"):
            asyncio.run(stage.denial(agent, "search", query="Acme", limit=5))


def test_a_stage_ends_its_agents_and_its_authority() -> None:
    with Stage(Reference(), is_async=False) as stage:
        agent = stage.agent()
    with pytest.raises(InvalidRequest, match="closed"):
        agent.ask("desk.note")


def test_a_text_may_be_quoted_as_json() -> None:
    demand_told('{"error": "hop 1 (\\"writer\\") allows only this"}', 'hop 1 ("writer")')
    with pytest.raises(NotConformant, match="must read 'hop 2', and read 'hop 1'"):
        demand_told("hop 1", "hop 2")


def test_an_error_of_capx_is_found_behind_others() -> None:
    own = InvalidRequest("nobody acts")
    wrapped = RuntimeError("the run has failed")
    wrapped.__cause__ = own
    shown = ValueError("while that was handled")
    shown.__context__ = wrapped
    for error in (own, wrapped, shown, ExceptionGroup("all", [KeyError("a"), shown])):
        assert refusal_in(error) is own
    assert refusal_in(ExceptionGroup("all", [KeyError("a")])) is None


def test_errors_that_cause_each_other_are_each_found_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first
    assert [*causes(first)] == [first, second]


def test_what_does_not_come_in_time_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.testing.stage._PATIENCE", 0.02)
    with pytest.raises(NotConformant, match=r"^it did not come$"):
        asyncio.run(until(lambda: False, "it did not come"))
