"""No error of a verifier carries what an attacker could use: in its text, its causes, or variables of its frames."""

import asyncio
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import capx
from capx.agent.actor import acting
from capx.authority.authority import Authority
from capx.crypto.keys import AudienceKeys
from capx.errors import CapxError, Unavailable
from capx.guard.tool import ToolGuard
from capx.tokens import chain, wire
from capx.tokens.binding import HttpRequest, ToolCall
from capx.verify.evaluator import Evaluator
from capx.verify.verifier import Verifier
from capx_caveats import Call, Expires, Root, encode_block
from tests.labs.lab import KEY, NOW, Lab, appended, minted

READ, CALL = ToolCall("a.read"), Call("a.read")
HOME = Path(capx.__file__).parent
PARTS = (Verifier, Evaluator, AudienceKeys, types.ModuleType, type, Lab)
"""What a service holds in any case: an error that passes its methods carries a reference to it."""


def errors_of(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        yield from errors_of(error.__context__)
        error = error.__cause__


def held(value: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """Everything that a value leads to, as a tool that records errors could write it down."""
    if id(value) in seen or isinstance(value, PARTS):
        return
    seen[id(value)] = value
    yield value
    inner: list[Any] = []
    if isinstance(value, dict):
        inner += [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner += value
    elif isinstance(value, msgspec.Struct):
        inner += [getattr(value, name) for name in value.__struct_fields__]
    elif isinstance(value, types.FunctionType):
        inner += [cell.cell_contents for cell in value.__closure__ or ()]
    elif isinstance(value, BaseException):
        inner += [value.args, vars(value)]
    else:
        inner += [getattr(value, "__dict__", None)]
        slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
        inner += [getattr(value, name) for name in slots if isinstance(name, str) and hasattr(value, name)]
    for one in inner:
        yield from held(one, seen)


def found_in(error: BaseException, secrets: dict[str, Any]) -> list[str]:
    """The secrets that an error leads to through the frames of capx, by their names."""
    seen = dict[int, Any]()
    everything: list[Any] = []
    for one in errors_of(error):
        everything += [*held(one, seen), str(one), repr(one)]
        for value in in_frames(one, seen):
            everything += [value, repr(value)]
    return [
        name
        for name, secret in secrets.items()
        if any(type(value) is type(secret) and secret in value for value in everything)
    ]


CAPABILITY = minted()
TOKEN = CAPABILITY.present(READ, now=NOW).text
FRAME = wire.decode(TOKEN)
TAIL = wire.decode(CAPABILITY.text).signature
"""The signature of the capability: with it, anybody can make presentations."""


def forged(block: chain.Block) -> str:
    """A token with a block of an attacker, who does not know its signature."""
    return wire.encode(FRAME.identifier, (*FRAME.blocks[:-1], block), bytes(32))


def extended(*caveats: Any) -> str:
    """A presentation of a child with this block."""
    return CAPABILITY.attenuate(*caveats).present(READ, now=NOW).text


TOKENS: dict[str, tuple[str, Any]] = {
    "a forged block": (forged(encode_block((Expires(NOW + 9),))), READ),
    "a forged presentation": (forged(FRAME.blocks[-1]), READ),
    "another audience": (minted(audience="slides").present(READ, now=NOW).text, READ),
    "cut": (TOKEN[:-5], READ),
    "no token": ("", READ),
    "a bare token": (CAPABILITY.text, READ),
    "misplaced": (appended(CAPABILITY, encode_block((Root("R2"),))).present(READ, now=NOW).text, READ),
    "too large": (appended(CAPABILITY, b"[" * 300).present(READ, now=NOW).text, READ),
    "another call": (TOKEN, ToolCall("a.write")),
    "another kind of call": (TOKEN, HttpRequest(method="GET", target="/")),
    "too old": (CAPABILITY.present(READ, now=NOW - 99).text, READ),
    "from the future": (CAPABILITY.present(READ, now=NOW + 99).text, READ),
    "expired": (extended(Expires(NOW)), READ),
}


def secrets_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = {"tail": TAIL, "mac key": KEY.mac_key, "secret": KEY._secret}
    if token:
        found["text"] = token
    try:
        frame = wire.decode(token)
    except CapxError:
        return found
    # Of a child, the tail of its own blocks.
    tail = chain.tail_of(KEY, frame.identifier_bytes, frame.blocks[:-1])
    return {**found, "signature": frame.signature, "tail of the child": tail}


Entrance = Callable[[Lab, str, Any], object]
ENTRANCES: dict[str, Entrance] = {
    "authenticate": lambda lab, token, _: lab.verifier.authenticate(token),
    "admit": lambda lab, token, received: lab.verifier.admit(token, received),
    "admit_async": lambda lab, token, received: asyncio.run(lab.verifier.admit_async(token, received)),
    "verify": lambda lab, token, received: lab.verifier.verify(token, received, CALL),
    "after the head": lambda lab, token, received: lab.verifier.admit(lab.verifier.authenticate(token), received),
}


PASSING = {
    ("authenticate", "a bare token"),
    ("authenticate", "another call"),
    ("authenticate", "another kind of call"),
    ("authenticate", "from the future"),
}
"""What the head lets pass, because it depends on the request."""
REFUSED = [(entrance, what) for entrance in ENTRANCES for what in TOKENS if (entrance, what) not in PASSING]


@pytest.mark.parametrize(("entrance", "what"), REFUSED)
def test_no_error_leads_to_a_tail_or_key(entrance: str, what: str) -> None:
    token, received = TOKENS[what]
    with pytest.raises(CapxError) as caught:
        ENTRANCES[entrance](Lab(), token, received)
    assert found_in(caught.value, secrets_of(token)) == []


class Broken:
    """A memory of presentations that cannot tell."""

    def __init__(self, *, blocking: bool) -> None:
        self.blocking = blocking

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        raise Unavailable("the disk is gone")


@pytest.mark.parametrize("blocking", [True, False])
def test_a_memory_that_fails_leads_to_no_unburnt_presentation(*, blocking: bool) -> None:
    lab = Lab(replay=Broken(blocking=blocking))
    for entrance in (ENTRANCES["admit"], ENTRANCES["admit_async"], ENTRANCES["verify"], ENTRANCES["after the head"]):
        with pytest.raises(CapxError) as caught:
            entrance(lab, TOKEN, READ)
        assert found_in(caught.value, secrets_of(TOKEN)) == []


@pytest.mark.parametrize("blocking", [True, False])
def test_an_error_of_a_tool_leads_to_no_unburnt_presentation(*, blocking: bool) -> None:
    with Authority.temporary() as lab:
        keys = lab.verifier("crm")._keys
        broken = Verifier("crm", keys, liveness=Lab().deaths, replay=Broken(blocking=blocking), clock=time.time)
        guard = ToolGuard(lambda _: broken)

        @guard.tool("crm.read")
        def read() -> None:
            pytest.fail("it ran")

        with acting(lab.open(allow=["crm.read"]).bundle), pytest.raises(CapxError) as caught:
            read()
    seen = dict[int, Any]()
    texts = [value for one in errors_of(caught.value) for value in in_frames(one, seen) if type(value) is str]
    tokens = [wire.decode(text) for text in texts if text.startswith("capx1_")]
    assert [frame for frame in tokens if str(frame.blocks[-1]).startswith('b\'[["call"')] == []


def in_frames(error: BaseException, seen: dict[int, Any]) -> Iterator[Any]:
    trace = error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).is_relative_to(HOME):
            for value in trace.tb_frame.f_locals.values():
                yield from held(value, seen)
        trace = trace.tb_next


class Wild:
    """A memory of presentations of somebody else, which fails in its own way."""

    blocking = False

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        raise OSError("the disk is gone")


def test_a_memory_that_fails_in_its_own_way_refuses() -> None:
    lab = Lab(replay=Wild())
    assert lab.codes(CAPABILITY) == ("unavailable",)
    with pytest.raises(CapxError) as caught:
        lab.verifier.verify(TOKEN, READ, CALL)
    assert found_in(caught.value, secrets_of(TOKEN)) == []
    assert "disk" not in str(caught.value)


def test_the_walk_finds_what_a_frame_holds() -> None:
    def raising(signature: bytes) -> None:
        holding = {"deep": [(signature,)]}
        raise ValueError(len(holding))

    with pytest.raises(ValueError, match="1") as caught:
        raising(TAIL)
    code = raising.__code__.replace(co_filename=str(HOME / "x.py"))
    with pytest.raises(ValueError, match="1") as caught:
        types.FunctionType(code, {"len": len, "ValueError": ValueError})(TAIL)
    assert found_in(caught.value, {"tail": TAIL}) == ["tail"]
