r"""Amounts: the cost of a call, and the limit of a budget.

    (0|[1-9][0-9]{0,14})(\.[0-9]{1,6})?

Laws: an amount is decimal and exact, never negative, and has at most 15 digits before the point and 6 after it. A float
is refused, because the float 0.1 is not exactly 0.1. Sums are exact, whatever decimal context the calling code has set.
"""

import re
from decimal import Context, Decimal

from capx_caveats.errors import InvalidCaveat

Amount = str | int | Decimal
"""The types in which an amount can be given; a float is not one of them."""

_AMOUNT = re.compile(r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,6})?")
_BEYOND = 10**15
# A context of its own: if the calling code rounds its own sums, the sum of what is spent must stay exact.
_EXACT = Context(prec=50)


def is_amount(text: str) -> bool:
    """Whether the text is an amount, such as `20` or `0.5`."""
    return _AMOUNT.fullmatch(text) is not None


def amount(given: Amount) -> Decimal:
    """Return the amount as a Decimal; InvalidCaveat if it is not an amount."""
    return Decimal(spelt_amount(given))


def spelt_amount(given: Amount) -> str:
    """Return the amount as text of the form above; text stays as it is. InvalidCaveat if it is not an amount."""
    text = _spelt(given)
    if text is None:
        raise InvalidCaveat(
            f"{_quoted(given)} is not an amount: text such as '20' or '0.5', a whole number or a Decimal, "
            "not negative, at most 15 digits before the point and 6 after it"
        )
    return text


def shown_amount(value: Decimal) -> str:
    """Return the amount in its shortest form: 2.50 as `2.5`."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def plus(one: Decimal, other: Decimal) -> Decimal:
    """Return the exact sum of two amounts."""
    return _EXACT.add(one, other)


def rest_of(limit: Decimal, spent: Decimal) -> Decimal:
    """Return what is left of a limit, exactly; never less than zero."""
    return max(Decimal(0), _EXACT.subtract(limit, spent))


def _spelt(given: object) -> str | None:
    """Return the amount as text of the form above; None if it is not an amount."""
    if type(given) is str:
        return given if is_amount(given) else None
    # Compare before writing: Python refuses to write a huge integer, and 1E+999999 has a million digits.
    if type(given) is int:
        return str(given) if 0 <= given < _BEYOND else None
    if type(given) is Decimal:
        sign, _, exponent = given.as_tuple()
        # The exponent of what is not finite is a letter.
        few = isinstance(exponent, int) and exponent >= -6 and given.adjusted() < 15
        return f"{given:f}" if few and not sign else None
    return None


def _quoted(given: object) -> str:
    # Python raises an error when it writes an integer of more than 4300 digits.
    return "this number" if type(given) is int and abs(given) >= _BEYOND else f"{given!r:.80}"
