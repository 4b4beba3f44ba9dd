"""Parameters that a framework fills in: no caveat sees them, and the function gets the very object."""

import asyncio
import inspect
from typing import Any

import pytest

from capx.agent.actor import acting
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.guard.current import current_allowed
from capx.guard.tool import on_loop
from capx.tokens.binding import Received, ToolCall
from capx.verify.decision import Denied
from capx_caveats import action


class Context:
    """What a framework passes: it is no JSON, and must not be copied."""

    def __init__(self) -> None:
        self.said: list[str] = []


def test_the_function_gets_the_very_object(lab: Authority) -> None:
    @lab.tool("crm.read", injected=("context",))
    def read(account: int, context: Context) -> Context:
        context.said.append(f"read {account}")
        return context

    @lab.tool("crm.read", injected=["context"])
    async def read_async(context: Context, account: int) -> Context:
        return context

    given = Context()
    with acting(lab.open(allow=[action("crm.read", account=7)]).bundle):
        assert read(7, context=given) is given
        assert given.said == ["read 7"]
        assert asyncio.run(read_async(given, 7)) is given
        assert asyncio.run(on_loop(read)(7, given)) is given
        with pytest.raises(Denied):
            read(8, given)


def test_no_presentation_and_no_caveat_sees_it(lab: Authority, admitted_calls: list[Received]) -> None:
    @lab.tool("crm.read", injected=("state", "context"))
    def read(account: int, state: dict[str, str] | None = None, context: Context | None = None) -> Any:
        allowed = current_allowed()
        return allowed and (dict(allowed.call.args), dict(allowed.call.defaults))

    with acting(lab.open(allow=[action("crm.read", account=7)]).bundle):
        # JSON or not, given or not.
        assert read(7, {"a": "b"}) == read(7) == ({"account": 7}, {})
    assert admitted_calls == [ToolCall("crm.read", {"account": 7})] * 2


def test_a_parameter_that_is_not_named_is_an_argument(lab: Authority) -> None:
    @lab.tool("crm.read")
    def read(context: Context) -> None: ...

    with acting(lab.open(allow=["crm.read"]).bundle), pytest.raises(InvalidRequest, match="'context' cannot be judged"):
        read(Context())


def test_no_fact_is_derived_from_it(lab: Authority) -> None:
    def tenant(context: Context) -> str:
        return "Acme"

    with pytest.raises(ConfigurationProblem, match="takes context"):

        @lab.tool("crm.read", tenant=tenant, injected=("context",))
        def read(context: Context) -> None: ...


@pytest.mark.parametrize("injected", ["context", ("contxt",)])
def test_a_name_that_is_no_parameter_is_refused(lab: Authority, injected: Any) -> None:
    with pytest.raises(ConfigurationProblem, match=r"is one text|names contxt"):

        @lab.tool("crm.read", injected=injected)
        def read(context: Context) -> None: ...


def test_a_framework_still_sees_the_parameter(lab: Authority) -> None:
    @lab.tool("crm.read", injected=("context",))
    def read(account: int, context: Context) -> None: ...

    assert list(inspect.signature(read).parameters) == ["account", "context"]
