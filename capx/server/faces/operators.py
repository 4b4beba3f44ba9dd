"""The face of operators: every operation of `capx.authority.remote.operations`, on the authority that is served.

Law: whoever reaches this face may do anything, so it stands on a socket that is the user's alone, and nowhere else.
"""

from starlette.routing import Route

from capx.authority.remote.operations import OPERATIONS
from capx.server.faces.event_streams import follow_log
from capx.server.operation import route
from capx.server.service import Service


def routes(service: Service) -> list[Route]:
    """The routes of all that operators can ask for."""
    return [
        route(one, service, service.authority, service.operators, stream=follow_log if one.streams else None)
        for one in OPERATIONS
    ]
