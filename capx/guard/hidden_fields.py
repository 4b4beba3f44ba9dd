"""Finds parameter types whose values may hold input that caveats cannot see.

Law: the guard checks the type when the endpoint is made. If it cannot read a type, it reports that the type may hide
something. Two types that look alike to caveats hide which one of them a value is.
"""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Annotated, Any, Final, ForwardRef, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from capx.guard.ignored_members import ignored_members
from capx.guard.unions import NAME_IT, UNIONS, alike, is_told_apart

EXTRA: Final = "__pydantic_extra__"
"""The attribute in which a model keeps its extra members."""
_SECRETS: Final = (Secret, SecretBytes, SecretStr)
_FORMS: Final[tuple[Any, ...]] = (Annotated, *UNIONS)
"""Special forms that Python implements as classes."""
_BEHIND: Final = ("__value__", "__supertype__", "__bound__", "__default__")
"""The attributes with the underlying type of an alias and a NewType, and the bound and default of a type variable."""
_SIGNS: Final = ("__dataclass_fields__", "__total__", "_fields", "__attrs_attrs__", "__struct_fields__")
"""The attributes of classes other than models whose values have members with types."""


def hidden_fields(field: Any) -> Iterator[str]:
    """Report what a type or a field, or a type in it, hides from caveats: ends of sentences about the parameter."""
    yield from _hidden_in(field, {}, told_apart=False)
    yield from ignored_members(field)


def _hidden_in(annotation: Any, seen: dict[tuple[int, bool], Any], *, told_apart: bool) -> Iterator[str]:
    """Report what a type hides; `told_apart` if a discriminator tells the members of a union apart."""
    # Models may hold themselves. Keep each type that was seen: after its end, another one could get its id.
    if (id(annotation), told_apart) in seen:
        return
    seen[id(annotation), told_apart] = annotation
    if isinstance(annotation, FieldInfo):
        yield from _hidden_in(annotation.annotation, seen, told_apart=is_told_apart([annotation]))
        return
    if isinstance(annotation, ForwardRef):
        yield f"holds {annotation.__forward_arg__}, which cannot be read: {NAME_IT}"
    kind: Any = get_origin(annotation) or annotation
    inner = inner_types(annotation)
    told_apart = told_apart or (kind is Annotated and is_told_apart(get_args(annotation)[1:]))
    if not told_apart and (problem := alike(annotation)):
        yield problem
    if is_class(kind):
        told_apart = False
        yield from _kept(kind)
        try:
            inner += parts(kind).values()
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            yield f"holds a {kind.__name__}, whose fields cannot be read ({error}): {NAME_IT}"
    for part in inner:
        yield from _hidden_in(part, seen, told_apart=told_apart)


def _kept(kind: type[object]) -> Iterator[str]:
    """Report what values of a class may hold besides their members."""
    if any(secret in kind.__mro__ for secret in _SECRETS):
        yield "holds a secret, which caveats must not see: name what is judged instead with `args=`"
    if issubclass(kind, BaseModel):
        own = kind.__mro__[: kind.__mro__.index(BaseModel)]
        if getattr(kind, "__private_attributes__", None) or any(map(_slots, own)):
            yield f"holds a {kind.__name__}, which has private attributes: {NAME_IT}"
    for field in getattr(kind, "__dataclass_fields__", {}).values():
        if field._field_type is dataclasses._FIELD_INITVAR:  # type: ignore[attr-defined] # noqa: SLF001 # not public
            yield f"holds a {kind.__name__}, whose {field.name} is not a field: {NAME_IT}"


def _slots(kind: type[object]) -> set[str]:
    """Return the names in a class's slots in which it may hold something."""
    # One text is one slot: its letters are no names, but they say that there is one.
    return {*vars(kind).get("__slots__", ())} - {"__weakref__"}


def inner_types(annotation: Any) -> list[Any]:
    """Return the types of which a type is made, such as that of a list's elements."""
    kind: Any = get_origin(annotation) or annotation
    stated = get_args(annotation)[: 1 if kind is Annotated else None]
    return [*stated, *(getattr(kind, name, None) for name in _BEHIND), *getattr(kind, "__constraints__", ())]


def is_class(kind: Any) -> bool:
    """Whether values can have this class."""
    return inspect.isclass(kind) and kind not in _FORMS


def has_parts(kind: type[object]) -> bool:
    """Whether values of a class have members with types."""
    return issubclass(kind, BaseModel) or any(hasattr(kind, sign) for sign in _SIGNS)


def parts(kind: type[object]) -> dict[str, Any]:
    """Return the types of what values of a class hold, by name; as fields, where these may state a discriminator."""
    if issubclass(kind, BaseModel):
        return {**kind.model_fields, EXTRA: _extra(kind)}
    if not has_parts(kind):
        return {}
    hints = get_type_hints(kind, include_extras=True)
    fields = getattr(kind, "__dataclass_fields__", {})
    # A dataclass may state a discriminator as `Field(…)` in place of a default.
    stated = {name: field.default for name, field in fields.items() if isinstance(field.default, FieldInfo)}
    return {name: Annotated[hint, stated[name]] if name in stated else hint for name, hint in hints.items()}


def _extra(kind: type[BaseModel]) -> Any:
    """Return the type that a model states for its extra members; the first one, as pydantic does."""
    own = kind.__mro__[: kind.__mro__.index(BaseModel)]
    extra = next((found for each in own if (found := inspect.get_annotations(each).get(EXTRA)) is not None), None)
    return ForwardRef(extra) if isinstance(extra, str) else extra
