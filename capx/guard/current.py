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
    """Set the decision while a tool runs; afterwards the decision of the tool around it is current again."""
    before = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(before)


def current_allowed() -> "Allowed | None":
    """Return the decision that allowed the innermost running tool, or None outside of one.

    It says for whom the tool runs, until when, and what is left of the budgets. If the tool cannot do its work, it can
    give back what its call has spent.
    """
    return _allowed.get()
