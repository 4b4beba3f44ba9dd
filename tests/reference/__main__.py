"""Writes docs/reference, the vocabulary with its JSON Schema and the modules: `python -m tests.reference`."""

import json
from functools import cache
from pathlib import Path
from typing import Final

from tests.reference import interface
from tests.reference.page import SCHEMA, page

FOLDER: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "reference"


@cache
def files() -> dict[str, str]:
    """The text of each file, by its name."""
    schema = json.dumps(SCHEMA, indent=2, ensure_ascii=False)
    return {"block.schema.json": f"{schema}\n", "vocabulary.md": page(), **interface.pages()}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
