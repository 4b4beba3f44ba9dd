"""Places where nothing can be written: a folder without that permission, and a disk that is mounted read-only."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.labs.small_disk import mount

AS_ANYBODY = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""The beginning of a command that obeys permissions: root may write everywhere, unless it gives that up."""
obeys_permissions = pytest.mark.skipif(
    bool(AS_ANYBODY) and shutil.which("setpriv") is None, reason="root cannot give its rights up here"
)


@contextlib.contextmanager
def without_writing(folder: Path) -> Generator[None]:
    """A block in which nobody who obeys permissions can make or remove a file in the folder."""
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)


@contextlib.contextmanager
def mounted_read_only(folder: Path) -> Generator[Path]:
    """The same folder at another path, at which nothing can be written; skips the test of whoever may not mount it."""
    there = folder.with_name(f"{folder.name}-mounted")
    there.mkdir()
    if not mount("--bind", folder, there):
        pytest.skip("only root may mount a folder")
    try:
        assert mount("-o", "remount,ro,bind", there)
        yield there
    finally:
        subprocess.run(["umount", there], check=True)
