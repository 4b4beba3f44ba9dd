"""The authority over HTTP, for callers who must not open its store.

    import capx
    from capx.server.app import everybody
    from capx.server.service import Service

    with capx.Authority.temporary() as authority:
        face = everybody(Service(authority))     # an ASGI application; `serve` runs both faces in one process

Callers:

    operators    over a Unix socket that only the user can open: everything an authority does (capx.RemoteAuthority)
    agents       over TCP, with a presentation of their authority capability, as at a resource (capx.AuthorityClient)
    resources    over TCP: the signed feed of revocations, and reports with their audience's key (capx.FeedSource)

A *face* is one of the two ASGI applications: one for operators, one for the network.

Modules:

    running, app, service    one process, its two faces, each in an event loop of its own, and what a face works with
    upkeep, log_limit        work in the background; a bound on the lines of the log
    operation, openapi       the route of an operation, and the OpenAPI document of a face
    faces/                   the operations of operators, agents and resources, and health
    callers                  who has sent a request, as its head shows
    waiting/                 agents and followers that wait for news
    net/                     sockets, connections, and limits on heads of unknown senders
    notify/                  hooks: programs elsewhere that are told what waits for people
    metrics                  figures for Prometheus
    workers, turns           threads with a bounded queue; a queue at which machines take turns

Laws:

- Both faces use one authority. A face never does what that authority would refuse.
- An answer means that the work is durable.
- Unknown input is refused: a field, a type, or a name in a query.
"""

from capx.server.running import Plan, serve

__all__ = ["Plan", "serve"]
