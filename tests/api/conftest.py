"""What an agent holds that asks whatever stands where an authority should."""

from collections.abc import Iterator

import pytest

from capx.authority.authority import Authority
from capx.tokens.bundle import Bundle


@pytest.fixture(scope="module")
def bundle() -> Iterator[Bundle]:
    with Authority.temporary() as authority:
        yield authority.open(allow=["crm.read"]).bundle
