"""What FastAPI reads of a request for an endpoint, and what of it has no name that caveats could use.

Law: what a guard cannot tell apart as an argument is a problem to be named, never left out of the judgement.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi import params
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel

from capx.guard.fastapi.hidden_fields import hidden_fields


def unnamed(dependant: Dependant, gate: Callable[..., Awaitable[object]]) -> Iterator[str]:
    """What of an endpoint's input can only be judged if `args=` names it."""
    if whole := _connection(dependant):
        yield f"the parameter {whole} can be asked for all of the request: name what is judged with `args=`"
    yield from _below(dependant, gate)
    yield from _misnamed(dependant)
    for field in dependant.query_params:
        if _is_model(field.field_info.annotation):
            yield f"the parameter {field.name} is a model of several: name what is judged with `args=`"
    body = dependant.body_params
    if any(isinstance(field.field_info, params.File) for field in body):
        yield "a file is no argument that can be judged: name what is judged with `args=`"
    if len(body) == 1 and not _embedded(body[0].field_info):
        yield f"the parameter {body[0].name} is the body as a whole: name what is judged with `args=`"


def _below(dependant: Dependant, gate: Callable[..., Awaitable[object]]) -> Iterator[str]:
    for dependency in dependant.dependencies:
        if dependency.call == gate:
            continue
        if found := sorted(_inputs(dependency)):
            yield f"the parameters {', '.join(found)} belong to a dependency: name what is judged with `args=`"
        if wholes := sorted(_connections(dependency)):
            yield (
                f"the parameter {wholes[0]} of a dependency can be asked for all of the request: "
                "name what is judged with `args=`"
            )


def _misnamed(dependant: Dependant) -> Iterator[str]:
    named: dict[str, str] = {}
    for field in (*dependant.path_params, *dependant.query_params, *dependant.body_params):
        if (other := named.setdefault(shown(field), field.name)) != field.name:
            yield f"the parameters {other} and {field.name} are both {shown(field)} to callers: name them apart"
        if problem := next(hidden_fields(field.field_info.annotation), None):
            yield f"the parameter {field.name} {problem}"


def shown(field: Any) -> str:
    """A parameter's name as callers spell it."""
    return str(field.validation_alias or field.alias)


def _connection(dependant: Dependant) -> str | None:
    return dependant.request_param_name or dependant.websocket_param_name or dependant.http_connection_param_name


def _connections(dependant: Dependant) -> Iterable[str]:
    if whole := _connection(dependant):
        yield whole
    for dependency in dependant.dependencies:
        yield from _connections(dependency)


def _inputs(dependant: Dependant) -> Iterable[str]:
    for field in (*dependant.path_params, *dependant.query_params, *dependant.body_params):
        yield field.name
    for dependency in dependant.dependencies:
        yield from _inputs(dependency)


def _embedded(info: Any) -> bool:
    return bool(getattr(info, "embed", None)) or (isinstance(info, params.Form) and not _is_model(info.annotation))


def _is_model(annotation: Any) -> bool:
    """Whether FastAPI reads the members of a model where it would read one value: also for a union with one."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return any(map(_is_model, get_args(annotation)))
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)
