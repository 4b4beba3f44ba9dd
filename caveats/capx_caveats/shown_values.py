"""How values are shown to people: one line, visible characters, bounded work."""

import math
import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import TypeVar

from capx_caveats.levels import SAFE_INTEGER
from capx_caveats.values import JSON, MISSING, is_array, is_object

T = TypeVar("T")

_SHOWN = 80
_SHOWN_ELEMENTS = 20
_SHOWN_DEPTH = 3
_SHOWN_VALUES = 40
# Set in a block of `whole()`. A context variable, because requests in other threads and tasks must not be affected.
_whole = ContextVar("_whole", default=False)
_UNSEEN = frozenset(
    [
        *"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U00013441\U00013442\U00016fe4\U0001d159",
        *(
            chr(point)
            for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
            for point in range(first, last + 1)
        ),
    ]
)
"""Characters that are invisible although Unicode counts them as letters, marks or symbols."""
_PLAIN_TEXT = re.compile(r"[ !#-\[\]-~]*")
"""Visible ASCII without quote and backslash."""
_IN_A_ROW = re.compile(r"""(?<= ) |(?<=^") |(?<=[^\\]") """)
"""Spaces of a JSON text that follow another space, or that are the first character of a value."""


def shown(value: object) -> str:
    """Return a value as people read it: one line of JSON with visible characters only, cut at 80 characters.

    The work is bounded, however large the value is. In a block of `whole`, nothing is cut.
    """
    if value is MISSING:
        return "nothing"
    if (plainly := _shown_plainly(value)) is not None:
        return plainly
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    import json

    everything = _whole.get()
    brief = value if everything else _brief(value, _SHOWN_DEPTH, [_SHOWN_VALUES])
    written = json.dumps(brief, ensure_ascii=False, default=_plain)
    return excerpt(written, _SHOWN)


def _shown_plainly(value: object) -> str | None:
    """The form of a short scalar that needs no escapes, in a tenth of the time; None for any other value."""
    # By exact type: a subclass may be written otherwise.
    if type(value) is str:
        if len(value) > _SHOWN - 2 or _PLAIN_TEXT.fullmatch(value) is None or (" " in value and _whole.get()):
            return None
        return f'"{value}"'
    return str(value) if type(value) is int and -SAFE_INTEGER <= value <= SAFE_INTEGER else None


@contextmanager
def whole() -> Generator[None]:
    """Open a block in which `shown` cuts nothing, because a person consents to what they read; use small values only.

    In it, runs of spaces are shown as escapes. So nobody can take them for the end of a line or for its margin.
    """
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def excerpt(text: str, longest: int) -> str:
    """Return JSON text as it is shown: at most `longest` characters, or all of it in a block of `whole`."""
    if _whole.get():
        return printable(_IN_A_ROW.sub(r"\\u0020", text))
    # Cut first: to find what is invisible, each character is looked at.
    text = printable(text[: longest + 1])
    return text if len(text) <= longest else text[: longest - 1] + "…"


def evidence(value: JSON) -> JSON:
    """Return a value as evidence for an error or the log: the value itself if it is short, otherwise as `shown`."""
    text = shown(value)
    # The value may have an … of its own, but no JSON text ends with one.
    is_cut = text.endswith("…") or _brief(value, _SHOWN_DEPTH, [_SHOWN_VALUES]) != value
    return text if is_cut else value


def printable(text: str) -> str:
    """Return the text with escapes for characters that are invisible or that control a terminal."""
    if text.isprintable() and (text.isascii() or _UNSEEN.isdisjoint(text)):
        return text
    return "".join(
        one if one.isprintable() and one not in _UNSEEN else one.encode("unicode_escape").decode() for one in text
    )


def listed(values: Sequence[object], between: str = ", ") -> str:
    """Return a list of values as people read it: the first 20 of them, or all in a block of `whole`."""
    told = values if _whole.get() else values[:_SHOWN_ELEMENTS]
    more = [f"… ({len(values)} in all)"] if len(told) < len(values) else []
    return between.join([*map(shown, told), *more])


def _plain(other: object) -> object:
    """Return a JSON value for one that is not JSON: a dict for a mapping, otherwise the name of its type."""
    return dict(other) if is_object(other) else type(other).__name__


def _brief(value: object, depth: int, room: list[int]) -> object:
    """Return the beginning of a value, cut so that writing it as JSON costs little; `room` is left for more values."""
    room[0] -= 1
    if room[0] < 0:
        return "…"
    if isinstance(value, str):
        # With its quotes it is longer than what is shown, so `excerpt` marks where it is cut.
        return value[:_SHOWN]
    if isinstance(value, int) and not -SAFE_INTEGER <= value <= SAFE_INTEGER:
        return "a number beyond ±(2^53 - 1)"
    if is_object(value):
        pairs = value.items()
        if depth == 0 and pairs:
            return "…"
        brief_pairs = {str(_brief(name, 0, [1])): _brief(element, depth - 1, room) for name, element in _first(pairs)}
        return brief_pairs if len(brief_pairs) == len(pairs) else {**brief_pairs, "…": "…"}
    if is_array(value):
        if depth == 0 and value:
            return "…"
        brief = [_brief(element, depth - 1, room) for element in _first(value)]
        if len(brief) < len(value):
            brief.append("…")
        return tuple(brief) if isinstance(value, tuple) else brief
    return value


def _first(elements: Iterable[T]) -> Iterable[T]:
    return islice(elements, _SHOWN_ELEMENTS)
