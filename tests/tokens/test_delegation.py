"""However a block is left, its child is dead."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from capx.api.messages.outcomes import Revocation
from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest, StoreProblem, Unavailable
from capx.tokens import closing_act
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.delegation import Delegation
from capx.tokens.grants import OWN_ENTRIES
from capx_caveats import Allow, Call, allow, expires
from tests.labs.lab import minted, raw

CRM = minted()
SLIDES = minted(audience="slides", allowed=allow("slides.write", "slides.read"))
OWN = minted(audience="authority", allowed=Allow(OWN_ENTRIES))
WHOLE = Bundle([CRM, SLIDES, OWN])


# For a block of code


@pytest.fixture
def lab() -> Iterator[Authority]:
    with Authority.temporary() as authority:
        yield authority


def alive(lab: Authority, child: Bundle) -> bool:
    call = ToolCall("crm.read")
    return lab.verifier("crm").decide(child.present("crm", call).text, call, Call("crm.read")).allowed


def test_a_child_lives_as_long_as_its_block(lab: Authority) -> None:
    bundle = lab.open(allow=["crm.read", "slides.write"]).bundle
    with bundle.delegated(to="a", allow=["crm.read"], audiences=["crm"], caveats=[expires("1h")], at=lab) as child:
        assert (child.hops, child.audiences) == (("a",), ("crm",))
        assert alive(lab, child)
        below = child.delegate(to="b")
    assert not alive(lab, child)
    assert not alive(lab, below)
    assert alive(lab, bundle)


async def test_an_async_block_revokes_too(lab: Authority) -> None:
    bundle = lab.open(allow=["crm.read"]).bundle
    async with bundle.delegated(to="a", at=lab) as child:
        assert alive(lab, child)
    assert not alive(lab, child)


class Stopped(BaseException):
    """What is no Exception, like a cancellation or Ctrl-C."""


async def left_async(delegation: Delegation[Bundle], act: Callable[[Bundle], None]) -> None:
    async with delegation as child:
        act(child)


def left(delegation: Delegation[Bundle], act: Callable[[Bundle], None]) -> None:
    with delegation as child:
        act(child)


def how_it_ended(
    delegation: Delegation[Bundle], act: Callable[[Bundle], None], kind: type[BaseException], *, is_async: bool
) -> BaseException:
    """What came out of the block, as the code around it sees it."""

    async def within() -> BaseException:
        with pytest.raises(kind) as caught:
            await left_async(delegation, act)
        return caught.value

    if is_async:
        return asyncio.run(within())
    with pytest.raises(kind) as caught:
        left(delegation, act)
    return caught.value


@pytest.mark.parametrize("error", [ValueError("no"), Stopped("now"), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.parametrize("is_async", [False, True])
def test_however_a_block_is_left_its_child_is_dead(lab: Authority, error: BaseException, is_async: bool) -> None:
    children: list[Bundle] = []

    def act(child: Bundle) -> None:
        children.append(child)
        raise error

    delegation = lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=lab)
    assert how_it_ended(delegation, act, type(error), is_async=is_async) is error
    assert not alive(lab, children[0])
    assert not hasattr(error, "__notes__")


def test_a_return_from_the_block_revokes(lab: Authority) -> None:
    def act() -> Bundle:
        with lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=lab) as child:
            return child

    assert not alive(lab, act())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_failure_to_revoke_is_raised_after_a_clean_block(lab: Authority, is_async: bool) -> None:
    delegation = lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=lab)
    failed = how_it_ended(delegation, lambda _: lab.close(), StoreProblem, is_async=is_async)
    assert "there is no store" in str(failed)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_failure_to_revoke_is_noted_on_what_left_the_block(lab: Authority, is_async: bool) -> None:
    error, nodes = ValueError("no"), list[str]()

    def act(child: Bundle) -> None:
        nodes.append(b64u(child.node or b""))
        lab.close()
        raise error

    delegation = lab.open(allow=["crm.read"]).bundle.delegated(to="a b", at=lab)
    assert how_it_ended(delegation, act, ValueError, is_async=is_async) is error
    (note,) = error.__notes__
    assert note.startswith('"a b" could not be revoked (there is no store')
    assert nodes[0] in note


class Slow:
    """An authority that is reached through a gate."""

    def __init__(self, lab: Authority) -> None:
        self._lab = lab
        self.asked, self.gate = threading.Event(), threading.Event()
        self.thread: int | None = None
        self.name = ""

    def revoke(self, child: Bundle, /) -> Revocation:
        self.thread, self.name = threading.get_ident(), threading.current_thread().name
        self.asked.set()
        self.gate.wait(10)
        return self._lab.revoke(child)


async def test_a_cancellation_waits_until_the_child_is_revoked(lab: Authority) -> None:
    slow, children = Slow(lab), list[Bundle]()

    async def leave() -> None:
        async with lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=slow) as child:
            children.append(child)

    leaving = asyncio.ensure_future(leave())
    while not slow.asked.is_set():
        await asyncio.sleep(0.001)
    for _ in range(3):
        leaving.cancel()
        await asyncio.sleep(0.001)
    still_there = not leaving.done()
    slow.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert still_there
    assert slow.thread != threading.get_ident()
    assert slow.name == "capx-revoke"
    assert not alive(lab, children[0])


async def test_a_cancelled_block_is_revoked_before_it_is_left(lab: Authority) -> None:
    children = list[Bundle]()

    async def wait() -> None:
        async with lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=lab) as child:
            children.append(child)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait(), 0.01)
    assert not alive(lab, children[0])


def test_a_delegation_is_good_for_one_block(lab: Authority) -> None:
    delegation = lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=lab)
    with delegation:
        pass
    with pytest.raises(InvalidRequest, match="delegate again"), delegation:
        pytest.fail("it was entered")


def test_what_has_no_node_is_not_delegated_for_a_block(lab: Authority) -> None:
    with pytest.raises(InvalidRequest, match="no node"), Bundle([raw(b"[]")]).delegated(to="a", at=lab):
        pytest.fail("it was entered")


def test_an_ill_formed_delegation_is_refused_on_entering(lab: Authority) -> None:
    bundle = lab.open(allow=["crm.read"]).bundle
    with pytest.raises(InvalidRequest), bundle.delegated(to="a", audiences=["slides"], at=lab):
        pytest.fail("it was entered")


def test_each_block_has_a_child_of_its_own(lab: Authority) -> None:
    bundle = lab.open(allow=["crm.read"]).bundle
    with bundle.delegated(to="a", at=lab) as one:
        with bundle.delegated(to="a", at=lab) as other:
            assert one.node != other.node
        assert alive(lab, one)


def test_tokens_of_the_authority_are_capabilities_like_any() -> None:
    assert all(isinstance(capability, Capability) for capability in WHOLE)
    assert Bundle.parse(WHOLE.text) == WHOLE


class Silent:
    """Who takes long to revoke: until `over` is set."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def revoke(self, child: Bundle, /) -> object:
        return self.over.wait(30)


def test_an_exit_that_takes_too_long_says_the_child_may_live(lab: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing_act, "PATIENCE", 0.1)
    silent = Silent()

    async def act() -> None:
        async with lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=silent):
            pass

    with pytest.raises(Unavailable, match="the authority did not answer within"):
        asyncio.run(act())
    silent.over.set()


async def test_tools_that_hold_every_thread_keep_no_child_alive(lab: Authority) -> None:
    over = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    held = loop.run_in_executor(None, over.wait, 30)
    async with lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=lab) as child:
        pass
    was_alive = alive(lab, child)
    over.set()
    await held
    assert not was_alive
    assert not alive(lab, child)


class Interrupted:
    def revoke(self, child: Bundle, /) -> object:
        raise KeyboardInterrupt


def test_an_interrupt_during_revocation_says_the_child_may_live(lab: Authority) -> None:
    delegation = lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=Interrupted())
    with pytest.raises(KeyboardInterrupt) as interrupt, delegation:
        pass
    assert '"a" could not be revoked' in interrupt.value.__notes__[0]
    assert "interrupted" in interrupt.value.__notes__[0]


def test_a_delegation_that_was_not_entered_is_not_left(lab: Authority) -> None:
    delegation = lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=lab)
    with pytest.raises(InvalidRequest, match="entered"):
        delegation.__exit__(None, None, None)


def test_one_delegation_gives_one_child_to_racing_threads(lab: Authority) -> None:
    delegation = lab.open(allow=["crm.read"]).bundle.delegated(to="a", at=lab)
    begin = threading.Barrier(8)

    def enter(_: int) -> Bundle | None:
        begin.wait()
        try:
            return delegation.__enter__()
        except InvalidRequest:
            return None

    with ThreadPoolExecutor(8) as pool:
        (child,) = filter(None, pool.map(enter, range(8)))
    delegation.__exit__(None, None, None)
    assert not alive(lab, child)
