"""An earlier commit in a folder of its own, and how a process runs as that commit has it."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


class UnknownCommit(Exception):
    """Git cannot give the files of this commit."""


def unpack(commit: str, folder: Path) -> Path:
    """Put the files of a commit into a folder; UnknownCommit if git has none."""
    archive = subprocess.run(
        ["git", "-C", str(CHECKOUT), "archive", "--format=tar", commit], check=False, capture_output=True
    )
    if archive.returncode:
        raise UnknownCommit(archive.stderr.decode().strip())
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def environment(side: Path) -> dict[str, str]:
    """The environment in which Python imports the packages of this folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (side, side / "caveats", side / "cli")))}
