"""How a backup takes the place of the store in a database: its rows, in one transaction.

Laws: whoever follows the store sees what was there or what is there now, and the later epoch with its next look. What
was there is written to a file first, if it is to be kept.
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
from capx.store.replace import Begin, StoreSurvey, demand_origin, survey


class ReplaceableDatabase:
    """The database at a URL, which need not hold a store yet; what it holds is kept at `keep` if that is given."""

    def __init__(self, url: str, keep: Path | None) -> None:
        self._url = url
        self._address = Address(url)
        self._keep = keep

    @property
    def shown(self) -> str:
        """The URL, without a password."""
        return self._address.shown

    def look(self) -> StoreSurvey:
        """What is there; nothing of a database without a store."""
        try:
            with contextlib.closing(PostgresStore(self._url)) as live, live.read() as reading:
                return survey(reading)
        except NoStore:
            return StoreSurvey()

    def would_keep(self, there: StoreSurvey, now: int) -> Path | None:  # noqa: ARG002 - a database is kept where it is said
        """Where what is there would be kept."""
        return None if there.head is None else self._keep

    def put(self, reading: Reading, begin: Begin, now: int) -> Path | None:  # noqa: ARG002 - as above
        """Put another store's content there, in one transaction; a database without a store gets a new one before."""
        is_new = self._create_if_none()
        keep = None if is_new else self._keep
        with (
            explained(self.shown),
            contextlib.closing(open_store_link(self._address, PATIENCE)) as link,
            link.patient(),
            link.writing(WRITE) as head,
        ):
            rows = Rows(link, head)
            there = StoreSurvey() if is_new else survey(rows)
            demand_origin(reading.head(), there)
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
