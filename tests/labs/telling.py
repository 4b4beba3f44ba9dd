"""Hooks over a real authority, in the threads of this process, and requests that wait for people."""

import contextlib
import threading
from collections.abc import Generator
from pathlib import Path

from prometheus_client import CollectorRegistry

from capx.authority.authority import Authority
from capx.server.notify.figures import Figures
from capx.server.notify.hook import Hook
from capx.server.notify.runner import Notifier
from tests.labs.inbox import asks, opened
from tests.labs.office import Office


class Telling:
    """A home whose hooks are told by this process."""

    def __init__(self, folder: Path, *, within: str = "30m", store: str | None = None) -> None:
        self.office = Office(folder, within=within, store=store)
        self.bundle = opened(self.office)
        self.registry = CollectorRegistry()
        self.amount = 0

    @contextlib.contextmanager
    def told(self, *hooks: Hook) -> Generator[Notifier]:
        """A block in which these hooks are told."""
        self.registry = CollectorRegistry()
        with Authority.open_home(self.office.home) as authority:
            notifier = Notifier(authority, hooks, Figures(self.registry))
            notifier.start()
            try:
                yield notifier
            finally:
                notifier.stop()
                assert not any(thread.name == "capx-hook" for thread in threading.enumerate())

    def ask(self) -> str:
        """One more request that waits for a person."""
        # Another one each time: the same ask would be the same request.
        self.amount += 1
        return asks(self.office, self.bundle, amount=self.amount).request

    def figure(self, name: str, **labels: str) -> float:
        """A figure of the hooks."""
        found = self.registry.get_sample_value(name, labels)
        assert found is not None
        return found

    def outcome(self, outcome: str, hook: str = "pager") -> float:
        return self.figure("capx_notices_total", hook=hook, outcome=outcome)
