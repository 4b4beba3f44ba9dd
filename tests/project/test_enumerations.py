"""A test of many cases runs all of them, and names those that fail."""

import pytest

from tests.labs.enumerations import each_case


def test_all_cases_run_and_those_that_fail_are_named(tmp_path: object) -> None:
    ran: list[int] = []

    @each_case(("number", "even"), [(1, True), (2, True), (3, True), (4, True)])
    def is_even(number: int, even: bool, tmp_path: object) -> None:
        ran.append(number)
        assert (number % 2 == 0) is even, tmp_path

    with pytest.raises(AssertionError) as caught:
        is_even(tmp_path=tmp_path)
    assert ran == [1, 2, 3, 4]
    first, *named = str(caught.value).splitlines()
    assert first == "2 of 4 cases fail:"
    assert [line.split(":")[0] for line in named if line[0].isdigit()] == ["0 1-True", "2 3-True"]


def test_a_case_that_should_raise_and_does_not_is_named() -> None:
    @each_case("number", [0, 1])
    def divides(number: int) -> None:
        with pytest.raises(ZeroDivisionError):
            assert 1 / number

    with pytest.raises(AssertionError, match="1 of 2 cases fail:\n1 1: Failed"):
        divides()
