"""Spending for a resource without a store: what a presentation proves, and what a hostile resource gets."""

import re
import time
from collections.abc import Sequence
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pytest

from capx.authority.authority import Authority
from capx.authority.charging import charge, give_back
from capx.authority.ending import NOTICED_WITHIN, forget_ended
from capx.authority.opening import OpenedTask
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import CapxError, InvalidRequest
from capx.store.records import Unwritable
from capx.store.sqlite.store import SQLiteStore
from capx.tokens import chain, wire
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability, mint_block
from capx.verify.meter import Paid, Payer, Spend, Tally
from capx_caveats import Budget, Presented, budget, encode_block, expires, shown_instant
from tests.labs.keyed import signed
from tests.labs.lab import appended

READ = ToolCall("crm.read")
NOW = int(time.time())


@pytest.fixture
def task(lab: Authority) -> OpenedTask:
    return lab.open(allow=["crm.read", "slides.write"], caveats=[budget("calls", 2), budget("eur", "5")])


def presented(held: Bundle | Capability, *, at: int = NOW) -> str:
    capability = held if isinstance(held, Capability) else next(one for one in held if one.audience == "crm")
    return capability.present(READ, now=at).text


def paid(lab: Authority, text: str, *, now: int = NOW, **costs: str) -> Tally:
    # One admission for each presentation, as a verifier gives it.
    admission = sha256(text.encode()).digest()[:16]
    paying = costs or {"calls": "1"}
    _, tally = charge(lab.store, lab.keyring, "crm", text, paying, admission=admission, now=now)
    return tally


def totals(lab: Authority) -> dict[str, Decimal]:
    return {counter.unit: counter.spent for counter in lab.counters()}


def test_a_presentation_pays_from_the_budgets_of_its_token(lab: Authority, task: OpenedTask) -> None:
    assert paid(lab, presented(task.bundle), calls="1", eur="2.5") == Tally((Decimal(1), Decimal("2.5")))
    assert paid(lab, presented(task.bundle), calls="1", eur="2.6").exhausted == (1,)
    assert totals(lab) == {"calls": 1, "eur": Decimal("2.5")}


def test_the_same_presentation_pays_once(lab: Authority, task: OpenedTask) -> None:
    text = presented(task.bundle)
    assert [paid(lab, text, calls="1", eur="2") for _ in range(3)] == [Tally((Decimal(1), Decimal(2)))] * 3
    assert paid(lab, text, eur="3") == Tally((Decimal(3),))
    assert totals(lab) == {"calls": 1, "eur": 3}


def test_a_sub_agent_pays_from_its_own_budget_too(lab: Authority, task: OpenedTask) -> None:
    child = task.bundle.delegate(to="child", caveats=[budget("calls", 1)])
    assert paid(lab, presented(child)).exhausted == ()
    assert len(paid(lab, presented(child)).exhausted) == 1
    assert paid(lab, presented(task.bundle)).exhausted == ()


@pytest.mark.parametrize(
    ("costs", "why"),
    [
        ({"usd": "1"}, "no budget of this presentation counts 'usd'"),
        ({"calls": "0"}, "always costs 1"),
        ({"calls": "2"}, "always costs 1"),
        ({"calls": "1.0"}, "always costs 1"),
        ({"eur": "-1"}, "not an amount"),
        ({"eur": "NaN"}, "not an amount"),
        ({"eur": "1e3"}, "not an amount"),
        ({"eur": ""}, "not an amount"),
    ],
)
def test_a_cost_that_no_call_has_spends_nothing(lab: Authority, task: OpenedTask, costs: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        paid(lab, presented(task.bundle), **costs)
    assert totals(lab) == {}


def refused(lab: Authority, text: str, why: str) -> None:
    with pytest.raises(CapxError, match=why):
        paid(lab, text)
    assert totals(lab) == {}


def test_a_resource_that_forges_a_token_spends_from_no_task(lab: Authority, task: OpenedTask) -> None:
    # It holds the key of its audience, and knows the task from elsewhere.
    key = lab.export_keys("crm").live[0]
    given = lab.open(allow=["crm.read"]).bundle
    (genuine,) = [one for one in given if one.audience == "crm"]
    block = encode_block((*genuine.caveats[0], Budget("calls", "9", task.id)))
    refused(lab, presented(mint_block(key, block, now=NOW, nonce=b64u(b"n" * 16))), "did not mint this capability")
    identifier = wire.decode(genuine.text).identifier
    again = mint_block(key, block, now=identifier.issued_at, nonce=identifier.nonce)
    refused(lab, presented(again), "did not mint this capability")


def test_a_presentation_of_another_audience_spends_nothing(lab: Authority, task: OpenedTask) -> None:
    slides = next(one for one in task.bundle if one.audience == "slides")
    with pytest.raises(InvalidRequest, match="is for slides, and crm received it"):
        paid(lab, slides.present(ToolCall("slides.write")).text)
    assert totals(lab) == {}


def test_a_changed_presentation_spends_nothing(lab: Authority, task: OpenedTask) -> None:
    token = next(one for one in task.bundle if one.audience == "crm").present(READ)
    frame = wire.decode(token.text)
    other = wire.encode(frame.identifier, frame.blocks, bytes(32))
    refused(lab, other, "was changed")
    refused(lab, wire.encode(frame.identifier, (), frame.signature), "was changed")
    refused(lab, token.text[:-1], "base64url|cut short")
    strange = KeyRing(RootKey.generate())
    with pytest.raises(InvalidRequest, match="was changed"):
        charge(lab.store, strange, "crm", token.text, {"calls": "1"}, admission=b"a" * 16, now=NOW)


def test_a_bare_token_spends_nothing(lab: Authority, task: OpenedTask) -> None:
    bare = next(one for one in task.bundle if one.audience == "crm")
    refused(lab, bare.text, "this is a bare token")
    refused(lab, bare.attenuate(expires("1h")).text, "this is a bare token")


def test_a_signed_presentation_of_a_bearer_spends_nothing(lab: Authority, task: OpenedTask) -> None:
    token = next(one for one in task.bundle if one.audience == "crm").present(READ)
    frame = wire.decode(token.text)
    *body, last = frame.blocks
    assert isinstance(last, bytes)
    key = lab.export_keys("crm").live[0]
    signed = last[:-1] + b',["sig","' + b"A" * 86 + b'"]]'
    tail = chain.tail_of(key, frame.identifier_bytes, body)
    text = wire.encode(frame.identifier, (*body, signed), chain.extend(tail, signed))
    refused(lab, text, "the authority bound this token to no key")


def test_a_presentation_spends_only_in_its_time(lab: Authority, task: OpenedTask) -> None:
    text = presented(task.bundle, at=NOW)
    with pytest.raises(InvalidRequest, match="in the future: set the clock here"):
        paid(lab, text, now=NOW - 6)
    with pytest.raises(InvalidRequest, match="expired at"):
        paid(lab, text, now=task.expires)
    assert totals(lab) == {}
    assert paid(lab, text, now=NOW - 5).exhausted == ()
    assert paid(lab, text, now=task.expires - 1).exhausted == ()
    assert totals(lab) == {"calls": 1}


def test_a_token_under_a_revoked_key_spends_nothing(lab: Authority, task: OpenedTask) -> None:
    text = presented(task.bundle)
    lab.revoke(kid=lab.keyring.active.kid)
    refused(lab, text, "was revoked, or its task has ended")


def test_what_is_dead_spends_nothing(lab: Authority, task: OpenedTask) -> None:
    child = task.bundle.delegate(to="child")
    texts = [presented(child), presented(task.bundle)]
    lab.revoke(child)
    with pytest.raises(InvalidRequest, match="was revoked"):
        paid(lab, texts[0])
    assert paid(lab, texts[1]).exhausted == ()
    lab.complete(task.id)
    with pytest.raises(InvalidRequest, match="its task has ended"):
        paid(lab, presented(task.bundle))
    assert totals(lab) == {"calls": 1}


def test_what_was_issued_in_a_revoked_instant_spends_nothing(lab: Authority, task: OpenedTask) -> None:
    text = presented(task.bundle)
    lab.revoke(issued=int(time.time()))
    refused(lab, text, "was revoked")


def test_another_admission_of_a_presentation_is_paid_nothing(lab: Authority, task: OpenedTask) -> None:
    text = presented(task.bundle)
    assert paid(lab, text).exhausted == ()
    with pytest.raises(Unwritable, match="paid for before, by another process"):
        charge(lab.store, lab.keyring, "crm", text, {"calls": "1"}, admission=b"b" * 16, now=NOW)
    assert totals(lab) == {"calls": 1}


def test_a_token_without_budgets_has_nothing_to_spend(lab: Authority) -> None:
    refused(lab, presented(lab.open(allow=["crm.read"]).bundle), "no budget of this presentation counts 'calls'")


# Giving back


def returned(lab: Authority, text: str, *, audience: str = "crm", now: int = NOW, by: str | None = None) -> Any:
    admission = sha256((by or text).encode()).digest()[:16]
    return give_back(
        lab.store, lab.keyring, audience, text, admission=admission, decision="d", reason="no bank", now=now
    )


def test_a_presentation_gives_back_all_that_it_paid_once(lab: Authority, task: OpenedTask) -> None:
    text, other = presented(task.bundle), presented(task.bundle)
    paid(lab, text, calls="1", eur="2.5")
    paid(lab, other, calls="1", eur="1")
    assert [returned(lab, text) for _ in range(2)] == [
        (Paid(task.id, "calls", Decimal(1)), Paid(task.id, "eur", Decimal("2.5")))
    ] * 2
    assert totals(lab) == {"calls": 1, "eur": 1}
    with pytest.raises(Unwritable, match="gave back what it had paid"):
        paid(lab, text, eur="1")
    (event,) = (one for one in lab.log() if one.kind == "given_back")
    assert event.facts()["task"] == task.id
    assert (event.facts()["decision"], event.facts()["reason"]) == ("d", "no bank")


def kept(lab: Authority, text: str, why: str, **parts: Any) -> None:
    before = totals(lab)
    with pytest.raises(CapxError, match=why):
        returned(lab, text, **parts)
    assert totals(lab) == before


def test_what_did_not_pay_gives_nothing_back(lab: Authority, task: OpenedTask) -> None:
    text = presented(task.bundle)
    paid(lab, text)
    kept(lab, presented(task.bundle), "has paid nothing here")
    kept(lab, text, "has paid nothing here", by="another admission")
    kept(lab, text, "is for crm, and slides received it", audience="slides")
    frame = wire.decode(text)
    kept(lab, wire.encode(frame.identifier, frame.blocks, bytes(32)), "was changed")


def test_a_presentation_gives_back_only_in_its_time(lab: Authority, task: OpenedTask) -> None:
    text = presented(task.bundle)
    paid(lab, text)
    kept(lab, text, "expired at", now=task.expires)
    returned(lab, text, now=task.expires - 1)
    assert totals(lab) == {"calls": 0}


def payer(text: str) -> Payer:
    """The same payer as `paid` makes of a presentation."""
    frame = wire.decode(text)
    ids = [digest[:16] for digest in chain.digests(frame.identifier_bytes, frame.blocks)]
    return Payer(ids[-1], sha256(text.encode()).digest()[:16], ids[1], "crm", text)


def test_what_was_paid_is_remembered_until_it_expires(lab: Authority) -> None:
    task = lab.open(allow=["crm.read"], caveats=[budget("calls", 2)], expires="1d")
    text = presented(task.bundle)
    # By the clock of a service that is a minute behind that of the authority.
    lab.store.spend(payer(text), [Spend(task.id, "calls", Decimal(1), Decimal(2))], now=lab.task(task.id).opened - 60)
    with lab.store.write() as transaction:
        transaction.append("intent_withdrawn", b"{}", at=task.expires - 1)
        forget_ended(transaction, now=task.expires - 1 + NOTICED_WITHIN, max_ttl=60)
    returned(lab, text, now=task.expires - 1)
    assert totals(lab) == {"calls": 0}


def test_what_is_dead_gives_nothing_back(lab: Authority, task: OpenedTask) -> None:
    child = task.bundle.delegate(to="child")
    texts = [presented(child), presented(task.bundle)]
    for text in texts:
        paid(lab, text)
    lab.revoke(child)
    kept(lab, texts[0], "was revoked")
    returned(lab, texts[1])
    lab.complete(task.id)
    for text in texts:
        kept(lab, text, "its task has ended")
    assert totals(lab) == {"calls": 1}


class Noting(SQLiteStore):
    """A store that notes who pays."""

    payers: ClassVar[list[Payer]] = []

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        self.payers.append(payer)
        return super().spend(payer, spends, now=now)


def test_the_one_who_pays_is_what_the_presentation_proves(tmp_path: Path) -> None:
    Noting.payers.clear()
    with Authority(Noting.create(tmp_path / "capx.db"), KeyRing(RootKey.generate())) as lab:
        token = next(iter(lab.open(allow=["crm.read"], caveats=[budget("calls", 2)]).bundle)).present(READ)
        charge(lab.store, lab.keyring, "crm", token.text, {"calls": "1"}, admission=b"a" * 16, now=int(time.time()))
    (one,) = Noting.payers
    assert one == Payer(token.id, b"a" * 16, token.ids[1], "crm", token.text)


def test_what_cannot_be_read_says_why(lab: Authority) -> None:
    key = lab.export_keys("crm").live[0]
    broken = mint_block(key, b"[]", now=NOW, nonce=b64u(b"n" * 16))
    refused(lab, presented(broken), "cannot be read: the authority's block has no task")


def test_a_presentation_of_the_future_says_when_it_was_made(lab: Authority, task: OpenedTask) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(f"was made at {shown_instant(NOW)}, in the future")):
        paid(lab, presented(task.bundle), now=NOW - 60)


def test_a_keyed_token_pays_for_its_holder_and_for_no_thief(lab: Authority) -> None:
    planner, slides, thief = (AgentKey.generate(name) for name in ("planner", "slides", "thief"))
    task = lab.open(allow=["crm.read"], caveats=[budget("calls", 5)], agent_key=planner.public)
    held = task.bundle.with_key(planner)
    stolen = next(one for one in held if one.audience == "crm")
    refused(lab, appended(stolen, encode_block((mark_of(READ),))).text, "without the signature of its holder's key")
    refused(lab, signed(stolen, thief, mark_of(READ)).text, "is not signed by the key that the chain named last")
    paid(lab, presented(held))
    paid(lab, presented(held.delegate(to="slides", to_key=slides)))
    assert totals(lab) == {"calls": Decimal(2)}


def mark_of(call: ToolCall) -> Presented:
    return Presented("tool", call.digest(), NOW, "A" * 16)
