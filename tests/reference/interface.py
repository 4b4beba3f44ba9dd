"""The reference of the programming interface: an index, and a page for each public module.

The site has a page of types for each room, too: types that signatures name, and no module exports.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import griffe

from tests.reference import signatures
from tests.reference.links import Names, Place, types_pages
from tests.reference.prose import first_sentence, linked, markdown
from tests.reference.sources import (
    CHECKOUT,
    MODULES,
    Documented,
    Name,
    bases,
    documented_names,
    fields,
    initializer,
    is_alias_of_types,
    is_managed,
    is_struct,
    members,
    module,
    paths_in,
    public_names,
)

_INDEX: Final = """# Programming interface

Generated from signatures and docstrings: `python -m tests.reference`. A name is documented once, on the page of the
first module that has it; other pages point there. Names that begin with `_`, and modules that have no page here, may
change without notice. Times are Unix seconds and durations are seconds, unless a text says otherwise. Errors that
callers are meant to catch derive from [`CapxError`](capx_caveats.md#class-capxerror).

| module | holds |
|---|---|
"""
_TYPES: Final = """# Types of {room}

Public functions and classes take, return, hold or raise these, and no public module exports them: read about them here,
but do not import them from where they are. [All modules](README.md).
"""
_COMMENT: Final = "<!-- generated from signatures and docstrings: edit those, then run python -m tests.reference -->\n"


def pages(*, on_site: bool = False) -> dict[str, str]:
    """The text of each page, by the name of its file: those of the checkout, or those of the site."""
    found = {"README": _index(on_site=on_site)}
    found |= {path: _module_page(path, Names(path, on_site=on_site)) for path in MODULES}
    if on_site:
        found |= {page: _types_page(page, types) for page, types in types_pages().items()}
    return {f"{name}.md": text for name, text in found.items()}


def _index(*, on_site: bool) -> str:
    rows = [f"| [`{path}`]({path}.md) | {_summary(module(path), Names('README'))} |\n" for path in MODULES]
    links = ", ".join(f"[`{page.partition('.')[2]}`]({page}.md)" for page in types_pages())
    where = f"by room: {links}" if on_site else "are pages of the site (`make docs`)"
    met = f"\nTypes that these signatures name, and no module exports, {where}.\n"
    beside = "The vocabulary with its wire forms: [by example](vocabulary.md).\n"
    return _INDEX + "".join(rows) + met + beside


def _module_page(path: str, names: Names) -> str:
    here = module(path)
    exported = public_names(path)
    documented = [each.found.path for each in documented_names()[path]]
    rows = [f"| {names.link(each.found.path, each.name)} | {_summary(each.found, names)} |\n" for each in exported]
    parts = [
        f"# {path}\n\n{_COMMENT}",
        f"{markdown(_without_modules(here), names.target, runs=True)}\n",
        f"Source: {_source(here)}. [All modules](README.md).\n",
        "".join(["| name | what it is |\n|---|---|\n", *rows]),
        *(_about(each, names) for each in exported if each.found.path in documented),
    ]
    return "\n".join(parts)


def _types_page(page: str, types: list[Name]) -> str:
    names = Names(page, on_site=True)
    rows = [f"| {names.link(each.found.path, each.name)} | {_summary(each.found, names)} |\n" for each in types]
    table = "".join(["| name | what it is |\n|---|---|\n", *rows])
    return "\n".join([_TYPES.format(room=page.partition(".")[2]), table, *(_about(each, names) for each in types)])


def _without_modules(here: griffe.Module) -> str:
    """A module's docstring without the list of its modules, which is for those who read the code."""
    return re.sub(r"\n\nModules:\n\n(?: {4}.*\n?|\n(?= {4}))*", "\n", _said(here)).strip()


def _said(found: griffe.Object) -> str:
    return "" if found.docstring is None else found.docstring.value


def _summary(found: griffe.Object, names: Names) -> str:
    return linked(first_sentence(_said(found)), names.target).replace("|", "\\|")


def _source(found: griffe.Object) -> str:
    """A link to the file, without a line: the page would change with every edit above it."""
    path = str(found.filepath)
    path = path.removeprefix(f"{CHECKOUT}/")
    return f"[`{path}`](../../{path})"


def _about(name: Name, names: Names) -> str:
    if isinstance(name.found, griffe.Class):
        return "\n".join(_about_class(name.found, names))
    signature = (
        signatures.of_function(name.found)
        if isinstance(name.found, griffe.Function)
        else signatures.of_value(name.found)
    )
    return "\n".join(
        [
            f"## {_title(names.place(name.found))}\n",
            *_signature(signature, name.found, names),
            *_text(name.found, names),
            f"Source: {_source(name.found)}.\n",
        ]
    )


def _title(place: Place) -> str:
    """The heading with its name as code."""
    *kind, name = place.heading.split(" ")
    return " ".join([*kind, f"`{name}`"])


def _about_class(kind: griffe.Class, names: Names) -> Iterator[str]:
    inside = names.within(kind)
    yield f"## {_title(names.place(kind))}\n"
    yield from _signature(signatures.of_class(kind), kind, names)
    yield from _text(kind, inside)
    above = [names.link(base.path, base.name) for base in bases(kind) if names.documents(base.path)]
    yield (f"Derives from {', '.join(above)}. " if above else "") + f"Source: {_source(kind)}.\n"
    if statements := is_managed(kind):
        yield f"A context manager, for {' and '.join(f'`{word}`' for word in statements)}.\n"
    called_with = {field.name for field in fields(kind)} if is_struct(kind) else set[str]()
    attributes = [each for each in members(kind) if isinstance(each, griffe.Attribute)]
    # A field that says nothing of its own is in the signature, and in the text above.
    told = [each for each in attributes if _said(each) or each.name not in called_with]
    # What has neither a docstring nor a type is state of the class, and nothing that users read.
    rows = [_row(each, kind, inside) for each in told if _said(each) or signatures.of_field(each, kind)]
    if rows:
        yield "| field | type | is |\n|---|---|---|\n" + "".join(rows)
    for each in members(kind):
        if isinstance(each, griffe.Function):
            yield f"### `{kind.name}.{each.name}`\n"
            yield from _signature(signatures.of_function(each, kind.name), each, inside)
            yield from _text(each, inside)


def _row(field: griffe.Attribute, kind: griffe.Class, names: Names) -> str:
    shown = signatures.of_field(field, kind)
    links = names.links(paths_in(field.annotation))
    said = linked(" ".join(_said(field).split()), names.target)
    cells = [f"`{field.name}`", (f"`{shown}`" if shown else "") + (f" ({links})" if links else ""), said]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _signature(text: str, found: Documented, names: Names) -> Iterator[str]:
    yield f"```py\n{text}\n```\n"
    links = names.links(_named_in(found))
    if links:
        yield f"Types: {links}.\n"


def _named_in(found: Documented) -> Iterable[str]:
    """The paths of the types in a signature."""
    if isinstance(found, griffe.Function):
        return paths_in(*(parameter.annotation for parameter in found.parameters), found.returns)
    if isinstance(found, griffe.Attribute):
        return paths_in(found.annotation, found.value if is_alias_of_types(found) else None)
    if is_struct(found):
        return paths_in(*(field.annotation for field in fields(found)))
    return [path for function in initializer(found) for path in _named_in(function)]


def _text(found: Documented, names: Names) -> Iterator[str]:
    said = markdown(_said(found), _resolver(found, names))
    if said:
        yield f"{said}\n"


def _resolver(found: Documented, names: Names) -> Callable[[str], str | None]:
    """How names in a docstring are resolved: those of parameters are no links."""
    own = {parameter.name for parameter in found.parameters} if isinstance(found, griffe.Function) else set[str]()
    return lambda name: None if name in own else names.target(name)
