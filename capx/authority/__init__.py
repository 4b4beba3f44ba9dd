"""The authority: it opens tasks, mints and grants capabilities, and ends them.

    from capx.authority import Authority

    with Authority.temporary() as authority:
        task = authority.open(tenant="Acme", allow=["crm.read"])
        assert authority.complete(task.id).end == "completed"

Modules:

    authority, history        what an authority does, and what it can be asked about the past
    home                      the folder that one lives in
    opening, intent_use       open a task by hand or on an intent; mint
    requests/                 what agents ask for at run time, and what people answer
    ending, revoking          end a task; revoke a node, capability, root, key or instant
    restore                   put a backup in the place of a store
    graph/                    the execution graph, and what a revocation would affect
    in_process                the authority, as an agent of this process asks it
    remote/                   the authority elsewhere, for operators: operations, client, messages

`capx.RemoteAuthority` needs httpx, so it is no part of this face.
"""

from capx.authority.authority import Authority
from capx.authority.requests.verdict import Verdict

__all__ = ["Authority", "Verdict"]
