"""Where each name is documented, and what a name in a docstring means on one page."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

import griffe
from msgspec import Struct

from tests.reference.sources import (
    MODULES,
    Documented,
    Name,
    documented_names,
    errors,
    is_alias_of_types,
    lookup,
    members,
    public_names,
    types_met,
)

TYPES: Final = "types."
"""What the pages begin with that are of types which no module exports, one for each room. Only the site has them."""


class Place(Struct, frozen=True):
    """Where a name is documented: the page, and the heading on it."""

    page: str
    heading: str

    @property
    def anchor(self) -> str:
        """The heading as a Git host and the site make an anchor of it."""
        return re.sub(r"[^\w\- ]", "", self.heading.lower()).replace(" ", "-")


@cache
def types_pages() -> dict[str, list[Name]]:
    """The types that no module exports, by the page of their room."""
    pages: dict[str, list[Name]] = {}
    for each in types_met():
        pages.setdefault(TYPES + ".".join(each.found.path.split(".")[:2]), []).append(each)
    return pages


@cache
def places() -> dict[str, Place]:
    """Where each name is documented, by its dotted path; no page has two headings that make one anchor."""
    found: dict[str, Place] = {}
    for page, names in {**documented_names(), **types_pages()}.items():
        for each in names:
            found[each.found.path] = Place(page, f"{kind_of(each.found)}{each.name}")
            if isinstance(each.found, griffe.Class):
                for member in members(each.found):
                    if isinstance(member, griffe.Function):
                        inside = f"{each.found.path}.{member.name}"
                        found[inside] = Place(page, f"{each.name}.{member.name}")
    anchors = [(place.page, place.anchor) for place in found.values()]
    if twice := {anchor for anchor in anchors if anchors.count(anchor) > 1}:
        raise ValueError(f"two headings make one anchor: {twice}")
    return found


def kind_of(found: Documented) -> str:
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


class Names:
    """What names mean on one page, and in one class of it. On a page of the site, types are links too."""

    def __init__(self, page: str, kind: griffe.Class | None = None, *, on_site: bool = False) -> None:
        self._page = page
        self._kind = kind
        self._on_site = on_site

    def within(self, kind: griffe.Class) -> "Names":
        """What they mean in a class of this page."""
        return Names(self._page, kind, on_site=self._on_site)

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
        if place is None or (place.page.startswith(TYPES) and not self._on_site):
            return None
        return f"#{place.anchor}" if place.page == self._page else f"{place.page}.md#{place.anchor}"

    def link(self, path: str, name: str) -> str:
        """A documented name: a link, or only a name if it is a type, and this is no page of the site."""
        target = self.target_of(path)
        return f"`{name}`" if target is None else f"[`{name}`]({target})"

    def documents(self, path: str) -> bool:
        """Whether what stands at a dotted path is documented anywhere."""
        return path in places() or ((found := lookup(path)) is not None and found.path in places())

    def links(self, paths: Iterable[str]) -> str:
        """Links to those of these types that are documented, each once."""
        own = None if self._kind is None else self._kind.path
        found = {path: self.target_of(path) for path in dict.fromkeys(paths) if path != own}
        targets = {target: path.rpartition(".")[2] for path, target in found.items() if target is not None}
        return ", ".join(f"[`{name}`]({target})" for target, name in targets.items())
