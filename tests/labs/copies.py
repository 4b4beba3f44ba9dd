"""Copies of a store that is in use, and how a copy takes the place of its store."""

import sqlite3
from contextlib import closing
from pathlib import Path


def copied(store: Path, to: Path) -> Path:
    """Copy the store in this file as it is now."""
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    to.chmod(0o600)
    return to


def without_wal(store: Path) -> None:
    """Remove what the store keeps beside its file, which says nothing about another file in its place."""
    for suffix in ("-wal", "-shm"):
        store.with_name(f"{store.name}{suffix}").unlink(missing_ok=True)
