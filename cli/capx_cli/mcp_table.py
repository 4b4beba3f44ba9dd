"""Writes the table of an MCP server's tools, and brings it up to date.

Laws: a table holds the whole digest of each definition, so a server cannot change a tool unseen. What a server says of
a tool is a comment of one line, made safe. An update keeps what an operator wrote: it adds tools, and exchanges
digests; it removes nothing, and names what is gone. The new text is read as a guard reads it before it is written.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click
from msgspec import Struct

from capx_cli.failure import Unusable, contents

if TYPE_CHECKING:
    from capx.guard.mcp.table import ToolTable

_DESCRIPTION: Final = 160
"""The most characters of a description in a comment."""
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
"""A key of TOML that needs no quotes."""


class Tool(Struct, frozen=True):
    """One tool of a server: its name, its digest, and what the server says of it, made safe.

    `says` is the beginning of the description. `whole` is all that the digest covers, as JSON in ASCII.
    """

    name: str
    definition: str
    says: str
    whole: str


class Update(Struct, frozen=True):
    """The new text of a table file; the tools that were added or have changed, and the names of those that are gone."""

    text: str
    added: tuple[Tool, ...]
    changed: tuple[Tool, ...]
    gone: tuple[str, ...]


def tools(definitions: Iterable[Mapping[str, Any]]) -> list[Tool]:
    """Return the tools; Unusable if a definition has no name or no digest, or two have one name."""
    from capx.api import remote_text
    from capx.guard.mcp.definitions import definition_digest

    found: dict[str, Tool] = {}
    for one in definitions:
        name, said = one.get("name"), one.get("description")
        if not isinstance(name, str) or not name:
            raise Unusable("the server lists a tool without a name, so no table can name it")
        shown = remote_text.text(name, _DESCRIPTION)
        if name in found:
            raise Unusable(f"the server lists two tools with the name {shown!r}: nobody can tell which one is called")
        if (digest := definition_digest(dict(one))) is None:
            raise Unusable(f"the definition of the tool {shown!r} has no digest: it has numbers that JSON cannot hold")
        says = " ".join(said.split()) if isinstance(said, str) else ""
        more = f" … and {len(says) - _DESCRIPTION} more characters" if len(says) > _DESCRIPTION else ""
        whole = json.dumps({key: value for key, value in one.items() if key != "_meta"}, indent=1)
        found[name] = Tool(name, digest, remote_text.text(says, _DESCRIPTION) + more, whole)
    return list(found.values())


def new_table(audience: str, tenant: str, listed: Iterable[Tool]) -> str:
    """Return the text of a table file; UsageError for an audience that no token can have."""
    listed = list(listed)
    head = (
        f"audience = {_toml(audience)}\n"
        f'tenant = {_toml(tenant)}  # "granted": the tenant that the token names; "none": calls have no tenant\n'
        'unnamed = "deny"  # what is not named here is refused\n'
        '# If the server takes an argument as text that may look like JSON, write: texts = ["NAME OF THE ARGUMENT"]\n'
    )
    text = head + "".join(f"\n{one}" for one in _tables(audience, listed, set()))
    _read(text, "the new table")
    return text


def updated(text: str, place: Path, listed: Iterable[Tool]) -> Update:
    """Return what a table file becomes with the tools that the server lists now; Unusable if it cannot be edited."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    by_name = {tool.name: tool for tool in listed}
    before = _read(text, str(place))
    known = before.tools()
    added = [tool for tool in by_name.values() if tool.name not in known]
    changed = [name for name, spec in known.items() if name in by_name and spec.definition != by_name[name].definition]
    try:
        document = cast("Any", tomlkit.parse(text))
        for name in changed:
            document["tool"][name]["definition"] = by_name[name].definition
        edited = tomlkit.dumps(document)
    except (TOMLKitError, RecursionError):
        raise Unusable(f"{place} has a form that cannot be edited here: write the digests into it by hand") from None
    if added and not edited.endswith("\n"):
        edited += "\n"
    edited += "".join(f"\n{one}" for one in _tables(before.audience, added, {spec.action for spec in known.values()}))
    _demand_same(before, edited, place, changed)
    gone = tuple(name for name in known if name not in by_name)
    return Update(edited, tuple(added), tuple(by_name[name] for name in changed), gone)


def demand_table(place: Path) -> None:
    """Raise an error that says what is wrong, unless the file is a table that can be read."""
    _read(_contents(place), str(place))


def bring_up_to_date(place: Path, listed: Iterable[Tool]) -> Update:
    """Write the tools that the server lists now into a table file, and return what has changed."""
    from capx.crypto import private_file

    with private_file.changing(place, Unusable) as file:
        text = _contents(file)
        update = updated(text, place, listed)

        def demand_still() -> None:
            if _contents(file) != text:
                raise Unusable(f"{place} was changed meanwhile: try again")

        if update.text != text:
            private_file.replace(file, update.text.encode, Unusable, keep_mode=True, demand=demand_still)
    return update


def _contents(file: Path) -> str:
    try:
        return contents(file).decode()
    except UnicodeDecodeError:
        raise Unusable(f"{file} is no table: these bytes are not text") from None


def _read(text: str, name: str) -> "ToolTable":
    from capx.guard.mcp.table import ToolTable

    return ToolTable.read(text, name)


def _demand_same(before: "ToolTable", edited: str, place: Path, changed: Iterable[str]) -> None:
    """Raise Unusable if an edit has changed more than digests, and added tools."""
    from msgspec.structs import replace

    from capx.policy.toml_reader import InvalidFile

    try:
        after = _read(edited, str(place)).tools()
    except InvalidFile:
        raise Unusable(f"{place} has a form that cannot be edited here: add the tools to it by hand") from None
    for name, spec in before.tools().items():
        held = after.get(name)
        if held is not None and name in changed:
            held = replace(held, definition=spec.definition)
        if held != spec:
            raise Unusable(f"{place} cannot be edited here without a change to the tool {name!r:.80}: edit it by hand")


def _tables(audience: str, listed: Iterable[Tool], taken: set[str]) -> Iterable[str]:
    for tool in listed:
        action = _action(audience, tool.name, taken)
        taken.add(action)
        yield (
            f"[tool.{tool.name if _BARE.fullmatch(tool.name) else _toml(tool.name)}]\n"
            f"{f'# {tool.says}' + chr(10) if tool.says else ''}"
            f"action = {_toml(action)}\n"
            f"definition = {_toml(tool.definition)}\n"
        )


def _action(audience: str, tool: str, taken: set[str]) -> str:
    """Return an action for a tool, which no other tool has; an operator may write another one."""
    from capx.guard.mcp.table import OF_OTHERS
    from capx_caveats import is_action

    action = f"{audience}.{tool}"
    if is_action(action) and action not in taken and not tool.startswith(OF_OTHERS):
        return action
    label = re.sub(r"[^a-z0-9_-]+", "_", tool.lower()).strip("_-")[:40] or "tool"
    names = (f"{audience}.{label}{'' if nth == 1 else f'_{nth}'}" for nth in range(1, len(taken) + 3))
    found = next((one for one in names if is_action(one) and one not in taken), None)
    if found is None:
        raise click.UsageError(f"no action can be named after the tool {tool!r:.80} of {audience!r:.80}")
    return found


def _toml(text: str) -> str:
    """Return text as a TOML string, in ASCII, so that no name looks like another one."""
    escaped = (each if " " <= each <= "~" else f"\\U{ord(each):08x}" for each in text)
    return '"' + "".join({'"': '\\"', "\\": "\\\\"}.get(each, each) for each in escaped) + '"'
