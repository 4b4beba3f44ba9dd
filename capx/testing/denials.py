"""A block of a test in which a call must be denied, for one reason that the test names.

Law: a test of a denial passes for no other denial. Otherwise a call that is denied because a token has expired would
seem to show that its arguments are refused.
"""

from types import TracebackType
from typing import Self

from capx.errors import CapxError
from capx.tokens.wording import sentence
from capx.verify.decision import Denied


def denied(code: str, hop: int | None = None) -> "DemandedDenial":
    """Demand that a call in the `with` block is denied with this code, and by this hop; AssertionError otherwise.

    As in `Denied`, the code and the hop are those of the first reason. Hop 0 is the authority's block, hop 1 the first
    delegation. The AssertionError says what happened instead: for what the call was denied, or that it was allowed.
    """
    return DemandedDenial(code, hop)


class DemandedDenial:
    """A block in which a call must be denied; `error` is the Denied, once the block has ended."""

    def __init__(self, code: str, hop: int | None) -> None:
        self._code = code
        self._hop = hop
        self._wanted = f"the call must be denied for {_shown(code, hop)}"
        self.error: Denied | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> bool:
        __tracebackhide__ = True  # pytest shows the line of the test instead of this one
        if isinstance(error, Denied) and self._is_this(error):
            self.error = error
            return True
        if error is None or isinstance(error, CapxError):
            raise AssertionError(f"{self._wanted}, but {_happened(error)}") from error
        return False

    def _is_this(self, error: Denied) -> bool:
        return error.code == self._code and self._hop in (None, error.refusals[0].hop)


def _happened(error: CapxError | None) -> str:
    if error is None:
        return "it was allowed"
    if not isinstance(error, Denied):
        return f"{type(error).__name__} was raised: {error}"
    return f"it was denied for {'; '.join(f'{_shown(one.code, one.hop)} ({sentence(one)})' for one in error.refusals)}"


def _shown(code: str, hop: int | None) -> str:
    return code if hop is None else f"{code} by hop {hop}"
