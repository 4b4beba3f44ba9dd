"""The pages that the site is built from: those of the checkout, with types as links, and a page of types for each room.

`python -m tests.reference.site FOLDER` writes them into a folder, anew, beside the source that they link to.
"""

import shutil
import sys
from pathlib import Path

from tests.reference import interface
from tests.reference.sources import CHECKOUT

FILES = ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml")
FOLDERS = ("docs", "capx", "caveats", "cli", "tests")


def write_pages(folder: Path) -> None:
    """Write them all."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in FOLDERS:
        # Not links: Sphinx goes by where they lead.
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copyfile(CHECKOUT / name, folder / name)
    for name, text in interface.pages(on_site=True).items():
        (folder / "docs" / "reference" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
