"""The grants of an agent with which no call has passed yet, and when the agent stops asking because of them.

Laws: a grant is in vain if the call that asked for it is denied all the same. After MAX_IN_VAIN of them at one
audience, calls there ask for nothing. They ask again once a call there has passed with a grant that is not proven yet:
one of those, or one that the program itself asked for with `Agent.ask`. So a service whose denials are lies costs an
agent a few asks, and not one for each call. The memory is bounded: it has MAX_TOKENS grants for each audience.
"""

import threading
from typing import Final

from capx.tokens.bundle import MAX_TOKENS
from capx.tokens.capability import Capability

MAX_IN_VAIN: Final = 4
"""Grants in vain at one audience, after which calls there ask for nothing."""


class UnprovenGrants:
    """The grants of one agent with which no call has passed yet; several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_vain: dict[str, dict[bytes, bool]] = {}

    def add(self, capability: Capability) -> None:
        """Note a new grant."""
        with self._lock:
            unproven = self._in_vain.setdefault(capability.audience, {})
            unproven[capability.id] = False
            if len(unproven) > MAX_TOKENS:
                # One that is not in vain: a flood of grants must not make room for more asks.
                fresh = (one for one, in_vain in unproven.items() if not in_vain and one != capability.id)
                del unproven[next(fresh, next(iter(unproven)))]

    def fail(self, capability: Capability) -> None:
        """Note that the call that asked for this grant is denied all the same."""
        with self._lock:
            unproven = self._in_vain.get(capability.audience, {})
            if capability.id in unproven:
                unproven[capability.id] = True

    def prove(self, capability: Capability) -> None:
        """Note that a call passed with this capability: if it is an unproven grant, forget all at its audience."""
        with self._lock:
            if capability.id in self._in_vain.get(capability.audience, {}):
                del self._in_vain[capability.audience]

    def forbid_asks(self, audience: str) -> bool:
        """Whether so many grants were in vain that calls at this audience ask for nothing."""
        with self._lock:
            return sum(self._in_vain.get(audience, {}).values()) >= MAX_IN_VAIN
