"""Guarded functions: what is presented, what is judged, and what never runs."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from capx.agent.actor import Actor, acting, current_actor
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.guard.call_facts import GRANTED, Tenancy
from capx.guard.current import current_allowed
from capx.guard.tool import ToolGuard, on_loop
from capx.tokens.binding import Received, ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.ask import Ask
from capx.verify.decision import Denied
from capx_caveats import JSON, action, between, budget, each, where
from tests.labs.meters import NotingMeter


def code_of(refused: pytest.ExceptionInfo[Denied]) -> str:
    return refused.value.code


def test_presentation_none(lab: Authority) -> None:
    ran: list[int] = []

    @lab.tool("crm.export")
    def export() -> None:
        ran.append(1)

    with pytest.raises(Denied) as refused:
        export()
    assert code_of(refused) == "no_token"
    assert refused.value.refusals[0].wanted == "run it inside `with capx.acting(bundle):`"
    assert not ran


def test_a_bundle_for_other_audiences_is_no_token(lab: Authority) -> None:
    @lab.tool("crm.export")
    def export() -> None: ...

    with acting(lab.open(allow=["slides.write"]).bundle), pytest.raises(Denied) as refused:
        export()
    assert code_of(refused) == "no_token"
    assert refused.value.refusals[0].wanted == "a bundle that holds a capability for crm"


def test_an_allowed_call_runs_and_may_be_made_again(lab: Authority) -> None:
    @lab.tool("slides.write")
    def write(deck: str, *, page: int = 1) -> tuple[str, int]:
        return deck, page

    with acting(lab.open(allow=["slides.write"]).bundle):
        assert write("deck-42") == ("deck-42", 1)
        assert write(deck="deck-42", page=2) == ("deck-42", 2)


async def test_an_async_function_is_guarded_too(lab: Authority) -> None:
    @lab.tool("slides.write")
    async def write(deck: str) -> str:
        await asyncio.sleep(0)
        return deck

    @lab.tool("slides.delete")
    async def delete() -> None:
        pytest.fail("it ran")

    with acting(lab.open(allow=["slides.write"]).bundle):
        assert await write("deck-42") == "deck-42"
        with pytest.raises(Denied) as refused:
            await delete()
        assert code_of(refused) == "action_not_allowed"


def test_a_default_is_judged_although_it_was_not_sent(lab: Authority) -> None:
    @lab.tool("crm.list")
    def rows(limit: int = 1000) -> int:
        return limit

    with acting(lab.open(allow=[action("crm.list", limit=between(1, 100))]).bundle):
        assert rows(100) == 100
        with pytest.raises(Denied) as refused:
            rows()
    assert code_of(refused) == "argument_refused"
    assert refused.value.refusals[0].given == {"limit": 1000}


def test_arguments_changed_after_the_call_do_not_run(lab: Authority) -> None:
    @lab.tool("crm.mail")
    async def mail(to: list[str]) -> list[str]:
        return to

    async def race() -> None:
        to = ["ann"]
        call = asyncio.ensure_future(mail(to))
        await asyncio.sleep(0)
        to.append("eve")
        assert await call == ["ann"]

    with acting(lab.open(allow=[action("crm.mail", to=each("ann"))]).bundle):
        asyncio.run(race())


def test_what_a_tool_changes_is_not_what_was_judged(lab: Authority) -> None:
    @lab.tool("crm.mail")
    def mail(to: list[str]) -> Any:
        to.append("eve")
        allowed = current_allowed()
        return None if allowed is None else allowed.call.args["to"]

    with acting(lab.open(allow=[action("crm.mail", to=each("ann"))]).bundle):
        assert mail(["ann"]) == ["ann"]


def test_no_other_thread_acts_with_the_bundle(lab: Authority) -> None:
    seen: list[Actor | None] = []
    bundle = lab.open(allow=["slides.write"]).bundle
    with acting(bundle):
        thread = threading.Thread(target=lambda: seen.append(current_actor()))
        thread.start()
        thread.join()
        assert current_actor() is bundle
    assert seen == [None]
    assert current_actor() is None


def test_the_bundle_before_is_back_after_the_block(lab: Authority) -> None:
    outer = lab.open(allow=["slides.write"]).bundle
    with acting(outer):
        with acting(outer.delegate(to="sub")) as inner:
            assert current_actor() is inner
        assert current_actor() is outer


def as_given(customer: str) -> str:
    return customer


def shouted(customer: str) -> str:
    return customer.upper()


def broken(customer: str) -> str:
    return f"{customer}\0"


TENANTS: list[tuple[Tenancy, str | None]] = [
    (None, "wrong_tenant"),
    ("Acme", None),
    ("Other", "wrong_tenant"),
    (GRANTED, None),
    (as_given, None),
    (shouted, "wrong_tenant"),
    (broken, "wrong_tenant"),
]


@pytest.mark.parametrize(("tenant", "refused"), TENANTS)
def test_whose_tenant_a_tool_serves(lab: Authority, tenant: Tenancy, refused: str | None) -> None:
    @lab.tool("crm.export", tenant=tenant)
    def export(customer: str) -> str:
        return customer

    def code() -> str | None:
        try:
            export("Acme")
        except Denied as denied:
            return denied.code
        return None

    with acting(lab.open(tenant="Acme", allow=["crm.export"]).bundle):
        assert code() == refused


def test_a_tool_without_a_tenant_tells_its_log_what_to_state(lab: Authority) -> None:
    told: list[dict[str, Any]] = []
    for tenant, logged in ((None, "the guard states no tenant: give it `tenant=`, such as GRANTED"), ("Other", "")):

        @lab.tool("crm.export", tenant=tenant)
        def export() -> None: ...

        with acting(lab.open(tenant="Acme", allow=["crm.export"]).bundle), pytest.raises(Denied) as refused:
            export()
        assert [refusal.detail for refusal in refused.value.decision.refusals] == [logged]
        told.append(refused.value.problem()["reasons"][0])
    # The bearer reads the same, whatever the tool states.
    assert told[0] == told[1]
    assert "states" not in str(told)


def test_granted_without_a_tenant_is_incomplete_authority(lab: Authority) -> None:
    @lab.tool("crm.export", tenant=GRANTED)
    def export() -> None: ...

    with acting(lab.open(allow=["crm.export"]).bundle), pytest.raises(Denied) as refused:
        export()
    assert code_of(refused) == "incomplete_authority"


def test_a_value_that_is_no_json_is_converted_openly_or_named(lab: Authority) -> None:
    @lab.tool("crm.since")
    def since(when: object) -> object:
        return when

    instant = datetime(2026, 11, 25, tzinfo=UTC)
    with acting(lab.open(allow=[action("crm.since", when=int(instant.timestamp()))]).bundle):
        assert since(instant) is instant
        with pytest.raises(InvalidRequest, match="'when' cannot be judged"):
            since(object())


def test_the_next_capability_is_tried_when_the_newest_is_refused(lab: Authority) -> None:
    @lab.tool("crm.export", tenant="Acme")
    def export() -> str:
        return "ran"

    task = lab.open(tenant="Acme", allow=["crm.export"])
    newest = lab.mint(task.id, allow=["crm.export"], caveats=[where("region", "EU")])
    with acting(Bundle([*task.bundle, *newest])):
        assert export() == "ran"
    with acting(newest), pytest.raises(Denied) as refused:
        export()
    assert code_of(refused) == "attribute_missing"


def test_an_older_capability_that_allows_the_call_is_used(lab: Authority) -> None:
    @lab.tool("crm.export")
    def export(customer: str) -> str:
        return customer

    task = lab.open(allow=[action("crm.export", customer="Acme")])
    newest = lab.mint(task.id, allow=[action("crm.export", customer="Globex")])
    with acting(Bundle([*task.bundle, *newest])):
        assert export("Acme") == "Acme"


def test_the_newest_of_several_denied_capabilities_explains_it(lab: Authority) -> None:
    @lab.tool("crm.export", attributes={"region": "US"})
    def export(rows: int) -> None: ...

    # Nobody can predict an attribute, so both are tried.
    task = lab.open(allow=["crm.export"], caveats=[where("region", "EU")])
    newest = lab.mint(task.id, allow=["crm.export"], caveats=[where("region", "UK")])
    with acting(Bundle([*task.bundle, *newest])), pytest.raises(Denied) as refused:
        export(1)
    assert "UK" in str(refused.value.refusals[0].wanted)


def test_of_two_that_rule_a_call_out_the_newest_explains_it(lab: Authority) -> None:
    @lab.tool("crm.export")
    def export(rows: int) -> None: ...

    task = lab.open(allow=[action("crm.export", rows=between(1, 5))])
    newer = lab.mint(task.id, allow=[action("crm.export", rows=between(1, 7))])
    newest = lab.mint(task.id, allow=["crm.read"])
    with acting(Bundle([*task.bundle, *newer, *newest])), pytest.raises(Denied) as refused:
        export(9)
    assert "7" in str(refused.value.refusals[0].wanted)


def test_a_presentation_covers_what_the_caller_gave(lab: Authority, admitted_calls: list[Received]) -> None:
    @lab.tool("slides.write")
    def write(deck: str, page: int = 1) -> int:
        return page

    with acting(lab.open(allow=["slides.write"]).bundle):
        write("deck-42")
    assert admitted_calls == [ToolCall("slides.write", {"deck": "deck-42"})]


@pytest.mark.parametrize("name", ["crm.export", "crm.delete"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_denial_suggests_an_ask_with_the_arguments(lab: Authority, name: str, is_async: bool) -> None:
    @lab.tool(name)
    def plain(customer: str, rows: int = 10) -> None: ...

    @lab.tool(name)
    async def waiting(customer: str, rows: int = 10) -> None: ...

    with acting(lab.open(allow=[action("crm.export", customer="Acme")]).bundle), pytest.raises(Denied) as refused:
        asyncio.run(waiting("Globex")) if is_async else plain("Globex")
    assert refused.value.ask == Ask.of(name, args={"customer": "Globex", "rows": 10})


def test_a_denial_from_within_the_tool_is_its_own(lab: Authority) -> None:
    ran: list[int] = []

    @lab.tool("crm.delete")
    def delete() -> None: ...

    @lab.tool("crm.export")
    def export() -> None:
        ran.append(1)
        delete()

    task = lab.open(allow=["crm.export"])
    both = Bundle([*task.bundle, *lab.mint(task.id, allow=["crm.export"])])
    with acting(both), pytest.raises(Denied) as refused:
        export()
    assert code_of(refused) == "action_not_allowed"
    assert ran == [1]


def test_use_after_completion(lab: Authority) -> None:
    @lab.tool("crm.export")
    def export() -> None: ...

    task = lab.open(allow=["crm.export"])
    with acting(task.bundle):
        export()
        lab.complete(task.id)
        with pytest.raises(Denied) as refused:
            export()
    assert code_of(refused) == "task_completed"


def taking_any(*names: str) -> None: ...


def taking_more(**names: str) -> None: ...


def generating() -> Generator[int]:
    yield 1


async def generating_async() -> Any:
    yield 1


named_at_length = eval(f"lambda {'x' * 129}: 1")


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (taking_any, "names"),
        (taking_more, "names"),
        (generating, "generator"),
        (generating_async, "generator"),
        (named_at_length, "1 to 128"),
    ],
)
def test_what_cannot_be_judged_whole_is_refused_when_guarded(lab: Authority, function: Any, why: str) -> None:
    with pytest.raises(ConfigurationProblem, match=why):
        lab.tool("crm.export")(function)


class Crm:
    def __init__(self, lab: Authority) -> None:
        self.key = "secret"
        self.erase = lab.tool("crm.delete")(self.delete)

    def delete(self, row: int) -> str:
        allowed = current_allowed()
        assert allowed is not None
        return f"{self.key} {row} {dict(allowed.call.args)}"

    @classmethod
    def drop(cls, row: int) -> int:
        return row

    @staticmethod
    def look(row: int) -> int:
        return row


@pytest.mark.parametrize("method", [Crm.delete, vars(Crm)["drop"].__func__])
def test_a_method_does_not_send_its_object_as_an_argument(lab: Authority, method: Any) -> None:
    with pytest.raises(ConfigurationProblem, match=rf"in __init__, as in self\.{method.__name__} = lab\.tool"):
        lab.tool("crm.delete")(method)


def test_a_bound_method_and_a_static_one_are_guarded(lab: Authority) -> None:
    def about(self: str) -> str:
        return self

    guard = lab.tool("crm.delete")
    with acting(lab.open(allow=["crm.delete"]).bundle):
        assert Crm(lab).erase(3) == "secret 3 {'row': 3}"
        assert guard(Crm.drop)(3) == guard(Crm.look)(3) == 3
        assert guard(about)("me") == "me"


async def looked_up(customer: str) -> str:
    return customer


def of_another(other: str) -> str:
    return other


@pytest.mark.parametrize("tenant", [looked_up, of_another])
def test_a_tenant_that_cannot_be_told_is_refused_when_guarded(lab: Authority, tenant: Any) -> None:
    with pytest.raises(ConfigurationProblem, match="tenant="):
        lab.tool("crm.export", tenant=tenant)(as_given)


def test_a_tool_without_an_action_is_refused(lab: Authority) -> None:
    with pytest.raises(ConfigurationProblem, match="not an action"):
        lab.tool("crm export")


def test_a_guarded_function_keeps_its_name_and_signature(lab: Authority) -> None:
    guarded = lab.tool("crm.export")(as_given)
    assert (guarded.__name__, list(inspect.signature(guarded).parameters)) == ("as_given", ["customer"])


def test_a_guarded_async_function_keeps_its_name(lab: Authority) -> None:
    assert lab.tool("crm.export")(looked_up).__name__ == "looked_up"


def test_a_tool_is_judged_at_the_audience_that_is_named(lab: Authority) -> None:
    @lab.tool("crm.export", audience="archive")
    def export() -> str:
        return "ran"

    with acting(lab.open(allow=["crm.export@archive"]).bundle):
        assert export() == "ran"


def test_attributes_and_costs_of_a_tool_are_judged(lab: Authority) -> None:
    def of_region(region: str) -> dict[str, JSON]:
        return {"region": region}

    @lab.tool("crm.export", attributes=of_region, cost={"eur": 3})
    def export(region: str) -> str:
        return region

    bounds = [where("region", "EU"), budget("eur", 5)]
    with acting(lab.open(allow=["crm.export"], caveats=bounds).bundle):
        assert export("EU") == "EU"
        for region, code in (("US", "argument_refused"), ("EU", "budget_exhausted")):
            with pytest.raises(Denied) as refused:
                export(region)
            assert code_of(refused) == code


def test_within_a_tool_its_decision_is_the_current_one(lab: Authority) -> None:
    @lab.tool("crm.export")
    def export() -> str:
        allowed = current_allowed()
        return "" if allowed is None else allowed.task

    task = lab.open(allow=["crm.export"])
    with acting(task.bundle):
        assert export() == task.id


def test_a_holder_of_nothing_is_told_what_to_ask_for(lab: Authority) -> None:
    @lab.tool("crm.export")
    def export(customer: str) -> None: ...

    holder = lab.open(allow=["slides.write"]).bundle
    with acting(holder), pytest.raises(Denied) as refused:
        export("Acme")
    assert refused.value.ask == Ask.of("crm.export", args={"customer": "Acme"})


def test_the_newest_capability_of_an_action_explains_it(lab: Authority) -> None:
    @lab.tool("crm.export")
    def export(rows: int) -> None: ...

    task = lab.open(allow=[action("crm.export", rows=between(1, 5))])
    newest = lab.mint(task.id, allow=["crm.read"])
    with acting(Bundle([*task.bundle, *newest])), pytest.raises(Denied) as refused:
        export(9)
    assert code_of(refused) == "argument_refused"


def test_when_nothing_speaks_of_an_action_the_newest_explains_it(lab: Authority) -> None:
    @lab.tool("crm.delete")
    def delete() -> None: ...

    with acting(lab.open(allow=["crm.export"]).bundle), pytest.raises(Denied) as refused:
        delete()
    assert code_of(refused) == "action_not_allowed"


async def test_the_twin_of_a_tool_runs_in_a_thread_under_its_decision(lab: Authority) -> None:
    seen: list[object] = []

    @lab.tool("crm.export")
    def export(rows: int = 3) -> int:
        seen.extend((threading.current_thread() is threading.main_thread(), current_allowed() is not None))
        return rows

    with acting(lab.open(allow=["crm.export"]).bundle):
        assert await on_loop(export)() == 3
    assert seen == [False, True]
    assert on_loop(export).__name__ == "export"


def test_a_twin_is_judged_as_its_tool_is(lab: Authority) -> None:
    @lab.tool("crm.export")
    def export(rows: int) -> None:
        pytest.fail(f"it ran with {rows}")

    async def act() -> None:
        with acting(lab.open(allow=[action("crm.export", rows=between(1, 5))]).bundle):
            await on_loop(export)(9)

    with pytest.raises(Denied) as refused:
        asyncio.run(act())
    assert code_of(refused) == "argument_refused"


def test_what_waits_on_the_loop_already_has_no_twin(lab: Authority) -> None:
    @lab.tool("crm.export")
    async def export() -> None: ...

    @lab.tool("crm.export")
    def plain() -> None: ...

    for tool in (export, on_loop(plain)):
        with pytest.raises(InvalidRequest, match="is async"):
            on_loop(tool)


async def test_a_decision_is_gone_when_its_tool_has_returned(lab: Authority) -> None:
    async def later(returned: asyncio.Event) -> None:
        assert current_allowed() is not None
        await returned.wait()
        assert current_allowed() is None

    tasks: list[asyncio.Task[None]] = []

    @lab.tool("crm.export")
    async def export(name: str) -> None:
        tasks.append(asyncio.create_task(later(returned), name=name))
        await asyncio.sleep(0)

    returned = asyncio.Event()
    with acting(lab.open(allow=["crm.export"]).bundle):
        await export("ann")
        returned.set()
        await tasks[0]


# What the guard does with a call


@pytest.mark.parametrize("is_async", [False, True])
def test_only_an_async_tool_is_judged_in_another_thread(lab: Authority, meter: NotingMeter, *, is_async: bool) -> None:
    guard = ToolGuard(lambda audience: lab.verifier(audience, meter=meter))

    @guard.tool("crm.export")
    def export(rows: int) -> int:
        return rows

    @guard.tool("crm.export")
    async def export_async(rows: int) -> int:
        return rows

    with acting(lab.open(allow=["crm.export"], caveats=[budget("calls", 5)]).bundle):
        assert (asyncio.run(export_async(3)) if is_async else export(3)) == 3
    assert [thread is threading.main_thread() for thread in meter.threads] == [not is_async]


def test_an_async_tool_gets_arguments_of_each_kind(lab: Authority) -> None:
    @lab.tool("crm.export")
    async def export(first: int, /, second: int, *, third: int, fourth: int = 4) -> tuple[int, ...]:
        return first, second, third, fourth

    with acting(lab.open(allow=["crm.export"]).bundle):
        assert asyncio.run(export(1, 2, third=3)) == (1, 2, 3, 4)


def test_a_capability_is_chosen_by_the_defaults_too(lab: Authority) -> None:
    @lab.tool("crm.list")
    def rows(limit: int = 50) -> int:
        return limit

    task = lab.open(allow=[action("crm.list", limit=between(1, 100))])
    newest = lab.mint(task.id, allow=[action("crm.list", limit=between(1, 5))])
    with acting(Bundle([*task.bundle, *newest])):
        assert rows() == 50


def test_work_that_is_left_over_is_told_by_the_functions_name(lab: Authority) -> None:
    @lab.tool("crm.list")
    def rows() -> Iterator[int]:
        return iter([1])

    @lab.tool("crm.list")
    async def rows_async() -> Iterator[int]:
        return iter([1])

    with acting(lab.open(allow=["crm.list"]).bundle):
        with pytest.raises(ConfigurationProblem, match=r"rows returned a list_iterator"):
            rows()
        with pytest.raises(ConfigurationProblem, match=r"rows_async returned a list_iterator"):
            asyncio.run(rows_async())


def test_an_argument_that_holds_itself_is_named(lab: Authority) -> None:
    @lab.tool("crm.mail")
    def mail(to: list[Any]) -> None: ...

    to: list[Any] = []
    to.append(to)
    with acting(lab.open(allow=["crm.mail"]).bundle), pytest.raises(InvalidRequest, match="'to' cannot be judged"):
        mail(to)


def test_a_partial_function_is_guarded_too(lab: Authority) -> None:
    def export(customer: str, rows: int) -> tuple[str, int]:
        return customer, rows

    guarded = lab.tool("crm.export")(functools.partial(export, "Acme"))
    with acting(lab.open(allow=[action("crm.export", rows=1)]).bundle):
        assert guarded(1) == ("Acme", 1)
        with pytest.raises(Denied):
            guarded(2)


@pytest.mark.parametrize("value", [2**60, float("nan"), "\ud800"], ids=["large", "not a number", "surrogate"])
def test_a_scalar_that_json_cannot_hold_is_an_error_of_ours(lab: Authority, value: Any) -> None:
    @lab.tool("crm.mail")
    def mail(to: Any) -> None:
        pytest.fail("it ran")

    with acting(lab.open(allow=["crm.mail"]).bundle), pytest.raises(InvalidRequest, match="'to' cannot be judged"):
        mail(value)


def test_a_value_that_is_too_deep_among_arguments_is_refused(lab: Authority) -> None:
    @lab.tool("crm.mail")
    def mail(to: Any) -> Any:
        return to

    deep: Any = 1
    for _ in range(63):
        deep = [deep]
    with acting(lab.open(allow=["crm.mail"]).bundle):
        assert mail(deep) == deep
        with pytest.raises(InvalidRequest, match=r"an argument cannot be judged: .* nest"):
            mail([deep])


def test_a_tool_beyond_the_bundle_says_what_is_missing(lab: Authority, caplog: pytest.LogCaptureFixture) -> None:
    guard = ToolGuard(lab.verifier)

    @guard.tool("crm.mail")
    def mail() -> None:
        pytest.fail("it ran")

    with acting(lab.open(allow=["slides.read"]).bundle), pytest.raises(Denied) as denied:
        mail()
    assert str(denied.value) == "no token was presented: this agent holds no capability for crm"
    assert denied.value.decision.action == "crm.mail"
    assert "denied crm.mail: no_token" in caplog.text
