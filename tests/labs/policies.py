"""A policy to change in one place, and intents for it."""

from typing import Any

import pytest

from capx.errors import ConfigurationProblem
from capx.intents.intent import Intent
from capx.intents.principal_key import PrincipalKey
from capx.policy.file import read_policy
from capx.policy.toml_reader import InvalidFile

ANA, KIM = (PrincipalKey.generate(name).public for name in ("ana@our.example", "kim@our.example"))

POLICY = f"""\
[audience]
crm = "https://crm.internal"
support = "https://support.internal"
billing = "https://billing.internal:8443"

[principal."ana@our.example"]
key = "{ANA}"
tenants = ["Acme"]
purposes = ["qbr", "refund", "nightly"]

[principal."kim@our.example"]
key = "{KIM}"
groups = ["finance"]

[principal.robot]
tenants = ["Acme", "Globex"]
purposes = ["nightly"]

[purpose.qbr]
ttl = "2h"
[[purpose.qbr.grant]]
how = "at_open"
allow = ["crm.accounts.read", "support.tickets.read"]

[purpose.refund]
require = ["tenant", "ticket"]
[[purpose.refund.grant]]
how = "on_request"
budget = {{ refunds = 1 }}
allow."billing.refund" = {{ ticket = "{{intent.ticket}}", amount = {{ range = [0.01, 50] }} }}
[[purpose.refund.grant]]
how = "ask"
approvers = ["finance"]
within = "30m"
budget = {{ refunds = 1 }}
allow."billing.refund" = {{ ticket = "{{intent.ticket}}", amount = {{ range = [50, 500] }} }}

[purpose.nightly]
ttl = "30m"
tenant = "none"
[[purpose.nightly.grant]]
how = "at_open"
allow."crm.export" = {{}}
"""


def changed(old: str, new: str) -> str:
    """The policy with one text of it replaced."""
    assert old in POLICY
    return POLICY.replace(old, new, 1)


def granting(grant: str, beside: str = "") -> str:
    """A policy with one purpose, `work`, that ana may ask for, and one grant of it: at open, if it does not say how."""
    if not grant.startswith("how = "):
        grant = f'how = "at_open"\n{grant}'
    return f"""
[principal.ana]
tenants = ["Acme"]
purposes = ["work"]
[principal.kim]
key = "{KIM}"
[purpose.work]
{beside}
[[purpose.work.grant]]
{grant}
"""


def intent(purpose: str = "qbr", principal: str = "ana@our.example", **said: Any) -> Intent:
    """An intent, for tenant Acme unless something else is said; `tenant=None` says none."""
    tenant = said.pop("tenant", "Acme")
    others = {} if tenant is None else {"tenant": tenant}
    return Intent(
        principal=principal,
        purpose=purpose,
        authority="origin.1",
        statement=said.pop("statement", "Prepare it."),
        max_tasks=1,
        issued=1_795_600_000,
        not_after=1_795_700_000,
        nonce="AAAAAAAAAAAAAAAAAAAAAA",
        **others,
        **said,
    )


def problems(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(InvalidFile) as caught:
        read_policy(text)
    assert isinstance(caught.value, ConfigurationProblem)
    return caught.value.lines
