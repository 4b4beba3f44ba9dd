"""Which bundle the running code acts with, and on what verdict it runs.

The bundle is set for a block of code, and read by guarded tools and presenting clients; the verdict is set by a guarded
tool, and read within it.

Law: both follow the execution (context variables), so concurrent tasks and threads do not act for each other.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from capx.bundle import Bundle

if TYPE_CHECKING:
    from capx.decision import Allowed

_current: ContextVar[Bundle | None] = ContextVar("capx_bundle", default=None)
_verdict: ContextVar["Allowed | None"] = ContextVar("capx_allowed", default=None)


@contextmanager
def acting(bundle: Bundle) -> Generator[Bundle]:
    """Act with this bundle within the block; the one before is back after it."""
    before = _current.set(bundle)
    try:
        yield bundle
    finally:
        _current.reset(before)


def current_bundle() -> Bundle | None:
    """The bundle of the innermost `acting` block around the running code."""
    return _current.get()


@contextmanager
def allowed_by(allowed: "Allowed") -> Generator[None]:
    """Run a tool on this verdict; that of the tool around it is back after it."""
    before = _verdict.set(allowed)
    try:
        yield
    finally:
        _verdict.reset(before)


def current_allowed() -> "Allowed | None":
    """The verdict on which the innermost guarded tool runs: for whom, until when, and what budgets have left."""
    return _verdict.get()
