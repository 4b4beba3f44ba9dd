"""Tokens in files that only their owner reads, as a command is given them."""

from pathlib import Path


class Files:
    """Tokens in files that only their owner reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, token: str) -> str:
        path = self.folder / name
        path.write_text(f"{token}\n")
        path.chmod(0o600)
        return str(path)
