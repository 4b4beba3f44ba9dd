"""For how many standbys each commit waits, as the server is set."""

import re
from typing import Final

from capx.errors import StoreProblem
from capx.store.postgres.connection import Link
from capx.store.records import Standbys

_NAME: Final = r'(?:"(?:[^"]|"")*"|[^\s,"()]+)'
_LIST: Final = rf"{_NAME}(?:\s*,\s*{_NAME})*"
_NAMES: Final = re.compile(rf"\s*(?:(?:(?:FIRST|ANY)\s+)?([0-9]+)\s*\(\s*({_LIST})\s*\)|({_LIST})?)\s*", re.IGNORECASE)


def standbys_of(link: Link) -> Standbys:
    """Return for how many standbys each commit over this connection waits."""
    row = link.execute("SELECT current_setting('synchronous_standby_names')").fetchone()
    return read_standbys(str(row[0]) if row else "")


def read_standbys(names: str) -> Standbys:
    """Read `synchronous_standby_names`; StoreProblem for a form that PostgreSQL does not have."""
    if (found := _NAMES.fullmatch(names)) is None:
        raise StoreProblem(f"synchronous_standby_names is not what PostgreSQL takes: {names!r:.80}")
    count, some, plain = found.groups()
    listed = re.findall(_NAME, some or plain or "")
    # A plain list is `FIRST 1` of it.
    waited_for = min(1, len(listed)) if count is None else int(count)
    return Standbys(waited_for, None if "*" in listed else len(listed))
