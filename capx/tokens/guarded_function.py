"""How a holder finds the guard of a function of its process.

Laws: a guarded function carries its guard, because guards stand above this room. Only the guarded function itself
counts: `functools.wraps` copies what a function carries to the decorator around it, and to call what is inside would
leave the decorator out.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from capx.errors import InvalidRequest

_ATTRIBUTE: Final = "__capx_guard__"


class FunctionGuard(Protocol):
    """The guard of one function."""

    @property
    def function(self) -> Callable[..., Any]:
        """The guarded function: the one that carries this guard."""
        ...

    @property
    def injected(self) -> frozenset[str]:
        """The names of the parameters that a framework fills in, which no caveat sees."""
        ...

    def called_by(self, actor: Any, /) -> Callable[..., Any]:
        """Return the guarded function, called for this bundle or agent."""
        ...


def carry_guard(guard: FunctionGuard) -> None:
    """Make the function of the guard carry it."""
    setattr(guard.function, _ATTRIBUTE, guard)


def guard_of(function: Callable[..., Any]) -> FunctionGuard:
    """Return the guard of a guarded function; InvalidRequest for any other function, and for a decorated one."""
    guard: FunctionGuard | None = getattr(function, _ATTRIBUTE, None)
    if guard is None or guard.function is not function:
        name = getattr(function, "__qualname__", type(function).__name__)
        raise InvalidRequest(
            f"{name} is not a guarded tool: guard it with `ToolGuard.tool` or `Authority.tool`, outside of all its "
            "other decorators"
        )
    return guard


def injected_parameters(function: object) -> frozenset[str]:
    """Return the parameters of a function that no caveat sees, also behind other decorators; none without a guard."""
    guard: FunctionGuard | None = getattr(function, _ATTRIBUTE, None)
    return frozenset() if guard is None else guard.injected
