"""The `capx` command: which commands there are, and what their failures mean to a shell.

Laws: help for all of them is drawn from the table below, without loading any. A failure is one line on standard
error that says what to do, and of a policy a line more for each thing that is wrong with it: no traceback, since it
could show a secret (CAPX_DEBUG=1 asks for one), and no password of a URL. SIGTERM ends a command as Ctrl-C does, so
that it leaves no drafts behind; a second one ends it at once.
"""

import errno
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from capx_cli.failure import BROKEN_PIPE, DENIED, DONE, INTERRUPTED, TERMINATED, UNEXPECTED, UNUSABLE, USAGE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: Mapping[str, str] = {
    "demo": "Attack a review of Acme: session-scoped beside execution-scoped",
    "init": "Create the home of an authority: store and root key",
    "principal": "Make keys for people, and name people in the policy",
    "intent": "Write, sign, check, list and withdraw what people ask for",
    "policy": "Check, try, explain and test what intents get",
    "task": "Open, list, show, complete and withdraw tasks",
    "mint": "Mint one more capability for a task",
    "delegate": "Narrow a token for another agent, offline",
    "attenuate": "Narrow a token, offline",
    "ask": "Ask for more at run time, as an agent does",
    "present": "Bind a token to one call, for a resource to see",
    "call": "Present, send an HTTP request, and explain a refusal",
    "inspect": "Show what a token can still allow; verifies nothing",
    "can": "List what a token can still allow, a line each, for scripts",
    "diff": "Show what a delegation took away, between two tokens",
    "explain": "Foresee a call by what the token says itself; needs no key",
    "verify": "Judge a token against a call, with the keys of this home",
    "revoke": "Kill a node, a capability, a root or a key, and all below",
    "requests": "Show and answer what agents ask for at run time",
    "find": "Find recorded decisions, by agent, tenant, action or time",
    "why": "Explain a recorded decision",
    "log": "Show what happened, in order",
    "graph": "Draw the execution graph: hops, spends, and what is dead",
    "serve": "Serve the authority over HTTP: operators, agents, resources",
    "store": "Check, count, prune, back up and restore the store",
    "keys": "Export keys to resources, and rotate the root keys",
    "doctor": "Check home, keys, store, log and installation",
    "shell-setup": "Print completion for bash, zsh or fish",
    "export": "Write a token as other macaroon libraries read it",
    "import": "Read a token as other macaroon libraries write it",
    "schema": "Print the JSON Schema of a token's blocks",
}
SELDOM = ("export", "import", "schema")
"""Commands for those who build on capx: the help lists them last, apart from the others."""


COMPLETES = "_CAPX_COMPLETE"
"""The variable by which a shell asks what can be typed next."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_CANNOT_WRITE = "cannot write to standard output"


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was named; UsageError with the nearest name for one that there is not."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = "".join(f" Did you mean {each!r}?" for each in get_close_matches(args[0], COMMANDS, 1))
            raise click.UsageError(f"No such command {args[0]!r:.80}.{near}", ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Load one command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_") + "_" * iskeyword(cmd_name)
        command: click.Command = getattr(import_module(f"capx_cli.commands.{name}"), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Give the commands that begin so, from the table, and the options."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=about) for name, about in COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write names and short helps from the table."""
        for title, seldom in (("Commands", False), ("More commands", True)):
            with formatter.section(title):
                formatter.write_dl([(name, about) for name, about in COMMANDS.items() if (name in SELDOM) == seldom])


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 allowed or done, 1 denied or nothing fitted, 2 usage, 3 token, keys, store or service "
    "unusable, 70 a bug of capx.",
)
@click.version_option(package_name="capx-auth", message="capx %(version)s", help="Show the version.")
def capx() -> None:
    """Execution-scoped authority for autonomous agents.

    A task opens with what it may do; agents narrow their tokens for sub-agents offline; resources check each
    call; and when the task completes, all of it is dead. Tokens are read from standard input, --token-file,
    CAPX_TOKEN_FILE or CAPX_TOKEN, and are written alone to standard output, so that commands pipe.
    """


def main() -> None:
    """Run the command and leave with its exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run(sys.argv[1:]))


def _terminated(*_: object) -> NoReturn:
    """Leave in order, so that whatever was begun is tidied up."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(TERMINATED)


def run(args: Sequence[str]) -> int:
    """Run one command line; gives the exit code."""
    from capx_cli.screen import demand_written, prepare

    if not prepare():
        return _fail(f"{_CANNOT_WRITE}: it is closed", UNUSABLE)
    try:
        code = _invoke(args)
        demand_written()
    except BrokenPipeError:
        _let_go_of_output()
        return BROKEN_PIPE
    except OSError as error:
        _let_go_of_output()
        return _fail(f"{_CANNOT_WRITE}: {error.strerror}", UNUSABLE)
    return code


def _let_go_of_output() -> None:
    """Drop what cannot be written: Python would complain once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _invoke(args: Sequence[str]) -> int:
    from capx_cli.tokens import refuse_tokens

    try:
        refuse_tokens(args)
        result: object = capx.main(_asking_for_help(args), prog_name="capx", standalone_mode=False)
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
    except Exception as error:
        # The last place where a failure can be put into words.
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_ROOM:
            raise
        return _explain(error)
    return result if isinstance(result, int) else DONE


def _asking_for_help(args: Sequence[str]) -> list[str]:
    """The arguments, a last `-h` as `--help`, also where it is not declared since an id may begin with it."""
    plain = args[-1:] == ["-h"] and not any(each.startswith("-") for each in args[:-1])
    return [*args[:-1], "--help"] if plain else list(args)


def _with_hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "capx"
    message = error.format_message().rstrip(".")
    if error.ctx and message.startswith("Got unexpected extra argument"):
        reads_a_token = any(parameter.name == "token_file" for parameter in error.ctx.command.params)
        message += ": a file with a token is named by --token-file FILE" if reads_a_token else ""
    return f"{message}{'' if message.endswith('?') else '.'} See {path} --help"


def _explain(error: Exception) -> int:
    from capx.errors import CapxError, InvalidCaveat, InvalidRequest
    from capx.policy.toml_reader import InvalidFile
    from capx.verify.decision import Denied

    if os.environ.get("CAPX_DEBUG"):
        import traceback

        traceback.print_exc()
    if isinstance(error, Denied):
        return _fail(f"denied: {error}", DENIED)
    if isinstance(error, InvalidCaveat | InvalidRequest):
        return _fail(str(error), USAGE)
    if isinstance(error, InvalidFile) and len(error.lines) > 1:
        return _fail(f"{error.name} cannot be used:", UNUSABLE, error.lines)
    if isinstance(error, CapxError):
        return _fail(str(error), UNUSABLE)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "somewhere"
    return _fail(
        f"unexpected {type(error).__name__} at {where}: this is a bug of capx; CAPX_DEBUG=1 shows more", UNEXPECTED
    )


def _fail(message: str, code: int, more: Sequence[str] = ()) -> int:
    from capx_cli.escape import without_passwords
    from capx_cli.screen import note, warn
    from capx_cli.target import with_variable

    # Whoever interrupts waits for nobody who does not read.
    tell = warn if code == INTERRUPTED else note
    # A shell that completes would show it in the middle of what is being typed.
    if COMPLETES not in os.environ:
        tell(f"capx: {without_passwords(with_variable(message))}", "red")
        for line in more:
            tell(f"  {without_passwords(line)}")
    return code


if __name__ == "__main__":
    main()
