"""The messages between authority, agents and resources over HTTP. Nothing in this package is public.

    from capx.api.messages.agents import AskMore
    from capx.api.messages.base import decode_body, encode

    body = encode(AskMore(audience="billing", action="billing.refund", args={"amount": 20}))
    assert decode_body(body, AskMore).action == "billing.refund"

Modules:

    messages/        bodies, by who sends them
    operation        an operation: its method, its path, and the function that carries it out
    problems         errors as problem details, and back
    query_string     a query, read strictly into a type
    responses        a response as a message, or as the error that it describes
    sse              the events that an authority streams
    tls              what is wrong with the certificates to trust, or with that of a server
    deadline         a whole response within a time limit
    watchdog         shuts down a connection on which nothing comes
    remote_text      what a remote party wrote, made safe to show
    jsonrpc          messages of JSON-RPC, read strictly and written anew
    relay/           a relay between a client and a server of MCP
    mcp_messages     what capx adds to messages of MCP, and how it refuses there
    resource_auth    how a resource proves a report: a MAC under its audience's key
    person_auth      how a person proves a request: a signature of their key

Law: an answer that is incomplete, or too late, does not count.
"""
