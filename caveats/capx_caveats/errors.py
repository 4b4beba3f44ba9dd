"""The base of every error capx raises, and the one this room raises itself.

    CapxError
    └── InvalidCaveat        the caller named a caveat, constraint or call that cannot be meant

All others stand in capx.errors.
"""


class CapxError(Exception):
    """Every error that capx raises on purpose; a foreign exception that escapes capx is a bug."""


class InvalidCaveat(CapxError, ValueError):
    """A caveat, constraint or call was built from values that it may not have; says which and why."""
