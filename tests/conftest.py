"""What every test may ask for."""

import asyncio
import inspect
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.labs.counts import repeated
from tests.labs.processes import end_what_runs

pytest_plugins = ["tests.labs.postgres", "capx.testing", "pytester"]

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Recorders that tests left open log when the process ends, after the summary. Nobody needs these lines.
logging.getLogger("capx").addHandler(logging.NullHandler())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Four workers for two processors: tests that wait for other processes leave half of their time to others."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine function runs in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """A test that fails leaves no process to the tests after it."""
    yield
    end_what_runs()


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


# How long an example takes is the machine's business: nothing here is a timed test.
settings.register_profile("untimed", deadline=None, max_examples=repeated(100))
settings.load_profile("untimed")
