"""A block of a test in which a call must be denied, for one reason that the test names.

Law: a test of a denial passes for no other denial. Otherwise a call that is denied because a token has expired would
seem to show that its arguments are refused.
"""

from collections.abc import Generator
from contextlib import contextmanager

from msgspec import Struct

from capx.errors import CapxError
from capx.tokens.wording import sentence
from capx.verify.decision import Denied
from capx_caveats import Refusal


class Caught(Struct):
    """What a block of `denied` has raised: `error` is there after the block."""

    error: Denied | None = None


@contextmanager
def denied(code: str, hop: int | None = None) -> Generator[Caught]:
    """Demand that a call in the `with` block is denied with this code, and by this hop; AssertionError otherwise.

    As in `Denied`, the code and the hop are those of the first reason. Hop 0 is the authority's block, hop 1 the first
    delegation. The AssertionError says what happened instead: for what the call was denied, or that it was allowed.
    The block returns an object whose `error` is the Denied.
    """
    __tracebackhide__ = True  # pytest shows the line of the test instead of this one
    caught, wanted = Caught(), _wanted(code, hop)
    try:
        yield caught
    except Denied as error:
        first = error.refusals[0]
        if first.code != code or (hop is not None and first.hop != hop):
            reasons = "; ".join(map(_told, error.refusals))
            raise AssertionError(f"{wanted}, but it was denied for {reasons}") from error
        caught.error = error
    except CapxError as error:
        raise AssertionError(f"{wanted}, but {type(error).__name__} was raised: {error}") from error
    else:
        raise AssertionError(f"{wanted}, but it was allowed")


def _wanted(code: str, hop: int | None) -> str:
    return f"the call must be denied for {code}{'' if hop is None else f' by hop {hop}'}"


def _told(refusal: Refusal) -> str:
    by = "" if refusal.hop is None else f" by hop {refusal.hop}"
    return f"{refusal.code}{by} ({sentence(refusal)})"
