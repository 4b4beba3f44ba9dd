"""`capx unseal`: open what was sealed for this agent."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capx.crypto.keys import AudienceKeys
from capx.errors import InvalidRequest, MalformedToken
from capx.tokens.bundle import SEALED, Bundle
from capx_caveats import shown
from capx_cli import agent_keys, phrases, screen
from capx_cli.failure import Unusable, contents
from capx_cli.token_output import Output, output_options_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capx.crypto.agent_key import AgentKey
    from capx_cli.view import Line

_STDIN = "-"
_ANYBODY = "Anybody can have sealed this"


@click.command()
@click.argument("file", default=_STDIN)
@agent_keys.key_file_option("The key that the text was sealed to.")
@click.option("--task", metavar="TASK", help="The id of the task that the token must be of: all 22 characters.")
@click.option(
    "--keys", is_flag=True, help="Open the key file of a resource, from capx keys export --seal-to. It needs --out."
)
@output_options_for("what was sealed")
def unseal(*, file: str, agent_key_file: Path | None, task: str | None, keys: bool, output: Output) -> None:
    """Open the sealed text in FILE with the key of this agent, and write the token to standard output.

    FILE is what capx seal or capx delegate --seal wrote; - is standard input. What was sealed to another key, or was
    changed on its way, is refused, and so is a token that is bound to another key.

    Anybody can seal a token of their own task to your public key, and you would work for them. So give the task that
    you expect, with --task. Its tenant and all hops go to standard error.

    Example: capx unseal slides.sealed --agent-key-file slides.key --out sent.token
    """
    if keys and task is not None:
        raise click.UsageError("--task is for tokens: leave it out with --keys")
    if task is not None:
        _demand_whole(task)
    key = agent_keys.given(agent_key_file)
    text = _text(file)
    _demand_sealed(text, "standard input" if file == _STDIN else file)
    if keys:
        _open_keys(text, key, output)
        return
    bundle = _bundle(text, key, task)
    output.write(
        bundle.text,
        lambda: {
            "verified": False,
            "tenant": phrases.left_of(next(iter(bundle))).tenant,
            **phrases.bundle_as_json(bundle),
        },
        _told(bundle),
    )
    if task is None:
        screen.note(f"{_ANYBODY}. If you expect a certain task, give it with --task", "yellow")


def _demand_whole(task: str) -> None:
    try:
        phrases.demand_id("task", task)
    except click.UsageError as error:
        # There may be no home here, so nothing knows which task was opened last.
        whole = "unseal needs the whole id, which capx task list or capx inspect shows"
        raise click.UsageError(f"{error.message}; {whole}") from None


def _text(file: str) -> str:
    from capx.crypto.sealed import MAX_SEALED

    # A line's end behind the text, and one byte too many, so that a longer text is refused and not cut.
    most = MAX_SEALED + 2
    if file != _STDIN:
        raw = contents(Path(file), most)
    elif sys.stdin.isatty():
        raise click.UsageError("name a FILE with a sealed text, or pipe one in")
    else:
        raw = sys.stdin.buffer.read(most)
    return raw.decode("ascii", "replace").strip()


def _demand_sealed(text: str, where: str) -> None:
    if not text:
        raise Unusable(f"{where} is empty: there is nothing to open")
    if text.startswith("capx1_"):
        raise Unusable(f"{where} is not sealed: use the token in it as it is")
    if not text.startswith(SEALED):
        raise Unusable(f"{where} is not sealed: a sealed text begins with {SEALED}")


def _bundle(text: str, key: "AgentKey", task: str | None) -> Bundle:
    try:
        return Bundle.unseal(text, key, task=task)
    except InvalidRequest as error:
        # Not a fault of the command line: somebody sent a token that is not for this agent.
        raise Unusable(str(error)) from None
    except MalformedToken as error:
        raise Unusable(f"{error}; if it is the key file of a resource, give --keys") from None


def _told(bundle: Bundle) -> "Iterator[Line]":
    """Say what was opened, so that a person sees whose work it is."""
    tenant = phrases.left_of(next(iter(bundle))).tenant
    yield from phrases.of_new_token((f"opened a token of task {bundle.task}", screen.GOOD), bundle)
    yield f"  for {'calls without a tenant' if tenant is None else f'tenant {shown(tenant)}'}"
    yield f"  held by {phrases.holder(bundle.hops)}"
    if bundle.holder is None:
        yield "  bound to no key: whoever reads it can use it", "yellow"


def _open_keys(text: str, key: "AgentKey", output: Output) -> None:
    if output.out is None:
        raise click.UsageError("--keys needs --out FILE: a key is a secret")
    try:
        opened = key.unseal(text, "keys")
    except MalformedToken as error:
        raise Unusable(f"{error}; if it is a token, leave out --keys") from None
    # A stranger can have sealed anything: only keys may take the place of the file.
    found = AudienceKeys.parse(opened, "what was opened")
    output.write(
        found.dump().rstrip("\n"),
        lambda: {"verified": False, "audience": found.audience, "authority": found.authority},
        (f"the keys of {found.audience}, of authority {found.authority}",),
    )
    screen.note(f"{_ANYBODY}. Compare the authority with the one that capx doctor shows in its home", "yellow")
