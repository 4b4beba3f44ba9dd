"""People with keys, policies that know them, and tasks to refund somebody."""

import time
from typing import Any, Protocol

from capx.authority.opening import OpenedTask
from capx.intents.intent import Intent, SignedIntent
from capx.intents.principal_key import PrincipalKey

ANA = PrincipalKey.generate("ana@our.example")
"""Whoever asks for refunds."""
BEN = PrincipalKey.generate("ben@our.example")
"""Of finance: whoever consents to them."""

_PEOPLE = f"""
[principal."ana@our.example"]
key = "{ANA.public}"
tenants = ["Acme"]
purposes = ["refund"]

[principal."ben@our.example"]
key = "{BEN.public}"
groups = ["finance"]

[purpose.refund]
ttl = "1h"
require = ["tenant"]
"""


class Opening(Protocol):
    """An authority, here or elsewhere."""

    def epoch(self) -> str: ...

    def open(self, intent: SignedIntent, /) -> OpenedTask: ...


def grant(how: str, *actions: str) -> str:
    """One grant of the purpose, as it stands in a policy; without actions its `allow` is still to follow."""
    lines = ["[[purpose.refund.grant]]", f'how = "{how}"']
    if how == "ask":
        lines += ['approvers = ["finance"]', 'within = "30m"']
    if actions:
        lines.append(f"allow = [{', '.join(map(repr, actions))}]")
    return "\n".join([*lines, ""])


def policy(*grants: str) -> str:
    """A policy with these grants."""
    return "\n".join((_PEOPLE, *grants))


def refund(authority: Opening, **said: Any) -> OpenedTask:
    """A task opened on what Ana asks for."""
    meant: dict[str, Any] = {
        "principal": ANA.name,
        "authority": authority.epoch(),
        "purpose": "refund",
        "statement": "Refund what they are owed.",
        "now": int(time.time()),
        "tenant": "Acme",
    }
    return authority.open(ANA.sign_intent(Intent.written(**(meant | said))))
