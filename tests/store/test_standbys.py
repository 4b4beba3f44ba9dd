"""For how many standbys a commit waits: what PostgreSQL lets an operator set, and what capx says of it."""

from contextlib import closing

import pytest
from psycopg.sql import SQL, Literal

from capx.errors import StoreProblem
from capx.store.postgres.standbys import read_standbys
from capx.store.records import Standbys
from tests.labs.postgres import Server


@pytest.mark.parametrize(
    ("names", "waited_for", "listed"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("a, b", 1, 2),
        ("a,b,c", 1, 3),
        ("2 (a, b)", 2, 2),
        ("2(a,b,c)", 2, 3),
        ("FIRST 1 (a, b)", 1, 2),
        ("first 2 (a, b)", 2, 2),
        ("ANY 1 (a, b, c)", 1, 3),
        ("any 2 (  a,  b )", 2, 2),
        ("*", 1, None),
        ("ANY 2 (*)", 2, None),
        ("a, *", 1, None),
        ('"node, one"', 1, 1),
        ('FIRST 1 ("a ""b"", c", d)', 1, 2),
    ],
)
def test_each_form_is_read(own: Server, names: str, waited_for: int, listed: int | None) -> None:
    with closing(own.admin()) as connection:
        # The server takes the form, too. No transaction of this session waits, and no other one sees it.
        connection.execute(SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(Literal(names)))
        connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
    assert read_standbys(names) == Standbys(waited_for, listed)


def test_another_form_is_refused() -> None:
    with pytest.raises(StoreProblem, match="not what PostgreSQL takes: 'ANY 2 \\(a'"):
        read_standbys("ANY 2 (a")


@pytest.mark.parametrize(
    ("standbys", "sentence"),
    [
        (Standbys(0, 0), "no commit waits for a standby"),
        (Standbys(2, 2), "each commit waits for 2 of 2 standbys"),
        (Standbys(1, 2), "1 of 2 standbys: if the primary is cut off together with one of them, only the manager"),
        (Standbys(2, 1), "each commit waits for 2 standbys, and 1 are listed: none can end"),
        (Standbys(1, None), "1 of any number of standbys: if the primary is cut off"),
    ],
)
def test_it_says_what_is_lost_or_allowed(standbys: Standbys, sentence: str) -> None:
    assert sentence in standbys.sentence
