"""What a person gets who installs the wheel, rather than the checkout."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

PACKAGES = ("capx", "capx_caveats", "capx_cli")


def run(*command: str, cwd: Path) -> str:
    # Coverage would count the installed copies as files of their own.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=checkout)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-compile")
    run(sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(wheel), cwd=folder)
    return folder


def python(installed: Path, program: str) -> str:
    """Run a program that sees the wheel and its dependencies, and no editable install (-S: no .pth)."""
    libraries = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    path = f"import sys; sys.path[:0] = {[str(installed), *libraries]!r}\n"
    return run(sys.executable, "-I", "-S", "-W", "error", "-c", path + program, cwd=installed)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_carries_the_types_of(package: str, wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        assert f"{package}/py.typed" in archive.namelist()


def test_the_wheel_installs_its_three_packages_its_command_and_nothing_else(installed: Path) -> None:
    names = {entry.name for entry in installed.iterdir() if entry.suffix != ".dist-info"}
    assert names == {*PACKAGES, "bin"}
    assert [entry.name for entry in (installed / "bin").iterdir()] == ["capx"]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_installed_copy_is_what_gets_imported_as(package: str, installed: Path) -> None:
    found = python(installed, f"import {package}; print({package}.__file__)")
    assert Path(found.strip()) == installed / package / "__init__.py"


@pytest.mark.parametrize("folder", ["tests", "cli", "caveats"])
def test_no_folder_of_the_checkout_becomes_a_module(folder: str, installed: Path) -> None:
    found = python(installed, f"import importlib.util; print(importlib.util.find_spec({folder!r}))")
    assert found.strip() == "None"


def test_the_licence_travels_with_the_wheel(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
