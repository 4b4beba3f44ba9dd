"""The fixtures: a temporary authority, bundles of tasks opened by hand, and a clock that stands still.

Law: nothing is replaced but the time, and only if the test asks for the clock. The authority is a real one, with a real
store, and so are its tokens.
"""

import time
from collections.abc import Callable, Generator
from typing import Protocol

from capx.authority.authority import Authority
from capx.policy.file import read_policy
from capx.policy.policy import NO_POLICY, Policy
from capx.testing.clock import READ_BY_HOLDERS, Clock, StoppedTime
from capx.testing.pytest_library import pytest
from capx.tokens.bundle import Bundle
from capx.tokens.grants import Grant

_MARK = "capx_policy"


class OpensByHand(Protocol):
    """Opens a task by hand, and returns its bundle: the fixture `capx_bundle`."""

    def __call__(self, *allow: Grant, tenant: str | None = None) -> Bundle:
        """Return the bundle of a new task that may do what `allow` lists, as for `Authority.open`."""
        ...


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known, so that `--strict-markers` accepts it."""
    config.addinivalue_line("markers", f"{_MARK}(text): the policy (TOML) of capx_authority")


@pytest.fixture
def capx_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still until the test moves it; holders, `capx_authority` and its verifiers go by it."""
    clock = Clock()
    for module in READ_BY_HOLDERS:
        monkeypatch.setattr(f"{module}.time", StoppedTime(clock))
    return clock


@pytest.fixture
def capx_authority(request: pytest.FixtureRequest) -> Generator[Authority]:
    """A temporary authority, which is closed after the test.

    `@pytest.mark.capx_policy(text)` on the test, its class or its module gives it a policy. It goes by `capx_clock` if
    the test asks for that too.
    """
    # Not for each test: most want the real time, at which other processes are too.
    clock: Callable[[], float] = time.time
    if "capx_clock" in request.fixturenames:
        clock = request.getfixturevalue("capx_clock")
    with Authority.temporary(policy=_policy(request), clock=clock) as authority:
        yield authority


@pytest.fixture
def capx_bundle(capx_authority: Authority) -> OpensByHand:
    """A function: `capx_bundle("crm.read", tenant="Acme")` is the bundle of a new task of `capx_authority`."""

    def opened(*allow: Grant, tenant: str | None = None) -> Bundle:
        return capx_authority.open(allow=allow, tenant=tenant).bundle

    return opened


def _policy(request: pytest.FixtureRequest) -> Policy:
    node: pytest.Item = request.node
    mark = node.get_closest_marker(_MARK)
    if mark is None:
        return NO_POLICY
    if len(mark.args) != 1 or mark.kwargs or not isinstance(mark.args[0], str):
        raise pytest.UsageError(f'write @pytest.mark.{_MARK}("…") with the text of one policy')
    return read_policy(mark.args[0], f"the policy of {node.name}")
