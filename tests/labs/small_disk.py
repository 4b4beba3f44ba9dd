"""A real disk of two megabytes, which only root can mount, and how it becomes full."""

import contextlib
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest


def mount(*arguments: str | Path) -> bool:
    """Whether `mount` did it."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(tmp_path: Path) -> Generator[Path]:
    """The folder in which it is mounted; skips the test of whoever may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", folder):
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 512):
            pass
    return filler
