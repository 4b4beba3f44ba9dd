"""Finds models that ignore members which a validator can see.

Law: what a validator can read, caveats can see, or FastAPI refuses the request. A validator that runs before a model is
made, around it, in its place, or in its `__init__`, gets the object as it was sent, with the objects in it. If one of
these ignores the members that it does not know, then the bearer can tell the validator something that nobody judges.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, cast

from pydantic import TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo

from capx.guard.unions import NAME_IT

_SEE_ALL: Final = frozenset({"function-before", "function-wrap", "chain"})
"""The steps of a validation in which a function gets what was sent, or may have changed it before the next step."""
_OBJECTS: Final = {"model-fields": "model_name", "dataclass-args": "dataclass_name", "typed-dict": "cls_name"}
"""The steps that read an object member by member, by the key of the object's name."""
_NO_STEPS: Final = frozenset({"config", "default", "metadata", "serialization"})
"""What a step holds beside other steps."""


def ignored_members(field: Any) -> Iterator[str]:
    """Report a type in a type or a field that ignores what a validator sees: ends of sentences about the parameter."""
    if isinstance(field, FieldInfo):
        field = Annotated[field.annotation, None, *field.metadata]
    try:
        # As pydantic itself wrote it down: that has the validators of annotations, of subclasses and of fields.
        schema = TypeAdapter[Any](field).core_schema
        yield from dict.fromkeys(_Walk().through(schema, {}, seen=False))
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        yield f"cannot be read ({error.message}): {NAME_IT}"


class _Walk:
    """A walk through the steps of a validation, which may lead back to themselves."""

    def __init__(self) -> None:
        self._definitions: dict[str, Any] = {}
        self._been: set[tuple[str, bool]] = set()

    def through(self, step: Any, config: Mapping[str, Any], *, seen: bool) -> Iterator[str]:
        """Report the objects that ignore members; `seen` if a validator has got what this step gets."""
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
            yield from self.through(list(step.values()), config, seen=seen)
            return
        if kind == "definitions":
            self._definitions |= {one["ref"]: one for one in step["definitions"]}
            yield from self.through(step["schema"], config, seen=seen)
        elif kind == "definition-ref":
            if (key := (step["schema_ref"], seen)) not in self._been:
                self._been.add(key)
                yield from self.through(self._definitions.get(step["schema_ref"]), config, seen=seen)
        elif kind == "function-plain" and not _is_of_library(step["function"]["function"]):
            yield f"has a plain validator, which sees what nobody judges: let it run before or after, or {NAME_IT}"
        else:
            config = step.get("config", config)
            seen = seen or kind in _SEE_ALL or step.get("custom_init") is True or callable(step.get("discriminator"))
            extra = step.get("extra_behavior") or config.get("extra_fields_behavior")
            if seen and kind in _OBJECTS and extra not in ("allow", "forbid"):
                name = step.get(_OBJECTS[kind]) or step["cls"].__name__
                yield (
                    f"holds a {name}, which ignores members that a validator sees: give it the configuration "
                    f'extra="forbid" or "allow", or {NAME_IT}'
                )
            yield from self.through([step[key] for key in step.keys() - _NO_STEPS], config, seen=seen)


def _is_of_library(function: Any) -> bool:
    """Whether a function is of a type of pydantic or FastAPI, or of those that go with pydantic."""
    return str(getattr(function, "__module__", "")).startswith(("pydantic", "fastapi"))
