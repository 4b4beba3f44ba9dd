"""Finds models that ignore members which a validator can see.

Law: what a validator can read, caveats can see, or FastAPI refuses the request. A validator that runs before a model is
made, around it, in its place, or in its `__init__`, gets the object as it was sent, with the objects in it. If one of
these ignores the members that it does not know, then the bearer can tell the validator something that nobody judges.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, cast

from pydantic import TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo

from capx.guard.unions import NAME_IT

_SEE_ALL: Final = frozenset({"function-before", "function-wrap", "chain"})
"""The steps of a validation in which a function gets what was sent, or may have changed it before the next step."""
_OBJECTS: Final = {"model-fields": "model_name", "dataclass-args": "dataclass_name", "typed-dict": "cls_name"}
"""The steps that read an object member by member, by the key of the object's name."""
_OWN_CONFIG: Final = frozenset({"model", "dataclass", "typed-dict"})
"""The steps that pydantic validates by their own configuration alone, whatever is around them."""
_LIBRARIES: Final = frozenset({"fastapi", "pydantic", "pydantic_core", "pydantic_extra_types"})
_NO_STEPS: Final = frozenset({"config", "default", "metadata", "serialization"})
"""What a step holds beside other steps."""


def ignored_members(field: Any) -> Iterator[str]:
    """Report a type in a type or a field that ignores what a validator sees: ends of sentences about the parameter."""
    if isinstance(field, FieldInfo):
        field = Annotated[field.annotation, None, *field.metadata]
    try:
        # As pydantic itself wrote it down: that has the validators of annotations, of subclasses and of fields.
        schema = TypeAdapter[Any](field).core_schema
        yield from dict.fromkeys(_Walk().through(schema))
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        yield f"cannot be read ({error.message}): {NAME_IT}"


class _Walk:
    """A walk through the steps of a validation, which may lead back to themselves."""

    def __init__(self) -> None:
        self._definitions: dict[str, Any] = {}
        self._been: set[tuple[str, bool]] = set()

    def through(self, step: Any, config: Mapping[str, Any] | None = None, *, seen: bool = False) -> Iterator[str]:
        """Report the objects that ignore members; `seen` if a validator has got what this step gets.

        `config` is that of the model or dataclass whose members are read. What they hold has its own, or none.
        """
        if isinstance(step, list | tuple):
            for each in cast("list[Any]", step):
                yield from self.through(each, config, seen=seen)
        # Pydantic may build it when it is read, so it need not be a dict.
        if not isinstance(step, Mapping):
            return
        step = cast("Mapping[str, Any]", step)
        kind = step.get("type")
        if not isinstance(kind, str):
            # By the names of members, or by the tags of a union.
            yield from self.through(list(step.values()), seen=seen)
            return
        if kind == "definitions":
            # Pydantic gathers all of them in the outermost step, and refuses any others.
            self._definitions.update({one["ref"]: one for one in step["definitions"]})
            yield from self.through(step["schema"])
        elif kind == "definition-ref":
            if (key := (step["schema_ref"], seen)) not in self._been:
                self._been.add(key)
                yield from self.through(self._definitions.get(step["schema_ref"]), seen=seen)
        elif kind == "function-plain" and not _is_of_library(step["function"]["function"]):
            yield f"has a plain validator, which sees what nobody judges: let it run after, or {NAME_IT}"
        else:
            config = step.get("config", None if kind in _OWN_CONFIG else config)
            seen = seen or kind in _SEE_ALL or step.get("custom_init") is True or callable(step.get("discriminator"))
            if kind in _OBJECTS:
                yield from _faults(step, config or {}, seen=seen)
            yield from self.through([step[key] for key in step.keys() - _NO_STEPS], config, seen=seen)


def _faults(step: Mapping[str, Any], config: Mapping[str, Any], *, seen: bool) -> Iterator[str]:
    """Report what is wrong with an object; `seen` if a validator has got it."""
    name = step.get(_OBJECTS[step["type"]]) or getattr(step.get("cls"), "__name__", "typed dict")
    fields: Any = step["fields"]
    each_field = cast("Iterable[Any]", fields.values() if isinstance(fields, Mapping) else fields)
    aliases: list[Any] = [each.get("validation_alias") for each in each_field]
    # Their members have the names in Python to caveats, and overwrite an extra member of that name.
    if any(aliases) and step["type"] != "model-fields":
        yield f"holds a {name}, whose members have an alias: make it a model, or {NAME_IT}"
    if not seen:
        return
    if (step.get("extra_behavior") or config.get("extra_fields_behavior")) not in ("allow", "forbid"):
        yield (
            f"holds a {name}, which ignores members that a validator sees: give it the configuration "
            f'extra="forbid" or "allow", or {NAME_IT}'
        )
    if any(map(_is_path, aliases)):
        yield f"holds a {name}, of which an AliasPath takes a part of a member that a validator sees: {NAME_IT}"


def _is_path(alias: str | list[Any] | None) -> bool:
    """Whether an alias, or one of several, leads into a member; pydantic then counts all of that member as used."""
    if not isinstance(alias, list):
        return False
    return len(alias) > 1 if isinstance(alias[0], str) else any(map(_is_path, alias))


def _is_of_library(function: Any) -> bool:
    """Whether a function is of a type of pydantic or FastAPI, or of those that go with pydantic."""
    # A method of an object, such as a TypeAdapter, or of a class of the service may run all of its validators.
    owner = getattr(function, "__self__", None)
    return (owner is None or inspect.isclass(owner)) and all(
        str(getattr(each, "__module__", None)).partition(".")[0] in _LIBRARIES for each in (function, owner or function)
    )
