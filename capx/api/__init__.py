"""What authority, agents and resources say to each other over HTTP. Nothing of it is public.

    from capx.api.messages.agents import AskMore
    from capx.api.messages.base import decode_body, encode

    body = encode(AskMore(audience="billing", action="billing.refund", args={"amount": 20}))
    assert decode_body(body, AskMore).action == "billing.refund"

Modules:

    messages/        bodies, by who sends them
    operation        an operation: its method, its path, and the function that says the rest
    problems         errors as problem details, and back
    query_string     a query, read strictly into a type
    responses        a response as a message, or as the error that it tells
    deadline         a response, whole, within a time
    watchdog         the end of a connection on which nothing comes
    resource_auth    how a resource proves a report: a MAC under its audience's key

Law: what did not come whole, or not in time, is no answer.
"""
