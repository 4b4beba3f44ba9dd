"""Count the lines that hold code: no blank line, no comment, no docstring.

Run `python tests/project/code_lines.py [FOLDER ...]` in a tree that `ruff format` has formatted. It prints one line for
each room. A room is a folder directly below one of the FOLDERs (or the modules that lie flat in it). A line counts when
it holds part of a token that is neither a comment nor a string that stands alone as a statement.
"""

import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

FOLDERS: Final = ("capx", "caveats", "cli")
_SKIPPED: Final = {tokenize.NL, tokenize.COMMENT}
_LAYOUT: Final = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """How many lines of this source hold code."""
    tokens = [one for one in tokenize.generate_tokens(io.StringIO(source).readline) if one.type not in _SKIPPED]
    lines: set[int] = set()
    before = tokenize.NEWLINE
    for token, after in pairwise([*tokens, tokens[-1]]):
        alone = token.type == tokenize.STRING and before in _LAYOUT and after.type == tokenize.NEWLINE
        if token.type not in _LAYOUT and not alone:
            lines.update(range(token.start[0], token.end[0] + 1))
        before = token.type
    return len(lines)


def counts(folders: Iterable[Path]) -> Iterator[tuple[str, int]]:
    """Each room of these folders, with the code lines of the modules in it."""
    for folder in folders:
        rooms: Counter[str] = Counter()
        for path in sorted(folder.rglob("*.py")):
            room, *inside = path.relative_to(folder.parent).parts
            name = f"{room}/{inside[0]}" if len(inside) > 1 else room
            rooms[name] += code_lines(path.read_text("utf-8"))
        yield from sorted(rooms.items())


def main(folders: Iterable[str]) -> None:
    """Print the count of each room, and the sum."""
    found = list(counts(map(Path, folders)))
    width = max(len(room) for room, _ in found)
    for room, lines in [*found, ("sum", sum(lines for _, lines in found))]:
        sys.stdout.write(f"{room:<{width}}  {lines:>6}\n")


if __name__ == "__main__":
    main(sys.argv[1:] or FOLDERS)
