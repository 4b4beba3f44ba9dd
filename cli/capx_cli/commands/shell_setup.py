"""`capx shell-setup`: print completion."""

import os
import sys
from pathlib import Path

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS), metavar="[bash|zsh|fish]", required=False)
def shell_setup(shell: str | None) -> None:
    """Print lines for a shell's start-up file that complete commands, options, and ids of this home.

    The default of SHELL is the shell in $SHELL.

    Example: eval "$(capx shell-setup bash)"
    """
    from click.shell_completion import get_completion_class

    from capx_cli.main import COMPLETES

    meant = shell or Path(os.environ.get("SHELL", "")).name
    completion = get_completion_class(meant) if meant in _SHELLS else None
    if completion is None:
        raise click.UsageError(f"name a shell: {', '.join(_SHELLS)}")
    root = click.get_current_context().find_root().command
    sys.stdout.write(completion(root, {}, "capx", COMPLETES).source() + "\n")
