"""Presentations that pay, for tests of meters: each one new, unless a test keeps it."""

import os

from capx.verify.meter import Payer


def payer(audience: str = "crm", *, capability: bytes = b"c" * 16) -> Payer:
    """A presentation of this audience that has not paid yet."""
    return Payer(os.urandom(16), os.urandom(16), capability, audience, "capx1_")
