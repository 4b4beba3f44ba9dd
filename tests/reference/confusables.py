"""Makes capx/authority/requests/confusables.py from Unicode's confusables, as confusable-homoglyphs has them.

`python -m tests.reference.confusables` writes it. It leaves out a character whose compatibility form (NFKC) is ASCII,
or is in the table itself.
"""

import textwrap
from typing import Any, Final, cast
from unicodedata import normalize

from confusable_homoglyphs import confusables

from capx.authority.requests.lookalikes import is_telling
from tests.reference.sources import CHECKOUT

UNICODE: Final[dict[str, list[dict[str, str]]]] = cast("Any", confusables).confusables_data
"""What each character or text looks like, as `c` of each of a list."""
FILE: Final = CHECKOUT / "capx" / "authority" / "requests" / "confusables.py"
_HEAD: Final = '''"""Characters that look like one of ASCII: the confusables of Unicode (UTS 39), generated.

`python -m tests.reference.confusables` writes this module. tests/reference/confusables.py says what it leaves out.
"""

from typing import Final

ASCII_LIKE: Final = {
'''


def text() -> str:
    """The text of the module."""
    singles = {one: likes for one, likes in UNICODE.items() if len(one) == 1 and not one.isascii()}
    listed = {one: like for one, likes in singles.items() if (like := _ascii(likes))}
    alike: dict[str, list[str]] = {}
    for one, like in listed.items():
        plain = normalize("NFKC", one)
        if not (plain.isascii() and is_telling(plain)) and (plain == one or plain not in listed):
            alike.setdefault(like, []).append(one)
    return _HEAD + "".join(_entry(like, sorted(alike[like])) for like in sorted(alike)) + "}\n"


def _ascii(likes: list[dict[str, str]]) -> str | None:
    found = (one["c"] for one in likes)
    return next((one for one in found if one.isascii() and len(one) == 1 and is_telling(one)), None)


def _entry(ascii_: str, characters: list[str]) -> str:
    spelt = [f"\\u{ord(one):04x}" if ord(one) < 1 << 16 else f"\\U{ord(one):08x}" for one in characters]
    lines = textwrap.wrap(" ".join(spelt), 118)
    strings = [f'"{line.replace(" ", "")}"' for line in lines]
    if len(strings) == 1:
        return f'    "{ascii_}": {strings[0]},\n'
    return f'    "{ascii_}": (\n' + "".join(f"        {string}\n" for string in strings) + "    ),\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
