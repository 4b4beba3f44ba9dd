"""The call that a request of MCP is, and requests that are none."""

import pickle
from typing import Any

import pytest

from capx.guard.call_facts import GRANTED
from capx.guard.mcp.requested_call import Unserved, requested_call
from capx.guard.mcp.table import ToolSpec, ToolTable

READ = ToolSpec("files.read", GRANTED, {"region": "eu"}, {"lines": 5}, {"path": "file_path"})
TABLE = ToolTable(
    "files",
    {"read": READ},
    prompts={"summary": ToolSpec("files.prompt.summary")},
    methods={"tasks/get": ToolSpec("files.tasks")},
    tenant=GRANTED,
)


def of(method: str, **params: Any) -> tuple[str, str, Any]:
    found = requested_call(TABLE, method, params)
    return found.spec.action, found.name, found.arguments


def test_each_method_is_the_call_of_what_it_names() -> None:
    assert of("tools/call", name="read", arguments={"file_path": "/a"}) == ("files.read", "read", {"file_path": "/a"})
    assert of("tools/call", name="read", arguments=None) == ("files.read", "read", {})
    assert of("prompts/get", name="summary") == ("files.prompt.summary", "summary", {})
    for method in ("resources/read", "resources/subscribe"):
        assert of(method, uri="file:///a") == ("files.resource.read", "file:///a", {"uri": "file:///a"})
    assert of("tasks/get", id=1, _meta={"a": 1}) == ("files.tasks", "tasks/get", {"id": 1})


def test_a_completion_is_the_call_of_what_it_completes() -> None:
    prompt, argument = {"type": "ref/prompt", "name": "summary"}, {"name": "of", "value": "a"}
    found = of("completion/complete", ref=prompt, argument=argument)
    assert found == ("files.prompt.summary", "summary", {"of": "a"})
    more = of("completion/complete", ref=prompt, argument=argument, context={"arguments": {"by": "b"}})
    assert more[2] == {"by": "b", "of": "a"}
    template = {"type": "ref/resource", "uri": "file:///{a}"}
    assert of("completion/complete", ref=template, argument=argument)[0] == "files.resource.read"


def test_facts_are_those_of_the_table_with_its_names() -> None:
    call = requested_call(TABLE, "tools/call", {"name": "read", "arguments": {"file_path": "/a", "other": 1}})
    assert call.sent == {"path": "/a"}
    facts = call.facts({"limit": 5})
    assert (facts.action, facts.args, facts.defaults, facts.tenant) == ("files.read", {"path": "/a"}, {}, GRANTED)
    assert (facts.attributes, facts.cost, facts.sent) == ({"region": "eu"}, {"lines": 5}, True)


@pytest.mark.parametrize(
    ("method", "params", "code", "why"),
    [
        ("tools/call", {}, -32602, "`name`"),
        ("tools/call", {"name": 5}, -32602, "`name`"),
        ("tools/call", {"name": "write"}, -32602, "Unknown tool: 'write'"),
        ("tools/call", {"name": "read", "arguments": []}, -32602, "`arguments`"),
        ("prompts/get", {"name": "read"}, -32602, "Unknown prompt: 'read'"),
        ("resources/read", {"uri": None}, -32602, "`uri`"),
        ("tools/list", {}, -32601, "'tools/list'"),
        ("tasks/cancel", {}, -32601, "'tasks/cancel'"),
        ("", {}, -32601, "''"),
    ],
)
def test_what_is_no_call_is_not_served(method: str, params: dict[str, Any], code: int, why: str) -> None:
    with pytest.raises(Unserved, match=why) as error:
        requested_call(TABLE, method, params)
    assert error.value.code == code
    copy = pickle.loads(pickle.dumps(error.value))
    assert (str(copy), copy.code) == (str(error.value), code)


PROMPT = {"type": "ref/prompt", "name": "summary"}
TEMPLATE = {"type": "ref/resource", "uri": "file:///{of}"}
ARGUMENT = {"name": "of", "value": "a"}


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"argument": ARGUMENT}, "neither a prompt nor a resource"),
        ({"ref": {"name": "summary"}, "argument": ARGUMENT}, "neither a prompt nor a resource"),
        ({"ref": {**PROMPT, "type": ["ref/prompt"]}, "argument": ARGUMENT}, "neither a prompt nor a resource"),
        ({"ref": {"type": "ref/prompt"}, "argument": ARGUMENT}, "`name`"),
        ({"ref": {"type": "ref/resource"}, "argument": ARGUMENT}, "`uri`"),
        ({"ref": PROMPT}, "`name`"),
        ({"ref": TEMPLATE}, "`name`"),
        ({"ref": TEMPLATE, "argument": {"name": "of", "value": {"a": 1}}}, "`value`"),
        ({"ref": PROMPT, "argument": {"name": "of", "value": 5}}, "`value`"),
        ({"ref": PROMPT, "argument": ARGUMENT, "context": {"arguments": {"of": "b"}}}, '"of" is sent twice'),
        ({"ref": PROMPT, "argument": ARGUMENT, "context": ["a"]}, "`context`"),
        ({"ref": PROMPT, "argument": ARGUMENT, "context": {"arguments": "a"}}, "`arguments`"),
        ({"ref": TEMPLATE, "argument": ARGUMENT, "context": {"arguments": {"by": {"a": 1}}}}, "are texts"),
        ({"ref": {**PROMPT, "uri": "file:///secret"}, "argument": ARGUMENT}, '"uri" of `ref`'),
        ({"ref": {**PROMPT, "title": "Sum up"}, "argument": ARGUMENT}, '"title" of `ref`'),
        ({"ref": {**TEMPLATE, "name": "summary"}, "argument": ARGUMENT}, '"name" of `ref`'),
        ({"ref": TEMPLATE, "argument": {**ARGUMENT, "path": "/secret"}}, '"path" of `argument`'),
        ({"ref": PROMPT, "argument": ARGUMENT, "context": {"path": "/secret"}}, '"path" of `context`'),
    ],
)
def test_what_a_completion_says_beside_its_call_is_not_served(parts: dict[str, Any], why: str) -> None:
    with pytest.raises(Unserved, match=why) as error:
        requested_call(TABLE, "completion/complete", parts)
    assert error.value.code == -32602


def test_a_refusal_names_what_may_be_sent() -> None:
    with pytest.raises(Unserved) as error:
        requested_call(TABLE, "completion/complete", {"ref": {**PROMPT, "uri": "a"}, "argument": ARGUMENT})
    assert str(error.value) == ('nobody judges the member "uri" of `ref`, so it is not served: send only name, type')


@pytest.mark.parametrize("context", [None, {"arguments": None, "path": None}])
def test_null_in_a_part_of_a_completion_counts_as_absent(context: Any) -> None:
    argument = {**ARGUMENT, "path": None}
    found = of("completion/complete", ref={**PROMPT, "uri": None, "title": None}, argument=argument, context=context)
    assert found == ("files.prompt.summary", "summary", {"of": "a"})
    found = of("completion/complete", ref={**TEMPLATE, "name": None}, argument=argument, context=context)
    assert found == ("files.resource.read", TEMPLATE["uri"], {"uri": TEMPLATE["uri"]})
