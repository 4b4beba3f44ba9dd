"""A query is read strictly into its form."""

import pytest

from capx.api.query_string import decode_query
from capx.authority.remote.messages import FindQuery
from capx.errors import InvalidRequest


def test_a_form_says_itself_what_it_refuses() -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_query([("tenant", "\n")], FindQuery)
    assert str(refused.value) == r"'\n' is not a tenant: no decision can match it"


@pytest.mark.parametrize("pair", [("since", "-1"), ("limit", "0"), ("limit", "1001"), ("more", "1"), ("denied", "yes")])
def test_what_a_form_does_not_hold_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(InvalidRequest, match=pair[0]):
        decode_query([pair], FindQuery)
