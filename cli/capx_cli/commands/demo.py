"""`capx demo`: the story of an attacked review, session-scoped beside execution-scoped."""

import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import click

from capx_cli.failure import Unusable
from capx_cli.screen import as_json as write_json

_DIFFERED = 1


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rows of the table as JSON, and nothing else.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep policy, intent, keys and log in DIR, a new folder, and print commands to explore them.",
)
@click.option("--all", "every_row", is_flag=True, help="Show every row of the execution side, too.")
@click.option("--mcp", "of_mcp", is_flag=True, help="Another attack: on an agent whose CRM is an MCP server.")
@click.pass_context
def demo(context: click.Context, *, as_json: bool, keep: Path | None, every_row: bool, of_mcp: bool) -> None:
    """Attack the agents of a business review twice: with a session token, and with capx.

    The demo has a signed intent, a policy, `capx serve`, four services, their agents, a person who answers, and a
    server of the attacker. Each runs in a process of its own, and uses only the loopback interface. The exit code is 1
    if a result is not the expected one.

    With --mcp, an agent obeys what it reads in a ticket. It uses an MCP server that knows nothing of capx, first as it
    is, then behind capx mcp guard.

    Example: capx demo --keep ./acme
    """
    if of_mcp:
        if keep is not None or every_row:
            raise click.UsageError("--mcp takes neither --keep nor --all: it shows all that it does, and keeps nothing")
        context.exit(_mcp(as_json=as_json))
    if missing := [name for name in ("fastapi", "httpx", "prometheus_client", "uvicorn") if find_spec(name) is None]:
        raise Unusable(f"the demo needs {', '.join(missing)}: pip install 'capx-auth[demo]'")
    from rich.console import Console

    from capx_cli.demo import ending, story
    from capx_cli.demo.screen import Screen

    kept = None if keep is None else keep.absolute()
    if kept is not None:
        _demand_new(kept)
    console = Console(markup=False, emoji=False, highlight=False, quiet=as_json)
    screen = Screen(console)
    screen.intro()
    with ExitStack() as stack:
        home = kept or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="capx-demo-")))
        outcome = story.run(home, show=screen.show)
    ending.show(console, outcome, kept, every_row=every_row)
    ok = all(row.ok for row in outcome.rows)
    if as_json:
        write_json(
            {
                "ok": ok,
                "seconds": round(outcome.seconds, 2),
                "task": outcome.task,
                "denial": outcome.denial.get("id"),
                "home": None if kept is None else str(kept),
                "rows": [row.body() for row in outcome.rows],
            }
        )
    context.exit(0 if ok else _DIFFERED)


def _mcp(*, as_json: bool) -> int:
    if find_spec("mcp") is None:
        raise Unusable("the demo with --mcp needs mcp: pip install 'capx-auth[demo,mcp-guard]'")
    from rich.console import Console

    from capx_cli.demo import mcp_ending, mcp_story

    with tempfile.TemporaryDirectory(prefix="capx-demo-") as folder:
        outcome = mcp_story.run(Path(folder))
    ok = all(row.ok for row in outcome.rows)
    if as_json:
        write_json({"ok": ok, "seconds": round(outcome.seconds, 2), "rows": [row.body() for row in outcome.rows]})
    else:
        mcp_ending.show(Console(markup=False, emoji=False, highlight=False), outcome)
    return 0 if ok else _DIFFERED


def _demand_new(kept: Path) -> None:
    """Make the folder if it does not exist; UsageError if it is not a folder, or not empty."""
    try:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        empty = not any(kept.iterdir())
    except OSError as error:
        raise click.UsageError(f"{kept} cannot be a new folder for --keep: {error.strerror}") from None
    if not empty:
        raise click.UsageError(f"{kept} is not empty: name a new folder for --keep")
