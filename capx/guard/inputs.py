"""What FastAPI reads of a request for an endpoint, and what of it has no name that caveats could use.

Law: what a guard cannot tell apart as an argument is a problem to be named, never left out of the judgement.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from fastapi import params
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel


def unnamed(dependant: Dependant, gate: Callable[..., Awaitable[object]]) -> Iterator[str]:
    """What of an endpoint's input can only be judged if `args=` names it."""
    for dependency in dependant.dependencies:
        if dependency.call != gate and (found := sorted(_inputs(dependency))):
            yield f"the parameters {', '.join(found)} belong to a dependency: name what is judged with `args=`"
    for field in dependant.query_params:
        if _is_model(field.field_info.annotation):
            yield f"the parameter {field.name} is a model of several: name what is judged with `args=`"
    body = dependant.body_params
    if any(isinstance(field.field_info, params.File) for field in body):
        yield "a file is no argument that can be judged: name what is judged with `args=`"
    if len(body) == 1 and not _embedded(body[0].field_info):
        yield f"the parameter {body[0].name} is the body as a whole: name what is judged with `args=`"


def _inputs(dependant: Dependant) -> Iterable[str]:
    for field in (*dependant.path_params, *dependant.query_params, *dependant.body_params):
        yield field.name
    for dependency in dependant.dependencies:
        yield from _inputs(dependency)


def _embedded(info: Any) -> bool:
    return bool(getattr(info, "embed", None)) or (isinstance(info, params.Form) and not _is_model(info.annotation))


def _is_model(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)
