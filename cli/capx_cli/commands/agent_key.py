"""`capx agent-key`: make the keys of agents, and show their public halves."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from capx_cli import agent_keys, own_keys, phrases, screen
from capx_cli.arguments import file_option
from capx_cli.view import json_option

if TYPE_CHECKING:
    from capx.crypto.agent_key import AgentKey

_FOLDER = "agents"


@click.group("agent-key", cls=phrases.InOrder)
def agent_key() -> None:
    """Make keys for agents, and show their public halves.

    A token that is bound to a key is of no use without it: the agent signs each call, ask and delegation. Only the
    agent has its key. Others need the public half: to bind a token to the agent, or to seal something for it.

    Example: capx agent-key show slides.key
    """


@agent_key.command(short_help="Make a key for an agent.")
@click.argument("name")
@file_option(
    "--out", "Write the key to this new file, which only you may read. Default: a file in agents/ of the home."
)
@json_option
def new(name: str, out: Path | None, as_json: bool) -> None:
    """Make a key for the agent called NAME, and write its public half to standard output.

    The key file is a secret. It is never overwritten. So make it where the agent runs, and name it there with
    CAPX_AGENT_KEY_FILE or --agent-key-file. NAME is for people: tokens name only the public half.

    Example: capx agent-key new reader --out reader.key
    """
    from capx.crypto.agent_key import AgentKey

    key = AgentKey.generate(name)
    file = out or own_keys.new_file(name, _FOLDER, "--out")
    key.save(file)
    if as_json:
        screen.as_json({"wrote": str(file), **_facts(key)})
        return
    screen.note(f"wrote {file}: a secret, only for {name}", screen.GOOD)
    screen.bare(key.public)
    screen.note(f"Next: give {key.public} to whoever opens the task (capx task open --agent-key)", screen.QUIET)
    screen.note("      or delegates to this agent (capx delegate --to-key),", screen.QUIET)
    screen.note(f"      and use the token with --agent-key-file {quote(str(file))}", screen.QUIET)


@agent_key.command(short_help="Show the public half of an agent's key.")
@click.argument("file", metavar="FILE|NAME")
@json_option
def show(file: str, as_json: bool) -> None:
    """Write the public half of the key in FILE to standard output, as capx agent-key new did.

    If there is no such file, it is the key of NAME in agents/ of the home.

    Example: capx agent-key show slides.key
    """
    key = agent_keys.load(own_keys.file_or_name(file, _FOLDER))
    if as_json:
        screen.as_json(_facts(key))
        return
    screen.bare(key.public)
    screen.note(f"the public half of the key of {key.name}", screen.QUIET)


def _facts(key: "AgentKey") -> dict[str, str]:
    return {"name": key.name, "key": key.public}
