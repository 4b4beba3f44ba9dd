"""The reference of the programming interface: an index, a page for each public module, and one of types met there."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final

import griffe
from msgspec import Struct

from tests.reference import signatures
from tests.reference.prose import first_sentence, linked, markdown
from tests.reference.sources import (
    CHECKOUT,
    MODULES,
    Documented,
    Name,
    bases,
    documented_names,
    errors,
    fields,
    initializer,
    is_alias_of_types,
    is_managed,
    is_struct,
    lookup,
    members,
    module,
    paths_in,
    public_names,
    types_met,
)

TYPES: Final = "types"
_INDEX: Final = """# Programming interface

Generated from signatures and docstrings: `python -m tests.reference`. A name is documented once, on the page of the
first module that has it; other pages point there. Names that begin with `_`, and modules that have no page here, may
change without notice. Times are Unix seconds and durations are seconds, unless a text says otherwise. Errors that
callers are meant to catch derive from [`CapxError`](capx_caveats.md#class-capxerror).

| module | holds |
|---|---|
"""
_TYPES: Final = """# Types that signatures name

Generated from signatures and docstrings: `python -m tests.reference`. Public functions and
classes take, return, hold or raise these, and no public module exports them: read about them here, but do not import
them from where they are. [All modules](README.md).
"""


_COMMENT: Final = "<!-- generated from signatures and docstrings: edit those, then run python -m tests.reference -->\n"


class Place(Struct, frozen=True):
    """Where a name is documented: the page, and the heading on it."""

    page: str
    heading: str

    @property
    def anchor(self) -> str:
        """The heading as a Git host and the site make an anchor of it."""
        return re.sub(r"[^\w\- ]", "", self.heading.lower()).replace(" ", "-")


def pages() -> dict[str, str]:
    """The text of each page, by the name of its file."""
    found = {f"{path}.md": _module_page(path) for path in MODULES}
    return {"README.md": _index(), **found, f"{TYPES}.md": _types_page()}


def _index() -> str:
    rows = [f"| [`{path}`]({path}.md) | {_summary(module(path), _Names('README'))} |\n" for path in MODULES]
    met = f"\nTypes that these signatures name, and no module exports: [types]({TYPES}.md).\n"
    beside = "The vocabulary with its wire forms: [by example](vocabulary.md).\n"
    return _INDEX + "".join(rows) + met + beside


def _module_page(path: str) -> str:
    here = module(path)
    names = _Names(path)
    exported = public_names(path)
    documented = [each.found.path for each in documented_names()[path]]
    rows = [f"| {names.link(each.found.path, each.name)} | {_summary(each.found, names)} |\n" for each in exported]
    parts = [
        f"# {path}\n\n{_COMMENT}",
        f"{markdown(_without_modules(here), names.target, runs=True)}\n",
        f"Source: {_source(here)}. [All modules](README.md).\n",
        "".join(["| name | is |\n|---|---|\n", *rows]),
        *(_about(each, names) for each in exported if each.found.path in documented),
    ]
    return "\n".join(parts)


def _types_page() -> str:
    names = _Names(TYPES)
    rows = [f"| {names.link(each.found.path, each.name)} | {_summary(each.found, names)} |\n" for each in types_met()]
    table = "".join(["| name | is |\n|---|---|\n", *rows])
    return "\n".join([_TYPES, table, *(_about(each, names) for each in types_met())])


def _without_modules(here: griffe.Module) -> str:
    """A module's docstring without the list of its modules, which is for those who read the code."""
    return re.sub(r"\n\nModules:\n\n(?: {4}.*\n?|\n(?= {4}))*", "\n", _said(here)).strip()


def _said(found: griffe.Object) -> str:
    return "" if found.docstring is None else found.docstring.value


def _summary(found: griffe.Object, names: "_Names") -> str:
    return linked(first_sentence(_said(found)), names.target).replace("|", "\\|")


def _source(found: griffe.Object) -> str:
    """A link to the file, without a line: the page would change with every edit above it."""
    path = str(found.filepath)
    path = path.removeprefix(f"{CHECKOUT}/")
    return f"[`{path}`](../../{path})"


def _about(name: Name, names: "_Names") -> str:
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


def _about_class(kind: griffe.Class, names: "_Names") -> Iterator[str]:
    inside = names.within(kind)
    yield f"## {_title(names.place(kind))}\n"
    yield from _signature(signatures.of_class(kind), kind, names)
    yield from _text(kind, inside)
    above = [names.link(base.path, base.name) for base in bases(kind) if names.target_of(base.path)]
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


def _row(field: griffe.Attribute, kind: griffe.Class, names: "_Names") -> str:
    shown = signatures.of_field(field, kind)
    links = names.links(paths_in(field.annotation))
    said = linked(" ".join(_said(field).split()), names.target)
    cells = [f"`{field.name}`", (f"`{shown}`" if shown else "") + (f" ({links})" if links else ""), said]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _signature(text: str, found: Documented, names: "_Names") -> Iterator[str]:
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


def _text(found: Documented, names: "_Names") -> Iterator[str]:
    said = markdown(_said(found), _resolver(found, names))
    if said:
        yield f"{said}\n"


def _resolver(found: Documented, names: "_Names") -> Callable[[str], str | None]:
    """How names in a docstring are resolved: those of parameters are no links."""
    own = {parameter.name for parameter in found.parameters} if isinstance(found, griffe.Function) else set[str]()
    return lambda name: None if name in own else names.target(name)


@cache
def places() -> dict[str, Place]:
    """Where each name is documented, by its dotted path; no page has two headings that make one anchor."""
    found: dict[str, Place] = {}
    documented = {**documented_names(), TYPES: types_met()}
    for page, names in documented.items():
        for each in names:
            found[each.found.path] = Place(page, f"{_kind(each.found)}{each.name}")
            if isinstance(each.found, griffe.Class):
                for member in members(each.found):
                    if isinstance(member, griffe.Function):
                        inside = f"{each.found.path}.{member.name}"
                        found[inside] = Place(page, f"{each.name}.{member.name}")
    anchors = [(place.page, place.anchor) for place in found.values()]
    if twice := {anchor for anchor in anchors if anchors.count(anchor) > 1}:
        raise ValueError(f"two headings make one anchor: {twice}")
    return found


def _kind(found: Documented) -> str:
    """The word before a name in its heading, which keeps apart the anchors of `Where` and `where`."""
    if isinstance(found, griffe.Class):
        return "class "
    return "type " if isinstance(found, griffe.Attribute) and is_alias_of_types(found) else ""


@cache
def _by_name() -> dict[str, str]:
    """The path of each class, method and dotted name as docstrings write it; without those that several have."""
    named: dict[str, list[str]] = {}
    for path in places():
        parts = path.split(".")
        classes = [at for at, part in enumerate(parts) if part[:1].isupper()]
        written = {path, *([".".join(parts[classes[0] :])] if classes else [])}
        for name in written:
            named.setdefault(name, []).append(path)
    for page in MODULES:
        for each in public_names(page):
            named[f"{page}.{each.name}"] = [each.found.path]
    return {name: paths[0] for name, paths in named.items() if len(paths) == 1}


class _Names:
    """What names mean on one page, and in one class of it."""

    def __init__(self, page: str, kind: griffe.Class | None = None) -> None:
        self._page = page
        self._kind = kind

    def within(self, kind: griffe.Class) -> "_Names":
        """What they mean in a class of this page."""
        return _Names(self._page, kind)

    def target(self, name: str) -> str | None:
        """The target of a link to what a docstring names, if it is documented and not the class at hand."""
        if name in errors():
            return self.target_of(errors()[name])
        if self._kind is not None:
            field_names = {field.name for field in members(self._kind) if isinstance(field, griffe.Attribute)}
            if name == self._kind.name or name in field_names:
                return None
            if found := self.target_of(f"{self._kind.path}.{name}"):
                return found
        if self._page in documented_names() and (exported := self._exported().get(name)) and name[:1].isupper():
            return self.target_of(exported)
        return None if name not in _by_name() else self.target_of(_by_name()[name])

    def _exported(self) -> dict[str, str]:
        return {each.name: each.found.path for each in public_names(self._page)}

    def place(self, found: Documented) -> Place:
        """Where this name is documented."""
        return places()[found.path]

    def target_of(self, path: str) -> str | None:
        """The target of a link to what stands at a dotted path."""
        place = places().get(path)
        if place is None:
            found = lookup(path)
            place = None if found is None else places().get(found.path)
        if place is None:
            return None
        return f"#{place.anchor}" if place.page == self._page else f"{place.page}.md#{place.anchor}"

    def link(self, path: str, name: str) -> str:
        """A link to a documented name."""
        return f"[`{name}`]({self.target_of(path)})"

    def links(self, paths: Iterable[str]) -> str:
        """Links to those of these types that are documented, each once."""
        own = None if self._kind is None else self._kind.path
        found = {path: self.target_of(path) for path in dict.fromkeys(paths) if path != own}
        targets = {target: path.rpartition(".")[2] for path, target in found.items() if target is not None}
        return ", ".join(f"[`{name}`]({target})" for target, name in targets.items())
