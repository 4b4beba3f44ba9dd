"""Messages of JSON-RPC: two readers never make two calls of one message."""

import json
import pickle
from typing import Any

import pytest

from capx.api.jsonrpc import (
    INVALID_REQUEST,
    PARSE_ERROR,
    Message,
    Notification,
    Request,
    Response,
    UnreadableMessage,
    failure,
    list_or_empty,
    read_message,
    write_message,
)
from capx.crypto.strict_json import DEEPEST

HEAD: dict[str, Any] = {"jsonrpc": "2.0"}


def read(**members: Any) -> Any:
    return read_message(json.dumps(HEAD | members).encode())


@pytest.mark.parametrize(
    "message",
    [
        Request(1, "tools/call", {"name": "read"}),
        Request("1", "ping"),
        Request(-7, "ping", {}),
        Notification("notifications/initialized"),
        Notification("notifications/progress", {"progress": 0.5}),
        Response(id=1, result={}),
        Response(id=1, result=None),
        Response(id=None, error={"code": -32700, "message": "no"}),
        failure("a", -32602, "no", {"why": [1, None, True]}),
    ],
)
def test_a_message_is_read_as_it_was_written(message: Any) -> None:
    line = write_message(message)
    assert b"\n" not in line
    assert read_message(line) == message


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (Notification("a"), b'{"jsonrpc":"2.0","method":"a"}'),
        (Response(id=None, result=None), b'{"jsonrpc":"2.0","id":null,"result":null}'),
    ],
)
def test_what_a_message_does_not_have_is_not_written(message: Any, line: bytes) -> None:
    assert write_message(message) == line


def test_a_failure_is_the_error_of_its_request() -> None:
    assert failure(1, 5, "no") == Response(id=1, error={"code": 5, "message": "no"})
    assert failure("a", 5, "no", None) == Response(id="a", error={"code": 5, "message": "no", "data": None})


def test_the_number_1_and_the_text_1_are_two_ids() -> None:
    assert read(id=1, method="ping") != read(id="1", method="ping")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'"\\ud800"',
        b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"name":"read","name":"write"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"n":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"n":1e999}}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    ],
)
def test_what_is_no_json_is_a_parse_error(data: bytes) -> None:
    with pytest.raises(UnreadableMessage) as error:
        read_message(data)
    assert (error.value.code, error.value.id) == (PARSE_ERROR, None)
    assert "not the JSON" in str(error.value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[]", "batches"),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', "batches"),
        (b"1", "JSON object"),
        (b"null", "JSON object"),
        (b'"a"', "JSON object"),
    ],
)
def test_a_batch_and_what_is_no_object_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableMessage, match=why) as error:
        read_message(data)
    assert (error.value.code, error.value.id) == (INVALID_REQUEST, None)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"method": "ping", "result": {}}, "'result' is no member"),
        ({"method": "ping", "also": 1}, "'also' is no member"),
        ({"method": 5}, "method"),
        ({"method": None}, "method"),
        ({"method": "ping", "params": []}, "params"),
        ({"method": "ping", "params": "a"}, "params"),
        ({"method": "ping", "jsonrpc": "1.0"}, "JSON-RPC 2.0"),
        ({"method": "ping", "jsonrpc": 2.0}, "JSON-RPC 2.0"),
        ({}, "either a result or an error"),
        ({"result": {}, "error": {}}, "either a result or an error"),
        ({"result": {}, "method": "ping"}, "'result' is no member"),
        ({"error": "text"}, "error"),
        ({"result": {}, "params": {}}, "'params' is no member"),
    ],
)
def test_another_form_is_refused_and_its_id_is_named(members: dict[str, Any], why: str) -> None:
    with pytest.raises(UnreadableMessage, match=why) as error:
        read(id=7, **members)
    # Of a request, or of the request to which it is a response: never both.
    ids = (7, None) if "method" in members else (None, 7)
    assert (error.value.code, error.value.id, error.value.answers) == (INVALID_REQUEST, *ids)
    told = error.value.response()
    assert told == failure(ids[0], INVALID_REQUEST, str(error.value))
    assert read_message(write_message(told)) == told


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":{"n":NaN}}', 7),
        (b'{"result":{"a":1,"a":2},"jsonrpc":"2.0","id":"a"}', "a"),
        (b'{"id":7,"result":"\\ud800"}', 7),
        (b'{"id":7,"method":"sampling/createMessage","params":{"n":NaN}}', None),
        (b'{"id":true,"result":NaN}', None),
        (b'[{"id":7,"result":NaN}]', None),
        (b'{"id":7,"result":', None),
        (b'{"id":7,"result":' + b"[" * 100_000, None),
    ],
)
def test_a_response_that_is_no_strict_json_names_its_request(line: bytes, answers: object) -> None:
    with pytest.raises(UnreadableMessage) as error:
        read_message(line)
    assert (error.value.code, error.value.id, error.value.answers) == (PARSE_ERROR, None, answers)


@pytest.mark.parametrize("id", [True, 1.5, [], {}, 2**53, -(2**53), "a" * 1025])
@pytest.mark.parametrize("members", [{"method": "ping"}, {"result": {}}])
def test_an_id_is_a_whole_number_or_a_text(id: Any, members: dict[str, Any]) -> None:
    with pytest.raises(UnreadableMessage, match=r"\bid\b") as error:
        read(id=id, **members)
    assert error.value.answers is None
    assert error.value.id is None
    for longest in (2**53 - 1, "a" * 1024):
        assert read(id=longest, **members).id == longest


@pytest.mark.parametrize("other", [{"jsonrpc": "1.0"}, {"also": 1}, {"method": 5}, {}])
def test_no_refusal_names_an_id_that_a_reader_may_round(other: dict[str, Any]) -> None:
    with pytest.raises(UnreadableMessage) as error:
        read(**{"id": 2**53 + 1, "method": "ping"} | other)
    assert error.value.id is None


def test_only_a_response_may_have_the_id_null() -> None:
    assert read(id=None, error={"code": 1, "message": "no"}).id is None
    others: list[dict[str, Any]] = [{"result": {}}, {"id": None, "method": "ping"}]
    for members in others:
        with pytest.raises(UnreadableMessage, match=r"\bid\b"):
            read(**members)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64 - 1, 2**70, -(2**70), 10**400, 0.1, 1e300, 5e-324])
def test_a_number_is_written_as_it_was_read_or_refused(number: Any) -> None:
    line = json.dumps(HEAD | {"id": 1, "method": "a", "params": {"n": number}}).encode()
    try:
        message = read_message(line)
    except UnreadableMessage:
        assert abs(number) >= 2**64
        return
    assert json.loads(write_message(message))["params"]["n"] == number


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"[":', "}"), ('[{"a":', "}]")])
def test_a_message_that_can_be_read_can_be_written(opened: str, closed: str) -> None:
    each = opened.count("[") + opened.count('{"a')

    def nested(levels: int) -> bytes:
        value = opened * (levels // each) + "0" + closed * (levels // each)
        return b'{"jsonrpc":"2.0","id":7,"result":%b}' % value.encode()

    def write(message: Message, frames: int) -> bytes:
        return write(message, frames - 1) if frames else write_message(message)

    line = nested(DEEPEST - 2)
    assert write(read_message(line), 100) == line
    for levels in (DEEPEST + 1, 900):
        with pytest.raises(UnreadableMessage, match="recursion limit exceeded") as error:
            read_message(nested(levels))
        assert error.value.answers == 7


def test_an_error_survives_pickling() -> None:
    error = UnreadableMessage("no", PARSE_ERROR, "a")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.code, copy.id) == ("no", PARSE_ERROR, "a")


@pytest.mark.parametrize(
    ("found", "items"), [([1, None], [1, None]), ([], []), ({"a": 1}, []), ("text", []), (None, [])]
)
def test_only_an_array_has_items(found: Any, items: list[Any]) -> None:
    assert list_or_empty(found) == items
