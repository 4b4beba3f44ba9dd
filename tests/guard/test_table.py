"""Which action a tool is: by a table in code, or by a file, whose mistakes are all told at once."""

from pathlib import Path
from typing import Any

import pytest

from capx.errors import ConfigurationProblem
from capx.guard.call_facts import GRANTED
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx.policy.toml_reader import InvalidFile

FILE = """
audience = "files"
tenant = "granted"

[tool.read_text_file]
action = "files.read"
args = { path = "file_path" }
definition = "gk815jd6Be6HGzCc"

[tool."a tool/with spaces"]
action = "files.odd"
tenant = "none"
attributes = { region = "eu" }
cost = { tokens = 5 }

[prompt.summary]
action = "files.prompt.summary"

[method."tasks/get"]
action = "files.tasks"
"""


BARE: dict[str, Any] = {"action": "files.read"}


def test_a_file_names_tools_prompts_and_methods() -> None:
    table = ToolTable.read(FILE)
    assert table.audience == "files"
    expected = ToolSpec("files.read", GRANTED, args={"path": "file_path"}, definition="gk815jd6Be6HGzCc")
    assert table.spec("tool", "read_text_file") == expected
    odd = ToolSpec("files.odd", None, {"region": "eu"}, {"tokens": 5})
    assert table.spec("tool", "a tool/with spaces") == odd
    assert table.spec("prompt", "summary") == ToolSpec("files.prompt.summary", GRANTED)
    assert table.spec("method", "tasks/get") == ToolSpec("files.tasks", GRANTED)
    assert table.resource_spec() == ToolSpec("files.resource.read", GRANTED)
    assert table.tools().keys() == {"read_text_file", "a tool/with spaces"}


def test_what_a_table_does_not_name_is_refused() -> None:
    table = ToolTable.read(FILE)
    for name in ("write", "READ_TEXT_FILE", "read_text_file ", "summary", "tasks/get", ""):
        assert table.spec("tool", name) is None
    assert table.spec("prompt", "read_text_file") is None
    assert table.spec("method", "tools/call") is None
    for closed in (ToolTable("files"), ToolTable.read('audience = "files"\nunnamed = "deny"')):
        assert closed.spec("tool", "read") is None


def test_an_open_table_names_by_the_name_of_the_tool() -> None:
    of_file = ToolTable.read('audience = "files"\ntenant = "granted"\nunnamed = "default"')
    for table in (ToolTable("files", tenant=GRANTED, unnamed="default"), of_file):
        assert table.spec("tool", "read") == ToolSpec("files.read", GRANTED)
        assert table.spec("tool", "dir.read") == ToolSpec("files.dir.read", GRANTED)
        assert table.spec("prompt", "read") == ToolSpec("files.prompt.read", GRANTED)
        assert table.spec("method", "tasks/get") is None
        assert table.spec("method", "tasks") is None


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "*", "a..b", ".a", "a.", "a" * 2000, "a\n", "prompt.x"])
def test_a_name_that_is_no_action_of_a_tool_must_be_named(name: str) -> None:
    assert ToolTable("files", unnamed="default").spec("tool", name) is None
    named = ToolTable("files", {name: ToolSpec("files.odd")}, unnamed="default")
    assert named.spec("tool", name) == ToolSpec("files.odd")


def test_no_tool_is_the_action_of_a_prompt_or_of_a_resource() -> None:
    table = ToolTable("files", unnamed="default")
    assert table.spec("tool", "prompt.read") is None
    assert table.spec("tool", "resource.read") is None
    assert table.spec("tool", "prompts") == ToolSpec("files.prompts")


def test_a_tool_is_named_once() -> None:
    table = ToolTable("files", {"read": ToolSpec("files.read")})
    table.name("write", ToolSpec("files.read"))
    assert table.spec("tool", "write") == ToolSpec("files.read")
    with pytest.raises(ConfigurationProblem, match="named twice"):
        table.name("read", ToolSpec("files.write"))


def test_only_renamed_arguments_are_seen() -> None:
    spec = ToolSpec("files.read", args={"path": "file_path", "limit": "max"})
    stated = spec.stated({"file_path": "/a", "other": 1}, {"max": 10, "more": 2})
    assert (stated.args, stated.defaults) == ({"path": "/a"}, {"limit": 10})
    assert ToolSpec("files.read").stated({"a": 1}, {"b": 2}) == ({"a": 1}, {"b": 2})


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"action": "read *"}, "not an action"),
        ({"tenant": "\x00" * 200}, "not a tenant"),
        ({"tenant": str.upper}, "tenant"),
        ({"attributes": 5}, "neither a mapping"),
        ({"attributes": {"a": 2**60}}, "attributes"),
        ({"cost": {"tokens": -1}}, "cost"),
    ],
)
def test_a_spec_that_would_deny_every_call_is_not_built(facts: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationProblem, match=why):
        ToolSpec(**{**BARE, **facts})


@pytest.mark.parametrize("audience", ["", "a b", "authority", "a" * 2000])
def test_an_audience_that_no_token_has_is_refused(audience: str) -> None:
    with pytest.raises(ConfigurationProblem):
        ToolTable(audience)


OF_X = 'audience = "a"\n[tool.x]\naction = "a.b"\n'
MISTAKES = {
    "no audience": ('tenant = "none"', "audience: is missing"),
    "no action": ('audience = "a"\n[tool.x]\ntenant = "none"', "tool.x.action: is missing"),
    "an unknown member": ('audience = "a"\nclosed = true', "closed: unknown key"),
    "an unknown member of a tool": (OF_X + "judged_by_function = true", "tool.x.judged_by_function: unknown key"),
    "another tenant": ('audience = "a"\ntenant = "Acme"', "tenant: is neither 'granted' nor 'none'"),
    "a tenant that is no text": (OF_X + "tenant = 5", "tool.x.tenant: is a number"),
    "another rule for names": ('audience = "a"\nunnamed = "allow"', "unnamed: is neither 'deny' nor 'default'"),
    "a rule for names that is no text": ('audience = "a"\nunnamed = 5', "unnamed: is a number"),
    "a pattern": ('audience = "a"\n[tool.x]\naction = "a.*"', "tool.x.action: "),
    "a wrong cost": (OF_X + "cost = { tokens = -1 }", "tool.x.cost: -1 is not an amount"),
    "a cost that is no table": (OF_X + "cost = 5", "tool.x.cost: is a number"),
    "a wrong attribute": (OF_X + "attributes = { a = 99999999999999999 }", "tool.x.attributes: a number is beyond"),
    "arguments that are none": (OF_X + 'args = ["path"]', "tool.x.args: is an array"),
    "an argument that is no text": (OF_X + "args = { path = 5 }", "tool.x.args.path: is a number"),
    "an argument with a long name": (OF_X + f'args = {{ path = "{"x" * 129}" }}', "tool.x.args.path: is not the name"),
    "a name that is none": (OF_X + 'args = { "" = "b" }', 'tool.x.args."": is empty'),
    "a tool that is no table": ('audience = "a"\ntool = 5', "tool: is a number"),
    "a reserved audience": ('audience = "authority"', "the audience authority is reserved"),
    "no TOML": ("audience = ", "the file is not TOML"),
    "a key twice": (OF_X + '[tool.x]\naction = "a.c"', "the file is not TOML"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_file_is_told(mistake: str) -> None:
    text, told = MISTAKES[mistake]
    with pytest.raises(InvalidFile) as error:
        ToolTable.read(text, "files.toml")
    assert str(error.value).startswith(f"files.toml: {told}")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InvalidFile) as error:
        ToolTable.read('audience = 5\nclosed = true\n[tool.x]\ntenant = "Acme"\n[tool.y]\naction = "*"')
    for part in ("audience", "closed", "tool.x", "tool.y"):
        assert part in str(error.value)


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    place = tmp_path / "files.toml"
    with pytest.raises(ConfigurationProblem, match="cannot read the table file"):
        ToolTable.load(place)
    place.write_text(FILE)
    assert ToolTable.load(place).tools() == ToolTable.read(FILE).tools()
    place.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidFile) as error:
        ToolTable.load(str(place))
    assert str(error.value).startswith(f"{place}: ")
