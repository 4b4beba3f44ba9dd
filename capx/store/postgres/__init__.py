"""The store in a PostgreSQL database; needs psycopg."""
