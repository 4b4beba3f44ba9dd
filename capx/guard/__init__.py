"""Guards: they put a verifier in front of a service's own code.

    import capx

    authority = capx.Authority.temporary()

    @authority.tool("crm.read", tenant="Acme")
    def read(id):
        return id, capx.current_allowed().tenant

    with capx.acting(authority.open(tenant="Acme", allow=["crm.read"]).bundle):
        assert read(7) == (7, "Acme")

Modules:

    tool              functions of this process
    judged_call       one call of code in this process, from its presentation to its decision
    judged_function   a function that is judged with the very arguments with which it runs
    asgi/             any ASGI application
    fastapi/          FastAPI applications
    mcp/              servers of the Model Context Protocol
    guarded_request   one request on its way through a guard of a service, from admission to decision
    call_facts        the facts of a call that a guard states: arguments, tenant, attributes, cost
    json_values       Python values as the JSON that caveats judge
    model_values      what a pydantic model holds, by the names that callers use; needs pydantic, as do the next three
    hidden_fields     parameter types that could hide input from the caveats
    ignored_members   models that ignore members which a validator sees
    unions            unions whose members look alike to caveats
    argument_copy     the copy of the arguments that is judged and runs
    current           the decision that allowed the running tool
    observer          what a guard reports of its decisions: a log line, a callback, a span
    decision_counter  counts decisions for Prometheus
"""

from capx.guard.call_facts import GRANTED
from capx.guard.current import current_allowed
from capx.guard.tool import ToolGuard, on_loop

__all__ = ["GRANTED", "ToolGuard", "current_allowed", "on_loop"]
