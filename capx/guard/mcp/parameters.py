"""What pydantic makes of the parameters of a guarded function of an MCP server. Needs pydantic, which each SDK has.

Laws:

- A client gives an argument under one name, which is the parameter's. With a second name, or a part of another
  argument, an argument that was sent would count as one that was left out.
- What a type hides from caveats is told when the server is protected (capx.guard.hidden_fields), and so is a type of
  which no value can be judged.
"""

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import (
    BaseModel,
    IPvAnyAddress,
    IPvAnyInterface,
    IPvAnyNetwork,
    NaiveDatetime,
    Secret,
    SecretBytes,
    SecretStr,
)
from pydantic.fields import FieldInfo

from capx.errors import ConfigurationProblem
from capx.guard.hidden_fields import hidden_fields
from capx.guard.model_values import SPELT
from capx.guard.unions import UNIONS

_NEVER: Final[tuple[Any, ...]] = (
    *(BaseModel, Secret, SecretBytes, SecretStr, NaiveDatetime, bytes, bytearray, complex),
    *(*SPELT, IPvAnyAddress, IPvAnyInterface, IPvAnyNetwork),
)
"""Classes of which no value can be judged here."""
_CHANGES: Final = "__get_pydantic_core_schema__"
"""What the metadata of a type has that may return a value of another type."""
_OF_FASTAPI: Final = re.compile("name what is judged( instead)? with `args=`")


def fields_of(function: Callable[..., Any], names: Collection[str]) -> Mapping[str, FieldInfo]:
    """Return these parameters as pydantic reads them; ConfigurationProblem if an annotation cannot be read."""
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise ConfigurationProblem(f"the annotations of {function.__qualname__} cannot be read: {error}") from None
    return {name: _field(parameter) for name, parameter in parameters.items() if name in names}


def faults(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    """Report parameters whose arguments could not be judged exactly: ends of sentences about the tool."""
    for name, field in fields.items():
        if field.validation_alias not in (None, name):
            yield f"reads {name} by another name, {field.validation_alias!r:.80}: give the parameter no alias"
        if (never := _never_judged(Annotated[field.annotation, None, *field.metadata])) is not None:
            yield f"takes {name} as a {never.__name__}, which no caveat can see: take JSON, a dataclass or a TypedDict"
        for problem in hidden_fields(field):
            yield f"has the parameter {name}, which {_OF_FASTAPI.sub('give the parameter another type', problem)}"


def _field(parameter: inspect.Parameter) -> FieldInfo:
    annotation: Any = Any if parameter.annotation is parameter.empty else parameter.annotation
    if parameter.default is parameter.empty:
        return FieldInfo.from_annotation(annotation)
    return FieldInfo.from_annotated_attribute(annotation, parameter.default)


def _never_judged(annotation: Any) -> type[Any] | None:
    """Return a class because of which no value of this type can be judged; None if there may be one that can."""
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Annotated:
        return None if any(hasattr(one, _CHANGES) for one in inner[1:]) else _never_judged(inner[0])
    if kind in UNIONS:
        # None can be judged. Nobody has an argument for that.
        found = [_never_judged(one) for one in inner if one is not NoneType]
        return found[0] if None not in found else None
    if not inspect.isclass(kind):
        return None
    if issubclass(kind, _NEVER):
        return kind
    # An empty list could be judged. Nobody takes a list for that.
    return next((one for one in map(_never_judged, inner) if one is not None), None)
