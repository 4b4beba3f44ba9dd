"""The authority: it opens tasks, mints and grants capabilities, and ends them.

    from capx.authority import Authority

    with Authority.temporary() as authority:
        task = authority.open(tenant="Acme", allow=["crm.read"])
        assert authority.complete(task.id).end == "completed"

Modules:

    authority, history        the operations of an authority; reading its past
    home                      the folder with the root keys, the store and the policy
    opening, intent_use       open a task by hand or on an intent; mint
    agent_keys                which key of an agent a task names; the keys that it never names again
    row_guard                 the marks of the rows that it mints from, and its memory of deaths
    uses                      for how many calls a consent is good
    requests/                 agents ask for more at run time, people answer
    ending, revoking          end a task; revoke a node, capability, root, agent's key, root key or instant
    charging                  spend from the budgets of a presentation that a resource received, and give back
    restore                   replace a store with a backup
    proving                   what people signed in a task, and arguments that a proof discloses
    checkpoints               sign the log, and hold it to what was signed
    archiving                 move old decisions out of the store, into files
    statements                that a call is permitted, for a third party that holds no key
    graph/                    the execution graph, and what a revocation would affect
    in_process                the authority for an agent in the same process
    remote/                   the authority in another process, for operators: operations, client, messages
    people/                   the authority over the network, for people: operations, client, messages

`capx.RemoteAuthority` and `capx.PersonClient` need httpx, so this package does not export them.
"""

from capx.authority.authority import Authority
from capx.authority.requests.verdict import Verdict

__all__ = ["Authority", "Verdict"]
