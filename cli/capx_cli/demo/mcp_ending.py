"""What `capx demo --mcp` shows: what the model read, without a guard and with one, and the rows.

Law: it shows only what it was given. Text of the server is shown without effect on the terminal.
"""

from rich.console import Console
from rich.text import Text

from capx_cli.demo.ending import indented, table, titled, verdict
from capx_cli.demo.mcp_story import Outcome, Run
from capx_cli.escape import clean
from capx_cli.screen import BAD, STRONG


def show(console: Console, outcome: Outcome) -> None:
    """Print what the model read in both runs, and the rows."""
    titled(console, "An agent and an MCP server as they are: what the model read, and what happened")
    _show(console, outcome, "direct", outcome.direct)
    titled(console, "The same agent and the same server, with capx mcp guard between them")
    _show(console, outcome, "guarded", outcome.guarded)
    verdict(console, outcome.rows, outcome.seconds)
    console.print(Text("Next: docs/integrations/mcp-proxy.md guards a server of yours in the same way."))


def _show(console: Console, outcome: Outcome, side: str, run: Run) -> None:
    for read in run.read:
        said = Text(clean(read.text), BAD if read.is_error else "")
        indented(console, Text.assemble((f"{read.tool}  ", STRONG), said))
    table(console, [row for row in outcome.rows if row.side == side])
