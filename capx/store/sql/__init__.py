"""What the stores on SQLite and on PostgreSQL say alike: the statements, and the check of a schema's version."""
