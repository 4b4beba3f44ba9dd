"""Text from tokens, logs and services, made safe to show.

Law: what is shown has one line, moves no cursor, changes no colour, and hides or reverses nothing: every character
that does not show as itself is written out as an escape.
"""

import re
from unicodedata import category

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks by category that show as nothing."""
# Up to the last @ of the word: a password may hold one itself. What click reads as a path has lost one slash of two.
_IN_A_URL = re.compile(r"(\w:/{1,2}[^\s/@:]*:)\S*@")
# One that was cut before its @: what stands there and is no port.
_CUT = re.compile(r"(\w:/{1,2}[^\s/@:]*:)(?!\d{0,5}(?:\W|$))\S+")
_NAMED = re.compile(r"(password\s*=\s*)(?:'[^']*'?|[^\s&'\"]+)")


def clean(text: str) -> str:
    """The text with controls, line ends, bidi, zero-width and other invisible characters written as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def without_passwords(text: str) -> str:
    """The text with three stars for each password in it that stands in a URL, or behind `password=`."""
    whole = _IN_A_URL.sub(r"\1***@", text)
    return _NAMED.sub(r"\1***", _CUT.sub(r"\1***", whole))


def _shown(character: str) -> str:
    if character == " " or (character.isprintable() and not _invisible(character)):
        return character
    point = ord(character)
    if point < 0x100:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character, f"\\x{point:02x}")
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _invisible(character: str) -> bool:
    point = ord(character)
    return (
        character in _BLANK
        or 0xFE00 <= point <= 0xFE0F
        or 0xE0100 <= point <= 0xE01EF
        or 0x180B <= point <= 0x180F
        or category(character) == "Cf"
    )
