"""A request that waits for people, and keys that are called like somebody else's."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.requests.verdict import Verdict
from capx.crypto.base64url import unb64u
from capx.crypto.ed25519 import Signer
from capx.errors import InvalidRequest
from capx.intents.principal_key import PrincipalKey
from capx.policy.policy import Principal
from capx_caveats import action, between, budget
from tests.labs.granting_asks import QUERY, own
from tests.labs.granting_lab import GrantingLab, people, rule

SEND = "mail.send"


RULES = (
    rule("on_request", QUERY),
    rule("ask", SEND),
    rule("ask", action("billing.refund", amount=between(0, 500)), budgets=[budget("refunds", 2)]),
)


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(*RULES)
    with made.authority:
        yield made


def waiting(lab: GrantingLab, *, label: str = "sub", **said: Any) -> str:
    """A request that waits, of a sub-agent that is called like this."""
    child = own(lab.open(**said).bundle).delegate(to=label, may_ask=[SEND])
    return lab.pending(child, SEND).request


def called(key: PrincipalKey, name: str) -> PrincipalKey:
    """The same key, of somebody who goes by another name."""
    fields = key.dump().split()
    return PrincipalKey(name, Signer(unb64u(fields[2])))


def not_taken(lab: GrantingLab, verdict: Verdict) -> str:
    """Why a verdict does nothing: the request waits as before, and the log says nothing of it."""
    before, kinds = lab.authority.request(verdict.request), lab.kinds()
    with pytest.raises(InvalidRequest) as caught:
        lab.authority.answer(verdict)
    assert lab.authority.request(verdict.request) == before
    assert lab.kinds() == kinds
    return str(caught.value)


def also_in_finance(key: PrincipalKey, name: str, **others: Any) -> dict[str, Principal]:
    """The people, and one more name for whoever has this key, who can consent by it."""
    known = people()[key.name]
    return people(**{name: replace(known, name=name, groups=("finance",)), **others})
