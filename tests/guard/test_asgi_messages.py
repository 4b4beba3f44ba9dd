"""What is read of an ASGI scope and its messages, and how a denial or a problem is answered."""

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from capx.crypto.base64url import b64u
from capx.errors import ConfigurationProblem
from capx.guard.asgi.messages import (
    Message,
    Receive,
    Scope,
    Send,
    TooMuch,
    UnreadableHead,
    answer_denied,
    answer_problem,
    credential,
    giving_body,
    http_request,
    read_body,
)
from capx.tokens.binding import HttpRequest
from capx.verify.decision import Decision, Denied
from capx_caveats import Refusal


def scope(*headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http", "raw_path": b"/x", "headers": headers, **more}


# The credential


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], ""),
        ([(b"authorization", b"Capx abc")], "abc"),
        ([(b"authorization", b"\t cAPX \t abc\t ")], "abc"),
        ([(b"authorization", b"Capx a b")], "a b"),
        ([(b"authorization", b"Capx \x0babcX")], "\x0babcX"),
        ([(b"authorization", b"Capx")], ""),
        ([(b"authorization", b"Capxabc")], ""),
        ([(b"authorization", b"Bearer abc")], ""),
        ([(b"Authorization", b"Basic abc"), (b"CAPX-TOKEN", b" \tdef \t")], "def"),
        ([(b"capx-token", b"\xe9")], "\xe9"),
        ([(b"capx-token", b"XdefX")], "XdefX"),
        # Other white space is no part of the grammar of a header, so it stays.
        ([(b"capx-token", b"\x0bdef\x0b")], "\x0bdef\x0b"),
    ],
)
def test_a_token_is_read_from_either_header(headers: list[tuple[bytes, bytes]], token: str) -> None:
    assert credential(scope(*headers)) == token


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        (
            [(b"authorization", b"Capx abc"), (b"capx-token", b"abc")],
            Refusal("malformed", "two tokens were presented", "one presentation"),
        ),
        (
            [(b"authorization", b"Capx abc"), (b"capx-token", b"")],
            Refusal("malformed", "two tokens were presented", "one presentation"),
        ),
        (
            [(b"capx-token", b"abc"), (b"Capx-Token", b"abc")],
            Refusal("malformed", "the header capx-token is repeated", "one capx-token"),
        ),
        (
            [(b"authorization", b"Basic abc"), (b"authorization", b"Capx abc")],
            Refusal("malformed", "the header authorization is repeated", "one authorization"),
        ),
    ],
)
def test_of_two_credentials_none_is_chosen(headers: list[tuple[bytes, bytes]], refusal: Refusal) -> None:
    with pytest.raises(UnreadableHead) as caught:
        credential(scope(*headers))
    assert caught.value.refusal == refusal
    assert str(caught.value) == refusal.sentence


def test_an_unreadable_head_can_be_pickled() -> None:
    error = UnreadableHead(Refusal("malformed", "it is odd"))
    error.add_note("seen twice")
    again = pickle.loads(pickle.dumps(error))  # of this very test
    assert (type(again), again.refusal, str(again)) == (UnreadableHead, error.refusal, "it is odd")
    assert again.__notes__ == ["seen twice"]


# The request


def test_a_request_is_read_as_it_was_sent() -> None:
    headers = [(b"Content-Type", b" text/plain "), (b"content-encoding", b"\tgzip")]
    found = http_request(scope(*headers, method="POST", query_string=b"a=1?"), b"hi", "")
    assert found == HttpRequest(
        method="POST", target="/x?a=1?", content_type="text/plain", content_encoding="gzip", body=b"hi"
    )


def test_a_handshake_without_a_method_is_a_get() -> None:
    assert http_request(scope(), b"", "") == HttpRequest(method="GET", target="/x")


@pytest.mark.parametrize(
    ("parts", "prefix", "target"),
    [
        ({}, "", "/x"),
        ({"query_string": b""}, "", "/x"),
        ({"query_string": b"a=1"}, "", "/x?a=1"),
        # Some servers leave the query in the raw path.
        ({"raw_path": b"/x?a=1?b", "query_string": b"a=1"}, "", "/x?a=1"),
        ({}, "/crm", "/crm/x"),
        ({"query_string": b"a"}, "/crm", "/crm/x?a"),
        ({"root_path": "/root"}, "", "/root/x"),
        ({"root_path": "/root/"}, "", "/root/x"),
        ({"root_path": "/root", "raw_path": b"/root"}, "", "/root"),
        ({"root_path": "/root", "raw_path": b"/root/x"}, "", "/root/x"),
        ({"root_path": "/root", "raw_path": b"/rooted"}, "", "/root/rooted"),
        ({"root_path": "/root", "raw_path": b"/root/x"}, "/crm", "/crm/root/x"),
        ({"root_path": "/a b/\xe9"}, "", "/a%20b/%C3%A9/x"),
        ({"root_path": "/:@!$&'()*+,;=~X"}, "", "/:@!$&'()*+,;=~X/x"),
        ({"root_path": "/XX/"}, "", "/XX/x"),
    ],
)
def test_the_target_is_what_the_client_sent(parts: dict[str, Any], prefix: str, target: str) -> None:
    assert http_request(scope(**parts), b"", prefix).target == target


NOT_ASCII = Refusal("call_mismatch", "the target is not ASCII, so no presentation can cover it", "a raw path, in ASCII")


@pytest.mark.parametrize(
    ("parts", "prefix"),
    [({"raw_path": "/é".encode()}, ""), ({"query_string": b"\xff"}, ""), ({}, "/é"), ({}, "crm")],
)
def test_a_target_beyond_ascii_is_no_target(parts: dict[str, Any], prefix: str) -> None:
    with pytest.raises(UnreadableHead) as caught:
        http_request(scope(**parts), b"", prefix)
    assert caught.value.refusal == NOT_ASCII
    assert caught.value.__suppress_context__


def test_a_target_without_a_path_is_no_target() -> None:
    with pytest.raises(UnreadableHead, match=r"is not in origin form .* so no presentation can cover it") as caught:
        http_request(scope(raw_path=b"http://crm/x"), b"", "")
    assert (caught.value.refusal.code, caught.value.refusal.wanted) == ("call_mismatch", "a raw path, in ASCII")


def test_a_server_without_raw_paths_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigurationProblem, match=r"no raw path.*use uvicorn"):
        http_request({"type": "http", "headers": []}, b"", "")


@pytest.mark.parametrize("name", ["content-type", "content-encoding"])
def test_a_header_that_is_covered_must_not_be_repeated(name: str) -> None:
    with pytest.raises(UnreadableHead) as caught:
        http_request(scope((name.encode(), b"a"), (name.encode(), b"a")), b"", "")
    assert caught.value.refusal == Refusal("call_mismatch", f"the header {name} is repeated", f"one {name}")


# The body


def coming(*messages: Message) -> Receive:
    """Give these messages, and then fail."""
    left = iter(messages)

    async def receive() -> Message:
        return next(left)

    return receive


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def read(*messages: Message, limit: int = 10, length: bytes | None = None) -> bytes:
    headers = [] if length is None else [(b"content-length", length)]
    return asyncio.run(read_body(scope(*headers), coming(*messages), limit))


def test_a_body_is_joined_from_its_parts() -> None:
    assert read(part(b"12345", more=True), {"type": "http.request", "more_body": True}, part(b"67890")) == b"1234567890"
    assert read(part(b"1234567890"), length=b"10") == b"1234567890"
    assert read({"type": "http.request"}) == b""
    assert read(part(b""), limit=0) == b""


@pytest.mark.parametrize("length", [b"11", b"1" * 19 + b"9", b"1" * 30, b"00000000000000000011"])
def test_a_length_beyond_the_limit_is_refused_unread(length: bytes) -> None:
    with pytest.raises(TooMuch):
        read(length=length)


@pytest.mark.parametrize("length", [b"", b"-11", b"+11", b"11x", b"\xb2\xb2", b"0000000000000000000011"])
def test_a_length_that_says_nothing_is_counted(length: bytes) -> None:
    assert read(part(b"12345"), length=length) == b"12345"
    with pytest.raises(TooMuch):
        read(part(b"12345", more=True), part(b"678901"), length=length)


def test_of_a_length_the_first_20_digits_are_read() -> None:
    assert read(part(b"12345"), limit=5, length=b"0" * 20 + b"9") == b"12345"


def test_a_length_that_is_repeated_is_malformed() -> None:
    twice = scope((b"content-length", b"5"), (b"content-length", b"5"))
    with pytest.raises(UnreadableHead) as caught:
        asyncio.run(read_body(twice, coming(), 10))
    assert caught.value.refusal == Refusal("malformed", "the header content-length is repeated", "one content-length")


async def test_a_body_that_was_read_is_given_once_more() -> None:
    end: Message = {"type": "http.disconnect"}
    again = giving_body(b"hi", coming(end))
    assert [await again(), await again()] == [{"type": "http.request", "body": b"hi", "more_body": False}, end]


# The answer

DENIED = Denied(Decision(id=b64u(bytes(16)), at=1, allowed=False, audience="crm", refusals=(NOT_ASCII,)))


def told(answer: Callable[[Send], Awaitable[None]]) -> list[Message]:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def answering() -> None:
        await answer(send)

    asyncio.run(answering())
    return messages


def of_problem(asked: Scope, status: int) -> list[Message]:
    return told(lambda send: answer_problem(asked, send, status, "body_too_slow", "it did not arrive"))


PROBLEM = (
    b'{"type":"urn:capx:problem:body_too_slow","title":"body too slow","status":%d,"detail":"it did not arrive",'
    b'"code":"body_too_slow"}'
)


def test_a_denial_is_answered_as_problem_details() -> None:
    start, body = told(lambda send: answer_denied(scope(), send, DENIED))
    assert start == {
        "type": "http.response.start",
        "status": 401,
        "headers": [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body["body"])).encode()),
            (b"cache-control", b"no-store"),
            (b"www-authenticate", b"Capx"),
            (b"capx-decision", DENIED.decision.id.encode()),
        ],
    }
    assert body["type"] == "http.response.body"
    assert body["body"].startswith(b'{"type":"urn:capx:reason:call_mismatch",')
    assert b'"decision":"AAAAAAAAAAAAAAAAAAAAAA"' in body["body"]


@pytest.mark.parametrize(
    ("version", "status", "closes"),
    [
        ("1.1", 408, True),
        ("1.0", 413, True),
        ("1.1", 500, False),
        ("2", 408, False),
        ("2", 413, False),
        (None, 408, False),
    ],
)
def test_an_unread_body_closes_a_connection_of_http_1(version: str | None, status: int, *, closes: bool) -> None:
    asked = scope() if version is None else scope(http_version=version)
    text = PROBLEM % status
    assert of_problem(asked, status) == [
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/problem+json"),
                (b"content-length", b"%d" % len(text)),
                (b"cache-control", b"no-store"),
                *([(b"connection", b"close")] if closes else []),
            ],
        },
        {"type": "http.response.body", "body": text},
    ]


@pytest.mark.parametrize("more", [{}, {"extensions": None}, {"extensions": {"other": {}}}])
def test_a_handshake_is_closed_where_no_answer_can_be_given(more: dict[str, Any]) -> None:
    asked = scope(**more) | {"type": "websocket"}
    assert of_problem(asked, 500) == [{"type": "websocket.close", "code": 1008, "reason": "body_too_slow"}]


def test_a_handshake_is_answered_where_the_server_can() -> None:
    asked = scope(extensions={"websocket.http.response": {}}) | {"type": "websocket"}
    start, body = of_problem(asked, 500)
    assert (start["type"], body["type"]) == ("websocket.http.response.start", "websocket.http.response.body")
    assert (start["status"], body["body"]) == (500, PROBLEM % 500)
