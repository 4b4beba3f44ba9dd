"""A store of another schema is refused, and says who has to do what."""

import pytest

from capx.errors import StoreProblem
from capx.store.sql.version import OldSchema, demand_version


def test_a_store_of_this_schema_is_taken() -> None:
    demand_version("capx.db", 3, 3)


def test_a_newer_store_is_refused_and_capx_is_old() -> None:
    with pytest.raises(StoreProblem, match=r"capx\.db .* newer capx \(schema 4, this one knows 3\)") as refused:
        demand_version("capx.db", 4, 3)
    assert not isinstance(refused.value, OldSchema)


def test_an_older_store_is_refused_and_can_be_migrated() -> None:
    with pytest.raises(OldSchema, match=r"older capx \(schema 2, this one needs 3\): .* run capx store migrate"):
        demand_version("capx.db", 2, 3)
