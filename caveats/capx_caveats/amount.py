r"""Amounts: what a call costs, and what a budget holds.

    (0|[1-9][0-9]{0,14})(\.[0-9]{1,6})?

Laws: an amount is decimal and exact, never negative, and has at most 15 digits before the point and 6 after it. A float
is refused: 0.1 is none.
"""

import re
from decimal import Decimal

from capx_caveats.errors import InvalidCaveat

Amount = str | int | Decimal
"""An amount as it may be given."""

_AMOUNT = re.compile(r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,6})?")


def is_amount(text: str) -> bool:
    """Whether the text spells an amount, such as `20` or `0.5`."""
    return _AMOUNT.fullmatch(text) is not None


def amount(given: Amount) -> Decimal:
    """The amount that is meant; InvalidCaveat for what is none."""
    text = format(given, "f") if type(given) is Decimal else str(given) if type(given) is int else given
    # A foreign type may come through an untyped caller.
    if not isinstance(text, str) or not is_amount(text):
        raise InvalidCaveat(
            f"{given!r:.80} is not an amount: text such as '20' or '0.5', a whole number or a Decimal, "
            "not negative, at most 15 digits before the point and 6 after it"
        )
    return Decimal(text)


def shown_amount(value: Decimal) -> str:
    """The amount in its shortest spelling."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
