"""The SQL with which an operator creates the role of a resource in a PostgreSQL store."""

from capx.errors import InvalidRequest
from capx.store.postgres.schema import FOR_RESOURCES

_LONGEST = 63
_CONNECTIONS = 64
"""More than two processes of a service need, and fewer than the 100 that a server usually takes from all."""


def role_sql(audience: str, role: str | None = None) -> str:
    """The SQL that creates the role of a resource; its name is `capx_AUDIENCE` by default.

    With this role a service can read deaths, burn presentations, spend budgets and record decisions of its audience,
    and nothing else. The SQL holds no password. InvalidRequest for a name that cannot be used.
    """
    role = f"capx_{audience}" if role is None else role
    for what, name in (("audience", audience), ("role", role)):
        if not name or not name.isprintable():
            raise InvalidRequest(f"{name!r} cannot name the {what}: it is empty, or has unprintable characters")
    # Cut off, the names of two audiences could become the same role.
    if len(role.encode()) > _LONGEST:
        raise InvalidRequest(f"PostgreSQL would cut the role {role} at {_LONGEST} bytes: choose a shorter name")
    quoted, functions = _identifier(role), ",\n    ".join(FOR_RESOURCES)
    connect = f"BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {_literal(role)}); END"
    return f"""\
-- In the database of the store, as its owner with CREATEROLE, or as a superuser.
BEGIN;
CREATE ROLE {quoted} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION
    CONNECTION LIMIT {_CONNECTIONS};
DO {_literal(connect)};
GRANT USAGE ON SCHEMA capx TO {quoted};
GRANT EXECUTE ON FUNCTION
    {functions}
    TO {quoted};
INSERT INTO capx.resources VALUES ({_literal(role)}, {_literal(audience)});
COMMIT;
-- Then give it a password, in psql:
-- \\password {quoted}
"""  # noqa: S608 # every name is quoted


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str) -> str:
    doubled = value.replace("'", "''")
    # With E a backslash means the same under every setting of `standard_conforming_strings`.
    return f"E'{doubled.replace(chr(92), chr(92) * 2)}'" if "\\" in value else f"'{doubled}'"
