"""Any bytes are one message of JSON-RPC in one spelling, or refused; and a stream says the same however it is cut.

An input is a letter and the rest: `M` a message, `W` the stream of its event, `E` an event stream, `L` lines. Of the
last three, the first line says how the stream is cut: its bytes are the lengths of the pieces, again and again.
"""

import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from itertools import cycle
from types import FrameType
from typing import Any, NoReturn, TypeVar

from capx.api.jsonrpc import (
    INVALID_REQUEST,
    PARSE_ERROR,
    Message,
    Request,
    Response,
    UnreadableMessage,
    list_or_empty,
    object_or_none,
    read_message,
    write_message,
)
from capx.api.relay.event_stream import events, write_event
from capx.api.relay.lines import Lines, TooLong
from capx.crypto.strict_json import DEEPEST

T = TypeVar("T")

MOST = 300
"""The most bytes of a line or of an event."""
MEMBERS = ({"jsonrpc", "id", "method", "params"}, {"jsonrpc", "method", "params"}, {"jsonrpc", "id", "result", "error"})
MESSAGES = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"id":3,"q":"\\ud83d\\ude00"}}}',
    b'{"jsonrpc":"2.0","id":"a","method":"ping","params":null}',
    b' {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 0.5, "n": -0, "m": 1E22}} ',
    b'{"jsonrpc":"2.0","id":-9007199254740991,"result":null}',
    b'{"jsonrpc":"2.0","id":9007199254740993,"result":18446744073709551616}',
    b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no","data":[NaN]}}',
    b'{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}',
    b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"a":{"b":1,"\\u0062":2}}}',
    b'{"jsonrpc":"2.0","id":1,"method":"\\ud800","params":{"n":1e999}}',
    b'{"jsonrpc":"2.0","id":1.0,"method":"a","also":true}',
    b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
    b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"n":%b1%b}}' % (b"[" * 254, b"]" * 254),
    b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"n":%b1%b}}' % (b"[" * 255, b"]" * 255),
    b'{"jsonrpc":"2.0","method":"a","params":{"n":%b1%b}}' % (b'{"a":' * 985, b"}" * 985),
)


def seeds() -> Iterable[bytes]:
    for message in MESSAGES:
        yield b"M" + message
        yield b"W\x01\x07\n" + message
        yield b"L\x03\n" + message + b"\n\r\n " + message
        yield b"E\x05\x40\nevent: message\r\ndata: " + message.replace(b",", b",\r\ndata:") + b"\r\n\r\n"
    yield b"E\x01\n\xef\xbb\xbfid: 1\ndata\n\n:\ndata: a\r\rdata:b\n\r\n: c\revent: ping\ndata: c\n\nevent\ndata:d\n\n"
    yield b"E\x07\ndata: a\n\n\xef\xbb\xbfdata: b\n\n\xef\xbb\xbf\xef\xbb\xbf\n"
    yield b"E\x02\n\xef\xbb\xbfdata: a\r\n\r\n"
    yield b"E\x04\ndata: " + b"x" * MOST + b"\n\n"
    yield b"E\x04\ndata: " + b"x" * (MOST + 1) + b"\n\n"
    yield b"E\x09\n" + b"data: xxxxxxxxxxxxxxxx\n" * 20 + b"\n"
    yield b"L\x10\n" + b"x" * MOST + b"\n\n" + b"y" * (MOST + 1) + b"\n" + b" " * 700 + b"\nz"


def check(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind == b"M":
        check_message(rest)
        return
    cuts, _, stream = rest.partition(b"\n")
    if kind == b"W":
        message = check_message(stream)
        if message is not None:
            written = write_message(message)
            found, too_long = read_events(pieces(write_event(message), cuts), len(written))
            assert (found, too_long) == ([written], False), "an event that was written is not read"
    elif kind == b"E":
        cut = pieces(stream, cuts)
        found, too_long = within(len(stream) + len(cut), lambda: read_events(cut, MOST))
        assert (found, too_long) == events_of(stream), "an event stream was misread"
        for one in found:
            check_message(one)
    else:
        cut = pieces(stream, cuts)
        lines = within(len(stream) + len(cut), lambda: read_lines(cut))
        assert lines == [None if len(line) > MOST else line for line in split_lines(stream)], "lines were misread"


def pieces(stream: bytes, cuts: bytes) -> list[bytes]:
    """The stream, cut into pieces of these lengths; an empty piece where a length is 0."""
    cut: list[bytes] = []
    if any(cuts):
        for size in cycle(cuts):
            if not stream:
                return cut
            cut.append(stream[:size])
            stream = stream[size:]
    return [stream]


def read_events(cut: list[bytes], most: int) -> tuple[list[bytes], bool]:
    """The data of the events, and whether the stream ended with one that is too long."""

    async def stream() -> AsyncIterator[bytes]:
        for piece in cut:
            yield piece

    found: list[bytes] = []

    async def read() -> bool:
        try:
            async for data in events(stream(), most):
                found.append(data)  # noqa: PERF401 # what came before the error counts
        except TooLong:
            return True
        return False

    return found, done(read())


def read_lines(cut: list[bytes]) -> list[bytes | None]:
    """The lines; None for one that is too long."""
    # None of no bytes, which would be the end of the stream.
    waiting = iter(list(filter(None, cut)))

    async def piece() -> bytes:
        return next(waiting, b"")

    async def read() -> list[bytes | None]:
        lines, found = Lines(piece, MOST), list[bytes | None]()
        while True:
            try:
                if (line := await lines.next()) is None:
                    return found
                found.append(line)
            except TooLong as error:
                error.answers()
                found.append(None)

    return done(read())


def done(work: Coroutine[Any, Any, T]) -> T:
    """What work returns that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        found: T = stop.value
        return found
    raise AssertionError("it waits for what nobody does")


def within(size: int, work: Callable[[], T]) -> T:
    """What work returns, which has to be linear in this size."""
    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        found = work()
    finally:
        sys.setprofile(None)
    assert calls <= 200 + 10 * size, "the work is not linear"
    return found


def events_of(stream: bytes) -> tuple[list[bytes], bool]:
    """The same format read naively, from the whole stream at once."""
    found: list[bytes] = []
    data: list[bytes] = []
    kind = b""
    longest = MOST + len(b"data: ")
    *lines, rest = re.split(rb"\r\n|\r|\n", stream)
    for at, whole in enumerate(lines):
        if len(whole) > longest:
            return found, True
        line = whole.removeprefix(b"\xef\xbb\xbf") if at == 0 else whole
        field = re.fullmatch(rb"([^:]*)(?:: ?(.*))?", line, re.DOTALL)
        assert field is not None
        name, value = field[1], field[2] or b""
        if name == b"data":
            data.append(value)
        if name == b"event":
            kind = value
        if len(b"\n".join(data)) > MOST:
            return found, True
        if not line:
            # What has no data but empty lines holds no message.
            if b"".join(data) and kind in (b"", b"message"):
                found.append(b"\n".join(data))
            data, kind = [], b""
    return found, len(rest) > longest


def split_lines(stream: bytes) -> list[bytes]:
    """Lines that are not blank, and all that are too long."""
    return [line for line in stream.split(b"\n") if line.strip() or len(line) > MOST]


def check_message(data: bytes) -> Message | None:
    """The message; None if it was refused."""
    found = within(len(data), lambda: outcome(data))
    try:
        known = naive(data)
    except ValueError:
        known = None
    if isinstance(found, UnreadableMessage):
        assert known is None or is_refused(known), "a message was refused"
        check_refusal(found, known)
        return None
    assert not is_refused(known), "what is no message was read"
    known = object_or_none(known) or {}
    written = write_message(found)
    assert b"\n" not in written
    assert read_message(written) == found, "what was written is read as another message"
    assert write_message(read_message(written)) == written, "a message has two spellings"
    if not isinstance(found, Response) and known.get("params") is None:
        known.pop("params", None)
    assert spelled(naive(written)) == spelled(known), "a message was misread"
    assert isinstance(found, Request) == ("method" in known and "id" in known)
    return found


def outcome(data: bytes) -> Message | UnreadableMessage:
    try:
        return read_message(data)
    except UnreadableMessage as error:
        return error


def check_refusal(refusal: UnreadableMessage, known: Any) -> None:
    """A refusal can be sent, and names no id but that of the request."""
    assert refusal.code == PARSE_ERROR if known is None else refusal.code in (INVALID_REQUEST, PARSE_ERROR)
    id = (object_or_none(known) or {}).get("id")
    usable = isinstance(id, str) or (isinstance(id, int) and not isinstance(id, bool) and abs(id) < 2**53)
    assert refusal.id is None or (usable and spelled(refusal.id) == spelled(id)), "a refusal names another id"
    assert len(str(refusal)) < 500
    answer = refusal.response()
    assert read_message(write_message(answer)) == answer


def naive(data: bytes) -> Any:
    """The same JSON as the standard library reads it; ValueError for what is no JSON of Unicode, or is ambiguous."""
    try:
        found = json.loads(
            data.decode(), object_pairs_hook=distinct, parse_constant=no_number, parse_float=finite, parse_int=int
        )
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    return found


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("two members have one name")
    return found


def no_number(text: str) -> NoReturn:
    raise ValueError(text)


def finite(text: str) -> float:
    if abs(number := float(text)) == float("inf"):
        raise ValueError(text)
    return number


def spelled(value: Any) -> str:
    """A value as one text: 1, 1.0, true and "1" are four, and so are 0.0 and -0.0 two."""
    return json.dumps(value, sort_keys=True)


def is_refused(found: Any) -> bool:
    """Whether a JSON value is no message, by the words of JSON-RPC and of the module."""
    if (found := object_or_none(found)) is None or found.get("jsonrpc") != "2.0" or depth(found) > DEEPEST:
        return True
    id, params = found.get("id"), found.get("params")
    is_call, is_request = "method" in found, "method" in found and "id" in found
    known = MEMBERS[0] if is_request else MEMBERS[1] if is_call else MEMBERS[2]
    if not found.keys() <= known or type(id) not in (int, str, type(None)):
        return True
    if isinstance(id, int) and abs(id) >= 2**53:
        return True
    if is_call:
        good = isinstance(found["method"], str) and (params is None or isinstance(params, dict))
        return not good or (is_request and id is None)
    errs = isinstance(found.get("error"), dict)
    return "id" not in found or not (("result" in found and "error" not in found) or ("result" not in found and errs))


def depth(value: Any) -> int:
    """In how many containers the deepest value stands."""
    deepest, waiting = 0, [(value, 0)]
    while waiting:
        one, level = waiting.pop()
        deepest = max(deepest, level)
        parts = (*list_or_empty(one), *(object_or_none(one) or {}).values())
        waiting += [(part, level + 1) for part in parts]
    return deepest
