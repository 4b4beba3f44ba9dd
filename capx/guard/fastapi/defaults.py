"""Knows the defaults of an endpoint's parameters, and whether a parameter has its default.

Law: an endpoint cannot tell a parameter that was left out from one that was sent as it is by default. So both count as
left out. They are compared as JSON, so 1 is not true.
"""

from collections.abc import Mapping
from contextlib import suppress

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from capx.crypto.canonical_json import sorted_json
from capx.errors import InvalidRequest
from capx.guard.fastapi.model_values import converted
from capx.guard.json_values import plain
from capx_caveats import JSON


class Defaults:
    """The defaults of those parameters that have the same default in each call."""

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
