"""An adapter loads only with versions of its library that it was made for."""

import subprocess
import sys
from importlib import metadata

import pytest

from capx.agent.library_version import demand_library
from capx.errors import ConfigurationProblem


@pytest.mark.parametrize(
    ("found", "fits"),
    [
        ("1.3.8", True),
        ("1.4", True),
        ("1.10.0rc1", True),
        ("1.3.7", False),
        ("1.3", False),
        ("2.0.0a1", False),
        ("x", False),
    ],
)
def test_an_adapter_knows_a_range_of_versions(monkeypatch: pytest.MonkeyPatch, found: str, fits: bool) -> None:
    monkeypatch.setattr(metadata, "version", {"langchain": found}.__getitem__)
    if fits:
        demand_library("langchain", at_least=(1, 3, 8), below=2)
        return
    with pytest.raises(ConfigurationProblem, match=r"does not know langchain .*: install langchain>=1\.3\.8,<2"):
        demand_library("langchain", at_least=(1, 3, 8), below=2)


def test_an_adapter_says_what_it_needs() -> None:
    with pytest.raises(ConfigurationProblem, match=r"needs no-such-library: install no-such-library>=1,<2"):
        demand_library("no-such-library", at_least=(1,), below=2)


WITHOUT = """
from importlib import metadata
import sys

def version(name, found=metadata.version):
    if name == {library!r}:
        raise metadata.PackageNotFoundError
    return found(name)

metadata.version = version
sys.modules[{library!r}] = None
try:
    import {module}
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""


@pytest.mark.parametrize(
    ("module", "library", "wanted"),
    [
        ("capx.agent.httpx2_client", "httpx2", "httpx2>=2.16,<3"),
        ("capx.agent.langchain", "langchain", "langchain>=1.3.8,<2"),
        ("capx.agent.mcp_client", "mcp", "mcp>=1.24,<3"),
        ("capx.agent.requests_adapter", "requests", "requests>=2.32.3,<3"),
    ],
)
def test_without_its_library_an_adapter_names_the_extra(module: str, library: str, wanted: str) -> None:
    command = [sys.executable, "-c", WITHOUT.format(module=module, library=library)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    needed = f"this adapter needs {library}: install {wanted}, with pip install 'capx-auth[{library}]'"
    assert said == f"ConfigurationProblem: {needed}\n"
