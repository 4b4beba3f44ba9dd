"""Messages of JSON-RPC 2.0, as MCP sends them: one object each, read strictly and written anew.

Laws: a message is read whole or refused. A member that is named twice, a member that JSON-RPC does not know, and a
batch are refused, because two readers could make two different calls of them. What is sent on is written from what was
read, so both sides see the same.
"""

import json
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType

from capx.crypto import strict_json
from capx.errors import CapxError, InvalidRequest
from capx_caveats import SAFE_INTEGER

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

Id = int | str
"""The id of a request. The number 1 and the text "1" are two ids."""
Object = dict[str, Any]
_LONGEST_ID: Final = 1024
"""The most characters of an id that is a text."""


class Request(Struct, frozen=True):
    """A request, which gets one response."""

    id: Id
    method: str
    params: Object | None = None


class Notification(Struct, frozen=True):
    """A message that gets no response."""

    method: str
    params: Object | None = None


class Response(Struct, frozen=True, kw_only=True):
    """The response to a request: a result, or an error. `id` is None if the request could not be read."""

    id: Id | None
    result: Any = UNSET
    error: Object | UnsetType = UNSET


Message = Request | Notification | Response


class UnreadableMessage(CapxError):
    """A message that is not served: `code` is that of JSON-RPC, `id` the id of the request, if it could be read.

    `answers` is the id of the request to which it was a response; nothing may depend on it but an error message.
    """

    def __init__(
        self, message: str, code: int = INVALID_REQUEST, id: Id | None = None, answers: Id | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.id = id
        self.answers = answers

    def response(self) -> Response:
        """Return the error response for this message."""
        return failure(self.id, self.code, str(self))


def failure(id: Id | None, code: int, message: str, data: Any = UNSET) -> Response:
    """An error response."""
    error: Object = {"code": code, "message": message}
    return Response(id=id, error=error if data is UNSET else {**error, "data": data})


def read_message(data: bytes) -> Message:
    """Return the message in one line of stdio, or in one body of HTTP; UnreadableMessage if it is none."""
    try:
        found: Any = strict_json.read(data, object)
    except InvalidRequest as error:
        raise UnreadableMessage(str(error), PARSE_ERROR, answers=_answered_by(data)) from None
    if isinstance(found, list):
        raise UnreadableMessage("batches are not served: send one message at a time")
    if (message := object_or_none(found)) is None:
        raise UnreadableMessage("a message is a JSON object")
    return _message(message)


def object_or_none(found: Any) -> Object | None:
    """Return a JSON value if it is an object."""
    return cast("Object", found) if isinstance(found, dict) else None


def _answered_by(data: bytes) -> Id | None:
    """Return the id of the request to which a message is a response that is not strict JSON; None if it is none."""
    try:
        found = object_or_none(json.loads(data))
    except (ValueError, RecursionError):
        return None
    return None if found is None or "method" in found else _id_or_none(found.get("id"))


def _id_or_none(found: Any) -> Id | None:
    return found if isinstance(found, Id) and not isinstance(found, bool) and not _is_large(found) else None


def _message(found: Object) -> Message:
    id = found.get("id")
    kind: type[Request | Notification | Response] = Response
    if "method" in found:
        kind = Request if "id" in found else Notification
    members = {"jsonrpc", "id", "method", "params"} if kind is not Response else {"jsonrpc", "id", "result", "error"}

    def unreadable(why: str) -> UnreadableMessage:
        readable = _id_or_none(id)
        return UnreadableMessage(why, answers=readable) if kind is Response else UnreadableMessage(why, id=readable)

    if unknown := sorted(found.keys() - members):
        raise unreadable(f"{unknown[0]!a:.40} is no member of a message of JSON-RPC")
    if found.get("jsonrpc") != "2.0":
        raise unreadable("this is no message of JSON-RPC 2.0")
    if _is_large(id):
        raise unreadable("the id is a number beyond 2^53, or a text of more than 1024 characters: use a smaller one")
    if kind is Response and ("result" in found) == ("error" in found):
        raise unreadable("a response has either a result or an error, and the id of its request")
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise unreadable(f"this is no message of JSON-RPC: {error}") from None


def _is_large(id: Any) -> bool:
    # Some readers round a number, and then two ids are one. A text is kept until somebody answers.
    return len(id) > _LONGEST_ID if isinstance(id, str) else isinstance(id, int) and abs(id) > SAFE_INTEGER


def list_or_empty(found: Any) -> list[Any]:
    """Return a JSON value if it is an array; otherwise an empty one."""
    return found if isinstance(found, list) else []  # pyright: ignore[reportUnknownVariableType] # any JSON value


def write_message(message: Message) -> bytes:
    """Return the message as one line, without the line end."""
    return msgspec.json.encode({"jsonrpc": "2.0", **_members(message)})


def _members(message: Message) -> Object:
    members = {name: getattr(message, name) for name in message.__struct_fields__}
    if isinstance(message, Response):
        return {name: value for name, value in members.items() if value is not UNSET}
    return {name: value for name, value in members.items() if name != "params" or value is not None}
