"""An operation is what its function says, and stands in the table of its face."""

from typing import Annotated

from msgspec import Meta, Struct

from capx.api.operation import OperationTable


class Wanted(Struct):
    """What somebody asks for."""

    size: int = 0


def test_the_function_says_name_text_and_types() -> None:
    table = OperationTable()

    @table.operation("POST", "/shelves/{id}", problems=(404,), seconds=5.0)
    def widen(shelves: dict[str, int], asked: Wanted, *, id: str) -> dict[str, int]:
        """Make one shelf wider."""
        return {id: shelves[id] + asked.size}

    assert (widen.method, widen.path, widen.problems, widen.seconds) == ("POST", "/shelves/{id}", (404,), 5.0)
    assert (widen.name, widen.about) == ("widen", "Make one shelf wider.")
    assert (widen.asks, widen.answers, widen.has_body) == (Wanted, dict[str, int], True)
    assert widen.act({"a": 1}, Wanted(2), id="a") == {"a": 3}


def test_an_answer_is_another_where_it_is_said() -> None:
    table = OperationTable()

    @table.operation("GET", "/figures", answers=None, media="text/plain")
    def figures() -> bytes:
        """Figures."""
        return b"1"

    assert (figures.asks, figures.answers, figures.media, figures.has_body) == (None, None, "text/plain", False)


def test_a_table_has_the_order_of_its_functions() -> None:
    table = OperationTable()

    @table.operation("GET", "/b")
    def b() -> int:
        return 2

    @table.operation("GET", "/a")
    def a() -> int:
        return 1

    assert table == [b, a]
    assert [one.about for one in table] == ["", ""]


def test_the_bounds_of_an_answer_are_kept() -> None:
    table = OperationTable()

    @table.operation("GET", "/sizes")
    def sizes() -> Annotated[int, Meta(ge=1)]:
        return 1

    assert sizes.answers == Annotated[int, Meta(ge=1)]
