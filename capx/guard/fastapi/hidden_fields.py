"""Finds parameter types whose values may hold input that caveats cannot see.

Law: the guard checks the type when the endpoint is made. If it cannot read a type, it reports that the type may hide
something.
"""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, Final, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

_SECRETS: Final = (Secret, SecretBytes, SecretStr)
_BEHIND: Final = ("__value__", "__supertype__", "__bound__")
"""The attributes with the underlying type of an alias, a NewType and a type variable."""


def hidden_fields(annotation: Any) -> Iterator[str]:
    """Report what a type, or a type in it, hides from caveats: each is the end of a sentence about the parameter."""
    yield from _hidden_in(annotation, {})


def _hidden_in(annotation: Any, seen: dict[int, Any]) -> Iterator[str]:
    # Models may hold themselves. Keep each type that was seen: after its end, another one could get its id.
    if id(annotation) in seen:
        return
    seen[id(annotation)] = annotation
    kind: Any = get_origin(annotation) or annotation
    inner = [*get_args(annotation), *(getattr(kind, name, None) for name in _BEHIND)]
    inner += getattr(kind, "__constraints__", ())
    if inspect.isclass(kind):
        yield from _kept(kind)
        try:
            inner += _parts(kind)
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            yield f"holds a {kind.__name__}, whose fields cannot be read ({error}): name what is judged with `args=`"
    for part in inner:
        yield from _hidden_in(part, seen)


def _kept(kind: type[object]) -> Iterator[str]:
    """Report what values of a class may hold besides their members."""
    if any(secret in kind.__mro__ for secret in _SECRETS):
        yield "holds a secret, which caveats must not see: name what is judged instead with `args=`"
    if issubclass(kind, BaseModel):
        own = kind.__mro__[: kind.__mro__.index(BaseModel)]
        if kind.__private_attributes__ or any(vars(each).get("__slots__") for each in own):
            yield f"holds a {kind.__name__}, which has private attributes: name what is judged with `args=`"
    for field in getattr(kind, "__dataclass_fields__", {}).values():
        if field._field_type is dataclasses._FIELD_INITVAR:  # type: ignore[attr-defined] # noqa: SLF001 # not public
            yield f"holds a {kind.__name__}, whose {field.name} is not a field: name what is judged with `args=`"


def _parts(kind: type[object]) -> list[Any]:
    if issubclass(kind, BaseModel):
        return [field.annotation for field in kind.model_fields.values()]
    if any(hasattr(kind, sign) for sign in ("__dataclass_fields__", "__total__", "_fields")):
        return list(get_type_hints(kind, include_extras=True).values())
    return []
