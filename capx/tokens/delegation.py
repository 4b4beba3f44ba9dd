"""A delegation for a block of code: the child is revoked at the end of the block, however the block ends.

Laws:

- After the block, the child is revoked, or an error says that it may not be.
- An exception of the block, or a cancellation, is treated as `capx.tokens.closing_act` says.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest
from capx.tokens.closing_act import ClosingAct
from capx_caveats import shown


class Child(Protocol):
    """Something that was delegated and can be revoked: a `Bundle`."""

    @property
    def node(self) -> bytes | None:
        """The node to revoke; None if it has none."""
        ...


C = TypeVar("C", bound=Child)
C_contra = TypeVar("C_contra", bound=Child, contravariant=True)


class Revoker(Protocol[C_contra]):
    """Revokes a child: the authority, or a client of it."""

    def revoke(self, child: C_contra, /) -> object:
        """Revoke the child and everything below it, durably; raises if that is not possible."""
        ...


class Delegation(Generic[C]):
    """One child for one block, `with` or `async with`; an async block revokes in a thread.

    After the block without an exception, the child is revoked at the authority. Each service denies it as soon as it
    hears of that.
    """

    def __init__(self, delegate: Callable[[], C], *, to: str, authority: Revoker[C]) -> None:
        self._delegate = delegate
        self._to = to
        self._authority = authority
        self._child: C | None = None
        self._unused = threading.Lock()

    def __enter__(self) -> C:
        if not self._unused.acquire(blocking=False):
            raise InvalidRequest("this delegation was used before, and its child is revoked: delegate again")
        try:
            self._child = _revocable(self._delegate())
        except BaseException:
            # No child was made, so the block may be tried again.
            self._unused.release()
            raise
        return self._child

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._revocation().do(raised)

    async def __aenter__(self) -> C:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._revocation().do_async(raised)

    def _revocation(self) -> ClosingAct:
        child = self._held()
        return ClosingAct(lambda: self._authority.revoke(child), self._not_revoked, name="capx-revoke")

    def _held(self) -> C:
        if self._child is None:
            raise InvalidRequest("this delegation was not entered: use it in `with` or `async with`")
        return self._child

    def _not_revoked(self, error: BaseException) -> str:
        return (
            f"{shown(self._to)} could not be revoked ({error}): it lives until it expires, or its node "
            f"{b64u(self._held().node or b'')} is revoked"
        )


def _revocable(child: C) -> C:
    if child.node is None:
        raise InvalidRequest("this bundle has no root, so its child has no node that could be revoked")
    return child
