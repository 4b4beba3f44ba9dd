"""pytest, which this room needs and capx does not depend on, or an error that says how to get it."""

try:
    import pytest
except ModuleNotFoundError as error:
    if error.name != "pytest":
        raise
    raise ModuleNotFoundError("capx.testing needs pytest: pip install 'capx-auth[testing]'", name="pytest") from None

__all__ = ["pytest"]
