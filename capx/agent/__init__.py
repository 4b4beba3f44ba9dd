"""Who acts: an agent with its bundle, and how it asks for what it is refused.

    import capx
    from capx.agent import Agent, acting

    authority = capx.Authority.temporary()
    agent = Agent(authority.open(allow=["crm.read"]).bundle, authority=authority)
    with acting(agent):
        assert agent.status().state == "active"

Modules:

    agent                    the agent: its bundle, its authority, its HTTP clients
    actor                    on whose behalf the running code acts
    next_asks, ask_queue     what to ask for after a denial; asks under way, the same one once at a time
    httpx_client             an httpx client that presents each request
    response_peek            the beginning of a response, read without using it up
    authority_client         the authority over HTTP
    protocols                what an agent needs of an authority, in this process or over HTTP
    env                      what the environment of a process gives an agent

`capx.AuthorityClient` needs httpx, so it is no part of this face.
"""

from capx.agent.actor import acting
from capx.agent.agent import Agent

__all__ = ["Agent", "acting"]
