"""The page of the format names every key and every operator that is read, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from capx.errors import ConfigurationProblem
from capx.policy.constraint_operators import OPERATORS
from capx.policy.file import read_policy
from capx.policy.toml_reader import InvalidFile
from tests.labs.policies import granting

ROW = re.compile(r"^\| `(?P<name>\w+)` \|", re.MULTILINE)


@pytest.fixture(scope="module")
def page(checkout: Path) -> str:
    return (checkout / "docs" / "spec" / "policy.md").read_text(encoding="utf-8")


def rows(page: str, heading: str) -> set[str]:
    """What the table under a heading names in its first column."""
    _, _, below = page.partition(f"{heading}\n")
    assert below, heading
    return {found["name"] for found in ROW.finditer(re.split(r"^#", below, maxsplit=1, flags=re.MULTILINE)[0])}


def test_the_page_names_every_operator(page: str) -> None:
    assert rows(page, "## Arguments") == OPERATORS


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ('### `[principal."NAME"]`', "[principal.x]\n"),
        ("### `[purpose.NAME]`", "[purpose.x]\n"),
        ("### `[[purpose.NAME.grant]]`", "[[purpose.x.grant]]\n"),
    ],
)
def test_the_page_names_every_key(page: str, heading: str, table: str) -> None:
    assert rows(page, heading) == known(f"{table}unheard-of = 1")


def known(text: str) -> set[str]:
    """The keys that are told where one that is unheard of stands."""
    with pytest.raises(InvalidFile) as caught:
        read_policy(text)
    (listed,) = [line.partition("choose from ")[2] for line in caught.value.lines if "choose from " in line]
    return set(listed.split(", "))


def examples() -> Iterator[tuple[str, str]]:
    yield "eq", '["a", 1, true]'
    yield "in", '["a", ["b"]]'
    yield "range", "[0.01, 50]"
    yield "range", "{ min = 1 }"
    yield "prefix", '"Q-"'
    yield "glob", '"*.txt"'
    yield "regex", '"[a-z]{{3}"'
    yield "path", '"/data"'
    yield "url", '{ hosts = ["*.x.example"], schemes = ["https"], ports = [8443], path = "/v1" }'
    yield "host", '["*.our.example"]'
    yield "cidr", '["10.0.0.0/8", "2001:db8::/32"]'
    yield "each", "{ min = 2, range = [1, 2] }"
    yield "contains", '["a"]'
    yield "length", "[1, 80]"
    yield "length", "{ max = 80 }"
    yield "fields", '{ a = 1, "*" = { anything = true } }'
    yield "argv", '["git", "hg"]'
    yield "argv", '{ programs = ["git"], arguments = [["log"], ["show", "--stat"]] }'
    yield "any", "[1, { prefix = 'a' }]"
    yield "all", "[{ prefix = 'a' }, { length = [1, 2] }]"
    yield "not", "{ in = [1] }"
    yield "absent", "true"
    yield "anything", "true"


def test_there_is_an_example_of_every_operator() -> None:
    assert {operator for operator, _ in examples()} == OPERATORS


@pytest.mark.parametrize(("operator", "operand"), list(examples()))
def test_an_operator_is_written_as_the_page_says(operator: str, operand: str) -> None:
    policy = read_policy(granting(f'allow."a.b" = {{ x = {{ {operator} = {operand} }} }}'))
    assert policy.purposes["work"].names == frozenset()


@pytest.mark.parametrize("place", ["prefix", "path", "length", "range"])
def test_no_operand_is_a_table_of_something_else(place: str) -> None:
    with pytest.raises(ConfigurationProblem, match=rf'"a\.b"\.x\.{place}'):
        read_policy(granting(f'allow."a.b".x.{place} = {{ eq = 1 }}'))
