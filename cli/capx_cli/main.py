"""The `capx` command: its commands, and how their failures look to a shell.

Laws:

- The help that lists the commands comes from the table below. It loads none of them.
- A failure is one line on standard error that says what to do. A policy with several mistakes gets one more line for
  each.
- There is no traceback, because it could show a secret (CAPX_DEBUG=1 asks for one), and no password of a URL.
- SIGTERM ends a command as Ctrl-C does, so that it leaves no drafts behind. A second SIGTERM ends it at once.
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
    "demo": "Attack agents twice: with a session token, and with capx",
    "init": "Create the home of an authority: store and root key",
    "principal": "Make keys for people, and name people in the policy",
    "agent-key": "Make keys for agents, and show their public halves",
    "intent": "Write, sign, check, list and withdraw what people ask for",
    "policy": "Check, try, explain and test what intents get",
    "task": "Open, list, show, complete and withdraw tasks",
    "mint": "Mint one more capability for a task",
    "delegate": "Narrow a token for another agent, offline",
    "attenuate": "Narrow a token, offline",
    "seal": "Seal a token, so that only one agent can read it",
    "unseal": "Open a token that was sealed for this agent",
    "ask": "Ask for more at run time, as an agent does",
    "approval": "Ask people to approve a call by file, and use their answer",
    "present": "Bind a token to one call, for a resource to see",
    "statement": "State that a call is permitted, for who holds no key",
    "call": "Present a token, send an HTTP request, explain a denial",
    "inspect": "Show what a token can still allow, verify nothing",
    "can": "List what a token can still allow, for scripts",
    "diff": "Show what a delegation took away, between two tokens",
    "explain": "Foresee a call from the token itself, without a key",
    "verify": "Judge a token against a call, with the keys of this home",
    "revoke": "Revoke a node, a capability, a root or a key, and all below",
    "requests": "Show and answer what agents ask for at run time",
    "find": "Find recorded decisions, by agent, tenant, action or time",
    "why": "Explain a recorded decision",
    "log": "Show what happened, in order",
    "graph": "Draw the execution graph: hops, spends, and what is dead",
    "mcp": "Guard MCP servers, and present the calls of MCP clients",
    "serve": "Serve the authority over HTTP: operators, agents, resources",
    "notify": "Try the hooks that serve tells what waits for people",
    "checkpoint": "Sign the log, and hold it to what was signed",
    "ledger": "Check the decisions that a service without a store keeps",
    "witness": "Cosign checkpoints of the logs of others",
    "proof": "Prove what a task did, to whoever has public keys alone",
    "store": "Check, count, prune, back up and restore the store",
    "keys": "Export keys to resources, and rotate the root keys",
    "doctor": "Check home, keys, store, log and installation",
    "shell-setup": "Print completion for bash, zsh or fish",
    "export": "Write a token for other macaroon libraries",
    "import": "Read a token from other macaroon libraries",
    "schema": "Print the JSON Schema of a token's blocks",
}
SELDOM = ("export", "import", "schema")
"""Commands that few people need: the help lists them last, in a section of their own."""


COMPLETES = "_CAPX_COMPLETE"
"""The variable with which a shell asks for completion."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_CANNOT_WRITE = "cannot write to standard output"


class _NobodyReads(Exception):
    """A broken pipe, hidden from click: click would exit with 1, which means "denied" here."""


class Lazy(click.Group):
    """A group that loads a command only when it is needed."""

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
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown one, UsageError names the nearest."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            meant = "requests" if args[0] == "inbox" else args[0]
            near = "".join(f" Did you mean {each!r}?" for each in get_close_matches(meant, COMMANDS, 1))
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
        """Return the commands that begin with this text, from the table, and the options."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=about) for name, about in COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the names and short helps of the table."""
        for title, seldom in (("Commands", False), ("More commands", True)):
            with formatter.section(title):
                formatter.write_dl([(name, about) for name, about in COMMANDS.items() if (name in SELDOM) == seldom])


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 allowed or done, 1 denied, nothing matched or a proof is broken or contradicted, 2 usage, 3 "
    "token, keys, store or service unusable, 4 a proof is incomplete, 70 a bug of capx.",
)
@click.version_option(package_name="capx-auth", message="capx %(version)s", help="Show the version.")
def capx() -> None:
    """Execution-scoped authority for autonomous agents.

    A task opens with what it may do. Agents narrow their tokens for sub-agents, offline. Resources check each call.
    When the task completes, all its tokens are dead. A command reads a token from standard input, --token-file,
    CAPX_TOKEN_FILE or CAPX_TOKEN. It writes only the token to standard output, so commands can be piped; or, with --out
    FILE, to a file that only you may read.
    """


def main() -> None:
    """Run the command, and exit with its exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run(sys.argv[1:]))


def _terminated(*_: object) -> NoReturn:
    """Exit in order, so that all cleanup runs."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(TERMINATED)


def run(args: Sequence[str]) -> int:
    """Run one command line; return the exit code."""
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
    """Drop what cannot be written: Python would complain again when it flushes at exit."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


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
        # Catch everything: this is the last place that can turn a failure into a sentence.
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_ROOM:
            raise
        return _explain(error)
    return result if isinstance(result, int) else DONE


def _asking_for_help(args: Sequence[str]) -> list[str]:
    """Return the arguments, with a last `-h` as `--help`: `-h` is not declared where an id may begin with it."""
    plain = args[-1:] == ["-h"] and not any(each.startswith("-") for each in args[:-1])
    return [*args[:-1], "--help"] if plain else list(args)


def _with_hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "capx"
    message = error.format_message().rstrip(".")
    if error.ctx and message.startswith("Got unexpected extra argument"):
        reads_a_token = any(parameter.name == "token_file" for parameter in error.ctx.command.params)
        message += ": to name a file with a token, use --token-file FILE" if reads_a_token else ""
    return f"{message}{'' if message.endswith('?') else '.'} See {path} --help"


def _explain(error: Exception) -> int:
    import traceback

    from capx.errors import CapxError, InvalidCaveat, InvalidRequest
    from capx.policy.toml_reader import InvalidFile
    from capx.verify.decision import Denied

    if os.environ.get("CAPX_DEBUG"):
        traceback.print_exc()
    if isinstance(error, Denied):
        return _fail(f"denied: {error}", DENIED)
    if isinstance(error, InvalidCaveat | InvalidRequest):
        return _fail(str(error), USAGE)
    if isinstance(error, InvalidFile) and len(error.lines) > 1:
        return _fail(f"{error.name} cannot be used:", UNUSABLE, error.lines)
    if isinstance(error, CapxError):
        return _fail(str(error), UNUSABLE)
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return _fail(
        f"unexpected {type(error).__name__} at {where}: this is a bug of capx; CAPX_DEBUG=1 shows more", UNEXPECTED
    )


def _fail(message: str, code: int, more: Sequence[str] = ()) -> int:
    from capx_cli.escape import without_passwords
    from capx_cli.screen import note, warn
    from capx_cli.target import with_variable

    # After Ctrl-C, do not wait for standard output: perhaps nobody reads it.
    tell = warn if code == INTERRUPTED else note
    # A shell that completes would show the message in the middle of the typed line.
    if COMPLETES not in os.environ:
        tell(f"capx: {without_passwords(with_variable(message))}", "red")
        for line in more:
            tell(f"  {without_passwords(line)}")
    return code


if __name__ == "__main__":
    main()
