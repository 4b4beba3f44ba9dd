"""One operation of the API: its method and path, what it takes and answers, and the function that carries it out.

    OPERATIONS: Final = OperationTable()
    operation = OPERATIONS.operation

    @operation("GET", "/tasks/{id}", problems=(404,))
    def task(authority: Authority, *, id: str) -> TaskRecord:
        "One task."
        return authority.task(id)

Law: the routes, the OpenAPI document and the operators' client read the same table, so none of them can differ from the
function: its name, docstring and annotations are what the table holds.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, ParamSpec, TypeVar, get_type_hints

from msgspec import Struct

P = ParamSpec("P")
R = TypeVar("R")

JSON_TYPE: Final = "application/json"


class Operation(Struct, Generic[P, R], frozen=True, kw_only=True):
    """`act` is the function. It gets what the path names as `id`, and it may wait for a store.

    `asks` is the type of the body, or of the query of a GET; `answers` is None where `media` is not JSON. `problems`
    are the statuses with which it may refuse, beside those of any request. A client waits for `seconds`. An `announced`
    operation changes what followers have to know at once. One that `streams` can answer with server-sent events, too.
    An `instant` one waits for nothing, so it needs no thread. An agent has to present a capability for its `action`; a
    `reported` one needs the proof of a resource.
    """

    method: str
    path: str
    name: str
    about: str
    act: Callable[P, R]
    asks: type[Struct] | None = None
    answers: Any = None
    media: str = JSON_TYPE
    problems: tuple[int, ...] = ()
    seconds: float = 30.0
    announced: bool = False
    streams: bool = False
    instant: bool = False
    action: str | None = None
    reported: bool = False

    @property
    def has_body(self) -> bool:
        """Whether it takes a body; a GET takes a query."""
        return self.method == "POST"


class OperationTable(list[Operation[..., Any]]):
    """The operations of one face, in the order in which its module defines them."""

    def operation(self, method: str, path: str, **details: Any) -> Callable[[Callable[P, R]], Operation[P, R]]:
        """Make the decorated function an operation of this table.

        It asks for the type of its parameter `asked`, and answers with the type that it returns; `details` are further
        fields of `Operation`, and `answers` among them goes before the type that it returns.
        """

        def added(function: Callable[P, R]) -> Operation[P, R]:
            hints = get_type_hints(function, include_extras=True)
            fields: dict[str, Any] = {"asks": hints.get("asked"), "answers": hints["return"], **details}
            about = function.__doc__ or ""
            made = Operation(method=method, path=path, name=function.__name__, about=about, act=function, **fields)
            self.append(made)
            return made

        return added
