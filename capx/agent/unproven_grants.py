"""What an agent remembers of grants that did not help, so that it stops asking for them.

Laws:

- A grant is *in vain* if the call that asked for it is denied all the same.
- After MAX_IN_VAIN new grants in vain at an audience, calls there ask for nothing. They ask again when a call there
  passes with a grant with which none had passed before, such as one that the program asked for with `Agent.ask`.
- An ask that did not help MAX_IN_VAIN calls is not sent again until any call passes at its audience.
- The memory is bounded: for each audience, it has MAX_TOKENS grants and as many asks.

So a service whose denials are lies costs an agent a few asks, and not one for each call.
"""

import threading
from typing import Final

from capx.background import begin_in_each_process
from capx.tokens.bundle import MAX_TOKENS
from capx.tokens.capability import Capability
from capx.verify.ask import Ask

MAX_IN_VAIN: Final = 4
"""New grants in vain at one audience, after which calls there ask for nothing; and calls that one ask did not help."""


class UnprovenGrants:
    """The grants of one agent with which no call has passed yet, and the asks in vain; several threads may use it."""

    def __init__(self) -> None:
        begin_in_each_process(self._begin)
        # By audience and id: whether it was in vain.
        self._unproven: dict[str, dict[bytes, bool]] = {}
        self._unhelpful: dict[str, dict[tuple[str, str, bytes | None, str | None], int]] = {}

    def _begin(self) -> None:
        # A thread of the parent may hold the lock at the fork, and it is not in the child to release it.
        self._lock = threading.Lock()

    def add(self, capability: Capability) -> None:
        """Remember a new grant."""
        with self._lock:
            unproven = self._unproven.setdefault(capability.audience, {})
            unproven.setdefault(capability.id, False)
            if len(unproven) > MAX_TOKENS:
                # One that is not in vain: a flood of grants must not make room for more asks.
                fresh = (one for one, in_vain in unproven.items() if not in_vain and one != capability.id)
                del unproven[next(fresh, next(iter(unproven)))]

    def fail(self, ask: Ask, capability: Capability | None) -> None:
        """Remember that a call is denied although this ask was granted for it, with this capability.

        Without a capability, people have approved the call.
        """
        with self._lock:
            if capability is not None and capability.id in (unproven := self._unproven.get(capability.audience, {})):
                unproven[capability.id] = True
            unhelpful = self._unhelpful.setdefault(ask.audience, {})
            unhelpful[ask.key] = unhelpful.pop(ask.key, 0) + 1
            if len(unhelpful) > MAX_TOKENS:
                del unhelpful[next(iter(unhelpful))]

    def prove(self, capability: Capability) -> None:
        """Remember that a call passed with this capability."""
        with self._lock:
            self._unhelpful.pop(capability.audience, None)
            if capability.id in self._unproven.get(capability.audience, {}):
                del self._unproven[capability.audience]

    def forbids(self, ask: Ask) -> bool:
        """Whether calls do not send this ask, because grants were in vain."""
        with self._lock:
            in_vain = sum(self._unproven.get(ask.audience, {}).values())
            return max(in_vain, self._unhelpful.get(ask.audience, {}).get(ask.key, 0)) >= MAX_IN_VAIN
