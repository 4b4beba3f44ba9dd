r"""Amounts: what a call costs, and what a budget holds.

    (0|[1-9][0-9]{0,14})(\.[0-9]{1,6})?

Laws: an amount is decimal and exact, never negative, and has at most 15 digits before the point and 6 after it. A float
is refused: 0.1 is none. Sums are exact whatever decimal context the calling code has set.
"""

import re
from decimal import Context, Decimal

from capx_caveats.errors import InvalidCaveat

Amount = str | int | Decimal
"""An amount as it may be given."""

_AMOUNT = re.compile(r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,6})?")
_BEYOND = 10**15
# Of its own: code that rounds its money to four digits must not round what it has spent.
_EXACT = Context(prec=50)


def is_amount(text: str) -> bool:
    """Whether the text spells an amount, such as `20` or `0.5`."""
    return _AMOUNT.fullmatch(text) is not None


def amount(given: Amount) -> Decimal:
    """The amount that is meant; InvalidCaveat for what is none."""
    return Decimal(spelt_amount(given))


def spelt_amount(given: Amount) -> str:
    """The amount as a text of the form above: a text as it is; InvalidCaveat for what is none."""
    text = _spelt(given)
    if text is None or not is_amount(text):
        raise InvalidCaveat(
            f"{_quoted(given)} is not an amount: text such as '20' or '0.5', a whole number or a Decimal, "
            "not negative, at most 15 digits before the point and 6 after it"
        )
    return text


def shown_amount(value: Decimal) -> str:
    """The amount in its shortest spelling."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def plus(one: Decimal, other: Decimal) -> Decimal:
    """The exact sum of two amounts."""
    return _EXACT.add(one, other)


def rest_of(limit: Decimal, spent: Decimal) -> Decimal:
    """What is exactly left of a limit; never less than nothing."""
    return max(Decimal(0), _EXACT.subtract(limit, spent))


def _spelt(given: object) -> str | None:
    """The digits of a number, only where they are few enough to be written down."""
    if type(given) is int:
        return str(given) if 0 <= given < _BEYOND else None
    if type(given) is Decimal:
        exponent = given.as_tuple().exponent
        few = isinstance(exponent, int) and exponent >= -6 and given.adjusted() < 15
        return format(given, "f") if few else None
    return given if isinstance(given, str) else None


def _quoted(given: object) -> str:
    # A huge number cannot be written down, and needs not.
    return "this number" if type(given) is int and abs(given) >= _BEYOND else f"{given!r:.80}"
