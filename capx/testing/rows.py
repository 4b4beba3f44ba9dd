"""The rows: what must hold for an agent whose tools are guarded, whatever framework calls them.

Laws: each row runs the adapter on a stage of its own, and raises NotConformant if it does not hold. A row looks only at
what the model read, and at what ran.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from capx.testing.stage import Stage, Turn, causes, demand, demand_told, reasons_of, refusal_in, until
from capx.testing.tools import ToolBroke

Row = Callable[[Stage], Awaitable[None]]
_GRACE: Final = 1.0
"""Seconds in which a tool would run that wrongly waits for the grant, also on a busy machine."""


async def allowed(stage: Stage) -> None:
    """A call that is allowed runs once, and the model reads its result."""
    (text,) = await stage.read(stage.agent(), [("search", {"query": "Acme", "limit": 10})])
    demand_told(text, "found Acme")
    stage.demand_ran("search")
    demand(stage.ran[0].args == {"query": "Acme", "limit": 10}, f"the function got {stage.ran[0].args}")


async def default_judged(stage: Stage) -> None:
    """A default is judged although the model did not write it: a limit of 1000 where 100 are allowed."""
    bundle = stage.agent().bundle
    (text,) = await stage.read(bundle, [("search", {"query": "Acme"})])
    stage.demand_ran()
    demand_told(text, *reasons_of(await stage.denial(bundle, "search", query="Acme")))


async def coerced_value_judged(stage: Stage) -> None:
    """The number that the function gets is judged, and not the text that the model wrote: "5" as 5, "500" as 500."""
    bundle = stage.agent().bundle
    turns = [("search", {"query": "Acme", "limit": "5"})], [("search", {"query": "Acme", "limit": "500"})]
    found, refused = await stage.read(bundle, *turns)
    stage.demand_ran("search")
    demand(stage.ran[0].args["limit"] == 5, f"the function got {stage.ran[0].args}")
    demand_told(found, "found Acme")
    demand_told(refused, *reasons_of(await stage.denial(bundle, "search", query="Acme", limit=500)))


async def denied(stage: Stage) -> None:
    """A call that is denied does not run, the model reads why, and the run goes on."""
    bundle = stage.agent().bundle
    turns = [("export", {"table": "users"})], [("search", {"query": "Acme", "limit": 5})]
    refused, found = await stage.read(bundle, *turns)
    stage.demand_ran("search")
    demand_told(refused, *reasons_of(await stage.denial(bundle, "export", table="users")))
    demand_told(found, "found Acme")


async def no_token_is_seen(stage: Stage) -> None:
    """Nothing that the model sees has a part of a token: of results, denials, grants and requests."""
    agent = stage.agent()
    turns = (
        [("search", {"query": "Acme", "limit": 10})],
        [("export", {"table": "users"})],
        [("note", {"text": "hello"})],
        [("refund", {"amount": 200})],
    )
    # The stage looks at what the model saw, in this row as in the others.
    await stage.read(agent, *turns)
    stage.demand_ran("search", "note")


async def granted_within_the_call(stage: Stage) -> None:
    """A call for which the agent can get a grant passes at once, and runs once."""
    (text,) = await stage.read(stage.agent(), [("note", {"text": "hello"})])
    demand_told(text, "noted hello")
    stage.demand_ran("note")


async def pending_then_approved(stage: Stage) -> None:
    """The model reads that a person was asked; after the yes, the same call passes, and runs once."""
    agent = stage.agent()
    refund = [("refund", {"amount": 200})]
    (text,) = await stage.read(agent, refund)
    stage.demand_ran()
    pending = await agent.ask_async("desk.refund", args={"amount": 200})
    demand_told(text, str(pending))
    stage.ben.approves()
    (text,) = await stage.read(agent, refund)
    demand_told(text, "refunded 200")
    stage.demand_ran("refund")


async def asked_and_refused(stage: Stage) -> None:
    """The model reads why the call was denied, and why the agent got nothing when it asked."""
    agent = stage.agent()
    (text,) = await stage.read(agent, [("export", {"table": "users"})])
    stage.demand_ran()
    denial = await stage.denial(agent, "export", table="users")
    if not denial.notes:
        raise RuntimeError("the agent did not ask, so this row shows nothing")
    demand_told(text, *reasons_of(denial))


async def nobody_acts(stage: Stage) -> None:
    """If nobody acts, the run ends with an error: it is a mistake of the program, and nothing for the model."""
    try:
        texts = await stage.run(None, [("search", {"query": "Acme", "limit": 10})])
    except Exception as error:
        if refusal_in(error) is None:
            raise
    else:
        demand(False, f"nobody acted, and the model read {texts!r:.400}")
    stage.demand_ran()


async def delegated(stage: Stage) -> None:
    """If a sub-agent acts, its own restriction denies the call, and the model reads whose it is."""
    child = stage.agent().delegate(to="writer", allow=["desk.search"])
    turns = [("search", {"query": "Acme", "limit": 5})], [("read", {"account": 8})]
    found, refused = await stage.read(child, *turns)
    stage.demand_ran("search")
    demand_told(found, "found Acme")
    demand_told(refused, 'hop 1 ("writer")', *reasons_of(await stage.denial(child, "read", account=8)))


async def completed_in_the_run(stage: Stage) -> None:
    """When the task ends in the middle of a run, the calls after that do not run."""
    search = [("search", {"query": "Acme", "limit": 5})]
    agent = stage.agent()
    before, ended, after = await stage.read(agent, search, [("finish", {"summary": "done"})], search)
    stage.demand_ran("search", "finish")
    demand_told(before, "found Acme")
    demand_told(ended, "finished done")
    demand_told(after, *reasons_of(await stage.denial(agent, "search", query="Acme", limit=5)))


async def two_runs_at_once(stage: Stage) -> None:
    """Two runs at once act each for their own agent."""
    first, second = stage.agent(), stage.agent()
    narrow = second.delegate(to="reader", allow=["desk.read"])

    def turns(whose: str) -> list[Turn]:
        searches: list[Turn] = [
            [("search", {"query": f"{whose} {turn}", "limit": 5}) for _ in range(2)] for turn in range(3)
        ]
        return [*searches, [("read", {"account": 8})]]

    texts, others = await asyncio.gather(stage.read(first, *turns("first")), stage.read(narrow, *turns("second")))
    for text in texts[:-1]:
        demand_told(text, "found first")
    for text in others[:-1]:
        demand_told(text, 'hop 1 ("reader")')
    stage.demand_ran(*["search"] * 6, "read", "read")
    tasks = {one.task for one in stage.ran if one.name == "search"}
    demand(tasks == {first.bundle.task}, f"the searches of one agent ran for the tasks {tasks}")
    reads = sorted(str(one.task) for one in stage.ran if one.name == "read")
    wanted = sorted(str(one.bundle.task) for one in (first, second))
    demand(reads == wanted, f"the two runs read for the tasks {reads}, and not for {wanted}")


async def twelve_calls_at_once(stage: Stage) -> None:
    """Each of twelve calls of one turn runs once, and the model reads each result in its place."""
    names = [f"account {number:02}" for number in range(12)]
    texts = await stage.read(stage.agent(), [("search", {"query": name, "limit": 1}) for name in names])
    for name, text in zip(names, texts, strict=True):
        demand_told(text, f"found {name}")
    stage.demand_ran(*["search"] * 12)


async def eight_asks_at_once(stage: Stage) -> None:
    """Each of eight calls of one turn that need the same grant gets it, and runs once."""
    names = [f"note {number}" for number in range(8)]
    texts = await stage.read(stage.agent(), [("note", {"text": name}) for name in names])
    for name, text in zip(names, texts, strict=True):
        demand_told(text, f"noted {name}")
    stage.demand_ran(*["note"] * 8)


async def exception_inside(stage: Stage) -> None:
    """A tool that raises ran once; what then happens is the framework's affair."""
    try:
        await stage.run(stage.agent(), [("fail", {"reason": "the disk is full"})])
    except Exception as error:  # noqa: BLE001 # a framework may wrap it in any of its own
        is_of_tool = any(isinstance(one, ToolBroke) for one in causes(error))
        demand(is_of_tool and refusal_in(error) is None, f"the tool failed, and the run ended with {error!r}")
    stage.demand_ran("fail")


async def cancelled_while_waiting(stage: Stage) -> None:
    """If a run is cancelled while a person decides, its call never runs, also if the person then says yes."""
    agent = stage.agent(wait=30)
    run = asyncio.create_task(stage.read(agent, [("refund", {"amount": 200})]))
    await until(lambda: run.done() or stage.ben.waiting(), "nobody was asked for the refund")
    if run.done():
        demand(False, f"the run ended although a person was still to answer: the model read {run.result()!r:.400}")
    run.cancel()
    # A framework may first wait for its threads. Then the person says yes meanwhile.
    await asyncio.wait([run], timeout=1)
    held = len([*agent.bundle])
    stage.ben.approves()
    await until(lambda: len([*agent.bundle]) > held or stage.ran, "the agent did not get what the person granted")
    await asyncio.wait([run])
    with suppress(asyncio.CancelledError, Exception):
        run.result()
    await asyncio.sleep(_GRACE)
    stage.demand_ran()


ROWS: Final[dict[str, Row]] = {
    row.__name__: row
    for row in (
        allowed,
        default_judged,
        coerced_value_judged,
        denied,
        no_token_is_seen,
        granted_within_the_call,
        pending_then_approved,
        asked_and_refused,
        nobody_acts,
        delegated,
        completed_in_the_run,
        two_runs_at_once,
        twelve_calls_at_once,
        eight_asks_at_once,
        exception_inside,
        cancelled_while_waiting,
    )
}
"""All rows by their names."""
