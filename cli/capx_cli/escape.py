"""Make text from tokens, logs and services safe to show.

Law: the shown text has one line. It moves no cursor, changes no colour, and hides or reverses nothing: every character
that does not show as itself becomes an escape.
"""

import re

# Up to the last @ of the word: a password may hold an @. A path from click has lost one of two slashes.
_IN_A_URL = re.compile(r"(\w:/{1,2}[^\s/@:]*:)\S*@")
# A URL that was cut before its @: hide what follows the colon, unless it is a port.
_CUT = re.compile(r"(\w:/{1,2}[^\s/@:]*:)(?!\d{0,5}(?:\W|$))\S+")
_NAMED = re.compile(r"(password\s*=\s*)(?:'[^']*'?|[^\s&'\"]+)")


def clean(text: str) -> str:
    """Return the text with controls, line ends, bidi, zero-width and other invisible characters as escapes."""
    if text.isascii() and text.isprintable():
        return text
    from capx_caveats.shown_values import printable  # rarely needed, and slow to import

    return printable(text)


def without_passwords(text: str) -> str:
    """Return the text with three stars for each password in a URL or after `password=`."""
    whole = _IN_A_URL.sub(r"\1***@", text)
    return _NAMED.sub(r"\1***", _CUT.sub(r"\1***", whole))
