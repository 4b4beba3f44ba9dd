"""Marks letters that look like other letters, and right-to-left letters, in a text that a person agrees to.

Laws:

- A character is a look-alike if the confusables of Unicode (UTS 39) map it to one of ASCII. It is marked in a word that
  also has ASCII letters or digits, or of which more than two in three characters are look-alikes. So a word that is
  plainly in another script is not marked.
- Look-alikes within ASCII, such as l and 1, are not marked: every reader knows them.
- A text with letters that are written from right to left is marked, because its parts may be shown in another order.
"""

import re
from collections.abc import Iterator
from typing import Final
from unicodedata import bidirectional

_WORD: Final = re.compile(r"[^\s\"'(),;]+")
_MARKS: Final = "./:@-_"
"""The characters of ASCII, besides letters and digits, whose look-alikes change what a name or an address means."""
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})


def remarks(text: str) -> Iterator[str]:
    """Yield a sentence for each word of a text that a person should look at closely."""
    # Most texts are ASCII, and the data is slow to load.
    if text.isascii():
        return
    for word in dict.fromkeys(_WORD.findall(text)):
        if found := _lookalikes(word):
            like = ", ".join(
                f"{character} (U+{ord(character):04X}) looks like {other}" for character, other in found.items()
            )
            yield f'look closely at "{word}": {like}'
        if any(bidirectional(character) in _RIGHT_TO_LEFT for character in word):
            yield f'look closely at "{word}": it is written from right to left, so it may be shown in another order'


def _lookalikes(word: str) -> dict[str, str]:
    """Return the characters of a word that look like one of ASCII, and that one; none in a word of another script."""
    found = {character: other for character in word if not character.isascii() and (other := _ascii(character))}
    others = [character for character in word if character.isalnum() and character not in found]
    alike = sum(character in found for character in word)
    return found if any(map(str.isascii, others)) or 2 * len(others) < alike else {}


def _ascii(character: str) -> str | None:
    """Return the letter, digit or mark of ASCII for which a character may be taken."""
    from confusable_homoglyphs import confusables

    listed = confusables.is_confusable(character, greedy=True) or []
    likes = [one["c"] for entry in listed for one in entry["homoglyphs"]]
    return next((one for one in likes if one.isascii() and len(one) == 1 and (one.isalnum() or one in _MARKS)), None)
