"""What counts as a line of code."""

from pathlib import Path

from tests.project.code_lines import code_lines, counts

SOURCE = '''"""A docstring,

of three lines."""

import os  # a comment behind code counts as code

# a comment of its own does not
NAME = """data
of two lines"""
"""What NAME holds."""


def named(
    one: int,
) -> str:
    """A docstring."""

    "alone"
    return f"{one}{os.sep}"
'''


def test_blank_lines_comments_and_docstrings_are_not_code() -> None:
    assert code_lines(SOURCE) == 1 + 2 + 3 + 1
    assert code_lines("") == 0


def test_rooms_are_the_folders_below(tmp_path: Path) -> None:
    root = tmp_path / "house"
    (root / "room" / "inner").mkdir(parents=True)
    (root / "flat.py").write_text("a = 1\n")
    (root / "room" / "one.py").write_text("a = 1\nb = 2\n")
    (root / "room" / "inner" / "two.py").write_text("# nothing\nc = 3\n")
    assert list(counts([root])) == [("house", 1), ("house/room", 3)]
