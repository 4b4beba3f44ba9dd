"""The base of every error capx raises, and the one this room raises itself.

    CapxError
    └── InvalidCaveat        the caller built a caveat, constraint or call from values that it cannot have

All other errors are in capx.errors.
"""

from typing import Any


class CapxError(Exception):
    """The base of every error that capx raises on purpose; any other exception that escapes capx is a bug."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the constructor: most errors take other arguments than the sentence that they make of them.
        return _again, (type(self), self.args), vars(self)


def _again(kind: type[CapxError], args: tuple[object, ...]) -> CapxError:
    """Make an error anew; what reads it back then gives it its attributes."""
    return kind.__new__(kind, *args)


class InvalidCaveat(CapxError, ValueError):
    """A caveat, constraint or call was built from values that it cannot have; the message says which and why."""
