"""Edit a policy file: add a person, or add to what it says about one.

Laws:

- The file stays as it is otherwise. A new person's table goes to the end, and every byte before it stays. The table of
  a person who is in the file already is edited where it is; comments and layout stay.
- Nothing is taken away. A person's tenants, purposes and groups only grow, and a key is never replaced.
- The new file is tried before it takes the place of the old one. It must be a policy, and it must say what the old file
  said, plus what was asked for. Otherwise nothing is written.
- Readers see the old file or the new one, also after a crash. A file that no reader would accept is not edited.
- Two processes like this one do not edit at the same time. If an editor changes the file meanwhile, that change stays,
  and this one is refused.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx.policy.policy import Principal

_TABLE: Final = "principal"
_ARRAYS: Final = {"tenants": "tenant", "purposes": "purpose", "groups": "group"}
"""The arrays of a person's table, and the noun for one element."""


def demand_home_of(path: Path) -> None:
    """Raise Unusable if the folder of this policy does not exist: no authority can have its home there."""
    if not path.parent.is_dir():
        raise Unusable(f"no authority lives in {path.parent}: create one with capx init, or set CAPX_HOME")


def add(path: Path, wanted: "Principal") -> str:
    """Add a person to the policy, or add to their table, and return a sentence that says what was added.

    If the policy says all of it already, nothing is written. UsageError if the person has another key, or if their
    table is written in a form that cannot be edited. A policy that cannot be used is edited if it can be used then.
    """
    from capx.crypto import private_file
    from capx.policy.file import read_policy

    _demand_names(wanted)
    demand_home_of(path)
    with private_file.changing(path, Unusable) as file:
        found = _read_file(file)
        old = b"" if found is None else found[1]
        before = _tables(old)
        if not before:
            # The error must name the file as it is, not the draft.
            read_policy(old, str(path))
        people = before.get(_TABLE, {})
        held = people.get(wanted.name)
        additions = _additions(path, wanted, held)
        if held is not None and not additions:
            read_policy(old, str(path))
            return f"{path} says all of this about {wanted.name} already: nothing was changed"
        new = _appended(old, wanted) if held is None else _edited(path, old, wanted.name, additions)
        # First: where tomlkit writes what is no TOML any more, the file as it is has no fault to report.
        if _tables(new) != {**before, _TABLE: {**people, wanted.name: _with_additions(held or {}, additions)}}:
            raise _by_hand(path, wanted.name, additions)
        read_policy(new, f"{path} with {wanted.name}")
        _put(file, new, found)
    if held is None:
        return f"added {wanted.name} to {path}" + (f": {_listed(additions)}" if additions else "")
    return f"added to {wanted.name} in {path}: {_listed(additions)}"


def _demand_names(wanted: "Principal") -> None:
    """Raise UsageError for a name that a policy cannot hold; it may not even be text that a file can hold."""
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
                raise click.UsageError(f"{name!r:.80} cannot name a {what}: {cure}")


def table(wanted: "Principal") -> str:
    """Return the table of a new person, as a policy has it."""
    fields = _additions(Path(), wanted, None)
    lines = [f"{field} = {_toml(value)}" for field, value in fields.items()]
    return "".join(f"{line}\n" for line in (f"[{_TABLE}.{_toml(wanted.name)}]", *lines))


def _additions(path: Path, wanted: "Principal", held: object) -> dict[str, str | list[str]]:
    """Return the wanted key and names that the table of a person does not hold yet, by field."""
    from capx.crypto.ed25519 import public_text

    fields = cast("dict[str, object]", held) if isinstance(held, dict) else {}
    additions: dict[str, str | list[str]] = {}
    key = None if wanted.key is None else public_text(wanted.key)
    if key is not None and fields.get("key") != key:
        if "key" in fields:
            raise click.UsageError(
                f"{wanted.name} has another key in {path}, and this command replaces no key: "
                "take the old key out of the file first, then add the new one"
            )
        additions["key"] = key
    for each in _ARRAYS:
        there = fields.get(each)
        known = cast("list[object]", there) if isinstance(there, list) else []
        new = [name for name in dict.fromkeys(getattr(wanted, each)) if name not in known]
        if new:
            additions[each] = new
    is_table = held is None or isinstance(held, dict)
    if additions and not (is_table and all(isinstance(fields.get(each, []), list) for each in additions)):
        raise _by_hand(path, wanted.name, additions)
    return additions


def _with_additions(held: Mapping[str, Any], additions: Mapping[str, str | list[str]]) -> dict[str, Any]:
    """Return the table that the new file must have for the person."""
    return {
        **held,
        **{each: new if isinstance(new, str) else [*held.get(each, []), *new] for each, new in additions.items()},
    }


def _appended(old: bytes, wanted: "Principal") -> bytes:
    """Return the file with one more table at its end.

    tomlkit is not used here: it would put the table before a comment that belongs to the table after it.
    """
    apart = b"" if not old else b"\n" if old.endswith(b"\n") else b"\n\n"
    return old + apart + table(wanted).encode()


def _edited(path: Path, old: bytes, name: str, additions: Mapping[str, str | list[str]]) -> bytes:
    """Return the file with additions to the table of a person; UsageError if tomlkit cannot write it."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError
    from tomlkit.items import Table

    try:
        document = tomlkit.parse(old)
        if tomlkit.dumps(document).encode() != old:
            raise _by_hand(path, name, additions)
        person = cast("Any", document)[_TABLE][name]
        # A comment after the last key may belong to the next table. Take it off, so that new keys go before it.
        body = person.value.body if isinstance(person, Table) else []
        last = max((at for at, (key, _) in enumerate(body, 1) if key is not None), default=0)
        tail = body[last:]
        del body[last:]
        for each, new in additions.items():
            if each in person:
                person[each].extend(new)
            else:
                person[each] = new
                if person.trivia.trail == "\r\n":
                    person[each].trivia.trail = "\r\n"
        body.extend(tail)
        return tomlkit.dumps(document).encode()
    except (TOMLKitError, RecursionError):
        raise _by_hand(path, name, additions) from None


def _by_hand(path: Path, name: str, additions: Mapping[str, str | list[str]]) -> click.UsageError:
    return click.UsageError(f"this command cannot edit what {path} says about {name}: add by hand {_listed(additions)}")


def _listed(additions: Mapping[str, str | list[str]]) -> str:
    """Return the additions in words."""
    return ", ".join(
        f"{_ARRAYS.get(each, each)} {one if each == 'key' else _toml(one)}"
        for each, new in additions.items()
        for one in ([new] if isinstance(new, str) else new)
    )


def _toml(value: str | list[str]) -> str:
    """Return a text or an array as TOML. TOML has all escapes that JSON uses, but DEL must be escaped as well."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _tables(data: bytes) -> dict[str, Any]:
    """Return the tables of a file; empty if it is not TOML, or if `principal` in it is not a table."""
    from capx.policy.toml_reader import Wrong, load

    try:
        found = load(data)
    except Wrong:
        return {}
    return found if isinstance(found.get(_TABLE, {}), dict) else {}


def _put(file: Path, new: bytes, found: "tuple[tuple[int, ...], bytes] | None") -> None:
    """Write a new policy in place of the one that `_read_file` found; Unusable if that one was changed meanwhile.

    Call it within `private_file.changing`.
    """
    from capx.crypto import private_file

    def demand_still() -> None:
        if _read_file(file) != found:
            raise Unusable(f"{file} was changed meanwhile: try again")

    private_file.replace(file, lambda: new, Unusable, keep_mode=True, demand=demand_still)


def _read_file(file: Path) -> "tuple[tuple[int, ...], bytes] | None":
    """Return a stamp that changes with the file, and its bytes; None if there is no file."""
    from capx.crypto.private_file import explained
    from capx.policy.file import contents

    with explained(Unusable, f"cannot read {file}"), suppress(FileNotFoundError):
        return contents(file)
    return None
