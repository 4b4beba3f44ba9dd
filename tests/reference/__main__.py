"""Writes docs/reference, the vocabulary, three JSON Schemas and the modules: `python -m tests.reference`."""

import json
from functools import cache
from pathlib import Path
from typing import Final

from capx.proof.document import proof_schema
from capx.proof.recorded import events_schema
from tests.reference import interface
from tests.reference.page import SCHEMA, page

FOLDER: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "reference"


@cache
def files() -> dict[str, str]:
    """The text of each file, by its name."""
    schemas = {"block.schema.json": SCHEMA, "proof.schema.json": proof_schema(), "events.schema.json": events_schema()}
    texts = {name: f"{json.dumps(schema, indent=2, ensure_ascii=False)}\n" for name, schema in schemas.items()}
    return {**texts, "vocabulary.md": page(), **interface.pages()}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
