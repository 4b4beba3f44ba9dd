"""What the SQLite and the PostgreSQL store share: SQL statements, and the check of the schema's version."""
