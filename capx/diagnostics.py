"""Writes warnings for the person who runs a service, to the logger `capx`.

Laws: a warning may name hosts and files, so it goes only to the log, never to a bearer. The same sentence is written at
most once a minute.
"""

import os
import threading
import time

_AGAIN = 60.0
_said: dict[str, float] = {}
_lock = threading.Lock()


def _begin_in_child() -> None:
    # Another thread of the parent may have held the lock at the fork. That thread is not in the child to release it.
    global _lock  # noqa: PLW0603 # one lock for each process
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_begin_in_child)


def warn_once(sentence: str) -> None:
    """Write a warning, unless it was written within the last minute."""
    now = time.monotonic()
    with _lock:
        if now - _said.get(sentence, -_AGAIN) < _AGAIN:
            return
        # Sentences may hold numbers that differ each time: the memory must not grow without a bound.
        if len(_said) > 100:
            _said.clear()
        _said[sentence] = now
    import logging  # slow to import, and seldom needed

    logging.getLogger("capx").warning("%s", sentence)
