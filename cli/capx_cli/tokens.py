"""Where a command gets its token.

    --token-file FILE (- is standard input) · else piped standard input · else CAPX_TOKEN_FILE · else CAPX_TOKEN

Law: a token is never read from the command line, because `ps` and the shell's history would show it.
"""

import os
import re
import select
import stat
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from capx_cli import screen
from capx_cli.arguments import Command
from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx.tokens.bundle import Bundle
    from capx.tokens.capability import Token
    from capx.tokens.discharge import Discharge

_TOKEN = re.compile(r"capx(?:1|d1)_[A-Za-z0-9_-]{16}")
_APART = re.compile(r"\s,?\s*capx(?:1|d1)_|,\s")
_MOST = 64 * (16 * 1024 + 1)
"""The most characters: a full bundle of tokens and approvals, each of the largest size."""
_STDIN = "-"
_PATIENCE = 2.0
"""Seconds of silence after which we say that we wait for a token."""

HOW = "pipe it in, or use --token-file FILE, CAPX_TOKEN_FILE or CAPX_TOKEN"


def token_option(command: Command) -> Command:
    """Add `--token-file` to a command that works with a token."""
    return click.option(
        "--token-file",
        metavar="FILE",
        help="Read the token from FILE (- is standard input). Else: piped input, CAPX_TOKEN_FILE, CAPX_TOKEN.",
    )(command)


def named_file() -> str | None:
    """Return the file that `CAPX_TOKEN_FILE` names."""
    return os.environ.get("CAPX_TOKEN_FILE")


def refuse_tokens(args: Sequence[str]) -> None:
    """Raise UsageError if there is a token on the command line, or the text of a key file."""
    if any(_TOKEN.search(each) for each in args):
        raise click.UsageError(f"a token on the command line shows in `ps` and in the shell's history: {HOW}")
    if any(_is_key(each) for each in args if len(each.split()) > 1):
        raise click.UsageError(
            "this is the text of a key file, a secret, and it shows in `ps` and in the shell's history: make another "
            "key, and name its file"
        )


def _is_key(text: str) -> bool:
    from capx.crypto import key_file  # slow to import

    return key_file.is_text(text)


def read_bundle(token_file: str | None) -> "Bundle":
    """Return the bundle that was given to this command."""
    from capx.tokens.bundle import Bundle

    with reading(token_file) as text:
        _demand_form(text)
        return Bundle.parse(text)


class Tokens(tuple["Token", ...]):
    """Capabilities, or one presentation, and the approvals that their holder has."""

    approvals: "tuple[Discharge, ...]" = ()


def read_tokens(token_file: str | None) -> "Tokens":
    """Return the given capabilities, or the given presentation, for a command that only looks at them."""
    from capx.tokens import wire
    from capx.tokens.bundle import Bundle
    from capx.tokens.capability import Presentation
    from capx.tokens.discharge import PREFIX
    from capx_caveats import Presented

    with reading(token_file) as text:
        _demand_form(text)
        first, *others = text.split(",")
        if all(one.startswith(PREFIX) for one in others):
            presentation = Presentation(wire.decode(first), text)
            if any(isinstance(caveat, Presented) for block in presentation.caveats for caveat in block):
                return Tokens((presentation,))
        bundle = Bundle.parse(text)
        tokens = Tokens(bundle)
        tokens.approvals = bundle.approvals
        return tokens


@contextmanager
def reading(token_file: str | None) -> Generator[str]:
    """Open a block that gets the text where a token is expected, in any encoding; Unusable if it finds no token in it.

    If the text comes from a file, the error names the file.
    """
    from capx.errors import InvalidRequest, MalformedToken

    text, file = _given(token_file)
    try:
        yield text
    except (InvalidRequest, MalformedToken, Unusable) as error:
        raise Unusable(str(error) if file is None else f"{file}: {error}") from None


def _demand_form(text: str) -> None:
    from capx.crypto import key_file
    from capx.tokens.bundle import SEALED

    if not text.startswith("capx1_") and key_file.is_text(text):
        raise Unusable("this is a key, and not a token: an agent's is for --agent-key-file, a person's for --key-file")
    if not text.isascii():
        raise Unusable("this is not a token: a token begins with capx1_ and is plain ASCII")
    if text.startswith(SEALED):
        raise Unusable("this is sealed, for the owner of one key to read: capx unseal opens it")
    if _APART.search(text):
        raise Unusable("there is a blank or a line end between two tokens: join them with a comma and nothing else")


def _given(token_file: str | None) -> tuple[str, str | None]:
    """Return the text that was given, and the file that it comes from; no file for standard input and CAPX_TOKEN."""
    if token_file == _STDIN:
        return _stripped(_stdin(), "standard input"), None
    if token_file is not None:
        return _file(token_file), token_file
    if _is_piped() and (piped := _stdin().strip()):
        return piped, None
    if named := named_file():
        return _file(named, ", which CAPX_TOKEN_FILE names,"), named
    if given := os.environ.get("CAPX_TOKEN", "").strip():
        return given, None
    raise Unusable(f"no token was given: {HOW}")


def _stripped(text: str, where: str) -> str:
    stripped = text.strip()
    if not stripped:
        raise Unusable(f"{where} is empty")
    return stripped


def _is_piped() -> bool:
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _stdin() -> str:
    if not sys.stdin.isatty() and not select.select([sys.stdin], [], [], _PATIENCE)[0]:
        screen.note("waiting for a token on standard input …")
    return _bounded(sys.stdin.buffer, "this")


def _file(name: str, which: str = "") -> str:
    from capx.crypto.private_file import explained, shown_to_others

    with explained(Unusable, f"cannot read the token file {name}"), Path(name).open("rb") as file:
        text = _bounded(file, name)
        if shown_to_others(os.fstat(file.fileno())) and _TOKEN.search(text):
            screen.note(f"capx: other users may read {name}, which holds a secret: chmod 600 {name}")
        return _stripped(text, f"the token file {name}{which}")


def _bounded(file: IO[bytes], what: str) -> str:
    raw = file.read(_MOST + 1)
    if len(raw) > _MOST:
        raise Unusable(f"{what} is too long to be a token")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Unusable(f"{what} is not a token: these bytes are not text") from None
