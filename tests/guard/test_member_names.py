"""A request whose names some server could take for others is not served."""

from typing import Any

import pytest

from capx.guard.mcp.member_names import folded, name_problem


@pytest.mark.parametrize(
    "params",
    [
        {"name": "read", "Name": "delete"},
        {"name": "read", "arguments": {}, "ARGUMENTS": {"path": "/secret"}},
        {"name": "read", "_Meta": {}},
        {"name": "read", "argument\u017f": {}, "arguments": {}},
        {"name": "read", "arguments": {"path": "/a", "Path": "/b"}},
        {"arguments": {"path": "/a", "Path": "/b"}, "name": "read", "other": [1]},
        {"name": "read", "arguments": {"deep": [{"a": {"x": 1, "X": 2}}]}},
    ],
)
def test_a_name_that_differs_only_in_case_is_a_problem(params: dict[str, Any]) -> None:
    assert name_problem(params) is not None


def test_other_names_are_none() -> None:
    params = {
        "name": "read",
        "arguments": {"Name": "x", "path": "/a", "deep": [{"a": 1}, {"A": 2}]},
        "Other": 1,
    }
    assert name_problem(params) is None
    assert folded(["Path", "\u212aind"]) == {"path", "kind"}
