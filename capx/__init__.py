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

import os
import threading
from typing import TYPE_CHECKING

from capx.crypto.keys import AudienceKey, AudienceKeys, KeyRing, RootKey
from capx.errors import (
    ConfigurationProblem,
    InvalidRequest,
    KeyProblem,
    MalformedToken,
    StoreProblem,
    Unavailable,
)
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability, Presentation
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
    from capx.agent.actor import acting
    from capx.agent.agent import Agent
    from capx.agent.authority_client import AuthorityClient
    from capx.authority.authority import Authority
    from capx.authority.remote.client import RemoteAuthority
    from capx.authority.requests.verdict import Verdict
    from capx.guard.current import current_allowed
    from capx.intents.intent import Intent, SignedIntent
    from capx.intents.principal_key import PrincipalKey
    from capx.policy.file import read_policy
    from capx.policy.policy import Policy
    from capx.resource.feed.client import FeedSource
    from capx.resource.feed.follower import Follower
    from capx.resource.feed.snapshot import Snapshot
    from capx.resource.recorder import StoreRecorder
    from capx.resource.replay import Replay
    from capx.resource.revocations import StoreLiveness
    from capx.verify.admitted import Admitted
    from capx.verify.ask import Granted, Pending, Refused
    from capx.verify.decision import Allowed, Decision, Denied
    from capx.verify.verifier import Verifier

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
    "current_allowed",
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

_LAZY = {
    "Admitted": "capx.verify.admitted",
    "Agent": "capx.agent.agent",
    "Allowed": "capx.verify.decision",
    "Authority": "capx.authority.authority",
    "AuthorityClient": "capx.agent.authority_client",
    "Decision": "capx.verify.decision",
    "Denied": "capx.verify.decision",
    "FeedSource": "capx.resource.feed.client",
    "Follower": "capx.resource.feed.follower",
    "Granted": "capx.verify.ask",
    "Intent": "capx.intents.intent",
    "Pending": "capx.verify.ask",
    "Policy": "capx.policy.policy",
    "PrincipalKey": "capx.intents.principal_key",
    "Refused": "capx.verify.ask",
    "RemoteAuthority": "capx.authority.remote.client",
    "Replay": "capx.resource.replay",
    "SignedIntent": "capx.intents.intent",
    "Snapshot": "capx.resource.feed.snapshot",
    "StoreLiveness": "capx.resource.revocations",
    "StoreRecorder": "capx.resource.recorder",
    "Verdict": "capx.authority.requests.verdict",
    "Verifier": "capx.verify.verifier",
    "acting": "capx.agent.actor",
    "current_allowed": "capx.guard.current",
    "read_policy": "capx.policy.file",
}
"""Where to import from what not everybody needs: verifier, stores, threads, asyncio and HTTP take long to import."""

_NEED_HTTPX = {"AuthorityClient", "FeedSource", "RemoteAuthority"}
_lock = threading.RLock()


def _renew_lock() -> None:
    """Give a forked child a lock of its own: a thread of its parent may have held this one."""
    global _lock  # noqa: PLW0603 # one for the process
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


def __getattr__(name: str) -> object:
    """Import a name of `_LAZY` when it is first asked for.

    Its room is imported before the module itself, and by one thread at a time: two threads that import a room and a
    module of it, each first, wait for each other, and Python lets one of them fail. Code that imports modules of rooms
    by itself, in threads, does so at the start.
    """
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = _LAZY[name]
    try:
        with _lock:
            import_module(".".join(module.split(".")[:2]))
            found: object = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ModuleNotFoundError(f"capx.{name} needs httpx: pip install 'capx-auth[httpx]'", name="httpx") from None
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The names of the module, with those that can be imported later: all of them, where httpx is installed."""
    from importlib.util import find_spec

    try:
        missing = set[str]() if find_spec("httpx") else _NEED_HTTPX
    except (ImportError, ValueError):
        missing = _NEED_HTTPX
    return sorted({*globals(), *_LAZY} - missing)
