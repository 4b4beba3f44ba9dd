"""Guards: where a service's own code meets the verifier. One module for each kind of service.

`tool` guards functions in this process, `fastapi` FastAPI applications, `asgi` any other ASGI application.
"""
