"""The guard of a FastAPI application; needs FastAPI.

    import capx
    from capx.guard.fastapi import GRANTED, FastAPIGuard
    from fastapi import FastAPI

    authority = capx.Authority.temporary()
    app = FastAPI(openapi_url=None)
    guard = FastAPIGuard(authority.verifier("crm"))
    guard.protect(app)

    @app.get("/accounts/{id}")
    @guard.action("crm.accounts.read", tenant=GRANTED)
    async def read(id: int) -> int:
        return id

Modules:

    guard               the three places: a middleware, a first dependency, a wrapper of each endpoint
    endpoint            the action that an endpoint states, and the wrapper that judges its arguments
    deferred            the check of an endpoint that learns its tenant from a row
    routes              every route: guarded, public, or a reason not to start
    argument_sources    where the arguments come from: parameters, a table of paths, or a function
    defaults            which parameters, and members of models, have their defaults
    denied_arguments    the arguments that a denial names, of a call whose action is denied
    inputs              inputs of an endpoint that have no name as arguments
    named_classes       objects of classes that the types of an endpoint do not name
"""

from capx.guard.fastapi.guard import GRANTED, Check, FastAPIGuard, SyncCheck

__all__ = ["GRANTED", "Check", "FastAPIGuard", "SyncCheck"]
