"""How a policy file gets one more table, and stays as it is otherwise.

Laws: what stands there is kept, byte for byte. The new file is tried before it takes the place of the old one, and says
what it did before, and the one thing more. Readers see the one or the other. A file that no reader would take is not
edited. No other process like this one changes it meanwhile, and what an editor did meanwhile is not undone.
"""

import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click
import msgspec

from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx.policy.policy import Principal

_TABLE: Final = "principal"


def demand_home_of(path: Path) -> None:
    """Unusable where there is no folder in which an authority could live by this policy."""
    if not path.parent.is_dir():
        raise Unusable(f"no authority lives in {path.parent}: create one with capx init, or set CAPX_HOME")


def append(path: Path, wanted: "Principal") -> None:
    """Add a table that says what is wanted of a principal; UsageError says what to change if they are known already.

    A policy that cannot be used is added to if it can be used then.
    """
    from capx.crypto import private_file
    from capx.policy.file import read_policy

    _demand_names(wanted)
    demand_home_of(path)
    with private_file.changing(path, Unusable) as file:
        found = _read(file)
        old = b"" if found is None else found[1]
        before = _tables(old)
        if wanted.name in before.get(_TABLE, {}):
            raise click.UsageError(f"the policy knows {wanted.name} already: {_by_hand(path, old, before, wanted)}")
        added = table(wanted)
        apart = b"" if not old else b"\n" if old.endswith(b"\n") else b"\n\n"
        new = old + apart + added.encode()
        after = read_policy(new, f"{path} with {wanted.name}")
        said = {**before.get(_TABLE, {}), **_tables(added.encode())[_TABLE]}
        if after.principals.get(wanted.name) != wanted or _tables(new) != {**before, _TABLE: said}:
            raise click.UsageError(f"{path} would not say that of {wanted.name}: change it by hand")

        def demand_still() -> None:
            if _read(file) != found:
                raise Unusable(f"{file} was changed meanwhile: try again")

        private_file.replace(file, lambda: new, Unusable, keep_mode=True, demand=demand_still)


def _demand_names(wanted: "Principal") -> None:
    """UsageError for what names nobody and nothing: it may be no text of a file at all."""
    from capx_caveats import is_attribute, is_label

    label = "1 to 128 characters, none of them hidden"
    for what, names, fits, cure in (
        ("principal", (wanted.name,), is_label, label),
        ("tenant", wanted.tenants, is_label, label),
        ("group", wanted.groups, is_label, label),
        ("purpose", wanted.purposes, is_attribute, "such as the policy has"),
    ):
        for name in names:
            if not fits(name):
                raise click.UsageError(f"{name!r:.80} is no name of a {what}: {cure}")


def table(wanted: "Principal") -> str:
    """What stands in a policy for a person."""
    return "".join(f"{line}\n" for line in (f"[{_TABLE}.{_text(wanted.name)}]", *_fields(wanted).values()))


def _fields(wanted: "Principal") -> dict[str, str]:
    """The lines of the table, by key."""
    from capx.crypto.ed25519 import public_text

    key = {} if wanted.key is None else {"key": f"key = {_text(public_text(wanted.key))}"}
    held = {"tenants": wanted.tenants, "purposes": wanted.purposes, "groups": wanted.groups}
    return key | {each: f"{each} = [{', '.join(map(_text, names))}]" for each, names in held.items() if names}


def _text(text: str) -> str:
    """A text as TOML has it: the escapes of JSON are among its own."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _tables(data: bytes) -> dict[str, Any]:
    """What a file says, none if it is no TOML; its principals only if they are a table."""
    from capx.policy.toml_reader import Wrong, load

    try:
        tables = load(data)
    except Wrong:
        return {}
    return tables if isinstance(tables.get(_TABLE, {}), dict) else {}


def _by_hand(path: Path, data: bytes, tables: dict[str, Any], wanted: "Principal") -> str:
    """Which lines of the file to change, so that it says this as well of a person whom it knows."""
    held = tables[_TABLE][wanted.name]
    said = cast("dict[str, Any]", held) if isinstance(held, dict) else {}
    several = {each: _both(said.get(each), getattr(wanted, each)) for each in ("tenants", "purposes", "groups")}
    lines = data.decode().split("\n")
    header = next((at for at, line in enumerate(lines, 1) if _is_header(line.strip(), wanted.name)), None)
    told = [
        f"{_place(lines, header, each)} {line}"
        for each, line in _fields(msgspec.structs.replace(wanted, **several)).items()
        if tomllib.loads(line) != {each: said.get(each)}
    ]
    if told:
        return f"in {path} write by hand {', '.join(told)}"
    return f"{path} says all of this" if header is None else f"all of this stands in {path} from line {header} on"


def _both(said: object, wanted: tuple[str, ...]) -> tuple[str, ...]:
    held = cast("list[object]", said) if isinstance(said, list) else []
    known = [name for name in held if isinstance(name, str)]
    return tuple(dict.fromkeys([*known, *wanted]))


def _place(lines: list[str], header: int | None, field: str) -> str:
    """Where a line belongs."""
    if header is None:
        return "where it speaks of them"
    for at, line in enumerate(lines[header:], header + 1):
        if line.lstrip().startswith("["):
            break
        if line.partition("=")[0].strip() == field:
            return f"in line {at}"
    return f"below line {header}"


def _is_header(line: str, name: str) -> bool:
    try:
        return line.lstrip().startswith("[") and tomllib.loads(line) == {_TABLE: {name: {}}}
    except tomllib.TOMLDecodeError:
        return False


def _read(file: Path) -> "tuple[tuple[int, ...], bytes] | None":
    """What tells the file from one that was changed, and its bytes; None if there is none."""
    from capx.crypto.private_file import explained
    from capx.policy.file import contents

    with explained(Unusable, f"cannot read {file}"), suppress(FileNotFoundError):
        return contents(file)
    return None
