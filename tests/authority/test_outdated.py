"""Which grants are reported because the policy has become stricter than the consent to them."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.requests.inheritance import allowlists
from capx.authority.requests.outdated import outdated_grants
from capx.crypto.base64url import b64u
from capx.crypto.keys import RootKey
from capx.policy.policy import Policy
from capx.store.records import Damaged
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx_caveats import Expires, action, anything, between
from tests.labs.granting_lab import GrantingLab, policy, rule
from tests.labs.lab import NOW
from tests.labs.own_constraints import Odd

SEND = "mail.send"
MAIL: dict[str, Any] = {"to": "ben"}


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(rule("ask", SEND, pinned=False))
    with made.authority:
        yield made


def agreed(lab: GrantingLab, bundle: Bundle, args: dict[str, Any] | None = None) -> Capability:
    lab.decide(lab.pending(bundle, SEND, args).request)
    return lab.granted(bundle, SEND, args)


def outdated(lab: GrantingLab) -> list[tuple[str, str]]:
    with lab.authority.store.read() as reading:
        found = list(outdated_grants(reading, lab.policy, now=int(lab.clock.now)))
    return [(one.capability, one.why) for one in found]


def test_a_grant_that_the_policy_would_give_is_not_reported(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    agreed(lab, bundle)
    assert outdated(lab) == []
    lab.policy = policy(rule("on_request", SEND))
    assert outdated(lab) == []


def test_an_unpinned_grant_is_reported_once_consents_are_pinned(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    granted, _ = agreed(lab, bundle), agreed(lab, bundle, MAIL)
    lab.policy = policy(rule("ask", SEND, pinned=True))
    assert outdated(lab) == [(b64u(granted.ids[-1]), "it is good for any arguments, and the policy now pins them")]
    assert lab.codes(granted, SEND, {"to": "eve"}) == ()
    lab.authority.revoke(outdated(lab)[0][0])
    assert lab.codes(granted, SEND, {"to": "eve"}) == ("revoked",)
    assert outdated(lab) == []


@pytest.mark.parametrize(("before", "why"), [(None, "any number of calls"), (3, "3 calls")])
def test_a_grant_for_more_calls_is_reported(lab: GrantingLab, before: int | None, why: str) -> None:
    lab.policy = policy(rule("ask", SEND, uses=before, pinned=True))
    bundle = lab.open().bundle
    granted = agreed(lab, bundle, MAIL)
    told = [(b64u(granted.ids[-1]), f"it is good for {why}, and the policy now gives 2")]
    lab.policy = policy(rule("ask", SEND, uses=2, pinned=True))
    assert outdated(lab) == told
    # Also when the request has been made again, on the new terms.
    lab.pending(bundle, SEND, MAIL)
    assert outdated(lab) == told
    agreed(lab, bundle, MAIL)
    assert outdated(lab) == told
    lab.policy = policy(rule("ask", SEND, uses=before, pinned=True))
    assert outdated(lab) == []


def test_a_grant_on_other_terms_is_reported(lab: GrantingLab) -> None:
    def terms(amount: int, *pinned: str) -> Policy:
        offered = action(SEND, to=anything(), amount=between(0, amount))
        return policy(rule("ask", offered, pinned=pinned or True))

    lab.policy = terms(100, "to")
    agreed(lab, lab.open().bundle, MAIL | {"amount": 9})
    assert outdated(lab) == []
    for changed in (terms(50, "to"), terms(100, "to", "amount"), terms(100)):
        lab.policy = changed
        assert [why for _, why in outdated(lab)] == ["the policy now gives it on other terms"]


def test_a_grant_that_nobody_gives_any_more_is_reported(lab: GrantingLab) -> None:
    agreed(lab, lab.open().bundle)
    for changed in (policy(rule("on_request", "crm.read")), policy(rule("ask", SEND), principals={})):
        lab.policy = changed
        assert [why for _, why in outdated(lab)] == ["the policy no longer gives it"]


@pytest.mark.parametrize("end", ["complete", "expire", "asker", "key"])
def test_a_grant_that_is_dead_is_not_reported(lab: GrantingLab, end: str) -> None:
    opened = lab.open()
    agreed(lab, opened.bundle)
    lab.policy = policy(rule("ask", SEND, pinned=True))
    assert len(outdated(lab)) == 1
    match end:
        case "complete":
            lab.authority.complete(opened.id)
        case "expire":
            lab.clock.now = NOW + 3600
        case "asker":
            assert opened.bundle.node is not None
            lab.authority.revoke(b64u(opened.bundle.node))
        case _:
            fresh = RootKey.generate()
            old = lab.authority.keyring.active.kid
            lab.authority.rekey(lab.authority.keyring.added(fresh).activated(fresh.kid))
            lab.authority.revoke(kid=old)
    assert outdated(lab) == []


def test_a_grant_under_a_newer_key_dies_with_that_key(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    first, fresh = lab.authority.keyring.active.kid, RootKey.generate()
    lab.authority.rekey(lab.authority.keyring.added(fresh).activated(fresh.kid))
    agreed(lab, bundle)
    lab.policy = policy(rule("ask", SEND, pinned=True))
    assert len(outdated(lab)) == 1
    lab.authority.rekey(lab.authority.keyring.activated(first))
    lab.authority.revoke(kid=fresh.kid)
    assert outdated(lab) == []


def test_a_grant_that_expires_before_its_task_is_not_reported(lab: GrantingLab) -> None:
    bundle = lab.open().bundle.delegate(
        to="helper", audiences=["authority"], may_ask=[SEND], caveats=[Expires(NOW + 60)]
    )
    agreed(lab, bundle)
    lab.policy = policy(rule("ask", SEND, pinned=True))
    lab.clock.now = NOW + 59
    assert len(outdated(lab)) == 1
    lab.clock.now = NOW + 60
    assert outdated(lab) == []


def test_each_task_has_its_own_grants(lab: GrantingLab) -> None:
    granted = [agreed(lab, lab.open().bundle) for _ in range(2)]
    lab.policy = policy(rule("ask", SEND, pinned=True))
    with lab.authority.store.read() as reading:
        found = list(outdated_grants(reading, lab.policy, now=NOW))
        tasks = {task.id for task in reading.tasks()}
    assert {one.capability for one in found} == {b64u(one.ids[-1]) for one in granted}
    assert len(found) == 2
    assert {one.request.task for one in found} == tasks


def test_a_grant_that_no_person_agreed_to_is_not_reported(lab: GrantingLab) -> None:
    lab.policy = policy(rule("on_request", SEND))
    lab.granted(lab.open().bundle, SEND)
    lab.policy = policy(rule("ask", SEND, pinned=True))
    assert outdated(lab) == []


def test_the_arguments_of_a_grant_choose_its_rule(lab: GrantingLab) -> None:
    def terms(uses: int, most: int) -> Policy:
        small = rule("ask", action(SEND, amount=between(0, 10)), uses=uses, pinned=True)
        return policy(small, rule("ask", action(SEND, amount=between(10, most)), uses=5, pinned=True))

    lab.policy = terms(1, 100)
    agreed(lab, lab.open().bundle, {"amount": 50})
    assert outdated(lab) == []
    lab.policy = terms(1, 40)
    assert [why for _, why in outdated(lab)] == ["the policy no longer gives it"]


def test_of_an_older_grant_the_terms_are_not_compared(lab: GrantingLab) -> None:
    def terms(amount: int) -> Policy:
        return policy(rule("ask", action(SEND, to=anything(), amount=between(0, amount)), pinned=True))

    bundle, args = lab.open().bundle, MAIL | {"amount": 9}
    lab.policy = terms(100)
    agreed(lab, bundle, args)
    lab.policy = terms(50)
    newer = agreed(lab, bundle, args)
    lab.policy = terms(100)
    assert outdated(lab) == [(b64u(newer.ids[-1]), "the policy now gives it on other terms")]


def test_what_a_delegator_allows_is_no_difference(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", action(SEND, to=anything()), pinned=("to",)))
    bundle = lab.open().bundle.delegate(to="helper", audiences=["authority"], may_ask=[action(SEND, to="ben")])
    agreed(lab, bundle, MAIL)
    assert outdated(lab) == []


def test_a_constraint_of_a_service_is_no_difference(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", action(SEND, to=anything(), amount=Odd())))
    agreed(lab, lab.open().bundle, MAIL | {"amount": 9})
    assert outdated(lab) == []
    lab.policy = policy(rule("ask", action(SEND, to=anything(), amount=between(0, 100))))
    assert [why for _, why in outdated(lab)] == ["the policy now gives it on other terms"]


@pytest.mark.parametrize("block", ["", "[]", '[["allow",["mail.send"]]]'])
def test_a_block_that_capx_did_not_write_is_told(lab: GrantingLab, block: str) -> None:
    agreed(lab, lab.open().bundle)
    (request,) = lab.authority.requests()
    with pytest.raises(Damaged, match="did not write"):
        allowlists(replace(request, block=block))
