"""Each room says what it holds, with an example that runs, and gives away exactly what it says."""

import ast
import itertools
import re
import textwrap
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CAPX = Path(__file__).resolve().parents[2] / "capx"
FACES = sorted(CAPX.rglob("*/__init__.py"))
ROOMS = [face for face in FACES if face.parent.parent == CAPX]
WITH_EXAMPLE = [face for face in FACES if face.parent.parent == CAPX or face.parent.parent.name == "guard"]


def name(face: Path) -> str:
    return ".".join(face.parent.relative_to(CAPX.parent).parts)


def example(face: Path) -> str:
    """The example in the docstring: what is indented behind its first paragraph."""
    text = ast.get_docstring(ast.parse(face.read_text("utf-8"))) or ""
    lines = itertools.takewhile(
        lambda line: not line or line.startswith("    "), text.partition("\n\n")[2].splitlines()
    )
    return textwrap.dedent("\n".join(lines))


def test_there_are_fifteen_rooms_and_four_modules_beside_them() -> None:
    assert {face.parent.name for face in ROOMS} == {
        "crypto", "tokens", "intents", "verify", "policy", "store", "api", "resource", "agent", "guard", "authority",
        "server", "ledger", "proof", "testing",
    }  # fmt: skip
    assert {path.stem for path in CAPX.glob("*.py")} == {"__init__", "errors", "background", "diagnostics"}


@pytest.mark.parametrize("face", FACES, ids=name)
def test_the_face_of_a_room_has_no_code(face: Path) -> None:
    docstring, *rest = ast.parse(face.read_text("utf-8")).body
    assert isinstance(docstring, ast.Expr)
    for statement in rest:
        is_exports = isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
        assert is_exports or isinstance(statement, ast.ImportFrom), ast.unparse(statement)


@pytest.mark.parametrize("face", FACES, ids=name)
def test_the_face_of_a_room_gives_away_what_it_imports(face: Path) -> None:
    tree = ast.parse(face.read_text("utf-8"))
    imported = sorted(alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names)
    exported: list[str] = getattr(import_module(name(face)), "__all__", [])
    assert sorted(exported) == imported


def test_no_module_hides_what_a_face_gives_away() -> None:
    # To import a module sets its name in its package: that of a function there would be another thing from then on.
    for path in CAPX.rglob("*.py"):
        import_module(".".join(path.relative_to(CAPX.parent).with_suffix("").parts).removesuffix(".__init__"))
    given = {name(face): import_module(name(face)) for face in FACES}
    hidden = [
        f"{room}.{each}"
        for room, module in given.items()
        for each in getattr(module, "__all__", ())
        if isinstance(getattr(module, each), ModuleType)
    ]
    assert hidden == []


@pytest.mark.parametrize("face", WITH_EXAMPLE, ids=name)
def test_the_example_of_a_room_runs(face: Path) -> None:
    code = example(face)
    assert "import" in code
    namespace: dict[str, Any] = {"__name__": name(face)}
    exec(compile(code, str(face), "exec", dont_inherit=True), namespace)


@pytest.mark.parametrize("face", WITH_EXAMPLE, ids=name)
def test_the_face_of_a_room_lists_its_modules_and_no_others(face: Path) -> None:
    text = ast.get_docstring(ast.parse(face.read_text("utf-8"))) or ""
    lines = text.partition("\nModules:\n\n")[2].splitlines()
    rows = itertools.takewhile(lambda line: line.startswith("    "), lines)
    listed = [one for row in rows for one in re.split(r"\s{2,}", row.strip())[0].split(", ")]
    modules = {path.stem for path in face.parent.glob("*.py")} - {"__init__"}
    folders = {f"{path.parent.name}/" for path in face.parent.glob("*/__init__.py")}
    assert sorted(listed) == sorted(modules | folders)
