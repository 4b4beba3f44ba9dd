"""Both kinds of servers, and the client of this process, are what a relay takes them for."""

import pickle
from typing import TYPE_CHECKING

from capx.api.relay.connection import Gone

if TYPE_CHECKING:
    from capx.api.relay.child import Child
    from capx.api.relay.connection import Connection, Server
    from capx.api.relay.http_server import HttpServer
    from capx.api.relay.streams import Streams


def taken_by_a_relay(child: "Child", http: "HttpServer", own: "Streams") -> "tuple[Server, Server, Connection]":
    # The type checkers are the test.
    return child, http, own


def test_that_the_other_side_is_gone_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(Gone("the server has left")))
    assert (type(again), str(again)) == (Gone, "the server has left")
