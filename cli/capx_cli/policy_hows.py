"""Write the `how` lines that a policy lacks: `capx policy check --fix`.

Until `how` was needed, a grant without it was given at open. So this writes `how = "at_open"`, and nothing else. The
laws of `policy_editing` hold: comments and layout stay, the new file must be a policy that says what the old one said
plus these lines, and readers see the old file or the new one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click

from capx_cli import policy_editing
from capx_cli.failure import Unusable

T = TypeVar("T", dict[str, Any], list[Any])

MEANT: Final = "at_open"
"""What a grant without `how` meant."""


def fix(path: Path) -> list[str]:
    """Write the missing lines, and return the grants that got one, such as `purpose.qbr.grant[1]`.

    If there is none, nothing is written. InvalidFile if the policy has other mistakes: then nothing is written either.
    UsageError if the file is written in a form that cannot be edited.
    """
    from capx.crypto import private_file
    from capx.policy.file import read_policy

    with private_file.changing(path, Unusable) as file:
        found = policy_editing.read_file(file)
        if found is None:
            raise Unusable(f"there is no policy at {path}: write one, or name a FILE")
        old = found[1]
        meant = policy_editing.tables(old)
        places = _completed(meant)
        if not places:
            read_policy(old, str(path))
            return []
        new = _edited(old)
        if new is None or policy_editing.tables(new) != meant:
            raise click.UsageError(
                f'this command cannot edit {path}: add how = "{MEANT}" by hand, where capx policy check says so'
            )
        read_policy(new, f'{path} with how = "{MEANT}" in {len(places)} grants')
        policy_editing.put(file, new, found)
    return places


def _completed(tables: dict[str, Any]) -> list[str]:
    """Add the missing `how` to the tables of a policy, and return the key paths of these grants."""
    from capx.policy.toml_reader import key

    return [
        f"{key('purpose', name)}.grant[{number}]"
        for name, number, grant in _without_how(tables)
        if grant.setdefault("how", MEANT)
    ]


def _without_how(tables: Any) -> Iterator[tuple[str, int, Any]]:
    """Yield the grants without `how`, each with its purpose and its number there."""
    for name, purpose in _held(tables, "purpose", dict).items():
        for number, grant in enumerate(_held(purpose, "grant", list), 1):
            if isinstance(grant, dict) and "how" not in grant:
                yield name, number, grant


def _held(table: object, name: str, kind: "type[T]") -> "T":
    """Return what a table has under this name; an empty one if it is no table, or has something of another kind."""
    found = cast("dict[str, object]", table).get(name) if isinstance(table, dict) else None
    return found if isinstance(found, kind) else kind()


def _edited(old: bytes) -> bytes | None:
    """Return the file with the missing lines, each the first of its grant; None if tomlkit cannot write it."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError
    from tomlkit.items import SingleKey

    try:
        document = tomlkit.parse(old)
        if tomlkit.dumps(document).encode() != old:
            return None
        for _, _, grant in list(_without_how(document)):
            how = tomlkit.item(MEANT)
            how.trivia.indent, how.trivia.trail = _surrounded(grant)
            # By hand, and first: tomlkit itself appends. A line at the end may fall into a table below the grant, and a
            # comment at the end may belong to the next table.
            grant.value.body.insert(0, (SingleKey("how"), how))
        return tomlkit.dumps(document).encode()
    except (TOMLKitError, RecursionError):
        return None


def _surrounded(grant: Any) -> tuple[str, str]:
    """Return the space before and after the first key of a grant, as the grant has it."""
    from tomlkit.items import InlineTable, Whitespace

    body = grant.value.body
    if isinstance(grant, InlineTable):
        return (body[0][1].as_string() if body and isinstance(body[0][1], Whitespace) else ""), ""
    return next((item.trivia.indent for key, item in body if key is not None), ""), grant.trivia.trail
