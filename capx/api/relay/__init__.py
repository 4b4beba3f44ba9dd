"""A relay of MCP messages between a client and a server: what both proxies, `guard` and `present`, are made of.

Modules:

    lines          the lines of a stream, of bounded length
    streams        standard input and output of this process, as a client's connection
    child          a server that is a child process
    connection     what a relay needs of a server and of a client
    event_stream   an event stream of HTTP, read event by event
    http_headers   the headers in which MCP repeats what a message says
    http_exchange  one message that is sent over HTTP, and what comes back
    http_server    a server that is reached over HTTP
    refusals       the response to a request that a proxy refuses
    relay          the relay: each request goes through a handler, and answers find their requests by id

Law: a message that is sent on is written anew from what was read (capx.api.jsonrpc). Bytes never pass through.
"""
