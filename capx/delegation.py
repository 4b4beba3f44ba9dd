"""A delegation for a block of code: the child is revoked when the block is left, however it is left.

Laws: the child is dead, or an error says that it is not. What left the block is never replaced by a failure to revoke,
which is noted on it. A cancellation that comes while it is being revoked is passed on, once it has been.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from capx.bundle import Bundle
from capx.chain import b64u
from capx.decision import label
from capx.errors import InvalidRequest


class Revoker(Protocol):
    """Who can revoke a child: the authority, or a client of it."""

    def revoke(self, child: Bundle, /) -> object:
        """Kill the child and everything below it, durably; raises if that cannot be."""
        ...


class Delegation:
    """One child for one block, `with` or `async with`; an async block revokes in a thread."""

    def __init__(self, delegate: Callable[[], Bundle], *, to: str, authority: Revoker) -> None:
        self._delegate = delegate
        self._to = to
        self._authority = authority
        self._child: Bundle | None = None

    def __enter__(self) -> Bundle:
        if self._child is not None:
            raise InvalidRequest("this delegation was used before, and its child is revoked: delegate again")
        child = self._delegate()
        if child.node is None:
            raise InvalidRequest("this bundle has no root, so its child has no node that could be revoked")
        self._child = child
        return child

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._authority.revoke(self._held())
        except Exception as error:
            if raised is None:
                raise
            self._note(raised, error)

    async def __aenter__(self) -> Bundle:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        revoking = asyncio.ensure_future(asyncio.to_thread(self._authority.revoke, self._held()))
        cancelled: asyncio.CancelledError | None = None
        while not revoking.done():
            try:
                # Not to be waited for together: a waiter that is cancelled would leave before the child is dead.
                await asyncio.wait([revoking])
            except asyncio.CancelledError as cancellation:
                cancelled = cancellation
        failed = revoking.exception()
        if failed is not None:
            if cancelled is None and raised is None:
                raise failed
            self._note(cancelled or raised, failed)
        if cancelled is not None:
            raise cancelled

    def _held(self) -> Bundle:
        if self._child is None:
            raise InvalidRequest("this delegation was not entered")
        return self._child

    def _note(self, raised: BaseException | None, error: BaseException) -> None:
        if raised is not None:
            raised.add_note(
                f"{label(self._to)} could not be revoked ({error}): it lives until it expires, or its node "
                f"{b64u(self._held().node or b'')} is revoked"
            )
