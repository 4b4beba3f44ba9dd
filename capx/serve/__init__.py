"""The authority over HTTP, for those who must not open its store.

    operators    over a Unix socket that is the user's alone: all that an authority does (capx.remote)
    agents       over TCP, by presenting their authority capability, as at any resource (capx.agent.client)
    resources    over TCP: the signed feed of deaths, and reports under their audience's key (capx.remote)

Laws: two faces of one application, over one authority. No face does what an authority in this process would refuse, and
every answer stands for what is durable. Nothing unknown passes: not a field, not a type, not a name in a query.
"""
