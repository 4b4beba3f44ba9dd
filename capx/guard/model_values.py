"""Shows what a pydantic model holds, by the names that callers give its fields.

Laws:

- Caveats see everything that the endpoint gets: each field, default or not, and each extra member. A model that could
  hold more than that is refused.
- A field that was left out is judged by its default. But if that is None, and the endpoint gets None, it is missing: an
  endpoint can tell that from an explicit null (`model_fields_set`), so caveats can tell it, too. A None that a function
  made in place of another default is null.
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Any, Final

from pydantic import AliasChoices, AliasPath, AnyUrl, BaseModel, RootModel

SPELT: Final = (
    AnyUrl,
    PurePath,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
"""Types whose values are judged as their text."""


def converted(value: Any) -> Any:
    """Return the members of a model, or the text of an address or a path; TypeError for values of other types."""
    if isinstance(value, BaseModel):
        return _held(value)
    if isinstance(value, SPELT):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is not converted to JSON")


def missing_if_none(model: BaseModel) -> frozenset[str]:
    """Return the fields that were left out, and of which None is the default."""
    return _none_by_default(type(model)) - model.__pydantic_fields_set__


@lru_cache(maxsize=1024)
def spellings(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the name that callers give each field; the first one if they can choose."""
    if model.model_config.get("validate_by_alias") is False:
        return {name: name for name in model.model_fields}
    return {name: first_alias(field.validation_alias) or name for name, field in model.model_fields.items()}


@lru_cache(maxsize=1024)
def _none_by_default(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if field.default is None)


def first_alias(alias: str | AliasPath | AliasChoices | None) -> str | None:
    """Return the first name that an alias gives to a value; None if it gives none."""
    first = alias.choices[0] if isinstance(alias, AliasChoices) else alias
    # An AliasPath reads a part of another member, so no member has its name.
    return first if isinstance(first, str) else None


def _held(model: BaseModel) -> Any:
    # Not `model_dump`: fields can be excluded from it, and serializers can change what it shows.
    if model.__pydantic_private__:
        raise TypeError(f"a {type(model).__name__} holds private attributes: state what is judged, as by `model_dump`")
    held = vars(model)
    if issubclass(type(model), RootModel) and held.keys() == {"root"}:
        return held["root"]
    members = _fields(model)
    extra = model.model_extra
    if not extra:
        return members
    # A caveat that names this member by the name of the field in Python would judge the wrong one.
    if not held.keys().isdisjoint(extra):
        raise TypeError("an extra member has the name of a field that has an alias, so a caveat could not see both")
    if not members.keys().isdisjoint(extra):
        raise _twice(model)
    return members | extra


def _fields(model: BaseModel) -> dict[str, Any]:
    spelt = spellings(type(model))
    missing = missing_if_none(model)
    there = {name: value for name, value in vars(model).items() if value is not None or name not in missing}
    members = {spelt.get(name, name): value for name, value in there.items()}
    if len(members) != len(there):
        raise _twice(model)
    return members


def _twice(model: BaseModel) -> TypeError:
    return TypeError(f"two members of a {type(model).__name__} have one name, so a caveat could not see both")
