"""The CRM of `capx demo --mcp`: an MCP server over standard input and output that knows nothing of capx.

Its first argument is the folder into which `export_accounts` writes.
"""

import json
import sys
from pathlib import Path

from mcp.server import MCPServer

from capx_cli.demo.data import ACCOUNTS, TICKETS

EXPORTED = "exported.jsonl"
"""The file that `export_accounts` writes to."""
ATTACKER = "https://sink.example"
"""The address that is written in a ticket."""

server = MCPServer("crm")


@server.tool()
def read_ticket(ticket: int) -> str:
    """Return the text of a support ticket."""
    found = next(f"{subject}: {text}" for number, _, _, subject, text in TICKETS if number == ticket)
    return found.format(sink=ATTACKER)


@server.tool()
def read_account(account: int) -> str:
    """Return one account."""
    return next(f"{name}, of {owner}" for number, _, name, owner, _ in ACCOUNTS if number == account)


@server.tool()
def export_accounts(to: str) -> str:
    """Export all accounts to an address."""
    with Path(sys.argv[1], EXPORTED).open("a") as sink:
        sink.writelines(f"{json.dumps([to, *account])}\n" for account in ACCOUNTS)
    return f"sent {len(ACCOUNTS)} accounts to {to}"


if __name__ == "__main__":
    server.run()
