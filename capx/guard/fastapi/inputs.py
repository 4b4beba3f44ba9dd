"""Finds the inputs of a FastAPI endpoint that have no name that caveats could use.

Law: if the guard cannot see an input as an argument, it reports a problem. It never leaves an input out of the
judgement silently.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi import params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant
from fastapi.security import APIKeyQuery
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, Json, RootModel

from capx.guard.hidden_fields import hidden_fields
from capx.guard.model_values import first_alias, spellings
from capx.guard.unions import NAME_IT


def unnamed(dependant: Dependant, gate: Callable[..., Awaitable[object]]) -> Iterator[str]:
    """Report the inputs of an endpoint that can only be judged if `args=` names them, one sentence each."""
    if whole := _connection(dependant):
        yield f"the parameter {whole} gives access to the whole request: {NAME_IT}"
    for place, fields in (("header", dependant.header_params), ("cookie", dependant.cookie_params)):
        for field in fields:
            yield (
                f"the parameter {field.name} is a {place}, which caveats and consents never cover: take it out of the "
                f"endpoint, or {NAME_IT}"
            )
    yield from _below(dependant, gate)
    yield from _misnamed(dependant)
    by_members = spread(dependant)
    for field in dependant.query_params:
        if _is_model(field.field_info.annotation) and not _is_json(field) and field.name not in by_members:
            yield f"the parameter {field.name} is a model of several parameters: {NAME_IT}"
    body = dependant.body_params
    if any(isinstance(field.field_info, params.File) for field in body):
        yield f"a file cannot be judged as an argument: {NAME_IT}"
    # A body parameter that is not embedded has no name in the request, so callers could not know its argument.
    if _whole(dependant) and body[0].name not in by_members:
        yield f"the parameter {body[0].name} is the body as a whole, and no model: {NAME_IT}"


def overridden(dependant: Dependant, overrides: Mapping[Any, Callable[..., Any]]) -> Dependant:
    """Return a dependant with the dependencies that FastAPI runs if an application overrides some."""
    dependencies = [
        get_dependant(path=str(each.path), call=overrides[each.call]) if each.call in overrides else each
        for each in dependant.dependencies
    ]
    return replace(dependant, dependencies=[overridden(each, overrides) for each in dependencies])


def own_fields(dependant: Dependant) -> list[Any]:
    """Return the path, query and body parameters, as FastAPI describes them."""
    return [*dependant.path_params, *dependant.query_params, *dependant.body_params]


def spread(dependant: Dependant) -> dict[str, type[BaseModel]]:
    """Return the parameters that have no name in the request, by the model whose fields callers send in their place.

    They are a model that is the whole body, and models of query parameters. They are not a form, whose fields may be
    files, and not a model that may be None: caveats could not tell an empty body from none.
    """
    in_body = [field for field in dependant.body_params if not isinstance(field.field_info, params.Form)]
    nameless = [*dependant.query_params, *(in_body if _whole(dependant) else ())]
    kinds = {field.name: field.field_info.annotation for field in nameless if not _is_json(field)}
    return {
        name: kind
        for name, kind in kinds.items()
        if inspect.isclass(kind) and issubclass(kind, BaseModel) and not issubclass(kind, RootModel)
    }


def has_body(dependant: Dependant) -> bool:
    """Whether a dependency, or the dependant itself, takes a part of the body."""
    return bool(dependant.body_params) or any(map(has_body, dependant.dependencies))


def _whole(dependant: Dependant) -> bool:
    return len(dependant.body_params) == 1 and not _embedded(dependant.body_params[0].field_info)


def _below(dependant: Dependant, gate: Callable[..., Awaitable[object]]) -> Iterator[str]:
    for dependency in dependant.dependencies:
        if dependency.call == gate:
            continue
        if dependency.name is not None and _is_scheme(dependency.call):
            yield (
                f"the parameter {dependency.name} is what a security scheme read from a header or a cookie, which "
                "caveats and consents never cover: let a dependency take it, and return the user to the endpoint, or "
                f"{NAME_IT}"
            )
        if found := sorted(_inputs(dependency)):
            yield f"the parameters {', '.join(found)} belong to a dependency: {NAME_IT}"
        if wholes := sorted(_connections(dependency)):
            yield f"the parameter {wholes[0]} of a dependency holds the whole request: {NAME_IT}"


def _misnamed(dependant: Dependant) -> Iterator[str]:
    # A path, query and body parameter may share an alias: caveats would see only one of the values.
    named: dict[str, str] = {}
    by_members = spread(dependant)
    for field in own_fields(dependant):
        model = by_members.get(field.name)
        if model is None:
            names = [(field.name, spelling(field))]
        else:
            names = [(f"{field.name}.{inner}", name) for inner, name in spellings(model).items()]
        for place, name in names:
            if (other := named.setdefault(name, place)) != place:
                yield f"callers spell the parameters {other} and {place} both as {name}: rename one of them"
        if problem := next(hidden_fields(field.field_info), None):
            yield f"the parameter {field.name} {problem}"


def spelling(field: Any) -> str:
    """Return the name of a parameter as callers spell it."""
    return first_alias(field.validation_alias) or str(field.alias)


def _connection(dependant: Dependant) -> str | None:
    return dependant.request_param_name or dependant.websocket_param_name or dependant.http_connection_param_name


def _is_scheme(call: Any) -> bool:
    """Whether a dependency is a security scheme of FastAPI itself that reads only a header or a cookie."""
    is_own = type(call).__module__.startswith("fastapi.security.")
    return is_own and isinstance(call, SecurityBase) and not isinstance(call, APIKeyQuery)


def _connections(dependant: Dependant) -> Iterable[str]:
    if _is_scheme(dependant.call):
        return
    if whole := _connection(dependant):
        yield whole
    for dependency in dependant.dependencies:
        yield from _connections(dependency)


def _inputs(dependant: Dependant) -> Iterable[str]:
    for field in own_fields(dependant):
        yield field.name
    for dependency in dependant.dependencies:
        yield from _inputs(dependency)


def _embedded(info: Any) -> bool:
    return bool(info.embed) or (isinstance(info, params.Form) and not _is_model(info.annotation))


def _is_json(field: Any) -> bool:
    """Whether callers send a value as the text of its JSON, under the name of the parameter."""
    return any(type(one) is Json for one in field.field_info.metadata)


def _is_model(annotation: Any) -> bool:
    """Whether FastAPI reads the members of a model instead of one value; true for a union that holds a model, too."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return any(map(_is_model, get_args(annotation)))
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)
