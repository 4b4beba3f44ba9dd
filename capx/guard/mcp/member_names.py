"""Names of members in a request that some server could take for others.

Law: some servers do not tell upper from lower case in the names of members, and take the last of several. So a request
is not served if two names in one of its objects differ only in that, or if one differs only in that from `_meta`. Of
what else MCP names, other names are not served (capx.guard.mcp.closed_params).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from capx.api.jsonrpc import list_or_empty, object_or_none
from capx_caveats import shown


def folded(names: Iterable[str]) -> frozenset[str]:
    """Return names as a server knows them that does not tell upper from lower case."""
    return frozenset(map(str.casefold, names))


def name_problem(params: Mapping[str, Any]) -> str | None:
    """Return which name in the params of a request, without its `_meta`, could be taken for another one, or None."""
    for name in params:
        if name.casefold() == "_meta":
            return f"{shown(name)} could be taken for _meta"
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
