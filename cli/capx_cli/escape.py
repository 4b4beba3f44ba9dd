"""Text from tokens, logs and services, made safe to show.

Law: what is shown has one line, moves no cursor, changes no colour, and hides or reverses nothing: every character
that does not show as itself is written out as an escape.
"""

import re

# Up to the last @ of the word: a password may hold one itself. What click reads as a path has lost one slash of two.
_IN_A_URL = re.compile(r"(\w:/{1,2}[^\s/@:]*:)\S*@")
# One that was cut before its @: what stands there and is no port.
_CUT = re.compile(r"(\w:/{1,2}[^\s/@:]*:)(?!\d{0,5}(?:\W|$))\S+")
_NAMED = re.compile(r"(password\s*=\s*)(?:'[^']*'?|[^\s&'\"]+)")


def clean(text: str) -> str:
    """The text with controls, line ends, bidi, zero-width and other invisible characters written as escapes."""
    if text.isascii() and text.isprintable():
        return text
    from capx_caveats.values import printable  # seldom needed, and slow to import

    return printable(text)


def without_passwords(text: str) -> str:
    """The text with three stars for each password in it that stands in a URL, or behind `password=`."""
    whole = _IN_A_URL.sub(r"\1***@", text)
    return _NAMED.sub(r"\1***", _CUT.sub(r"\1***", whole))
