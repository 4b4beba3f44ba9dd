"""A real ssh-agent, with keys made by ssh-keygen."""

import base64
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import pytest

needs_ssh = pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="openssh-client is not installed")


class SshAgent:
    """An agent for the block; its keys are made in `folder`."""

    def __init__(self, folder: Path, **env: str) -> None:
        self._folder = folder
        # The path of a socket may be short only.
        self._short = tempfile.TemporaryDirectory(prefix="ssh-")
        self.path = f"{self._short.name}/agent"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
        self._env = {**kept, "SSH_AUTH_SOCK": self.path, "HOME": str(folder), **env}
        said = subprocess.run(
            ["ssh-agent", "-s", "-a", self.path], env=self._env, capture_output=True, text=True, check=True, timeout=20
        ).stdout
        self._pid = int(said.split("SSH_AGENT_PID=")[1].split(";")[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGTERM)
        self._short.cleanup()

    def run(self, *command: str) -> None:
        subprocess.run(command, env=self._env, check=True, capture_output=True, timeout=30)

    def generate(self, name: str, *options: str, adding: tuple[str, ...] = ()) -> Path:
        """A key in the agent; the path of its public half."""
        file = self._folder / name
        self.run("ssh-keygen", "-q", "-N", "", "-C", name, "-f", str(file), *options)
        self.run("ssh-add", "-q", *adding, str(file))
        return file.with_name(f"{name}.pub")

    def add(self, name: str, *adding: str) -> bytes:
        """A key of Ed25519 in the agent; its public half, 32 bytes."""
        public = self.generate(name, "-t", "ed25519", adding=adding).read_text().split()[1]
        return base64.b64decode(public)[-32:]
