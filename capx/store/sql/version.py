"""Checks that the schema of a store is the one that this code reads and writes."""

from capx.errors import StoreProblem


class OldSchema(StoreProblem):
    """The store has an older schema; `capx store migrate` brings it up to date."""


def demand_version(place: object, found: int, ours: int) -> None:
    """Refuse a store with another schema: a newer one with StoreProblem, an older one with OldSchema."""
    if found > ours:
        raise StoreProblem(
            f"the store {place} was written by a newer capx (schema {found}, this one knows {ours}): upgrade capx here"
        )
    if found < ours:
        raise OldSchema(
            f"the store {place} was written by an older capx (schema {found}, this one needs {ours}): "
            "stop its services, then run capx store migrate"
        )
