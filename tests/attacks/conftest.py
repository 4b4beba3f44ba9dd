"""The served authority that some attacks are made on."""

from tests.server.conftest import remote, served, shared

__all__ = ["remote", "served", "shared"]
