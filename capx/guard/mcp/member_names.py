"""Names of members in a request that some server could take for others.

Law: some servers do not tell upper from lower case in the names of members, and take the last of several. So a request
is not served if two names in one of its objects differ only in that, or if one differs only in that from a name that
MCP gives a meaning.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from capx.api.jsonrpc import list_or_empty, object_or_none
from capx_caveats import shown

_OF_MCP: Final = {
    name.casefold(): name
    for name in (
        *("_meta", "argument", "arguments", "context", "cursor", "inputResponses", "level", "name", "ref"),
        *("requestState", "task", "type", "uri", "value"),
    )
}
"""The names that MCP gives a meaning in the params of a request, by their folded spelling."""
_WITH_NAMES_OF_MCP: Final = ("ref", "argument", "context")


def folded(names: Iterable[str]) -> frozenset[str]:
    """Return names as a server knows them that does not tell upper from lower case."""
    return frozenset(map(str.casefold, names))


def name_problem(params: Mapping[str, Any]) -> str | None:
    """Return which name in the params of a request could be taken for another one, or None."""
    for holder in (params, *(object_or_none(params.get(name)) or {} for name in _WITH_NAMES_OF_MCP)):
        for name in holder:
            if _OF_MCP.get(name.casefold(), name) != name:
                return f"{shown(name)} could be taken for {_OF_MCP[name.casefold()]}"
    waiting: list[Any] = [params]
    while waiting:
        value = waiting.pop()
        members = object_or_none(value) or {}
        waiting += filter(_holds_values, (*list_or_empty(value), *members.values()))
        if len(folded(members)) < len(members):
            return "two names in one object differ only in upper and lower case"
    return None


def _holds_values(value: Any) -> bool:
    return isinstance(value, dict | list)
