"""The role under which a resource uses a PostgreSQL store, as the SQL that an operator runs."""

from capx.errors import InvalidRequest
from capx.store.postgres.schema import FOR_RESOURCES

_LONGEST = 63


def role_sql(audience: str, role: str | None = None) -> str:
    """The SQL that makes the role of a resource, `capx_AUDIENCE` if none is named; InvalidRequest if a name cannot be.

    It holds no password. Under the role a service can read deaths, burn, spend, and record for its audience, and
    nothing else.
    """
    role = f"capx_{audience}" if role is None else role
    for what, name in (("audience", audience), ("role", role)):
        if not name or not name.isprintable():
            raise InvalidRequest(
                f"{name!r} cannot be the name of an {what}: it is empty, or holds what cannot be printed"
            )
    if len(role.encode()) > _LONGEST:
        raise InvalidRequest(
            f"the role {role} is longer than {_LONGEST} bytes, which PostgreSQL would cut off: name a shorter one"
        )
    quoted, functions = _identifier(role), ",\n    ".join(FOR_RESOURCES)
    connect = f"BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {_literal(role)}); END"
    return f"""\
-- In the database of the store, as its owner with CREATEROLE, or as a superuser.
BEGIN;
CREATE ROLE {quoted} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
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
    # E: a backslash means the same under every setting.
    return f"E'{doubled.replace(chr(92), chr(92) * 2)}'" if "\\" in value else f"'{doubled}'"
