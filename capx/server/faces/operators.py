"""The face of operators: every operation of `capx.authority.remote.operations`, on the served authority.

Law: a caller of this face may do everything. So it is only on a Unix socket that nobody but the user can open.
"""

from starlette.routing import Route

from capx.authority.remote.operations import OPERATIONS
from capx.server.faces.event_streams import follow_log
from capx.server.operation import route
from capx.server.service import Service


def routes(service: Service) -> list[Route]:
    """The routes of all operations of operators."""
    return [
        route(one, service, service.authority, service.operators, stream=follow_log if one.streams else None)
        for one in OPERATIONS
    ]
