"""The unit of systemd and the Dockerfile do what their page says: verified, and run step by step."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.server.conftest import COMMAND

CAPX = (*COMMAND[:-1],)
"""The command, as this checkout has it."""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of this machine with its key, in one file."""
    path = tmp_path / "tls.pem"
    issuer: Any = trustme.CA()
    issuer.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def served_by(words: list[str], env: dict[str, str]) -> "subprocess.Popen[str]":
    """The process of `capx serve …` with these words, once it answers."""
    process = subprocess.Popen(
        [*CAPX, *words, "--json"], env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    assert json.loads(line)["pid"] == process.pid
    return process


def ended(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_takes_the_unit(checkout: Path, tmp_path: Path) -> None:
    unit = (checkout / "docs/deploying/capx-serve.service").read_text()
    # It looks whether the program is there.
    (tmp_path / "capx-serve.service").write_text(unit.replace("/opt/capx/bin/capx", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "capx-serve.service")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_of_the_unit_serves(checkout: Path, tmp_path: Path, certificate: Path) -> None:
    unit = (checkout / "docs/deploying/capx-serve.service").read_text().replace("\\\n", " ")
    (words,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    (home,) = re.findall(r"^Environment=CAPX_HOME=(.*)$", unit, re.MULTILINE)
    assert home == "/var/lib/capx/home"
    env = {"CAPX_HOME": str(tmp_path / "home")}
    subprocess.run([*CAPX, "init"], env={**os.environ, **env}, check=True, capture_output=True)
    given = (
        words.replace("${CREDENTIALS_DIRECTORY}", str(certificate.parent)).replace(":8443 ", f":{free_port()} ").split()
    )
    ended(served_by(given[1:], env))


def steps(checkout: Path) -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, and what follows each."""
    text = (checkout / "docs/deploying/Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_serves_and_says_that_it_is_well(checkout: Path, tmp_path: Path, certificate: Path) -> None:
    found = dict(steps(checkout))
    home = tmp_path / "home"
    assert found["ENV"] == "CAPX_HOME=/var/lib/capx/home"
    env = {"CAPX_HOME": str(home)}
    subprocess.run([*CAPX, "init"], env={**os.environ, **env}, check=True, capture_output=True)
    words: list[str] = [*json.loads(found["ENTRYPOINT"]), *json.loads(found["CMD"])]
    assert words[0] == "capx"
    assert found["EXPOSE"] in " ".join(words)
    given = [word.replace("8443", str(free_port())).replace("/etc/capx/tls.pem", str(certificate)) for word in words]
    process = served_by(given[1:], env)
    try:
        check: list[str] = json.loads(found["HEALTHCHECK"].removeprefix("CMD "))
        well = [word.replace("/var/lib/capx/home", str(home)) for word in check[1:]]
        assert (
            subprocess.run([*CAPX, *well], env={**os.environ, **env}, capture_output=True, check=False).returncode == 0
        )
    finally:
        ended(process)
    time.sleep(0.1)
    ill = subprocess.run([*CAPX, *well], env={**os.environ, **env}, capture_output=True, check=False)
    assert ill.returncode != 0


def test_the_image_installs_what_the_project_names(checkout: Path) -> None:
    runs = [rest for name, rest in steps(checkout) if name == "RUN"]
    (extra,) = re.findall(r"pip install --no-cache-dir '/usr/src/capx\[(\w+)\]'", " ".join(runs))
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    assert extra in project["optional-dependencies"]
    assert [rest for name, rest in steps(checkout) if name == "USER"] == ["capx"]
    (image,) = [rest for name, rest in steps(checkout) if name == "FROM"]
    version = tuple(map(int, re.findall(r"\d+", image)))
    assert version >= tuple(map(int, re.findall(r"\d+", project["requires-python"])))
