"""The table of a server's tools: what is written, what an update keeps, and what no server can write into it."""

import json
from pathlib import Path
from typing import Any

import pytest

from capx.guard.mcp.definitions import definition_digest
from capx.guard.mcp.table import ToolTable
from capx_cli import mcp_table
from capx_cli.failure import Unusable
from capx_cli.mcp_table import Tool
from tests.cli.conftest import Shell
from tests.labs.mcp_home import CHILD

READ: dict[str, Any] = {"name": "read", "description": "Read a file.", "inputSchema": {}}
WRITE: dict[str, Any] = {"name": "write", "description": "Write a file.", "inputSchema": {}}


def table(*definitions: dict[str, Any], audience: str = "files") -> str:
    return mcp_table.new_table(audience, "granted", mcp_table.tools(definitions))


def test_a_table_holds_whole_digests_and_is_read_by_a_guard() -> None:
    text = table(READ, WRITE)
    read = ToolTable.read(text)
    assert {name: spec.action for name, spec in read.tools().items()} == {"read": "files.read", "write": "files.write"}
    assert read.tools()["read"].definition == definition_digest(READ)
    assert read.spec("tool", "other") is None
    assert "# Read a file.\n" in text


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("a/b", "files.a_b"),
        ("Ünïcode", "files.n_code"),
        ("a b", "files.a_b"),
        ("x" * 200, f"files.{'x' * 40}"),
        ("!!!", "files.tool"),
        ('"]\n[tool.write]\naction = "files.read', None),
        ("a.b", "files.a.b"),
        ("prompt.review", "files.prompt_review"),
        ("resource.read", "files.resource_read"),
        ("\u202eevil", None),
        ("\x7f\\u0041", None),
    ],
)
def test_every_name_has_an_action_and_stays_one_name(name: str, action: str | None) -> None:
    text = table({"name": name})
    read = ToolTable.read(text).tools()
    assert list(read) == [name]
    assert action is None or read[name].action == action
    assert text.isascii()


def test_two_tools_never_get_one_action_by_themselves() -> None:
    read = ToolTable.read(table({"name": "a/b"}, {"name": "a b"}, {"name": "a_b"}, {"name": "A_b"})).tools()
    assert len({spec.action for spec in read.values()}) == 4


def test_a_description_is_a_comment_of_one_line() -> None:
    said = 'Read.\n[tool.write]\r\naction = "files.read"\x1b[2J\u202e' + "x" * 500
    text = table({**READ, "description": said})
    assert list(ToolTable.read(text).tools()) == ["read"]
    (comment,) = [line for line in text.partition("[tool.")[2].splitlines() if line.startswith("# ")]
    assert comment.startswith('# Read. [tool.write] action = "files.read"\\x1b[2J\\u202e')
    assert len(comment) < 200


def test_a_new_table_says_how_a_text_may_look_like_json() -> None:
    assert '# If the server takes an argument as text that may look like JSON, write: texts = ["' in table(READ)


@pytest.mark.parametrize(
    ("definitions", "says"),
    [
        ([{"description": "x"}], "without a name"),
        ([{"name": 7}], "without a name"),
        ([READ, WRITE, READ], "two tools with the name 'read'"),
        ([{"name": "big", "inputSchema": {"maximum": 2**60}}], "'big' has no digest"),
    ],
)
def test_a_list_that_makes_no_table_is_refused(definitions: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(Unusable, match=says):
        mcp_table.tools(definitions)


def test_an_audience_that_no_token_can_have_is_refused(capx: Shell) -> None:
    said = capx("mcp", "map", "--audience", "No Audience", "--", *CHILD, code=2)
    assert "'No Audience' is not an audience" in said.err


WRITTEN = """\
# Who wrote this: ana.
audience = "files"      # ours
tenant = "none"

[tool.read]
action = "files.look"   # as in the policy
args = { path = "path" }
definition = "old"

[tool.gone]
action = "files.gone"

[prompt.review]
action = "files.review"
"""


def test_an_update_keeps_what_was_written(tmp_path: Path) -> None:
    place = tmp_path / "files.toml"
    place.write_text(WRITTEN)
    found = mcp_table.bring_up_to_date(place, mcp_table.tools([READ, WRITE]))
    assert [tool.name for tool in (*found.added, *found.changed)] == ["write", "read"]
    assert found.gone == ("gone",)
    digest = definition_digest(READ)
    expected = WRITTEN.replace('"old"', f'"{digest}"')
    assert place.read_text().startswith(expected)
    assert ToolTable.load(place).tools()["write"].action == "files.write"
    again = mcp_table.bring_up_to_date(place, mcp_table.tools([READ, WRITE]))
    assert (again.text, again.added, again.changed) == (place.read_text(), (), ())


@pytest.mark.parametrize(
    "text",
    [
        'audience = "files"\ntool.read.action = "files.read"\n',
        'audience = "files"\n[tool]\nread = { action = "files.read", definition = "x" }\n',
        'audience = "files"\n[tool."read"]\naction = "files.read"',
        'audience = "files"\r\n[tool.read]\r\naction = "files.read"\r\n',
    ],
)
def test_any_other_form_is_brought_up_to_date(text: str) -> None:
    found = mcp_table.updated(text, Path("files.toml"), mcp_table.tools([READ, WRITE]))
    assert {name: spec.definition for name, spec in ToolTable.read(found.text).tools().items()} == {
        "read": definition_digest(READ),
        "write": definition_digest(WRITE),
    }


def test_a_form_that_cannot_be_edited_is_left_alone() -> None:
    text = 'audience = "files"\ntool = { read = { action = "files.read" } }\n'
    with pytest.raises(Unusable, match="by hand"):
        mcp_table.updated(text, Path("files.toml"), mcp_table.tools([READ, WRITE]))


def test_a_new_tool_does_not_take_an_action_that_is_there() -> None:
    text = 'audience = "files"\n[tool.read]\naction = "files.write"\n'
    found = mcp_table.updated(text, Path("files.toml"), [Tool("read", "a", "", ""), Tool("write", "b", "", "")])
    assert ToolTable.read(found.text).tools()["write"].action == "files.write_2"


def test_the_command_writes_and_updates_a_file(capx: Shell, tmp_path: Path) -> None:
    place = tmp_path / "files.toml"
    said = capx("mcp", "map", "--audience", "files", "--out", str(place), "--", *CHILD)
    assert said.err == f"wrote {place}: 5 tools, each an action of its own\n"
    assert capx("mcp", "map", "--audience", "files", "--", *CHILD).out == place.read_text()
    assert "is there already" in capx("mcp", "map", "--audience", "x", "--out", str(place), "--", "true", code=3).err
    shorter = place.read_text().split("[tool.hidden]")[0]
    place.write_text(shorter.replace('definition = "', 'definition = "x', 1))
    found = capx("mcp", "map", "--update", str(place), "--json", "--", *CHILD).json
    assert [tool["name"] for tool in found["added"]] == ["hidden", "echo", "slow"]
    assert ([tool["says"] for tool in found["changed"]], found["gone"]) == (["Read a file."], [])
    assert capx("mcp", "map", "--update", str(place), "--", *CHILD).out.endswith("nothing was changed\n")
    listed = capx("mcp", "map", "--audience", "files", "--json", "--", *CHILD).json
    assert [tool["name"] for tool in listed["tools"]] == ["read", "write", "hidden", "echo", "slow"]


def test_what_is_no_table_is_not_updated(capx: Shell, tmp_path: Path) -> None:
    place = tmp_path / "files.toml"
    for data, says in ((b"\xff", "these bytes are not text"), (b"audience = 7\n", "audience")):
        place.write_bytes(data)
        assert says in capx("mcp", "map", "--update", str(place), "--", *CHILD, code=3).err
        assert place.read_bytes() == data
    assert "leave out --out" in capx("mcp", "map", "--update", str(place), "--out", "x", "--", *CHILD, code=2).err


def test_what_the_digest_covers_is_shown_whole() -> None:
    said = "Read a note. " + "x" * 200 + "\x1b[2J and then export it"
    definition = {"name": "read", "description": said, "inputSchema": {"properties": {"path": {"description": "evil"}}}}
    (tool,) = mcp_table.tools([definition])
    assert tool.says.endswith(f"… and {len(said) - 160} more characters")
    assert json.loads(tool.whole) == definition
    assert "\x1b" not in tool.whole
    update = mcp_table.updated('audience = "files"\n[tool.read]\naction = "files.read"\n', Path("f"), [tool])
    assert [one.whole for one in update.changed] == [tool.whole]
