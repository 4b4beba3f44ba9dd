"""The OpenAPI 3.1 document of a face, made from its operations.

Law: the schemas are made from the classes that read the requests, so they say what these demand.
"""

import inspect
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, cast, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from capx.api import person_auth
from capx.api.messages.base import Problem
from capx.api.operation import JSON_TYPE
from capx.api.problems import STATUSES
from capx.api.resource_auth import SCHEME
from capx.server.operation import PROBLEM_TYPE, AnyOperation
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.discharge import Discharge

Schema = dict[str, Any]

_REF = "#/components/schemas/{name}"
_ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_ALWAYS: Final = (400, 431, 500, 503)
_OF_BODIES: Final = (408, 411, 413, 415)
_OF_PROOFS: Final = (401, 403)
_PROOFS: Final = {
    "presentation": "`Capx PRESENTATION`: the authority capability, presented for this very request; for a statement, "
    "the capability of its audience, presented for the call in the body.",
    "report": f"`{SCHEME} audience=…, kid=…, at=…, body=…, mac=…`: a MAC under the audience's key.",
    "person": f"`{person_auth.SCHEME} principal=…, at=…, nonce=…, body=…, sig=…`: a signature of the person's key.",
}
"""What the header Authorization holds, by the name of the scheme."""
_SECRETS: Final[dict[type, str]] = {
    Bundle: "Tokens, then approvals, joined by commas: a secret.",
    Capability: "A token: a secret.",
    Discharge: "The approval of a call, of no use without the token that demands it.",
}
"""What the texts are whose classes msgspec does not know."""


def document(title: str, about: str, operations: Sequence[AnyOperation]) -> bytes:
    """The OpenAPI document of a face, as JSON."""
    named = (Problem, *(one.asks for one in operations), *(one.answers for one in operations))
    kinds = list(dict.fromkeys(kind for kind in named if kind is not None))
    found, components = msgspec.json.schema_components(kinds, schema_hook=_own, ref_template=_REF)
    schemas = dict(zip(kinds, found, strict=True))
    paths: dict[str, Schema] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas, components)
    proofs = {_proof(one) for one in operations}
    secured = {
        name: {"type": "apiKey", "in": "header", "name": "Authorization", "description": said}
        for name, said in _PROOFS.items()
        if name in proofs
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": title, "description": about, "version": _version()},
            "paths": _without_indentation(paths),
            "components": {
                "schemas": _without_indentation(components),
                **({"securitySchemes": secured} if secured else {}),
            },
        }
    )


def _without_indentation(part: Any) -> Any:
    """A part of the document: msgspec before 0.23 leaves docstrings in descriptions as they stand in the source."""
    if isinstance(part, dict):
        members = cast("dict[str, Any]", part)
        return {
            name: inspect.cleandoc(value)
            if name == "description" and isinstance(value, str)
            else _without_indentation(value)
            for name, value in members.items()
        }
    if isinstance(part, list | tuple):
        return [_without_indentation(one) for one in cast("Sequence[Any]", part)]
    return part


def _operation(one: AnyOperation, schemas: dict[Any, Schema], components: dict[str, Schema]) -> Schema:
    described: Schema = {"operationId": one.name, "summary": one.about, "responses": _responses(one, schemas)}
    parameters = [{"name": "id", "in": "path", "required": True, "schema": _ID}] if "{id}" in one.path else []
    if one.asks is not None and one.has_body:
        described["requestBody"] = {
            "required": _is_demanding(one.asks),
            "content": {JSON_TYPE: {"schema": schemas[one.asks]}},
        }
    elif one.asks is not None:
        form = components[schemas[one.asks]["$ref"].rpartition("/")[2]]
        hints = get_type_hints(one.asks).items()
        parameters += [_parameter(name, form["properties"][name], hint) for name, hint in hints]
    if parameters:
        described["parameters"] = parameters
    if proof := _proof(one):
        described["security"] = [{proof: []}]
    return described


def _proof(one: AnyOperation) -> str | None:
    """The name of the scheme with which a caller proves who it is."""
    if one.action is not None or one.presented:
        return "presentation"
    return "report" if one.reported else "person" if one.personal else None


def _responses(one: AnyOperation, schemas: dict[Any, Schema]) -> Schema:
    problem = {"content": {PROBLEM_TYPE: {"schema": schemas[Problem]}}}
    statuses = {
        *_ALWAYS,
        *one.problems,
        *(_OF_BODIES if one.has_body else ()),
        *(_OF_PROOFS if _proof(one) else ()),
    }
    answer: Schema = {one.media.partition(";")[0]: {"schema": schemas.get(one.answers, {"type": "string"})}}
    if one.streams:
        answer["text/event-stream"] = {"schema": {"type": "string"}}
    good: Schema = {"description": "done" if one.has_body else "found", "content": answer}
    return {
        str(one.status): good,
        **{str(each): {"description": STATUSES[each], **problem} for each in sorted(statuses)},
    }


def _is_demanding(kind: type[Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(kind))


def _parameter(name: str, form: Schema, hint: Any) -> Schema:
    # A query cannot say null. A caller leaves the name out instead.
    schema = {key: value for key, value in form.items() if key != "default" or value is not None}
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        schema = options[0] if len(options) == 1 else {**schema, "anyOf": options}
    repeated = {"style": "form", "explode": True} if get_origin(hint) is tuple else {}
    return {"name": name, "in": "query", "required": False, "schema": schema, **repeated}


def _own(kind: type) -> Schema:
    if kind not in _SECRETS:
        raise TypeError(f"no schema of {kind}")
    return {"type": "string", "description": _SECRETS[kind]}


def _version() -> str:
    try:
        return version("capx-auth")
    except PackageNotFoundError:
        return "unknown"
