"""The served authority that some attacks are made on, and both kinds of store."""

from tests.server.conftest import remote, served, shared
from tests.store.conftest import places, store

__all__ = ["places", "remote", "served", "shared", "store"]
