"""Signatures as people read them: in one line if they fit, else one parameter a line."""

import textwrap
from collections.abc import Iterable
from typing import Final

import griffe

from tests.reference.sources import fields, initializer, is_alias_of_types, is_struct, lookup

WIDTH: Final = 100
"""Characters in a line, at most, unless a single parameter needs more."""
_SHOWN: Final = 160
"""Characters of a value that are shown; what needs more is said by its docstring."""
_KEPT: Final = ("contextmanager", "asynccontextmanager")


def of_class(kind: griffe.Class) -> str:
    """How a class is called, with `class` before it and its bases behind."""
    if is_struct(kind):
        parts = ["*"] * (kind.keywords.get("kw_only") is not None) + [_field(each) for each in _called_with(kind)]
    else:
        parts = [part for function in initializer(kind) for part in _parameters(function)]
    return _wrapped(f"class {kind.name}", parts, "")


def _called_with(kind: griffe.Class) -> Iterable[griffe.Attribute]:
    return [each for each in fields(kind) if not each.name.startswith("_")]


def _field(field: griffe.Attribute) -> str:
    return f"{field.name}: {field.annotation}" + ("" if field.value is None else f" = {_default(field.value)}")


def of_function(function: griffe.Function, owner: str = "") -> str:
    """How a function is called, or the method of an owner; all ways, if it has several."""
    ways = function.overloads or [function]
    return "\n".join(_way(each, owner) for each in ways)


def _way(function: griffe.Function, owner: str) -> str:
    decorators = [str(each.value).rpartition(".")[2] for each in function.decorators]
    kept = [f"@{each}\n" for each in decorators if each in _KEPT]
    kind = "".join(f"{label} " for label in ("classmethod", "staticmethod") if label in function.labels)
    name = f"{owner}.{function.name}" if owner else function.name
    asynchronous = "async " if "async" in function.labels else ""
    returns = "" if function.returns is None else f" -> {_text(function.returns)}"
    return "".join(kept) + _wrapped(f"{kind}{asynchronous}{name}", _parameters(function), returns)


def _parameters(function: griffe.Function) -> list[str]:
    """The parameters as they are written, without `self` and `cls`."""
    parts: list[str] = []
    parameters = [each for at, each in enumerate(function.parameters) if at or each.name not in {"self", "cls"}]
    for at, parameter in enumerate(parameters):
        before = None if not at else parameters[at - 1].kind
        if before is griffe.ParameterKind.positional_only and parameter.kind is not before:
            parts.append("/")
        starred = {griffe.ParameterKind.var_positional, griffe.ParameterKind.keyword_only}
        if parameter.kind is griffe.ParameterKind.keyword_only and before not in starred:
            parts.append("*")
        parts.append(_parameter(parameter))
    if parameters and parameters[-1].kind is griffe.ParameterKind.positional_only:
        parts.append("/")
    return parts


def _parameter(parameter: griffe.Parameter) -> str:
    if parameter.kind is griffe.ParameterKind.var_positional:
        return f"*{parameter.name}{_annotated(parameter)}"
    if parameter.kind is griffe.ParameterKind.var_keyword:
        return f"**{parameter.name}{_annotated(parameter)}"
    if parameter.default is None:
        return f"{parameter.name}{_annotated(parameter)}"
    return (
        f"{parameter.name}{_annotated(parameter)}{' = ' if parameter.annotation else '='}{_default(parameter.default)}"
    )


def _default(value: str | griffe.Expr) -> str:
    """A default; in place of the name of a number or a text, what it is."""
    if isinstance(value, griffe.ExprName):
        constant = lookup(value.canonical_path)
        if isinstance(constant, griffe.Attribute) and constant.value is not None and _is_plain(constant.value):
            return str(constant.value)
    return str(value)


def _is_plain(value: str | griffe.Expr) -> bool:
    """Whether a value is written without a name or a call."""
    return not isinstance(value, griffe.Expr) or (
        isinstance(value, griffe.ExprBinOp) and _is_plain(value.left) and _is_plain(value.right)
    )


def _annotated(parameter: griffe.Parameter) -> str:
    return "" if parameter.annotation is None else f": {_text(parameter.annotation)}"


def _text(annotation: str | griffe.Expr) -> str:
    """An annotation without the quotes around names that are defined further down."""
    return str(annotation).strip("\"'")


def of_value(value: griffe.Attribute) -> str:
    """A constant or a name for types: with its value, unless a docstring says more than so long a one."""
    is_alias = is_alias_of_types(value)
    annotation = "" if value.annotation is None or is_alias else f": {_text(value.annotation)}"
    shown = str(value.value).replace(f"'{value.name}'", value.name)
    if len(shown) > _SHOWN and not is_alias:
        return f"{value.name}{annotation}"
    line = f"{value.name}{annotation} = {shown}"
    return "\n".join(
        textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    )


def of_field(field: griffe.Attribute, kind: griffe.Class) -> str:
    """The type of a field; of one that `__init__` sets, that of the parameter; of an enum's member, its value."""
    if field.annotation is not None:
        return _text(field.annotation)
    parameters = [each for function in initializer(kind) for each in function.parameters]
    of_parameter = [_text(each.annotation) for each in parameters if each.name == str(field.value) and each.annotation]
    return next(iter(of_parameter), f"= {field.value}" if kind.has_labels("enum") or not parameters else "")


def _wrapped(head: str, parts: list[str], tail: str) -> str:
    line = f"{head}({', '.join(parts)}){tail}"
    if len(line) <= WIDTH or not parts:
        return line if parts or not head.startswith("class ") else head
    return "\n".join([f"{head}(", *(f"    {part}," for part in parts), f"){tail}"])
