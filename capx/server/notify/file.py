"""The file of `capx serve --notify`: a table of hooks in TOML.

    [hook.pager]
    url = "https://pager.example/capx"
    secret_file = "pager.secret"                    # `whsec_` and base64 of 24 to 64 bytes, as Standard Webhooks says
    kinds = ["request_waits", "task_denied"]

Laws:

- The reader reports all mistakes together, and refuses a key that it does not know. No sentence shows a secret or a
  URL.
- A file that others can change is refused: they could choose a program that runs here. So is one with a secret in it
  that others can read.
- Each hook has a secret of its own: with a shared one, a receiver could pass its notices on to another.
"""

import base64
import binascii
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import httpx

from capx.crypto import private_file
from capx.errors import ConfigurationProblem, KeyProblem
from capx.policy import toml_reader
from capx.policy.toml_reader import LARGEST, Field, InvalidFile, Wrong, wrong
from capx.server.notify.hook import KINDS, TASK_DENIED, Hook
from capx_caveats import shown

MOST: Final = 20
"""The most hooks of a file: each has a thread of its own."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_PREFIX: Final = "whsec_"
_SECRET_SIZE: Final = range(24, 65)
_SECRET: Final = f"{_PREFIX} and base64 of {_SECRET_SIZE[0]} to {_SECRET_SIZE[-1]} bytes"
_MOST_DENIALS: Final = 1_000
_MOST_SECRET: Final = 1_024
"""Bytes that are read of the file of a secret."""


def load_hooks(path: Path) -> tuple[Hook, ...]:
    """Return the hooks of a file; InvalidFile with all its mistakes, ConfigurationProblem if it may not be used."""
    with private_file.explained(ConfigurationProblem, f"{path} cannot be read"):
        found, data = private_file.read_trusted(path, ConfigurationProblem, "table of hooks", LARGEST + 1)
    try:
        tables = toml_reader.members(toml_reader.load(data), "", {"hook": Field(_tables, needed=True)})["hook"]
        is_shown = private_file.open_to_others(found)

        def read(name: str, table: object) -> Hook:
            return _hook(name, table, path, is_shown=is_shown)

        hooks = toml_reader.every(read, tables.items())
        _demand_own_secrets(hooks)
    except Wrong as error:
        raise InvalidFile(str(path), error.lines) from None
    return hooks


def _tables(value: object, path: str) -> dict[str, Any]:
    tables = dict(toml_reader.table(value, path))
    if not 0 < len(tables) <= MOST:
        raise wrong(path, f"has {len(tables)} hooks, but must have 1 to {MOST}")
    return tables


def _hook(name: str, table: object, file: Path, *, is_shown: bool) -> Hook:
    path = toml_reader.key("hook", name)
    if not _NAME.fullmatch(name):
        raise wrong(path, "is no name of a hook: 1 to 40 lower-case letters, digits and dashes")
    given = toml_reader.members(table, path, _FIELDS)
    lines: list[str] = []
    if ("url" in given) == ("command" in given):
        raise wrong(path, "needs a url or a command, and not both")
    by_url, secrets = "url" in given, [one for one in ("secret", "secret_file") if one in given]
    if by_url and len(secrets) != 1:
        lines.append(f"{path}: needs secret or secret_file, and not both: {_SECRET}")
    if not by_url:
        lines += [
            f"{path}.{one}: has no effect on a command: remove it" for one in (*secrets, "private") if one in given
        ]
    if "denials" in given and TASK_DENIED not in given.get("kinds", KINDS):
        lines.append(f"{path}.denials: has no effect: kinds does not list {TASK_DENIED}")
    if "secret" in given and is_shown:
        lines.append(f"{path}.secret: others can read this file: chmod 600 {file}")
    if by_url and not _is_https(given["url"]) and not given.get("private", False):
        lines.append(f"{path}.url: is not https, which only a hook with private = true may have")
    if by_url and secrets == ["secret_file"]:
        place = file.parent / given.pop("secret_file")
        secret = toml_reader.attempted(lines, _read_secret, place, f"{path}.secret_file")
        given["secret"] = secret or b""
    if lines:
        raise Wrong(*lines)
    return Hook(name=name, **given)


def _read_secret(place: Path, path: str) -> bytes:
    def read() -> bytes:
        with private_file.explained(KeyProblem, f"{place} cannot be read"):
            return private_file.read_secret(place, KeyProblem, "secret", _MOST_SECRET)

    return _secret(toml_reader.explained(path, read).decode("latin-1").strip(), path)


def _demand_own_secrets(hooks: tuple[Hook, ...]) -> None:
    seen: dict[bytes, str] = {}
    for hook in hooks:
        if hook.url is not None and seen.setdefault(hook.secret, hook.name) != hook.name:
            raise wrong(f"hook.{hook.name}", f"has the secret of hook.{seen[hook.secret]}: give each hook its own")


def _url(value: object, path: str) -> str:
    text = toml_reader.text(value, path)
    parts = _split(text, path)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise wrong(path, "is no URL of a web server: write https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise wrong(path, "has a user name in it: what is sent proves itself by its signature")
    if parts.fragment or not text.isascii() or not text.isprintable() or " " in text:
        raise wrong(path, "has a fragment, a space or a character beyond ASCII: write it as it is sent")
    return text


def _is_https(url: str) -> bool:
    return urlsplit(url).scheme == "https"


def _split(text: str, path: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
        # What sends must understand it too: it knows that 1.2.3.400 is no address.
        httpx.URL(text)
    except (ValueError, httpx.InvalidURL):
        raise wrong(path, "is no URL: write https://HOST/PATH") from None
    return parts


def _command(value: object, path: str) -> tuple[str, ...]:
    found = toml_reader.every(_argument, toml_reader.elements(value, path, "the words of a command"))
    if not Path(found[0]).is_absolute():
        # The environment of the command is empty, so no PATH says which program a short name means.
        raise wrong(f"{path}[1]", f"{shown(found[0])} is not the full path of a program: begin it with /")
    return found


def _argument(value: object, path: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise wrong(path, "is not a text that a program can take")
    return value


def _secret(value: object, path: str) -> bytes:
    text = toml_reader.text(value, path)
    try:
        found = base64.b64decode(text.removeprefix(_PREFIX).encode("latin-1"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        found = b""
    if not text.startswith(_PREFIX) or len(found) not in _SECRET_SIZE:
        raise wrong(path, f"is no secret of Standard Webhooks: {_SECRET}")
    return found


def _kind(value: object, path: str) -> str:
    found = toml_reader.text(value, path)
    if found not in KINDS:
        raise wrong(path, f"{shown(found)} is no kind{toml_reader.near(found, KINDS)}")
    return found


def _kinds(value: object, path: str) -> frozenset[str]:
    return frozenset(toml_reader.every(_kind, toml_reader.elements(value, path, "kinds of notices")))


def _flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise wrong(path, f"is {toml_reader.kind_of(value)}, but must be true or false")
    return value


def _denials(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST_DENIALS:
        raise wrong(path, f"must be a whole number from 1 to {_MOST_DENIALS}")
    return value


_FIELDS: Final = {
    "url": Field(_url),
    "command": Field(_command),
    "secret": Field(_secret),
    "secret_file": Field(toml_reader.text),
    "kinds": Field(_kinds),
    "private": Field(_flag),
    "values": Field(_flag),
    "denials": Field(_denials),
}
