"""Replaces the rows of the store in a database by a backup, in one transaction.

Laws: a follower of the store sees the old content or the new one, and sees the later epoch when it looks next. The old
content is written to a file first, if the operator wants to keep it.
"""

import contextlib
from pathlib import Path

from capx.store.backup import copy_to
from capx.store.postgres.connection import PATIENCE, Address, open_store_link
from capx.store.postgres.errors import explained
from capx.store.postgres.rows import WRITE, Rows
from capx.store.postgres.store import PostgresStore
from capx.store.protocols import Reading
from capx.store.records import NoStore
from capx.store.replace import Begin, StoreSurvey, demand_authority, survey


class ReplaceableDatabase:
    """The database at a URL, which need not hold a store yet; its old content is kept at `keep`, if that is given."""

    def __init__(self, url: str, keep: Path | None) -> None:
        self._url = url
        self._address = Address(url)
        self._keep = keep

    @property
    def shown(self) -> str:
        """The URL, without a password."""
        return self._address.shown

    def look(self, backup: Reading) -> StoreSurvey:
        """Survey what is there beside a backup; empty for a database without a store."""
        try:
            with contextlib.closing(PostgresStore(self._url)) as live, live.read() as reading:
                return survey(reading, backup)
        except NoStore:
            return StoreSurvey()

    def would_keep(self, there: StoreSurvey, now: int) -> Path | None:  # noqa: ARG002 - a database is kept where it is said
        """The path at which the present content would be kept; None if it would not be."""
        return None if there.head is None else self._keep

    def put(self, reading: Reading, begin: Begin, now: int) -> Path | None:  # noqa: ARG002 - as above
        """Put another store's content there, in one transaction; a database without a store gets a new store first."""
        is_new = self._create_if_none()
        keep = None if is_new else self._keep
        with (
            explained(self.shown),
            contextlib.closing(open_store_link(self._address, PATIENCE)) as link,
            link.patient(),
            link.writing(WRITE) as head,
        ):
            # The head is locked: nobody can write to the log between the survey, the copy and the commit.
            rows = Rows(link, head)
            there = StoreSurvey() if is_new else survey(rows, reading)
            demand_authority(reading.head(), there)
            if keep is not None:
                copy_to(keep, rows)
            rows.clear()
            rows.adopt(reading)
            begin(rows, there)
            rows.keep_head()
        return keep

    def _create_if_none(self) -> bool:
        try:
            open_store_link(self._address, PATIENCE).close()
        except NoStore:
            PostgresStore.create(self._url).close()
            return True
        return False
