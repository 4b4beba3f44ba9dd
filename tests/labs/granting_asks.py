"""Rules under which agents ask, and every way in which an asker can die; the authority is real, its clock a test's."""

from collections.abc import Iterator
from typing import Any

import pytest

from capx.authority.requests.inheritance import Asker, read_asker
from capx.crypto.base64url import b64u
from capx.crypto.keys import RootKey
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.ask import Ask
from capx.verify.decision import Denied
from capx_caveats import (
    action,
    between,
    budget,
    expires,
    until_completed,
)
from tests.labs.granting_lab import GrantingLab, rule
from tests.labs.lab import NOW

READ, QUERY = "crm.read", "warehouse.query"


REFUND = action("billing.refund", amount=between(0, 50))
RULES = (
    rule("at_open", READ),
    rule("on_request", "warehouse.*"),
    rule("on_request", REFUND, budgets=[budget("refunds", 2)]),
    rule("ask", action("billing.refund", amount=between(50, 500)), budgets=[budget("refunds", 2)]),
    rule("ask", "mail.send"),
)


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(*RULES)
    with made.authority:
        yield made


def own(bundle: Bundle) -> Bundle:
    """The capability of a bundle at the authority itself."""
    return Bundle(one for one in bundle if one.audience == "authority")


def first(lab: GrantingLab) -> Bundle:
    """What a first agent asks with."""
    return own(lab.open().bundle)


def admitted_asker(lab: GrantingLab, bundle: Bundle) -> Asker:
    """Who asks with a bundle, as long as it lives."""
    (capability,) = own(bundle)
    ask = Ask.of(QUERY)
    sent = ToolCall("grant.request", ask.arguments())
    presented = capability.present(sent, now=int(lab.clock.now)).text
    return read_asker(lab.authority.own_verifier().authenticate(presented), ask)


def denied(lab: GrantingLab, bundle: Bundle, what: str, args: Any = None, audience: str | None = None) -> list[str]:
    """Why an ask is not even allowed as a call; nothing but the decision is recorded then."""
    before = lab.kinds()
    with pytest.raises(Denied) as caught:
        lab.ask(bundle, what, args, audience)
    assert lab.kinds() == before
    assert lab.authority.requests() == []
    return [refusal.code for refusal in caught.value.refusals]


def denied_anyhow(lab: GrantingLab, bundle: Bundle, what: str) -> list[str]:
    """Why an ask is not allowed as a call."""
    with pytest.raises(Denied) as caught:
        lab.ask(bundle, what)
    return [refusal.code for refusal in caught.value.refusals]


DEATHS = ["task", "node", "above", "id", "first id", "kid", "instant", "root", "other task", "expiry"]


def die(lab: GrantingLab, how: str, asker: Bundle, task: str, other: str) -> None:
    """The death of an asker, or of something that it lasts as long as."""
    (capability,) = own(asker)
    if how == "task":
        lab.authority.complete(task)
    elif how == "other task":
        lab.authority.withdraw(other)
    elif how == "node":
        lab.authority.revoke(asker)
    elif how == "above":
        lab.authority.revoke(b64u(asker.path[-2]))
    elif how == "root":
        lab.authority.revoke(task)
    elif how in {"id", "first id"}:
        lab.authority.revoke(capability.ids[-1 if how == "id" else 0])
    elif how == "kid":
        lab.authority.revoke(kid=capability.kid)
    elif how == "instant":
        lab.authority.revoke(issued=capability.issued_at)
    else:
        lab.clock.now = NOW + 600.999


class Asking:
    """An agent that asks, with what was minted before and under another key than what it will be granted."""

    def __init__(self, lab: GrantingLab) -> None:
        lab.clock.now = NOW + 0.999
        self.other = lab.authority.open(allow=["x.y"]).id
        opened = lab.open()
        self.task = opened.id
        lasting = [until_completed(self.other), expires(NOW + 600)]
        above = own(opened.bundle).delegate(to="above", may_ask=[QUERY, "mail.send"], caveats=lasting)
        self.bundle = above.delegate(to="sub", may_ask=[QUERY, "mail.send"])
        fresh_key = RootKey.generate()
        lab.authority.rekey(lab.authority.keyring.added(fresh_key).activated(fresh_key.kid))
        lab.clock.now += 5
