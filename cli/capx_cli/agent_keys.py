"""The keys of agents: the one that signs for a token, and the one that opens what is sealed.

    --agent-key-file FILE · else the file that CAPX_AGENT_KEY_FILE names

Laws: a key is read from a file only, never from a variable and never from the command line. It signs only for a token
that is bound to it. The file of an agent's key is never the file of a person's key, which is `--key-file`. A public key
on the command line is checked before anything else is read.
"""

import os
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from capx_cli.arguments import Command, Once
from capx_cli.failure import Unusable
from capx_cli.tokens import read_bundle

if TYPE_CHECKING:
    from capx.crypto.agent_key import AgentKey
    from capx.tokens.bundle import Bundle

_VARIABLE = "CAPX_AGENT_KEY_FILE"
_WITH = f"with --agent-key-file FILE or {_VARIABLE}"
_HOW = f"name its file {_WITH}"


class _Public(click.types.StringParamType):
    """The public key of an agent, as it is typed; a file with a key is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text; UsageError names the option, and says how to get a public key."""
        from capx.crypto.agent_key import parse_agent_key
        from capx.crypto.ed25519 import ALGORITHM
        from capx.errors import KeyProblem

        # Path.is_file raises for a name that is too long.
        if not value.startswith(ALGORITHM) and os.path.isfile(value):  # noqa: PTH113
            cure = f'"$(capx agent-key show {quote(value)})"'
            self.fail(f"{value:.200} is a file and not a public key: use {cure}", param, ctx)
        try:
            parse_agent_key(value)
        except KeyProblem as problem:
            self.fail(str(problem), param, ctx)
        return value


def public_option(name: str, help_text: str) -> Callable[[Command], Command]:
    """Return an option that takes the public key of an agent, once."""
    return click.option(name, cls=Once, type=_Public(), metavar="ed25519:…", help=help_text)


def key_file_option(what: str) -> Callable[[Command], Command]:
    """Return `--agent-key-file`; `what` says which key is meant."""
    return click.option(
        "--agent-key-file",
        cls=Once,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"{what} Else: {_VARIABLE}.",
    )


def agent_key_option(command: Command) -> Command:
    """Add `--agent-key-file` to a command that works with a token of an agent."""
    return key_file_option("The key of the agent that holds the token, if the token is bound to one.")(command)


def read_own_bundle(token_file: str | None, agent_key_file: Path | None) -> "Bundle":
    """Return the bundle that was given to this command, with the key of its holder."""
    return with_key(read_bundle(token_file), agent_key_file)


def with_key(bundle: "Bundle", file: Path | None) -> "Bundle":
    """Return the bundle with the key of its holder; the same bundle if it is bound to none.

    UsageError if a file was named for a bundle that needs none; Unusable if the key is missing, or is another one.
    """
    if bundle.holder is None:
        if file is not None:
            raise click.UsageError("this token is bound to no key: leave out --agent-key-file")
        return bundle
    chosen = file or named()
    if chosen is None:
        raise Unusable(f"this token is bound to the key {bundle.holder}, and only who has that key can use it: {_HOW}")
    key = given(file)
    if key.public != bundle.holder:
        other = f"name the file of the first key {_WITH}"
        raise Unusable(f"this token is bound to the key {bundle.holder}, and {chosen} holds {key.public}: {other}")
    return bundle.with_key(key)


def given(file: Path | None) -> "AgentKey":
    """Return the key in the file that was given, or that the variable names; UsageError if there is none.

    KeyProblem names the variable if the file is that of the variable.
    """
    from capx.errors import KeyProblem

    if file is not None:
        return load(file)
    if (meant := named()) is None:
        raise click.UsageError(f"the key of an agent is missing: {_HOW}")
    try:
        return load(meant)
    except KeyProblem as problem:
        raise KeyProblem(f"{_VARIABLE}: {problem}") from None


def load(file: Path) -> "AgentKey":
    """Return the key in a file; KeyProblem if it cannot be used, or is not the key of an agent."""
    from capx.crypto.agent_key import AgentKey

    return AgentKey.load(file)


def named() -> Path | None:
    """Return the file that the environment names."""
    name = os.environ.get(_VARIABLE)
    return Path(name) if name else None
