"""The authority over HTTP, for those who must not open its store.

    import capx
    from capx.server.app import everybody
    from capx.server.service import Service

    with capx.Authority.temporary() as authority:
        face = everybody(Service(authority))     # an ASGI application; `serve` runs both faces in one process

Callers:

    operators    over a Unix socket that is the user's alone: all that an authority does (capx.RemoteAuthority)
    agents       over TCP, by presenting their authority capability, as at any resource (capx.AuthorityClient)
    resources    over TCP: the signed feed of revocations, and reports under their audience's key (capx.FeedSource)

Modules:

    running, app, service    one process, its two ASGI applications, and what they share
    operation, openapi       the route of an operation, and the document that describes all of a face
    faces/                   the operations of operators, agents and resources, and health
    waiting/                 agents and followers that wait for news
    net/                     sockets, connections, and bounds on bodies of unknown senders
    metrics, workers         figures for Prometheus; threads with a bounded queue

Laws: two faces of one application, over one authority. No face does what an authority in this process would refuse, and
every answer stands for what is durable. Nothing unknown passes: not a field, not a type, not a name in a query.
"""

from capx.server.running import Plan, serve

__all__ = ["Plan", "serve"]
