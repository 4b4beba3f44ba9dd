"""The SQL and the version check that the SQLite and the PostgreSQL store share."""
