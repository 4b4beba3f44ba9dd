"""One operation of the API: its method and path, what it takes and answers, and the function that carries it out.

    OPERATIONS: Final = OperationTable()
    operation = OPERATIONS.operation

    @operation("GET", "/tasks/{id}", problems=(404,))
    def task(authority: Authority, *, id: str) -> TaskRecord:
        "One task."
        return authority.task(id)

Law: the table is read from the function's name, docstring and annotations. Routes, OpenAPI document and client all use
the table, so they agree with the function.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, ParamSpec, TypeVar, get_type_hints

from msgspec import Struct

P = ParamSpec("P")
R = TypeVar("R")

JSON_TYPE: Final = "application/json"


class Operation(Struct, Generic[P, R], frozen=True, kw_only=True):
    """One operation: where it is, what it takes, and the function that does it."""

    method: str
    """GET or POST."""
    path: str
    """The path; it may contain `{id}`."""
    name: str
    """The name of the function, and the operation's id in the OpenAPI document."""
    about: str
    """The docstring of the function, and the summary in the OpenAPI document."""
    act: Callable[P, R]
    """The function. It gets the id of the path as `id`, and it may wait for a store."""
    asks: type[Struct] | None = None
    """The type of the body of a POST, or of the query of a GET; None if it takes neither."""
    answers: Any = None
    """The type of the answer; None if `media` is not JSON."""
    media: str = JSON_TYPE
    """The content type of the answer."""
    problems: tuple[int, ...] = ()
    """The statuses of its own problems, besides those that every operation can have."""
    seconds: float = 30.0
    """How long a client waits for the answer."""
    announced: bool = False
    """Whether it changes what followers have to know at once."""
    streams: bool = False
    """Whether it can also answer with server-sent events."""
    action: str | None = None
    """The action for which an agent has to present its authority capability; None if no agent calls this."""
    presented: bool = False
    """Whether an agent has to present its capability for another audience, for the call in the body."""
    reported: bool = False
    """Whether a resource has to prove the request with its audience's key."""
    personal: bool = False
    """Whether a person has to prove the request with their own key."""
    status: int = 200
    """The status of the answer."""

    @property
    def has_body(self) -> bool:
        """Whether it takes a body; a GET takes a query."""
        return self.method == "POST"


class OperationTable(list[Operation[..., Any]]):
    """The operations of one face, in the order in which its module defines them."""

    def operation(self, method: str, path: str, **details: Any) -> Callable[[Callable[P, R]], Operation[P, R]]:
        """Make the decorated function an operation of this table.

        Its parameter `asked` gives `asks`, and its return type gives `answers`. `details` are further fields of
        `Operation`; `answers` among them overrides the return type.
        """

        def added(function: Callable[P, R]) -> Operation[P, R]:
            hints = get_type_hints(function, include_extras=True)
            fields: dict[str, Any] = {"asks": hints.get("asked"), "answers": hints["return"], **details}
            about = function.__doc__ or ""
            made = Operation(method=method, path=path, name=function.__name__, about=about, act=function, **fields)
            self.append(made)
            return made

        return added
