"""Guards of MCP servers: each request is admitted and judged before the server sees it.

    from capx.guard.mcp.table import ToolSpec, ToolTable

    table = ToolTable("files", {"read_text_file": ToolSpec("files.read")})
    assert table.spec("tool", "write_file") is None

Modules:

    server             the guard of a server in its own process: MCPServer of mcp 2, or FastMCP 4
    server_middleware  the middleware of such a server, which puts each request through the gate
    server_seams       the places of such a server at which the guard stands
    functions          functions of such a server that judge their own calls
    parameters         what pydantic makes of the parameters of such a function
    proxy              a guard in a process of its own, for servers that know nothing of capx
    listener           such a guard before a server that is reached over HTTP: an ASGI application
    http_messages      HTTP as that guard serves it
    server_requests    what a server over HTTP has asked its clients
    inbound            the messages of its clients: the head first, then the body
    sessions           the sessions of MCP that are a caller's, and the streams that are open
    gate               which requests pass, and what of the answers; no transport
    resource_uri       the one spelling in which a resource is served
    requested_call     the call that a request is: of a tool, a prompt, a resource, or another method
    closed_params      which members of its params reach the server, for each method
    table              which action a tool is, in code or in a file
    definitions        what a server says of its tools, and the digest by which an operator approves it
    tool_list          the tools of a server, for an operator who makes a table
    member_names       names of members that some server could take for others
    arguments          arguments that are judged as they were sent, if no server can read them otherwise
"""
