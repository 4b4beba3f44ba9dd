"""Both kinds of store, for the tree beside the log."""

from tests.store.conftest import places, store

__all__ = ["places", "store"]
