"""`capx notify`: try the hooks that `capx serve --notify` tells what waits for people."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import phrases, screen
from capx_cli.failure import DONE, UNUSABLE, Unusable
from capx_cli.view import json_option

if TYPE_CHECKING:
    from capx.server.notify.hook import Hook
    from capx.server.notify.notices import Notice

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=phrases.InOrder)
def notify() -> None:
    """Tell programs elsewhere what waits for people: try the hooks of capx serve --notify.

    A hook is a URL or a command, in a file of TOML. It is told when a request waits for a person, lapses or is
    answered, when many calls of a task are denied, and when a person signs with another key than before.

    Example: capx notify test hooks.toml
    """


@notify.command(short_help="Send a test to each hook of a file, or to one.")
@click.argument("file", type=_FILE)
@click.argument("hook", required=False)
@json_option
def test(file: Path, hook: str | None, as_json: bool) -> int:
    """Send a notice of the kind test to each hook of FILE, or to HOOK alone, and say whether it was taken.

    No authority is needed, and nothing is repeated. The exit code is 3 if a hook has not taken it.

    Example: capx notify test hooks.toml
    """
    if find_spec("httpx") is None:
        raise Unusable("hooks need httpx: pip install 'capx-auth[serve]'")
    from capx.server.notify.file import load_hooks
    from capx.server.notify.notices import test_notice

    hooks = load_hooks(file)
    chosen = [one for one in hooks if hook in {None, one.name}]
    if not chosen:
        raise click.UsageError(f"{file} has no hook {hook!r:.80}: it has {', '.join(one.name for one in hooks)}")
    found: list[dict[str, Any]] = []
    for one in chosen:
        notice = test_notice(int(time.time()))
        with screen.busy(f"telling {one.name}"):
            why = _why_not(one, notice)
        found.append({"hook": one.name, "id": notice.id, "taken": why is None, "why": why})
        if not as_json:
            said = "has taken it" if why is None else f"has not taken it: {why}"
            screen.say(f"{one.name} {said}", screen.GOOD if why is None else screen.BAD)
    if as_json:
        screen.as_json(found)
    return DONE if all(one["taken"] for one in found) else UNUSABLE


def _why_not(hook: "Hook", notice: "Notice") -> str | None:
    from capx.server.notify.delivery import Delivery
    from capx.server.notify.hook import NotTaken

    try:
        Delivery(hook).deliver(notice)
    except NotTaken as problem:
        return str(problem)
    return None
