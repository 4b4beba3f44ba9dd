"""The base of every error capx raises, and the one this room raises itself.

    CapxError
    └── InvalidCaveat        the caller built a caveat, constraint or call from values that it cannot have

All other errors are in capx.errors.
"""


class CapxError(Exception):
    """The base of every error that capx raises on purpose; any other exception that escapes capx is a bug."""


class InvalidCaveat(CapxError, ValueError):
    """A caveat, constraint or call was built from values that it cannot have; the message says which and why."""
