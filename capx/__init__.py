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

from capx.crypto import AudienceKey, AudienceKeys, KeyRing, RootKey
from capx.errors import ConfigurationProblem, InvalidRequest, KeyProblem, MalformedToken, StoreProblem, Unavailable
from capx.tokens import Bundle, Capability, HttpRequest, Presentation, ToolCall
from capx_caveats import Call, CapxError, InvalidCaveat, Refusal, builders
from capx_caveats.builders import *  # noqa: F403 # its `__all__` is what people write caveats with

if TYPE_CHECKING:
    from capx.agent import Agent, acting
    from capx.agent.authority_client import AuthorityClient
    from capx.authority import Authority, Verdict
    from capx.authority.remote.client import RemoteAuthority
    from capx.guard import current_allowed
    from capx.intents import Intent, PrincipalKey, SignedIntent
    from capx.policy import Policy, read_policy
    from capx.resource import Follower, Replay, Snapshot, StoreLiveness, StoreRecorder
    from capx.resource.feed.client import FeedSource
    from capx.verify import Admitted, Allowed, Decision, Denied, Granted, Pending, Refused, Verifier

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
    "acting",
    "current_allowed",
    "read_policy",
]
__all__.extend(builders.__all__)

_IMPORTED_LATER = {
    "capx.agent": ("Agent", "acting"),
    "capx.agent.authority_client": ("AuthorityClient",),
    "capx.authority": ("Authority", "Verdict"),
    "capx.authority.remote.client": ("RemoteAuthority",),
    "capx.guard": ("current_allowed",),
    "capx.intents": ("Intent", "PrincipalKey", "SignedIntent"),
    "capx.policy": ("Policy", "read_policy"),
    "capx.resource": ("Follower", "Replay", "Snapshot", "StoreLiveness", "StoreRecorder"),
    "capx.resource.feed.client": ("FeedSource",),
    "capx.verify": ("Admitted", "Allowed", "Decision", "Denied", "Granted", "Pending", "Refused", "Verifier"),
}
"""Where to import from what not everybody needs: verifier, stores, threads, asyncio and HTTP take long to import."""
_LAZY = {name: module for module, names in _IMPORTED_LATER.items() for name in names}

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
