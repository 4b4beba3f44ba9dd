"""An agent: it acts with its bundle, and asks for more when a call is denied.

    import capx
    from capx.agent import Agent, acting

    authority = capx.Authority.temporary()
    agent = Agent(authority.open(allow=["crm.read"]).bundle, authority=authority)
    with acting(agent):
        assert agent.status().state == "active"

Modules:

    agent                    the agent: its bundle, its authority, its HTTP clients
    actor                    the bundle or agent for which the running code acts
    context_block            a `with` block for which a context variable has a value
    working                  a `with` block in which an agent works, at whose end it completes its task
    framework                what adapters of agent frameworks share: texts for models, and sub-agents
    langchain                LangChain and LangGraph
    unfinished_work          functions that return before their work is done
    next_asks, ask_queue     what to ask for after a denial; the asks of an agent that wait for an answer
    call_asks                the asks of one call, and how the call ends
    unproven_grants          the grants that have not helped yet: after a few in vain, an agent asks no more
    httpx_client             an httpx client that presents each request
    httpx2_client            the same for httpx2
    requests_adapter         the same for requests: a session, or an adapter for your own
    presenting_transport     the transports under both, which send a token to a configured origin only
    http_library             what presenting needs of either library
    redirected               the error for a redirect, which no client follows
    mcp_client               a client of MCP servers that presents each request
    mcp_request              what both clients of MCP put into a request
    library_version          the versions of a library that an adapter was made for
    presented_call           one call that is sent: the capabilities that are tried, the denials, the asks
    presented_request        one HTTP request that is presented, and what its answers say
    mcp_presenter            presents the requests of an MCP client, and asks for more
    response_peek            the beginning of a response, read without using it up
    authority_client         the authority over HTTP
    agent_authority          what an agent calls at an authority, in this process or over HTTP
    protocols                who acts for a holder, and a guard of calls
    env                      how to make an agent from environment variables

`capx.AuthorityClient` needs httpx, so this package does not export it.
"""

from capx.agent.actor import acting
from capx.agent.agent import Agent
from capx.agent.agent_authority import AgentAuthority

__all__ = ["Agent", "AgentAuthority", "acting"]
