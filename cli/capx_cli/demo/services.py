"""The four services of the demo: CRM, support tickets, slides, revenue warehouse.

Laws: each service is its own process with its own data. It gets only its data and what it needs to check a credential.
The code of a service is the same on both sides; only the guard before it differs.

`python -m capx_cli.demo.services NAME SIDE` writes its port to stdout, and ends when its stdin does.
"""

import os
import socket
import sqlite3
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import uvicorn
from fastapi import Body, FastAPI

from capx.guard.fastapi import FastAPIGuard, SyncCheck
from capx_cli.demo.data import opened
from capx_cli.demo.process import end_with_parent, say
from capx_cli.demo.session import SessionGuard

_DECK: Final = "SELECT * FROM decks WHERE id = ?"


class Route(NamedTuple):
    """One endpoint of a service: its method and path, its action, and its function."""

    method: str
    path: str
    action: str
    endpoint: Callable[..., Any]


def accounts(tenant: str, check: SyncCheck) -> list[dict[str, Any]]:
    """List the accounts of one tenant."""
    check(tenant=tenant)
    return _rows("SELECT * FROM accounts WHERE tenant = ? ORDER BY id", tenant)


def account(id: int, check: SyncCheck) -> dict[str, Any]:
    """Return one account."""
    return _only(_rows("SELECT * FROM accounts WHERE id = ?", id), check)


def credit(id: int, amount: Annotated[int, Body(embed=True)], check: SyncCheck) -> dict[str, Any]:
    """Credit one account with some dollars."""
    _only(_rows("SELECT * FROM accounts WHERE id = ?", id), check)
    with _data() as db:
        db.execute("INSERT INTO credits VALUES (?, ?)", (id, amount))
    return {"account": id, "credited": amount}


def export(check: SyncCheck) -> list[dict[str, Any]]:
    """Return every account of every tenant."""
    check()
    return _rows("SELECT * FROM accounts ORDER BY id")


def tickets(tenant: str, check: SyncCheck) -> list[dict[str, Any]]:
    """List the tickets of one tenant, without their text."""
    check(tenant=tenant)
    return _rows("SELECT id, state, subject FROM tickets WHERE tenant = ? ORDER BY id", tenant)


def ticket(id: int, check: SyncCheck) -> dict[str, Any]:
    """Return one ticket."""
    return _only(_rows("SELECT * FROM tickets WHERE id = ?", id), check)


def revenue(tenant: str, quarter: str, check: SyncCheck) -> list[dict[str, Any]]:
    """List what one tenant paid in each month of a quarter."""
    check(tenant=tenant)
    query = "SELECT month, dollars FROM revenue WHERE tenant = ? AND quarter = ? ORDER BY rowid"
    return _rows(query, tenant, quarter)


def tables(tenant: str, check: SyncCheck) -> list[str]:
    """List the tables that hold something of one tenant."""
    check(tenant=tenant)
    return ["revenue"]


def deck(deck: str, check: SyncCheck) -> list[dict[str, Any]]:
    """List the slides of one deck."""
    _only(_rows(_DECK, deck), check)
    return _rows("SELECT position, heading, text FROM slides WHERE deck = ? ORDER BY position", deck)


def write(
    deck: str, position: int, heading: Annotated[str, Body()], text: Annotated[str, Body()], check: SyncCheck
) -> dict[str, Any]:
    """Write one slide."""
    _only(_rows(_DECK, deck), check)
    with _data() as db:
        db.execute("INSERT OR REPLACE INTO slides VALUES (?, ?, ?, ?)", (deck, position, heading, text))
    return {"deck": deck, "position": position}


def publish(deck: str, check: SyncCheck) -> dict[str, Any]:
    """Publish one deck to the customer."""
    _only(_rows(_DECK, deck), check)
    with _data() as db:
        db.execute("UPDATE decks SET published = 1 WHERE id = ?", (deck,))
    return {"deck": deck, "published": True}


ROUTES: Final = {
    "crm": [
        Route("GET", "/accounts", "crm.accounts.list", accounts),
        Route("GET", "/accounts/{id}", "crm.accounts.read", account),
        Route("POST", "/accounts/{id}/credit", "crm.credit", credit),
        Route("GET", "/export", "crm.export", export),
    ],
    "support": [
        Route("GET", "/tickets", "support.tickets.list", tickets),
        Route("GET", "/tickets/{id}", "support.tickets.read", ticket),
    ],
    "warehouse": [
        Route("GET", "/tables", "warehouse.tables.list", tables),
        Route("GET", "/revenue", "warehouse.revenue.read", revenue),
    ],
    "slides": [
        Route("GET", "/decks/{deck}", "slides.read", deck),
        Route("PUT", "/decks/{deck}/slides/{position}", "slides.write", write),
        Route("POST", "/decks/{deck}/publish", "slides.publish", publish),
    ],
}


def build(service: str, guard: FastAPIGuard | SessionGuard) -> FastAPI:
    """Make the application of one service behind a guard."""
    # Without an OpenAPI route: it would state no action, and then the guard would not let the application start.
    app = FastAPI(openapi_url=None)
    # Before the routes, so that the guard is the first dependency of each.
    guard.protect(app)
    for route in ROUTES[service]:
        app.add_api_route(route.path, guard.deferred(route.action)(route.endpoint), methods=[route.method])
    return app


def main(service: str, side: str) -> None:
    """Serve until the parent process ends."""
    guard = FastAPIGuard.from_env() if side == "execution" else SessionGuard.from_env()
    server = uvicorn.Server(uvicorn.Config(build(service, guard), log_level="warning", access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        # An answer is written in two parts, of which the second would wait for the first to be acknowledged.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The socket listens already, so a call that comes before the server runs only waits.
        say({"port": listening.getsockname()[1]})
        end_with_parent()
        server.run(sockets=[listening])


def _data() -> AbstractContextManager[sqlite3.Connection]:
    return opened(Path(os.environ["DEMO_DATA"]))


def _rows(query: str, *values: object) -> list[dict[str, Any]]:
    with _data() as db:
        return [dict(row) for row in db.execute(query, values)]


def _only(rows: list[dict[str, Any]], check: SyncCheck) -> dict[str, Any]:
    """Check the tenant of the one row, and return it; a missing row is answered like one of another tenant."""
    if not rows:
        check.missing()
    check(tenant=rows[0]["tenant"])
    return rows[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
