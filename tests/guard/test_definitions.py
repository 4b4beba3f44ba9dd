"""What a server says of its tools, read from its lists, and the digest that an operator approves."""

import asyncio
import weakref
from typing import Any

import pytest

from capx.guard.mcp.definitions import Definitions, definition_digest, pages, tools_in
from capx.guard.mcp.requested_call import Unserved

ANY = bool
"""Each tool is wanted."""


READ: dict[str, Any] = {
    "name": "read",
    "description": "Read a file.",
    "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}},
}


async def whole(lister: Any) -> list[Any]:
    return [page async for page in pages(lister, "tools/list")]


class Listing:
    """Answers lists from pages, and counts how often it is asked."""

    def __init__(self, *pages: Any) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, method: str, params: dict[str, Any]) -> Any:
        assert method == "tools/list"
        self.asked.append(params)
        return self.pages[int(params.get("cursor", 0))]


@pytest.mark.parametrize(
    "changed",
    [
        {"description": "Read a file. "},
        {"description": None},
        {"name": "reed"},
        {"inputSchema": {"type": "object", "properties": {"path": {"type": "array"}}}},
        {"annotations": {"readOnlyHint": True}},
        {"outputSchema": {}},
        {"title": "Read"},
    ],
)
def test_every_change_of_a_definition_changes_its_digest(changed: dict[str, Any]) -> None:
    assert definition_digest(READ | changed) != definition_digest(READ)


def test_the_order_of_members_and_meta_change_no_digest() -> None:
    again = dict(reversed(READ.items())) | {"_meta": {"a": 1}}
    assert definition_digest(again) == definition_digest(READ)
    assert len(definition_digest(READ) or "") == 43


def test_a_definition_without_a_digest_is_known_all_the_same() -> None:
    large = READ | {"inputSchema": {"properties": {"n": {"type": "integer", "maximum": 2**64 - 1}}}}
    assert definition_digest(large) is None
    found = asyncio.run(Definitions(ANY).get("read", Listing({"tools": [large]})))
    assert found is not None
    assert found.digest is None
    assert found.schema.problem({"n": "5"}) is not None


def test_pages_are_read_to_the_end() -> None:
    listing = Listing({"tools": [READ], "nextCursor": "1"}, {"tools": [READ | {"name": "write"}]})
    definitions = Definitions(ANY)
    assert asyncio.run(definitions.get("write", listing)) is not None
    assert asyncio.run(definitions.get("read", listing)) is not None
    assert listing.asked == [{}, {"cursor": "1"}]


def test_a_list_without_end_is_given_up() -> None:
    listing = Listing({"tools": [], "nextCursor": "0"})
    assert asyncio.run(Definitions(ANY).get("read", listing)) is None
    assert len(listing.asked) == 100


def test_a_tool_that_came_later_is_found() -> None:
    listing, definitions = Listing({"tools": []}), Definitions(ANY)
    assert asyncio.run(definitions.get("read", listing)) is None
    listing.pages = ({"tools": [READ]},)
    assert asyncio.run(definitions.get("read", listing)) is not None


def test_a_list_that_passes_is_learnt() -> None:
    listing, definitions = Listing(), Definitions(ANY)
    definitions.reading().learn({"tools": [READ]})
    assert asyncio.run(definitions.get("read", listing)) is not None
    assert listing.asked == []


def test_tools_that_change_are_read_again() -> None:
    listing, definitions = Listing({"tools": [READ]}), Definitions(ANY)
    before = asyncio.run(definitions.get("read", listing))
    listing.pages = ({"tools": [READ | {"description": "Delete."}]},)
    definitions.forget()
    after = asyncio.run(definitions.get("read", listing))
    assert before is not None
    assert after is not None
    assert before.digest != after.digest


def test_a_list_that_was_asked_for_before_a_change_is_not_used() -> None:
    definitions = Definitions(ANY)
    passing = definitions.reading()
    definitions.forget()
    passing.learn({"tools": [READ]})
    assert asyncio.run(definitions.get("read", Listing({"tools": []}))) is None


@pytest.mark.parametrize(("changes", "is_served"), [(1, True), (2, True), (3, False)])
def test_tools_that_change_while_they_are_read_are_read_again(changes: int, is_served: bool) -> None:
    definitions, asked = Definitions(ANY), list[int]()

    async def changing(method: str, params: dict[str, Any]) -> Any:
        asked.append(1)
        if len(asked) <= changes:
            definitions.forget()
            return {"tools": [READ]}
        return {"tools": [READ | {"description": "The last one."}]}

    if is_served:
        found = asyncio.run(definitions.get("read", changing))
        assert found is not None
        assert found.digest == definition_digest(READ | {"description": "The last one."})
    else:
        with pytest.raises(Unserved, match="change all the time") as error:
            asyncio.run(definitions.get("read", changing))
        assert error.value.code == -32603


def test_a_definition_is_used_for_some_seconds_alone() -> None:
    now = 100.0
    listing, definitions = Listing({"tools": [READ]}), Definitions(ANY, 5, clock=lambda: now)
    for seconds, readings in ((0.0, 1), (4.9, 1), (0.1, 2), (4.9, 2), (5.0, 3)):
        now += seconds
        assert asyncio.run(definitions.get("read", listing)) is not None
        assert len(listing.asked) == readings


def test_a_server_that_lists_without_end_fills_no_memory() -> None:
    definitions, alive = Definitions("read".__eq__), list[weakref.ref[Any]]()

    class Tool(dict[str, Any]):
        """A tool that can be referred to weakly."""

    async def endless(method: str, params: dict[str, Any]) -> Any:
        assert sum(one() is not None for one in alive) <= 2
        page = {"tools": [Tool(name=f"other {len(alive)}")], "nextCursor": "next"}
        alive.append(weakref.ref(page["tools"][0]))
        return page

    assert asyncio.run(definitions.get("read", endless)) is None
    assert len(alive) == 100
    assert definitions.reading().known == {}


def test_nothing_is_kept_of_a_server_that_changes_without_a_word() -> None:
    listing, definitions = Listing({"tools": [READ]}), Definitions(ANY, 0)
    for readings in (1, 2):
        assert asyncio.run(definitions.get("read", listing)) is not None
        assert len(listing.asked) == readings


@pytest.mark.parametrize("page", [None, 5, [], {}, {"tools": 5}, {"tools": [5, None, {}, {"name": 5}]}])
def test_a_page_of_another_form_shows_nothing(page: Any) -> None:
    definitions = Definitions(ANY)
    definitions.reading().learn(page)
    assert asyncio.run(definitions.get("read", Listing(page))) is None
    assert all(isinstance(tool, dict) for tool in tools_in(page))
    assert asyncio.run(whole(Listing(page))) == [page]
