"""A policy file of two principals, written as people write it."""

from pathlib import Path

from capx.policy.file import FILE
from tests.cli.conftest import Shell

POLICY = """# Whoever edits this: keep it readable aloud.\r
[purpose.qbr]   # a review
ttl = "2h"

[[purpose.qbr.grant]]
how = "at_open"
allow = ["crm.read"]          # and no more
"""


def write_policy(home: Shell, text: str = POLICY) -> Path:
    file = home.home / FILE
    file.write_bytes(text.encode())
    file.chmod(0o640)
    return file
