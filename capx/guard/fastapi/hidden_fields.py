"""Types that may hold more of what callers sent than can be seen of their values.

Law: it is asked of a type when the endpoint is made; what cannot be read is taken to conceal something.
"""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, Final, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

_SECRETS: Final = (Secret, SecretBytes, SecretStr)
_BEHIND: Final = ("__value__", "__supertype__", "__bound__")
"""Where an alias, a new type and a type variable tell the type that they stand for."""


def hidden_fields(annotation: Any) -> Iterator[str]:
    """What a type, or one within it, keeps from caveats, each as the end of a sentence about its parameter."""
    yield from _hidden_in(annotation, {})


def _hidden_in(annotation: Any, seen: dict[int, Any]) -> Iterator[str]:
    # Models may hold themselves; what was seen is kept, since an id is a type's for as long as the type lives.
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
    """What values of a class may keep beside their members."""
    if any(secret in kind.__mro__ for secret in _SECRETS):
        yield "holds a secret, which no caveat may see: judge others with `args=`"
    if issubclass(kind, BaseModel):
        own = kind.__mro__[: kind.__mro__.index(BaseModel)]
        if kind.__private_attributes__ or any(vars(each).get("__slots__") for each in own):
            yield f"holds a {kind.__name__}, which has private attributes: name what is judged with `args=`"
    for field in getattr(kind, "__dataclass_fields__", {}).values():
        if field._field_type is dataclasses._FIELD_INITVAR:  # type: ignore[attr-defined] # noqa: SLF001 # no other tells
            yield f"holds a {kind.__name__}, whose {field.name} is no field: name what is judged with `args=`"


def _parts(kind: type[object]) -> list[Any]:
    if issubclass(kind, BaseModel):
        return [field.annotation for field in kind.model_fields.values()]
    if any(hasattr(kind, sign) for sign in ("__dataclass_fields__", "__total__", "_fields")):
        return list(get_type_hints(kind, include_extras=True).values())
    return []
