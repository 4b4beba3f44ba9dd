"""The decision on which the running tool was allowed.

Law: it follows the execution (a context variable), so concurrent tasks and threads do not see each other's.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capx.verify.decision import Allowed


_allowed: ContextVar["Allowed | None"] = ContextVar("capx_allowed", default=None)


@contextmanager
def allowed_by(allowed: "Allowed") -> Generator[None]:
    """Run a tool on this decision; that of the tool around it is back after it."""
    before = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(before)


def current_allowed() -> "Allowed | None":
    """The decision on which the innermost guarded tool runs: for whom, until when, and what budgets have left."""
    return _allowed.get()
