"""Knows the defaults of an endpoint's parameters, or of a model's fields, and whether a value is the default.

Laws:

- An endpoint cannot tell a parameter that was left out from one that was sent as it is by default. So both count as
  left out. They are compared as JSON, so 1 is not true.
- Code of a model can compute a member that nobody sent: a `default_factory`, a validator, `model_post_init`. It may
  read what the bearer sent. So a member counts as left out only if it has the default that was read when the endpoint
  was made.
"""

from collections.abc import Mapping
from contextlib import suppress

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from capx.crypto.canonical_json import sorted_json
from capx.errors import InvalidRequest
from capx.guard.json_values import plain
from capx.guard.model_values import converted, spellings
from capx_caveats import JSON


class Defaults:
    """The defaults of those parameters or fields that have the same default in each call."""

    def __init__(self, own: Mapping[str, FieldInfo]) -> None:
        # A field has none if it is required, or if a function makes another value each time.
        defaults = {name: field.default for name, field in own.items() if field.default is not PydanticUndefined}
        self._found: dict[str, bytes] = {}
        for named in defaults.items():
            with suppress(InvalidRequest):
                self._found[named[0]] = sorted_json(plain(*named, converted))

    def has(self, parameter: str, value: JSON) -> bool:
        """Whether a parameter has its default; `value` is what `plain` made of it."""
        default = self._found.get(parameter)
        return default is not None and sorted_json(value) == default

    def left_out(self, model: BaseModel, members: Mapping[str, JSON]) -> frozenset[str]:
        """Return which members of a model were left out, by the names that callers would give them.

        The fields are those of the model's class, and `members` is what `plain` made of the model.
        """
        spelt = spellings(type(model))
        # An extra member may have the name of a field that is missing.
        touched = {spelt.get(name, name) for name in model.__pydantic_fields_set__}
        untouched = {field: name for field, name in spelt.items() if name in members and name not in touched}
        return frozenset(name for field, name in untouched.items() if self.has(field, members[name]))
