"""The served authority that some attacks are made on, what an agent holds, and both kinds of store."""

from tests.api.conftest import bundle
from tests.server.conftest import remote, served, shared
from tests.store.conftest import places, store

__all__ = ["bundle", "places", "remote", "served", "shared", "store"]
