"""Which bundle the running code acts with: set for a block of code, read by guarded tools and presenting clients.

Law: it follows the execution (a context variable), so concurrent tasks and threads do not act for each other.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from capx.bundle import Bundle

_current: ContextVar[Bundle | None] = ContextVar("capx_bundle", default=None)


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
