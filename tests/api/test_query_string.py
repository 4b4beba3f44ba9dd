"""A query is read strictly into its form."""

from typing import get_type_hints

import pytest
from msgspec import Struct

from capx.api.query_string import BYTES, FIELDS, NoQuery, decode_query, demand_short
from capx.authority.remote.messages import CountersQuery, FindQuery, LogQuery
from capx.authority.remote.operations import OPERATIONS
from capx.errors import InvalidRequest
from capx.resource.feed.page import FeedCursor


def test_a_form_says_itself_what_it_refuses() -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_query([("tenant", "\n")], FindQuery)
    assert str(refused.value) == r"'\n' is not a tenant: no decision can match it"


@pytest.mark.parametrize("pair", [("since", "-1"), ("limit", "0"), ("limit", "1001"), ("more", "1"), ("denied", "yes")])
def test_what_a_form_does_not_hold_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(InvalidRequest, match=pair[0]):
        decode_query([pair], FindQuery)


@pytest.mark.parametrize("kind", [NoQuery, FeedCursor, LogQuery])
def test_a_query_of_too_many_fields_or_bytes_is_refused(kind: type[Struct]) -> None:
    demand_short(b"a&" * (FIELDS - 1), kind)
    demand_short(b"a" * BYTES, kind)
    for long in (b"a&" * FIELDS, b"a" * (BYTES + 1)):
        with pytest.raises(InvalidRequest, match="a query may have at most 16 fields and 4096 bytes"):
            demand_short(long, kind)


def test_a_query_with_a_list_has_as_many_fields_as_it_lists() -> None:
    for kind, field in ((CountersQuery, b"id=a&"), (FindQuery, b"reasons=revoked&")):
        demand_short(field * 1_000, kind)


def test_no_type_of_a_query_has_more_fields_than_a_query() -> None:
    found = [one.asks for one in OPERATIONS if not one.has_body and one.asks is not None]
    assert FindQuery in found
    assert all(len(get_type_hints(kind)) <= FIELDS for kind in (*found, FeedCursor))
