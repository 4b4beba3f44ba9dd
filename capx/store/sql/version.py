"""Whether the schema of a store is the one that this code reads and writes."""

from capx.errors import StoreProblem


class OldSchema(StoreProblem):
    """The store is of an earlier schema than this one."""


def demand_version(place: object, found: int, ours: int) -> None:
    """Refuse a store of a later schema, and by OldSchema one of an earlier schema."""
    if found > ours:
        raise StoreProblem(
            f"the store {place} was written by a newer capx (schema {found}, this one knows {ours}): upgrade capx here"
        )
    if found < ours:
        raise OldSchema(
            f"the store {place} was written by an older capx (schema {found}, this one needs {ours}): "
            "stop its services, then run capx store migrate"
        )
