"""Marks what a person could misread in a text that they agree to: look-alike letters, marks on letters, direction.

Laws:

- A character is a look-alike if the confusables of Unicode (UTS 39) map it, or its compatibility form (NFKC), to ASCII.
  It is marked in a word that also has ASCII letters or digits, or of which more than two in three characters are
  look-alikes. So a word that is plainly in another script is not marked.
- A mark that is put on an ASCII letter (a combining character) is marked: it can strike out a digit, or move a dot.
- A look-alike of the double quote is always marked, because values stand in quotes.
- Look-alikes within ASCII, such as l and 1, are not marked: every reader knows them.
- A text with letters that are written from right to left is marked, because its parts may be shown in another order.
"""

import re
from collections.abc import Iterator
from typing import Final
from unicodedata import bidirectional, combining, normalize

from capx.authority.requests.confusables import ASCII_LIKE

_WORD: Final = re.compile(r"[^\s\"'(),;]+")
_MARKS: Final = "./:@-_?#%&=+"
"""The characters of ASCII, besides letters and digits, whose look-alikes change what a name or an address means."""
_QUOTES: Final = frozenset("\u02ba\u02ee\u201c\u201d\u201e\u201f\u2033\u2036\u3003\u301d\u301e\uff02")
_LIKE: Final = {one: like for like, alike in ASCII_LIKE.items() for one in alike}
_DOTS: Final = frozenset("\u3002\uff61")
"""The other dots of host names (IDNA)."""
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})


def remarks(text: str) -> Iterator[str]:
    """Yield a sentence for each word of a text that a person should look at closely."""
    if text.isascii():
        return
    for word in dict.fromkeys(_WORD.findall(text)):
        if found := _lookalikes(word):
            like = ", ".join(f"{one} (U+{ord(one):04X}) {what}" for one, what in found.items())
            yield f'look closely at "{word}": {like}'
        if any(bidirectional(one) in _RIGHT_TO_LEFT for one in word):
            yield f'look closely at "{word}": it is written from right to left, so it may be shown in another order'


def _lookalikes(word: str) -> dict[str, str]:
    """Return the characters of a word to look at, each with the reason."""
    quotes = {one: "looks like a quote" for one in word if one in _QUOTES}
    alike = {one: f"looks like {other}" for one in word if not one.isascii() and (other := _ascii(one))}
    others = [one for one in word if one.isalnum() and one not in alike]
    if any(map(str.isascii, others)):
        return {**alike, **{one: "is a mark on a letter" for one in word if combining(one)}, **quotes}
    return alike | quotes if 2 * len(others) < sum(one in alike for one in word) else quotes


def _ascii(character: str) -> str | None:
    """Return the ASCII text for which a character may be taken."""
    if character in _DOTS:
        return "."
    plain = normalize("NFKC", character)
    if plain.isascii() and is_telling(plain):
        return plain
    return _LIKE.get(character) or _LIKE.get(plain)


def is_telling(text: str) -> bool:
    """Whether a text of ASCII changes what a name, a number or an address means."""
    return text.isalnum() or (len(text) == 1 and text in _MARKS)
