"""Writes the vocabulary's reference, `python -m tests.reference`: the page and the JSON Schema."""

import json
from pathlib import Path
from typing import Final

from tests.reference.page import SCHEMA, page

FOLDER: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "reference"


def files() -> dict[str, str]:
    """The text of each file, by its name."""
    schema = json.dumps(SCHEMA, indent=2, ensure_ascii=False)
    return {"block.schema.json": f"{schema}\n", "vocabulary.md": page()}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
