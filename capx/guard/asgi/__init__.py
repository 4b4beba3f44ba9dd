"""The guard of any ASGI application.

    import capx
    from capx.guard.asgi import ASGIGuard, passage

    authority = capx.Authority.temporary()

    async def application(scope, receive, send):
        await passage(scope).judge_async("crm.read", {}, tenant="Acme")
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    guarded = ASGIGuard(application, authority.verifier("crm"))

Modules:

    guard            the middleware: it admits a request, then lets the application run
    response_gate    holds back an answer until its call was allowed
    messages         ASGI messages: the credential, the body, the answers of the guard
    slots            how much of HTTP is served at once, and to whom
"""

from capx.guard.asgi.guard import ASGIGuard, passage

__all__ = ["ASGIGuard", "passage"]
