"""Execution-scoped authority for autonomous agents.

    import capx

    lab = capx.Authority.temporary()
    task = lab.open(tenant="Acme", allow=["slides.write", "crm.export"])
    sub = task.bundle.delegate(to="slides-agent", allow=["slides.write"])

    @lab.tool("crm.export")
    def export(): ...

    with capx.acting(sub):
        export()  # Denied: hop 1 (slides-agent) allows only slides.write

A service embeds a `Verifier`, or a guard of `capx.guard`; an `Agent` holds a `Bundle`, acts with it, and asks its
authority for what it turns out to need.
"""

from typing import TYPE_CHECKING

from capx.acting import acting
from capx.admitted import Admitted
from capx.asking import Granted, Pending, Refused
from capx.bundle import Bundle
from capx.capability import Capability, Presentation
from capx.decision import Allowed, Decision, Denied
from capx.errors import (
    ConfigurationProblem,
    InvalidRequest,
    KeyProblem,
    MalformedToken,
    StoreProblem,
    Unavailable,
)
from capx.keys import AudienceKey, AudienceKeys, KeyRing, RootKey
from capx.liveness import StoreLiveness
from capx.present import HttpRequest, ToolCall
from capx.recorder import StoreRecorder
from capx.replay import Replay
from capx.verifier import Verifier
from capx_caveats import (
    Call,
    CapxError,
    InvalidCaveat,
    Refusal,
    absent,
    action,
    all_of,
    allow,
    any_of,
    anything,
    argv,
    between,
    budget,
    cidr,
    contains,
    each,
    expires,
    fields,
    fresh,
    glob,
    host,
    length,
    max_hops,
    not_,
    not_before,
    not_in,
    one_of,
    prefix,
    regex,
    subset,
    tenant,
    until_completed,
    url,
    where,
    within,
)

if TYPE_CHECKING:
    from capx.agent import Agent
    from capx.agent.client import AuthorityClient
    from capx.asking.verdict import Verdict
    from capx.authority import Authority
    from capx.feed.client import FeedSource
    from capx.feed.follower import Follower
    from capx.feed.snapshot import Snapshot
    from capx.intent import Intent, SignedIntent
    from capx.intent.principal_key import PrincipalKey
    from capx.policy import Policy
    from capx.policy.file import read_policy
    from capx.remote.operator_client import RemoteAuthority

__all__ = [
    "Admitted",
    "Agent",
    "Allowed",
    "AudienceKey",
    "AudienceKeys",
    "Authority",
    "AuthorityClient",
    "Bundle",
    "Call",
    "Capability",
    "CapxError",
    "ConfigurationProblem",
    "Decision",
    "Denied",
    "FeedSource",
    "Follower",
    "Granted",
    "HttpRequest",
    "Intent",
    "InvalidCaveat",
    "InvalidRequest",
    "KeyProblem",
    "KeyRing",
    "MalformedToken",
    "Pending",
    "Policy",
    "Presentation",
    "PrincipalKey",
    "Refusal",
    "Refused",
    "RemoteAuthority",
    "Replay",
    "RootKey",
    "SignedIntent",
    "Snapshot",
    "StoreLiveness",
    "StoreProblem",
    "StoreRecorder",
    "ToolCall",
    "Unavailable",
    "Verdict",
    "Verifier",
    "absent",
    "acting",
    "action",
    "all_of",
    "allow",
    "any_of",
    "anything",
    "argv",
    "between",
    "budget",
    "cidr",
    "contains",
    "each",
    "expires",
    "fields",
    "fresh",
    "glob",
    "host",
    "length",
    "max_hops",
    "not_",
    "not_before",
    "not_in",
    "one_of",
    "prefix",
    "read_policy",
    "regex",
    "subset",
    "tenant",
    "until_completed",
    "url",
    "where",
    "within",
]


_ELSEWHERE = {
    "Agent": "capx.agent",
    "Authority": "capx.authority",
    "AuthorityClient": "capx.agent.client",
    "FeedSource": "capx.feed.client",
    "Follower": "capx.feed.follower",
    "Intent": "capx.intent",
    "Policy": "capx.policy",
    "PrincipalKey": "capx.intent.principal_key",
    "RemoteAuthority": "capx.remote.operator_client",
    "SignedIntent": "capx.intent",
    "Snapshot": "capx.feed.snapshot",
    "Verdict": "capx.asking.verdict",
    "read_policy": "capx.policy.file",
}


def __getattr__(name: str) -> object:
    """Import what not everybody needs when it is asked for: stores, threads and HTTP take long to import."""
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(_ELSEWHERE[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ModuleNotFoundError(f"capx.{name} needs httpx: pip install 'capx-auth[httpx]'", name="httpx") from None
