"""The `capx` command: which commands there are, and what their failures mean to a shell.

Laws: help for all of them is drawn from the table below, without loading any. A failure is one line on standard
error that says what to do; no traceback, since it could show a secret (CAPX_DEBUG=1 asks for one).
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from capx_cli.failure import BROKEN_PIPE, DENIED, DONE, INTERRUPTED, UNEXPECTED, UNUSABLE, USAGE

COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "demo": ("capx_cli.commands.demo", "demo", "Run the Acme QBR, attacked: session-scoped beside execution-scoped"),
    "init": ("capx_cli.commands.init", "init", "Create the home of an authority: store and root key"),
    "task": ("capx_cli.commands.task", "task", "Open, list, show, complete and withdraw tasks"),
    "mint": ("capx_cli.commands.mint", "mint", "Mint one more capability for a task"),
    "delegate": ("capx_cli.commands.delegate", "delegate", "Narrow a token for another agent, offline"),
    "attenuate": ("capx_cli.commands.attenuate", "attenuate", "Narrow a token, offline"),
    "present": ("capx_cli.commands.present", "present", "Bind a token to one call, for a resource to see"),
    "call": ("capx_cli.commands.call", "call", "Present, send an HTTP request, and explain a refusal"),
    "inspect": ("capx_cli.commands.inspect", "inspect", "Show what a token can still allow; verifies nothing"),
    "verify": ("capx_cli.commands.verify", "verify", "Judge a token against a call, with the keys of this home"),
    "revoke": ("capx_cli.commands.revoke", "revoke", "Kill a node, a capability or a root, and all below"),
    "why": ("capx_cli.commands.why", "why", "Explain a recorded decision"),
    "graph": ("capx_cli.commands.graph", "graph", "Draw the execution graph, the dead parts marked"),
    "keys": ("capx_cli.commands.keys", "keys", "Export the keys that a resource verifies with"),
    "doctor": ("capx_cli.commands.doctor", "doctor", "Check home, keys, store, log and installation"),
    "shell-setup": ("capx_cli.commands.shell_setup", "shell_setup", "Print completion for bash, zsh or fish"),
}


class _NobodyReads(Exception):
    """A broken pipe, kept from click, which would leave with 1: that says "denied" here."""


class Lazy(click.Group):
    """A group that loads a command when it is asked for."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the command line."""
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError:
            raise _NobodyReads from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _NobodyReads from None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Give the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Load one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write names and short helps from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, _, short) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"capx {version('capx-auth')}")
        ctx.exit()


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["--help"], "max_content_width": 110},
    epilog="Exit codes: 0 allowed or done, 1 denied, 2 usage, 3 token, keys, store or service unusable.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def capx() -> None:
    """Execution-scoped authority for autonomous agents.

    A task opens with what it may do; agents narrow their tokens for sub-agents offline; resources check each
    call; and when the task completes, all of it is dead. Tokens are read from standard input, --token-file,
    CAPX_TOKEN_FILE or CAPX_TOKEN, and are written alone to standard output, so that commands pipe.
    """


def main() -> None:
    """Run the command and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command line; gives the exit code."""
    from capx_cli.screen import prepare

    prepare()
    try:
        code = _invoke(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _invoke(args: Sequence[str]) -> int:
    from capx_cli.tokens import refuse_tokens

    try:
        refuse_tokens(args)
        result: object = capx.main(list(args), prog_name="capx", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.UsageError as error:
        return _fail(_with_hint(error), USAGE)
    except click.Abort:
        return _fail("interrupted", INTERRUPTED)
    except click.ClickException as error:
        return _fail(error.format_message(), UNUSABLE)
    except _NobodyReads:
        raise BrokenPipeError from None
    except Exception as error:  # noqa: BLE001 - the last place where a failure can be put into words
        return _explain(error)
    return result if isinstance(result, int) else DONE


def _with_hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "capx"
    return f"{error.format_message().rstrip('.')}. See {path} --help"


def _explain(error: Exception) -> int:
    from capx.decision import Denied
    from capx.errors import CapxError, InvalidCaveat, InvalidRequest

    if os.environ.get("CAPX_DEBUG"):
        import traceback

        traceback.print_exc()
    if isinstance(error, Denied):
        return _fail(f"denied: {error}", DENIED)
    if isinstance(error, InvalidCaveat | InvalidRequest):
        return _fail(str(error), USAGE)
    if isinstance(error, CapxError):
        return _fail(str(error), UNUSABLE)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "somewhere"
    return _fail(
        f"unexpected {type(error).__name__} at {where}: this is a bug of capx; CAPX_DEBUG=1 shows more", UNEXPECTED
    )


def _fail(message: str, code: int) -> int:
    from capx_cli.screen import note

    note(f"capx: {message}", "red")
    return code


if __name__ == "__main__":
    main()
