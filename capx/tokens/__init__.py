"""The capability: its bytes, its chain of MACs, and what its holder can do with it offline.

    from capx.crypto import RootKey
    from capx.tokens import Capability, ToolCall
    from capx.tokens.capability import mint
    from capx_caveats import allow

    minted = mint(RootKey.generate().audience_key("crm"), [allow("crm.read")], now=1_700_000_000)
    presentation = Capability.parse(minted.text).present(ToolCall("crm.read", {"id": 7}))

Modules:

    wire, chain               the text of a token, and the MACs, digests and nodes of its blocks
    chain_text                the public bytes of a chain as JSON, which are no token
    signed_blocks             whose key signs each block, for agents that have keys
    capability, bundle        one audience's token, and an agent's tokens for several
    binding                   the tool call or HTTP request that a presentation is bound to
    approval_caveat           the demand for an approval
    discharge, approval       the macaroon that answers it, and what it says
    approval_request          the document that an agent sends to people
    approving                 a person's key makes the discharge, or adds a second signature
    held_approvals            which of an agent's approvals go with a capability
    pins                      the entry of an allowlist that holds a call to its arguments
    delegation                a child for one block of code
    closing_act               what is done at the end of a block, however it ends
    guarded_function          how a bundle finds the guard of a function of its process
    lineage                   the claims, nodes, ids and restrictions of a chain
    wording                   a refusal as a sentence that names the hop
    grants                    the actions of a new task, as people write them
    uses_counter              the names of the counters of consents
    revocation_key            the things that can be revoked, and their names in store and feed
    effective/                the actions that a chain of caveats still allows
    interop                   other macaroon libraries
"""

from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability, Presentation
from capx.tokens.discharge import Discharge

__all__ = [
    "ApprovalRequest",
    "Bundle",
    "Capability",
    "Discharge",
    "HttpRequest",
    "Presentation",
    "ToolCall",
]
