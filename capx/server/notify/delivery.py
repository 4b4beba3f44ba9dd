"""One try to deliver a notice, by the URL or the command of a hook."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from capx.server.notify import command
from capx.server.notify.addresses import look_up
from capx.server.notify.hook import Hook, NotTaken
from capx.server.notify.notices import Notice
from capx.server.notify.webhook import LookUp, Webhook

_LOOK_EVERY: Final = 0.1
"""Seconds between two looks at whether to stop."""


class Delivery:
    """Delivers the notices of one hook; `stopped` says that no try may go on."""

    def __init__(self, hook: Hook, *, stopped: Callable[[], bool] = lambda: False, look_up: LookUp = look_up) -> None:
        self._hook = hook
        self._stopped = stopped
        self._webhook = None if hook.url is None else Webhook(hook, look_up)

    def deliver(self, notice: Notice) -> None:
        """Deliver a notice, or raise NotTaken; takes at most ten seconds. To be called in a thread that may wait."""
        try:
            if self._webhook is None:
                command.run(self._hook.command, notice, stopped=self._stopped)
            else:
                with asyncio.Runner() as runner:
                    runner.run(self._unless_stopped(self._webhook, notice))
        except OSError as error:
            # No file for a loop or for the standard input of a command, for example.
            raise NotTaken(f"it cannot be tried here: {error.strerror}") from None

    async def _unless_stopped(self, webhook: Webhook, notice: Notice) -> None:
        task = asyncio.create_task(webhook.send(notice, at=int(time.time())))
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK_EVERY)
            if self._stopped() and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                raise NotTaken("the server stops")
        task.result()
