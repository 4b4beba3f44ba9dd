"""The reference of the programming interface names all that is public, and is laid out as people and hosts read it."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import griffe
import pytest

from tests.reference import links, signatures
from tests.reference.__main__ import FOLDER, files
from tests.reference.prose import first_sentence, linked, markdown
from tests.reference.sources import CHECKOUT, MODULES, errors, fields, is_struct, lookup, members, public_names

FENCE = re.compile(r"^```python\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^## .+$", re.MULTILINE)
BY_HAND = {"attacks.md", "command-line.md", "failures.md", "own-caveats.md", "serve-limits.md"}
"""Pages of the reference that nothing generates."""
GUIDES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", MODULES)
def test_the_page_of_a_module_has_each_of_its_names(path: str) -> None:
    imported = import_module(path)
    names = [each.name for each in public_names(path)]
    assert names == list(getattr(imported, "__all__", names))
    page = (FOLDER / f"{path}.md").read_text("utf-8")
    assert [name for name in names if not hasattr(imported, name)] == []
    assert [name for name in names if f"\n| [`{name}`](" not in page] == []


def test_a_name_is_on_one_page_and_every_page_is_found() -> None:
    index = (FOLDER / "README.md").read_text("utf-8")
    assert [path for path in MODULES if f"({path}.md)" not in index] == []
    assert {path.name for path in FOLDER.iterdir()} == set(files()) | BY_HAND
    pages = [(FOLDER / f"{path}.md").read_text("utf-8") for path in MODULES]
    headings = [found for page in pages for found in HEADING.findall(page)]
    paths = {each.found.path for path in MODULES for each in public_names(path)}
    assert len(headings) == len(paths)


def imports() -> Iterator[tuple[str, str, str]]:
    """The page, the module and the name of each import of ours in the examples of the guides."""
    for page in GUIDES:
        for block in FENCE.finditer(page.read_text("utf-8")):
            for node in ast.walk(ast.parse(block["text"])):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("capx"):
                    yield from ((page.name, node.module, alias.name) for alias in node.names)


def test_what_the_guides_import_is_in_the_reference() -> None:
    lacking = [
        (page, module, name)
        for page, module, name in imports()
        if f"{module}.{name}" not in MODULES
        and ((found := lookup(f"{module}.{name}")) is None or found.path not in links.places())
    ]
    assert lacking == []


def test_a_room_that_exports_names_has_a_page() -> None:
    faces = {".".join(face.parent.relative_to(CHECKOUT).parts) for face in (CHECKOUT / "capx").rglob("__init__.py")}
    assert {face for face in faces if getattr(import_module(face), "__all__", ())} <= set(MODULES)


def test_every_public_name_and_method_says_what_it_is() -> None:
    silent = [
        each.path
        for path in MODULES
        for name in public_names(path)
        for each in (name.found, *(members(name.found) if isinstance(name.found, griffe.Class) else ()))
        if each.docstring is None and not (isinstance(each, griffe.Attribute) and isinstance(each.parent, griffe.Class))
    ]
    assert silent == []


def read(source: str) -> griffe.Module:
    return griffe.visit("example", Path("example.py"), source)


def function(source: str) -> griffe.Function:
    (found,) = read(source).functions.values()
    return found


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("def f(): ...", "f()"),
        ("def f(a, /, b=1, *c: int, d: str, **e) -> None: ...", "f(a, /, b=1, *c: int, d: str, **e) -> None"),
        ("def f(a, *, b: 'X | None' = None): ...", "f(a, *, b: X | None = None)"),
        ("def f(a, /): ...", "f(a, /)"),
        ("async def f(*, a): ...", "async f(*, a)"),
        ("@contextmanager\ndef f(): ...", "@contextmanager\nf()"),
        (
            f"def f(*, {'a' * 50}: int, {'b' * 50}: int = 1) -> int: ...",
            f"f(\n    *,\n    {'a' * 50}: int,\n    {'b' * 50}: int = 1,\n) -> int",
        ),
    ],
)
def test_a_signature_reads_as_it_is_written(source: str, shown: str) -> None:
    assert signatures.of_function(function(source)) == shown


def test_a_struct_is_called_with_its_fields_and_those_above() -> None:
    token = lookup("capx_caveats.caveats.Budget")
    assert isinstance(token, griffe.Class)
    assert is_struct(token)
    assert [each.name for each in fields(token)] == ["unit", "limit", "counter"]
    assert signatures.of_class(token).startswith("class Budget(unit: ")


def test_a_default_that_names_a_number_shows_the_number() -> None:
    page = files()["capx.resource.md"]
    assert "max_staleness: float = 30.0," in page
    assert "vocabulary: Vocabulary = DEFAULT" in files()["capx.md"]


def nowhere(name: str) -> None:
    return None


DOCSTRING = """One * two <three>,
`a * b`.

    import x

    x.y

Then:

    1  first
"""
MARKDOWN = """One \\* two \\<three>,
`a * b`.

```python
import x

x.y
```

Then:

```text
1  first
```"""


def test_indented_docstring_lines_are_code_others_no_markup() -> None:
    assert markdown(DOCSTRING, nowhere, runs=True) == MARKDOWN
    assert markdown(DOCSTRING, nowhere) == MARKDOWN.replace("python", "py")
    assert first_sentence("One, `Two`. Three.\n\nFour.") == "One, `Two`."


def test_a_documented_name_or_error_is_a_link() -> None:
    def resolve(name: str) -> str | None:
        return f"#{name.lower()}" if name in {"Verifier", "Denied"} else None

    assert linked("`Verifier` raises Denied, `tenant`.", resolve) == (
        "[`Verifier`](#verifier) raises [`Denied`](#denied), `tenant`."
    )
    assert "Denied" in errors()


def test_a_parameter_is_no_link_to_the_function_of_its_name() -> None:
    page = files()["capx.guard.tool.md"]
    assert "`tenant`, `attributes` and `cost` (by unit) state facts" in page
