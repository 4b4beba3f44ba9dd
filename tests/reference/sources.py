"""What griffe reads in the source: the public modules, their names, and the types that these speak of.

griffe reads the files and imports nothing, so that the text is the same on every version of Python, and a name that
`capx` imports only when it is asked for is found like any other.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import griffe
from msgspec import Struct

CHECKOUT: Final = Path(__file__).resolve().parents[2]
MODULES: Final = (
    "capx",
    "capx_caveats",
    "capx_caveats.schema",
    "capx.guard.tool",
    "capx.guard.decision_counter",
    "capx.guard.asgi",
    "capx.guard.fastapi",
    "capx.guard.mcp.server",
    "capx.guard.mcp.table",
    "capx.guard",
    "capx.agent",
    "capx.agent.framework",
    "capx.agent.httpx_client",
    "capx.agent.httpx2_client",
    "capx.agent.langchain",
    "capx.agent.requests_adapter",
    "capx.agent.mcp_client",
    "capx.authority",
    "capx.crypto",
    "capx.intents",
    "capx.ledger",
    "capx.policy",
    "capx.proof",
    "capx.resource",
    "capx.server",
    "capx.store",
    "capx.testing",
    "capx.tokens",
    "capx.tokens.interop",
    "capx.verify",
)
"""Each has a page."""
PACKAGES: Final = ("capx_caveats", "capx")
CALLED: Final = ("__call__", "__iter__", "__len__", "__contains__", "__getitem__")
"""Special methods that people use without naming them, and look up as any other."""
Documented = griffe.Class | griffe.Function | griffe.Attribute


class Name(Struct, frozen=True):
    """One public name of a module, and what it stands for."""

    name: str
    found: Documented


@cache
def packages() -> griffe.GriffeLoader:
    """The packages, read."""
    loader = griffe.GriffeLoader(search_paths=[CHECKOUT / "caveats", CHECKOUT], allow_inspection=False)
    for package in PACKAGES:
        loader.load(package)
    loader.resolve_aliases(implicit=False, external=False)
    return loader


def module(path: str) -> griffe.Module:
    """The module of this dotted path."""
    found = packages().modules_collection[path]
    if not isinstance(found, griffe.Module):
        raise TypeError(f"{path} is not a module")
    return found


def public_names(path: str) -> list[Name]:
    """What a module exports by `__all__`, else what it defines without an underscore."""
    here = module(path)
    if here.exports is not None:
        return [Name(name, _exported(here, name)) for name in exported_names(here)]
    return [
        Name(name, found)
        for name, found in here.members.items()
        if not name.startswith("_") and not found.is_alias and isinstance(found, Documented) and not _is_variable(found)
    ]


def exported_names(here: griffe.Module) -> list[str]:
    """The names in `__all__`, and those of each module by which `__all__.extend(other.__all__)` extends it."""
    exported = list(map(str, here.exports or ()))
    for name in re.findall(r"^__all__\.extend\((\w+)\.__all__\)$", here.source, re.MULTILINE):
        found = here[name]
        exported.extend(map(str, (found.final_target if found.is_alias else found).exports or ()))
    return exported


def _exported(here: griffe.Module, name: str) -> Documented:
    found = here[name]
    if isinstance(found, griffe.Module):
        # A function and the module that defines it have one name; what is exported is the function.
        found = found[name]
    found = found.final_target if isinstance(found, griffe.Alias) else found
    if not isinstance(found, Documented):
        raise TypeError(f"{here.path} exports {name}, and it is not known what that is")
    return found


def _is_variable(found: griffe.Object) -> bool:
    """Whether this is a TypeVar, which nobody else uses."""
    return isinstance(found, griffe.Attribute) and str(found.value).startswith(("TypeVar(", "ParamSpec("))


@cache
def documented_names() -> dict[str, list[Name]]:
    """The names that each page documents, by its module: all of its names that no page before it has.

    The vocabulary comes first, so that the page of `capx` points to it and is no longer than it has to be.
    """
    seen: set[str] = set()
    pages: dict[str, list[Name]] = {}
    for path in ("capx_caveats", *(each for each in MODULES if each != "capx_caveats")):
        pages[path] = [each for each in public_names(path) if each.found.path not in seen]
        seen |= {each.found.path for each in pages[path]}
    return pages


@cache
def types_met() -> list[Name]:
    """Types that documented names take, give or raise, and no module exports; of values also those of their fields."""
    documented = [each.found for names in documented_names().values() for each in names]
    known = {found.path for found in documented}
    met: dict[str, Documented] = {}
    looked_at = list(documented)
    while looked_at:
        found = looked_at.pop()
        for path in [*_types_of(found), *_raised_by(found)]:
            type_met = lookup(path)
            if type_met is None or type_met.path in known or type_met.path in met or type_met.name.startswith("_"):
                continue
            if not _is_variable(type_met):
                met[type_met.path] = type_met
                looked_at += [type_met] if isinstance(type_met, griffe.Class) and is_struct(type_met) else []
    return [Name(found.name, found) for _, found in sorted(met.items())]


def _types_of(found: Documented) -> Iterator[str]:
    """The paths of the types in the signatures of this name; of a class that was only met, those of its fields."""
    if isinstance(found, griffe.Function):
        yield from paths_in(*(parameter.annotation for parameter in found.parameters), found.returns)
    elif isinstance(found, griffe.Attribute):
        yield from paths_in(found.annotation, found.value if is_alias_of_types(found) else None)
    else:
        for member in [*members(found), *initializer(found)]:
            yield from _types_of(member)


def _raised_by(found: Documented) -> Iterator[str]:
    """The paths of the errors that the docstrings of this name, and of its members, speak of."""
    each_member = members(found) if isinstance(found, griffe.Class) else []
    for each in (found, *each_member):
        if each.docstring is not None:
            yield from (errors()[word] for word in re.findall(r"\w+", each.docstring.value) if word in errors())


@cache
def errors() -> dict[str, str]:
    """The path of each error of ours by its name, without names that two errors have."""
    todo: list[griffe.Module] = [module(package) for package in PACKAGES]
    found: dict[str, list[str]] = {}
    while todo:
        here = todo.pop()
        todo += [each for each in here.modules.values() if not each.is_alias]
        for each in here.classes.values():
            if not each.is_alias and any(base.name == "CapxError" for base in (each, *bases(each))):
                found.setdefault(each.name, []).append(each.path)
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1 and not name.startswith("_")}


def paths_in(*expressions: str | griffe.Expr | None) -> Iterator[str]:
    """The dotted path of each name in these annotations that is one of ours."""
    for expression in expressions:
        if isinstance(expression, griffe.Expr):
            for part in expression.iterate(flat=True):
                if isinstance(part, griffe.ExprName) and part.canonical_path.startswith(("capx.", "capx_caveats.")):
                    yield part.canonical_path


def lookup(path: str) -> Documented | None:
    """What stands at a dotted path of ours; None if nothing of a kind that is documented does."""
    try:
        found = packages().modules_collection[path]
        found = found.final_target if isinstance(found, griffe.Alias) else found
    except (KeyError, griffe.AliasResolutionError):
        return None
    return found if isinstance(found, Documented) else None


def bases(kind: griffe.Class) -> list[griffe.Class]:
    """The classes of ours that a class comes from, the nearest first."""
    return [found for base in kind.mro() if isinstance(found := lookup(base.path), griffe.Class)]


def is_struct(kind: griffe.Class) -> bool:
    """Whether its fields are what it is called with."""
    return any(
        isinstance(base, griffe.Expr) and base.canonical_path == "msgspec.Struct"
        for each in (kind, *bases(kind))
        for base in each.bases
    )


def is_alias_of_types(found: griffe.Attribute) -> bool:
    """Whether it names a type, as `X = A | B` does: nothing but capital letters and brackets says so."""
    unsaid = found.annotation is None or str(found.annotation) == "TypeAlias"
    return unsaid and isinstance(found.value, griffe.Expr) and not _calls(found.value)


def _calls(value: griffe.Expr) -> bool:
    return any(isinstance(part, griffe.ExprCall | griffe.ExprDict) for part in (value, *value.iterate(flat=False)))


def members(kind: griffe.Class) -> list[griffe.Function | griffe.Attribute]:
    """The public methods and fields, with those of bases that no page documents; fields first, in the order of bases.

    What overrides a method that a base documents, and says nothing of its own, is left to the base.
    """
    found: dict[str, griffe.Function | griffe.Attribute] = {}
    said_by_bases: set[str] = set()
    exported = _exported_paths()
    for each in reversed((kind, *bases(kind))):
        if each is not kind and each.path in exported:
            said_by_bases |= {name for name, member in each.members.items() if member.docstring is not None}
            continue
        for name, member in each.members.items():
            silent = name in said_by_bases and member.docstring is None
            if _is_public(name, member) and not silent and isinstance(member, griffe.Function | griffe.Attribute):
                found[name] = member
    return list(found.values())


@cache
def _exported_paths() -> frozenset[str]:
    return frozenset(each.found.path for path in MODULES for each in public_names(path))


def _is_public(name: str, member: griffe.Object | griffe.Alias) -> bool:
    if member.is_alias or (name.startswith("_") and name not in CALLED):
        return False
    return not isinstance(member, griffe.Attribute) or "ClassVar" not in str(member.annotation)


def fields(kind: griffe.Class) -> list[griffe.Attribute]:
    """The fields of a struct, in the order in which it is called with them."""
    held = [member for each in reversed((kind, *bases(kind))) for member in each.members.values()]
    return list({each.name: each for each in held if isinstance(each, griffe.Attribute) and _is_field(each)}.values())


def _is_field(member: griffe.Attribute) -> bool:
    return (
        member.annotation is not None and "property" not in member.labels and "ClassVar" not in str(member.annotation)
    )


def is_managed(kind: griffe.Class) -> list[str]:
    """By which statements it is used as a context manager: `with`, `async with`."""
    names = {name for each in (kind, *bases(kind)) for name in each.members}
    return [word for name, word in (("__enter__", "with"), ("__aenter__", "async with")) if name in names]


def initializer(kind: griffe.Class) -> Iterator[griffe.Function]:
    """The `__init__` that a class or the nearest of its bases defines, if one does."""
    for each in (kind, *bases(kind)):
        found = each.members.get("__init__")
        if isinstance(found, griffe.Function):
            yield found
            return
