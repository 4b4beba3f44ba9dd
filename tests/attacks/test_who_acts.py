"""Attacks on who acts: authority that leaks to other code, stays set for good, or is taken by work that runs later."""

import asyncio
import contextvars
import functools
import gc
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from capx.agent.actor import acting, current_actor
from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.guard.current import current_allowed
from capx.tokens.bundle import Bundle
from capx.verify.decision import Denied
from capx_caveats import JSON, budget


class World:
    """A lead that may read the CRM, two children of it that may only write slides, and guarded tools."""

    def __init__(self, lab: Authority) -> None:
        self.lab = lab
        self.lead = lab.open(allow=["crm.read", "slides.write"]).bundle
        self.ann = self.lead.delegate(to="ann", allow=["slides.write"])
        self.bob = self.lead.delegate(to="bob", allow=["slides.write"])

        @lab.tool("slides.write")
        def write() -> str:
            allowed = current_allowed()
            assert allowed is not None
            return allowed.hops[-1] if allowed.hops else "lead"

        @lab.tool("slides.write")
        async def write_async() -> str:
            await asyncio.sleep(0)
            return write()

        @lab.tool("crm.read")
        def read() -> str:
            return "the CRM"

        @lab.tool("crm.read")
        async def read_async() -> str:
            await asyncio.sleep(0)
            return "the CRM"

        self.write, self.write_async, self.read, self.read_async = write, write_async, read, read_async

    def nobody_acts(self) -> bool:
        with pytest.raises(Denied) as refused:
            self.write()
        return refused.value.code == "no_token"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Authority.temporary() as lab:
        yield World(lab)


# Generators.


def test_generators_under_one_acting_are_refused(world: World) -> None:
    def decks(bundle: Bundle) -> Generator[str]:
        with acting(bundle):
            yield world.write()

    async def decks_async(bundle: Bundle) -> AsyncGenerator[str]:
        with acting(bundle):
            yield world.write()

    async def first() -> str:
        return await anext(decks_async(world.ann))

    with pytest.raises(InvalidRequest, match=r"decks is a generator.*bundle\.calling"):
        next(decks(world.ann))
    with pytest.raises(InvalidRequest, match="decks_async is a generator"):
        asyncio.run(first())
    assert current_actor() is None


class Entering:
    """A context manager of a class, which enters an actor."""

    def __init__(self, bundle: Bundle) -> None:
        self.block = acting(bundle)

    def __enter__(self) -> None:
        self.block.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.block.__exit__(*error)

    async def __aenter__(self) -> None:
        self.block.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        self.block.__exit__(*error)


def test_stacks_and_context_managers_hide_no_generator(world: World) -> None:
    def by_stack() -> Generator[None]:
        with ExitStack() as stack:
            stack.enter_context(acting(world.ann))
            yield

    def by_class() -> Generator[None]:
        with Entering(world.ann):
            yield

    @contextmanager
    def helper() -> Generator[None]:
        with acting(world.ann):
            yield

    async def by_async_stack() -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.enter_context(acting(world.ann))
            yield

    async def by_async_class() -> AsyncGenerator[None]:
        async with Entering(world.ann):
            yield

    async def resumed(generator: AsyncGenerator[None]) -> None:
        await anext(generator)

    for generator in (by_stack(), by_class(), helper().gen):
        with pytest.raises(InvalidRequest, match="is a generator"):
            next(generator)
    for of_async in (by_async_stack(), by_async_class()):
        with pytest.raises(InvalidRequest, match="is a generator"):
            asyncio.run(resumed(of_async))


def test_functions_and_coroutines_enter_an_actor_as_they_like(world: World) -> None:
    async def act() -> str:
        async with Entering(world.ann), AsyncExitStack() as stack:
            stack.enter_context(acting(world.bob))
            await asyncio.sleep(0)
            return world.write()

    with Entering(world.ann), ExitStack() as stack:
        stack.enter_context(acting(world.bob))
        assert world.write() == "bob"
    assert asyncio.run(act()) == "bob"
    assert current_actor() is None


@pytest.fixture
def as_ann(world: World) -> Iterator[None]:
    with acting(world.ann, across_yield=True):
        yield


@pytest.mark.usefixtures("as_ann")
def test_a_fixture_acts_across_its_yield_if_it_says_so(world: World) -> None:
    assert world.write() == "ann"


def test_a_context_manager_acts_across_its_yield_if_it_says_so(world: World) -> None:
    @contextmanager
    def as_bob() -> Generator[None]:
        with acting(world.bob, across_yield=True):
            yield

    @asynccontextmanager
    async def as_bob_async() -> AsyncGenerator[None]:
        with acting(world.bob, across_yield=True):
            yield

    async def act() -> str:
        async with as_bob_async():
            return await world.write_async()

    with as_bob():
        assert world.write() == "bob"
    assert asyncio.run(act()) == "bob"
    assert current_actor() is None


def test_requests_at_once_act_as_their_own_dependency_says(world: World) -> None:
    app, together = FastAPI(), asyncio.Event()

    async def of(name: str) -> AsyncIterator[None]:
        with acting({"ann": world.ann, "bob": world.bob}[name], across_yield=True):
            yield

    @app.get("/{name}")
    async def endpoint(name: str, _: Annotated[None, Depends(of)]) -> str:
        together.set() if name == "bob" else await together.wait()
        return f"{name} {world.write()}"

    async def both() -> list[Any]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return [answer.json() for answer in await asyncio.gather(client.get("/ann"), client.get("/bob"))]

    assert asyncio.run(both()) == ["ann ann", "bob bob"]


def test_generators_call_tools_without_a_context(world: World) -> None:
    def decks(bundle: Bundle) -> Generator[str]:
        write = bundle.calling(world.write)
        while True:
            yield write()

    async def decks_async(bundle: Bundle) -> AsyncGenerator[str]:
        write = bundle.calling(world.write_async)
        while True:
            yield await write()

    async def interleaved() -> list[str]:
        ann, bob = decks_async(world.ann), decks_async(world.bob)
        written = [await anext(one) for one in (ann, bob, ann, bob)]
        await ann.aclose()
        await bob.aclose()
        return written

    ann, bob = decks(world.ann), decks(world.bob)
    assert [next(one) for one in (ann, bob, ann, bob)] == ["ann", "bob"] * 2
    assert asyncio.run(interleaved()) == ["ann", "bob"] * 2
    assert current_actor() is None


# Blocks that are left in another way than they were entered.


def promising(world: World, bundle: Bundle) -> Generator[str]:
    with acting(bundle, across_yield=True):
        yield world.write()
        yield world.write()


def test_generators_that_take_turns_act_for_nobody(world: World) -> None:
    with acting(world.lead):
        ann, bob = promising(world, world.ann), promising(world, world.bob)
        assert (next(ann), next(bob)) == ("ann", "bob")
        with pytest.raises(InvalidRequest, match="another one in it was still open"):
            ann.close()
        with pytest.raises(Denied) as refused:
            next(bob)
        assert refused.value.code == "no_token"
        assert world.write() == "lead"
    assert current_actor() is None


def test_an_actor_left_out_of_order_is_not_set_for_good(world: World) -> None:
    outer, inner = acting(world.lead), acting(world.ann)
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(InvalidRequest, match="leave the inner one first"):
        outer.__exit__(None, None, None)
    assert world.nobody_acts()
    inner.__exit__(None, None, None)
    assert current_actor() is None
    with acting(world.bob):
        assert world.write() == "bob"


def test_a_block_left_in_another_thread_acts_for_nobody(world: World) -> None:
    block = acting(world.lead)
    block.__enter__()
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(InvalidRequest, match="left in another task, thread or context"):
            pool.submit(block.__exit__, None, None, None).result()
        copy = contextvars.copy_context()
        assert pool.submit(copy.run, world.nobody_acts).result()
    assert current_actor() is None


def test_an_async_generator_that_is_dropped_leaves_nobody(world: World) -> None:
    async def decks() -> AsyncGenerator[str]:
        with acting(world.ann, across_yield=True):
            yield world.write()

    async def act() -> list[str]:
        problems: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: problems.append(str(context.get("exception")))
        )
        with acting(world.lead):
            async for deck in decks():
                assert deck == "ann"
                break
            # The loop closes it in a task of its own, so in another context.
            gc.collect()
            while not problems:
                await asyncio.sleep(0)
            assert world.write() == "lead"
        assert current_actor() is None
        return problems

    (problem,) = asyncio.run(act())
    assert "left in another task, thread or context" in problem


def test_acting_as_a_decorator_is_refused(world: World) -> None:
    decorator: Any = acting(world.lead)

    async def work() -> None: ...

    with pytest.raises(InvalidRequest, match=r"not a decorator.*agent\.tool"):
        decorator(work)


# Threads and tasks.


def test_a_pool_thread_is_told_how_to_act(world: World) -> None:
    with ThreadPoolExecutor(1) as pool, acting(world.ann):
        with pytest.raises(Denied) as refused:
            pool.submit(world.write).result()
        assert refused.value.code == "no_token"
        for way in ("`bundle.calling(tool)`", "`asyncio.to_thread`", "`contextvars.copy_context().run`"):
            assert way in str(refused.value)
        assert pool.submit(world.bob.calling(world.write)).result() == "bob"
        assert pool.submit(contextvars.copy_context().run, world.write).result() == "ann"
        assert pool.submit(current_actor).result() is None
        assert asyncio.run(asyncio.to_thread(world.write)) == "ann"


def test_a_task_that_outlives_its_block_acts_for_nobody(world: World) -> None:
    def as_bob() -> str:
        return world.bob.calling(world.write)()

    async def later(ended: asyncio.Event) -> None:
        assert world.write() == "ann"
        await ended.wait()
        with pytest.raises(Denied, match="has ended"):
            world.write()
        # Not even as somebody else: it may be the thread of a run that was cancelled.
        with pytest.raises(InvalidRequest, match="has ended"), acting(world.bob):
            pytest.fail("it was entered")
        with pytest.raises(InvalidRequest, match="has ended"):
            as_bob()
        assert contextvars.Context().run(as_bob) == "bob"

    async def act() -> None:
        ended = asyncio.Event()
        with acting(world.lead):
            with acting(world.ann):
                task = asyncio.create_task(later(ended))
                await asyncio.sleep(0)
            ended.set()
            await task

    asyncio.run(act())


# Work that is not finished when its call returns.


class AsyncCallable:
    """An object whose call is a coroutine, as frameworks make them of tools."""

    def __init__(self, work: Callable[[], Awaitable[str]]) -> None:
        self.work = work

    async def __call__(self) -> str:
        return await self.work()


def test_async_callables_run_as_the_inner_agent(world: World) -> None:
    child = Agent(world.ann)

    async def act() -> None:
        with acting(world.lead):
            assert await world.read_async() == "the CRM"
            for work in (
                AsyncCallable(world.read_async),
                functools.partial(world.read_async),
                functools.partial(AsyncCallable(world.read_async)),
                AsyncCallable(world.read_async).__call__,
            ):
                with pytest.raises(Denied, match="ann"):
                    await child.tool(work)()

    asyncio.run(act())


class Later:
    """An awaitable of a library's own."""

    def __await__(self) -> Generator[Any]:
        pytest.fail("it was awaited")


@pytest.mark.parametrize("guarded", [True, False])
def test_work_that_outlives_its_call_is_refused(world: World, *, guarded: bool) -> None:
    wrapped: Any = world.lab.tool("slides.write") if guarded else Agent(world.ann).tool
    tasks: list[asyncio.Task[str]] = []
    ran: list[str] = []

    def generated() -> Generator[str]:
        ran.append("generated")
        yield world.read()

    async def generated_async() -> AsyncGenerator[str]:
        ran.append("generated_async")
        yield world.read()

    async def handing_on() -> Any:
        return generated()

    def starting() -> asyncio.Task[str]:
        tasks.append(asyncio.create_task(world.read_async()))
        return tasks[-1]

    for generator in (generated, generated_async, functools.partial(generated)):
        with pytest.raises(ConfigurationProblem, match="is a generator"):
            wrapped(generator)

    async def act() -> None:
        with acting(world.lead):
            for work in (
                lambda: world.read_async(),  # noqa: PLW0108 # a lambda is what is meant
                starting,
                Later,
                lambda: generated(),  # noqa: PLW0108
                lambda: generated_async(),  # noqa: PLW0108
                lambda: map(ran.append, "a"),
            ):
                with pytest.raises(ConfigurationProblem, match="still to be done"):
                    wrapped(work)()
            with pytest.raises(ConfigurationProblem, match="still to be done"):
                await wrapped(handing_on)()
            await asyncio.wait(tasks)
            assert tasks[0].cancelled()

    asyncio.run(act())
    assert not ran


def test_an_async_callable_is_guarded_until_it_has_ended(world: World) -> None:
    async def who() -> str:
        await asyncio.sleep(0)
        allowed = current_allowed()
        return "" if allowed is None else allowed.hops[-1]

    guarded = world.lab.tool("slides.write")(AsyncCallable(who))

    async def act() -> str:
        with acting(world.bob):
            return await guarded()

    assert asyncio.run(act()) == "bob"
    assert current_allowed() is None


# Arguments.


def test_an_argument_changed_by_a_thread_does_not_run(world: World) -> None:
    ran: list[list[str]] = []

    def changing(to: list[str]) -> dict[str, JSON]:
        # Attributes are derived from the arguments when these have been read, just before they are judged.
        thread = threading.Thread(target=to.append, args=("eve",))
        thread.start()
        thread.join()
        return {}

    @world.lab.tool("slides.write", attributes=changing)
    def mail(to: list[str]) -> None:
        ran.append(to)

    to = ["ann"]
    with acting(world.ann):
        mail(to)
    # The function that derives attributes gets a copy of its own, and so does the tool.
    assert ran == [["ann"]]
    assert ran[0] is not to


def test_an_argument_changed_while_a_store_answers_does_not_run(world: World) -> None:
    ran: list[dict[str, list[object]]] = []
    read = asyncio.Event()

    def note_that_it_is_read(to: object) -> dict[str, JSON]:
        read.set()
        return {}

    @world.lab.tool("slides.write", attributes=note_that_it_is_read)
    async def mail(to: dict[str, list[object]]) -> None:
        ran.append(to)

    async def act() -> None:
        to: dict[str, list[object]] = {"all": [1]}
        mailing = asyncio.ensure_future(mail(to))
        await read.wait()
        assert not mailing.done()
        # It equals 1, but a caveat tells them apart.
        to["all"][0] = True
        await mailing

    # The guard waits for the store, which counts the call.
    with acting(world.ann.attenuate(budget("calls", 9))):
        asyncio.run(act())
    assert ran == [{"all": [1]}]
    assert type(ran[0]["all"][0]) is int
