"""What pydantic makes of the parameters of a guarded function of an MCP server. Needs pydantic, which each SDK has.

Law: a client gives an argument under one name, which is the parameter's. With a second name, or a part of another
argument, an argument that was sent would count as one that was left out.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from capx.errors import ConfigurationProblem


def fields_of(function: Callable[..., Any], names: Collection[str]) -> Mapping[str, FieldInfo]:
    """Return these parameters as pydantic reads them; ConfigurationProblem if an annotation cannot be read."""
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationProblem(f"the annotations of {name} cannot be read: {error}") from None
    return {name: _field(parameter) for name, parameter in parameters.items() if name in names}


def faults(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    """Report parameters whose arguments could not be judged exactly: ends of sentences about the tool."""
    for name, field in fields.items():
        if field.validation_alias not in (None, name):
            yield f"reads {name} by another name, {field.validation_alias!r:.80}: give the parameter no alias"


def _field(parameter: inspect.Parameter) -> FieldInfo:
    annotation: Any = Any if parameter.annotation is parameter.empty else parameter.annotation
    if parameter.default is parameter.empty:
        return FieldInfo.from_annotation(annotation)
    return FieldInfo.from_annotated_attribute(annotation, parameter.default)
