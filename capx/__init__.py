"""Execution-scoped authority for autonomous agents.

    import capx

    lab = capx.Authority.temporary()
    task = lab.open(tenant="Acme", allow=["slides.write", "crm.export"])
    sub = task.bundle.delegate(to="slides-agent", allow=["slides.write"])

    @lab.tool("crm.export")
    def export(): ...

    with capx.acting(sub):
        export()  # Denied: hop 1 ("slides-agent") allows only slides.write

A service embeds a `Verifier`, or a guard of `capx.guard`. An `Agent` holds a `Bundle` and acts with it. If it needs
more, it asks its authority.
"""

import os
import threading
from typing import TYPE_CHECKING

from capx.crypto import AudienceKey, AudienceKeys, KeyRing, RootKey
from capx.errors import ConfigurationProblem, InvalidRequest, KeyProblem, MalformedToken, StoreProblem, Unavailable
from capx.tokens import ApprovalRequest, Bundle, Capability, Discharge, HttpRequest, Presentation, ToolCall
from capx.tokens.approval_caveat import approval
from capx_caveats import Call, CapxError, InvalidCaveat, Refusal, builders
from capx_caveats.builders import *  # noqa: F403 # its `__all__` is what people write caveats with

if TYPE_CHECKING:
    from capx.agent import Agent, acting
    from capx.agent.authority_client import AuthorityClient
    from capx.authority import Authority, Verdict
    from capx.authority.people.client import PersonClient
    from capx.authority.remote.client import RemoteAuthority
    from capx.crypto.agent_key import AgentKey
    from capx.guard import current_allowed
    from capx.intents import Intent, PrincipalKey, SignedIntent
    from capx.policy import Policy, read_policy
    from capx.resource import Follower, Replay, Snapshot, StoreLiveness, StoreRecorder
    from capx.resource.feed.client import FeedSource
    from capx.verify import Admitted, Allowed, Approved, Decision, Denied, Granted, Pending, Refused, Verifier

__all__ = [
    "Admitted",
    "Agent",
    "AgentKey",
    "Allowed",
    "ApprovalRequest",
    "Approved",
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
    "Discharge",
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
    "PersonClient",
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
    "acting",
    "approval",
    "current_allowed",
    "read_policy",
]
__all__.extend(builders.__all__)

_IMPORTED_LATER = {
    "capx.agent": ("Agent", "acting"),
    "capx.agent.authority_client": ("AuthorityClient",),
    "capx.authority": ("Authority", "Verdict"),
    "capx.authority.people.client": ("PersonClient",),
    "capx.authority.remote.client": ("RemoteAuthority",),
    "capx.crypto.agent_key": ("AgentKey",),
    "capx.guard": ("current_allowed",),
    "capx.intents": ("Intent", "PrincipalKey", "SignedIntent"),
    "capx.policy": ("Policy", "read_policy"),
    "capx.resource": ("Follower", "Replay", "Snapshot", "StoreLiveness", "StoreRecorder"),
    "capx.resource.feed.client": ("FeedSource",),
    "capx.verify": (
        "Admitted",
        "Allowed",
        "Approved",
        "Decision",
        "Denied",
        "Granted",
        "Pending",
        "Refused",
        "Verifier",
    ),
}
"""The modules of names that are imported at first use: stores, threads, asyncio and HTTP take long to import."""
_LAZY = {name: module for module, names in _IMPORTED_LATER.items() for name in names}

_NEED_HTTPX = {"AuthorityClient", "FeedSource", "PersonClient", "RemoteAuthority"}
_lock = threading.RLock()


def _renew_lock() -> None:
    """Give a forked child a new lock: a thread of its parent may have held the old one, and is not in the child."""
    global _lock  # noqa: PLW0603 # one for the process
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


def __getattr__(name: str) -> object:
    """Import a name of `_LAZY` at its first use.

    One thread at a time imports the package, then the module. Without that, one thread may import the package while
    another imports a module of it: each waits for the other's import lock, and Python lets one of the imports fail.
    Code that imports such modules in its own threads must import them before it starts the threads.
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
    # From now on, Python finds the name itself and does not call this function.
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The names of the module, and those imported at first use; without httpx, the names that need it are left out."""
    from importlib.util import find_spec

    try:
        missing = set[str]() if find_spec("httpx") else _NEED_HTTPX
    except (ImportError, ValueError):
        missing = _NEED_HTTPX
    return sorted({*globals(), *_LAZY} - missing)
