"""Where pytest is not installed, the room says what it needs; capx itself does not need it."""

import subprocess
import sys

import pytest

HIDDEN = """
import sys

class Hides:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hides())
"""


def said(program: str, *, hidden: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN.format(name=hidden) + program], capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize("module", ["capx.testing", "capx.testing.person"])
def test_without_pytest_the_room_says_how_to_get_it(module: str) -> None:
    assert said(f"import {module}", hidden="pytest") == (
        "ModuleNotFoundError: capx.testing needs pytest: pip install 'capx-auth[testing]'"
    )


def test_without_a_library_of_pytest_that_one_is_named() -> None:
    assert said("import capx.testing", hidden="pluggy") == "ModuleNotFoundError: No module named 'pluggy'"


def test_capx_imports_neither_the_room_nor_pytest() -> None:
    program = """
import capx
[getattr(capx, name) for name in dir(capx)]
print([name for name in sys.modules if name.startswith(("capx.testing", "pytest", "_pytest"))])
"""
    assert said(program, hidden="nothing") == "[]"
