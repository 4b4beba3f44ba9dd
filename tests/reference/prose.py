"""Docstrings as Markdown: what is indented is code, and a name that the reference documents is a link."""

import ast
import re
import textwrap
from collections.abc import Callable, Iterator

from tests.reference.sources import errors

Resolve = Callable[[str], str | None]
"""Where a name in backticks leads: the target of a link, or None if it is none."""
_ERROR = re.compile(r"\b(?:" + "|".join(sorted(errors(), key=len, reverse=True)) + r")\b")
_SPAN = re.compile(r"(`[^`]+`)")
_SPECIAL = re.compile(r"([*<\[\]\\]|(?<!\w)_|_(?!\w))")


def markdown(docstring: str, resolve: Resolve, runs: bool = False) -> str:
    """The paragraphs and code of a docstring; Python that `runs` as it stands is marked so, and the tests run it."""
    return "\n\n".join(
        _code(textwrap.dedent(text), runs) if text.startswith("    ") else linked(text, resolve)
        for text in _blocks(docstring)
    )


def _blocks(docstring: str) -> Iterator[str]:
    """Paragraphs, and what is indented with the blank lines in it."""
    lines: list[str] = []
    for line in docstring.splitlines():
        is_code = bool(lines) and lines[0].startswith("    ")
        # A blank line ends a paragraph, and stays within code.
        ends = line.startswith("    ") != is_code if line else not is_code
        if lines and ends:
            yield "\n".join(lines).rstrip()
            lines = []
        if line or lines:
            lines.append(line)
    if lines:
        yield "\n".join(lines).rstrip()


def _code(text: str, runs: bool) -> str:
    language = "text" if not _is_python(text) else "python" if runs else "py"
    return f"```{language}\n{text}\n```"


def _is_python(text: str) -> bool:
    try:
        return any(not isinstance(each, ast.Expr | ast.AnnAssign) for each in ast.parse(text).body)
    except SyntaxError:
        return False


def linked(text: str, resolve: Resolve) -> str:
    """A text with what Markdown would take for markup escaped, and its names as links."""
    return "".join(
        _span(part[1:-1], resolve) if part.startswith("`") and len(part) > 1 else _plain(part, resolve)
        for part in _SPAN.split(text)
    )


def _plain(text: str, resolve: Resolve) -> str:
    """Text outside of backticks: docstrings name the errors in it as they are."""
    escaped = _SPECIAL.sub(r"\\\1", text)
    return _ERROR.sub(lambda found: _span(found[0], resolve) if resolve(found[0]) else found[0], escaped)


def _span(code: str, resolve: Resolve) -> str:
    target = resolve(code.removesuffix("()"))
    return f"`{code}`" if target is None else f"[`{code}`]({target})"


def first_sentence(docstring: str) -> str:
    """The first sentence of the first paragraph."""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=[.?!]) (?=[A-Z`])", paragraph, maxsplit=1)[0]
