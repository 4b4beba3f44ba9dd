"""Who asks is granted what they may have, the same to everyone who may have it, and nothing once they are dead."""

import threading
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from capx.authority.requests import granting, quotas
from capx.authority.requests.granting import Grantable
from capx.authority.requests.inheritance import Asker, read_asker
from capx.authority.requests.offering import NotOffered, offer
from capx.crypto.base64url import b64u
from capx.crypto.keys import RootKey
from capx.store.events import AskRefused, CapabilityMinted, RequestMade
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.ask import Ask, Granted, Pending, Refused
from capx.verify.decision import Denied
from capx_caveats import (
    DEFAULT,
    Allow,
    Call,
    Fields,
    Refusal,
    action,
    between,
    budget,
    fresh,
    shown_instant,
)
from tests.labs.granting_asks import DEATHS, RULES, Asking, admitted_asker, denied_anyhow, die, lab, own
from tests.labs.granting_lab import GrantingLab, people, policy, rule
from tests.labs.lab import NOW
from tests.labs.strategies import spelled

__all__ = ["lab"]


Event = TypeVar("Event", AskRefused, CapabilityMinted, RequestMade)
READ, QUERY = "crm.read", "warehouse.query"


def decided(lab: GrantingLab, asker: Asker, ask: Ask) -> object:
    """What a read decides about an ask now."""
    with lab.authority.store.read() as reading:
        return granting.decide(reading, lab.authority.keyring, lab.policy, asker, ask, now=int(lab.clock.now))


# One request, one answer.


def test_the_same_ask_gets_the_same_bytes_whoever_grants_them(lab: GrantingLab) -> None:
    opened = lab.open()
    first = lab.granted(opened.bundle, QUERY)
    lab.clock.now += 60
    assert lab.granted(opened.bundle, QUERY).text == first.text
    assert lab.kinds().count("capability_minted") == 3
    fresh_key = RootKey.generate()
    lab.authority.rekey(lab.authority.keyring.added(fresh_key).activated(fresh_key.kid))
    assert lab.granted(opened.bundle, QUERY).text == first.text


def test_what_was_minted_under_a_key_that_is_gone_is_minted_anew(lab: GrantingLab) -> None:
    opened, asked_with = lab.open(), lab.authority.keyring.active
    fresh_key = RootKey.generate()
    lab.authority.rekey(lab.authority.keyring.added(fresh_key).activated(fresh_key.kid))
    first = lab.granted(opened.bundle, QUERY)
    lab.authority.revoke(kid=fresh_key.kid)
    lab.authority.rekey(lab.authority.keyring.activated(asked_with.kid))
    again = lab.granted(opened.bundle, QUERY)
    assert (first.kid, again.kid) == (fresh_key.kid, asked_with.kid)
    assert lab.codes(first, QUERY) == ("revoked",)
    assert lab.codes(again, QUERY) == ()


@pytest.mark.parametrize("which", [0, 1])
def test_what_was_granted_and_revoked_is_not_granted_again(lab: GrantingLab, which: int) -> None:
    opened = lab.open()
    lab.authority.revoke(lab.granted(opened.bundle, QUERY).ids[which])
    assert lab.refused(opened.bundle, QUERY) == ("grant_revoked",)
    assert lab.refused(opened.bundle.attenuate(fresh(20)), QUERY) == ("grant_revoked",)
    lab.policy = policy(rule("on_request", action(QUERY, table="sales")))
    assert lab.refused(opened.bundle, QUERY) == ("grant_revoked",)


def test_a_denial_and_a_revocation_hold_for_the_whole_node(lab: GrantingLab) -> None:
    opened = lab.open()
    lab.decide(lab.pending(opened.bundle, "mail.send").request, yes=False)
    lab.authority.revoke(lab.granted(opened.bundle, QUERY).id)
    again = opened.bundle.attenuate(fresh(20))
    lab.policy = policy(rule("on_request", action("mail.send", to="ann"), action(QUERY, table="sales")))
    assert lab.refused(again, "mail.send") == ("request_denied",)
    assert lab.refused(again, QUERY) == ("grant_revoked",)
    child = own(opened.bundle).delegate(to="sub", may_ask=[QUERY, "mail.send"])
    assert lab.refused(child, QUERY) == ("grant_revoked",)
    assert isinstance(lab.ask(child, "mail.send"), Granted)


def test_an_ask_is_decided_anew_where_the_policy_changed(lab: GrantingLab) -> None:
    opened = lab.open()
    wide = lab.granted(opened.bundle, QUERY)
    lab.policy = policy(rule("on_request", action(QUERY, table="sales")))
    narrow = lab.granted(opened.bundle, QUERY)
    assert lab.codes(narrow, QUERY, {"table": "staff"}) == ("argument_refused",)
    assert lab.codes(wide, QUERY, {"table": "staff"}) == ()
    lab.policy = policy(rule("on_request", READ))
    assert lab.refused(opened.bundle, QUERY) == ("not_offered",)


# What stands in the log.


def test_the_log_says_who_was_granted_what_and_no_arguments(lab: GrantingLab) -> None:
    opened = lab.open()
    child = own(opened.bundle).delegate(to="sub", may_ask=["billing.refund", "mail.send"])
    granted = lab.granted(child, "billing.refund", {"amount": 7})
    pending = lab.pending(child, "mail.send", {"to": "a secret friend"})
    lab.ask(child, "mail.send", {"to": [[]]})
    events = {event.kind: event for event in lab.authority.log(since=3)}
    minted = events["capability_minted"].read(CapabilityMinted)
    assert minted.allow == ("billing.refund where amount is between 0 and 50, only for the arguments of the request",)
    assert (minted.ids, minted.asker) == (tuple(map(b64u, granted.ids)), tuple(map(b64u, next(iter(child)).ids)))
    assert (minted.path, minted.hops) == (tuple(map(b64u, child.path)), ("sub",))
    assert (minted.policy, [limit.unit for limit in minted.budgets]) == (lab.policy.digest, ["refunds"])
    made = events["request_made"].read(RequestMade)
    assert (made.request, made.task, made.approvers, made.pinned) == (pending.request, opened.id, ("finance",), True)
    assert events["ask_refused"].read(AskRefused).reasons == ("not_pinned",)
    told = b"".join(event.body for event in lab.authority.log())
    assert b"secret friend" not in told
    assert b'"amount":7' not in told


def test_what_was_granted_stands_in_the_graph_beside_its_asker(lab: GrantingLab) -> None:
    opened = lab.open()
    child = own(opened.bundle).delegate(to="sub", may_ask=[QUERY])
    granted = lab.granted(child, QUERY)
    node = next(node for node in lab.authority.graph(opened.id).nodes() if node.label == "sub")
    assert node.id == b64u(child.path[-1])
    held = next(one for one in node.capabilities if one.audience == "warehouse")
    assert (held.id, held.asker) == (b64u(granted.id), tuple(map(b64u, next(iter(child)).ids)))
    lab.authority.check()


@pytest.mark.parametrize("how", DEATHS)
def test_the_dead_are_granted_nothing(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    die(lab, how, asking.bundle, asking.task, asking.other)
    assert denied_anyhow(lab, asking.bundle, QUERY) != []
    assert lab.authority.requests() == []


@pytest.mark.parametrize("how", DEATHS)
def test_who_died_after_the_ask_was_allowed_is_granted_nothing(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    (capability,) = asking.bundle
    ask = Ask(audience="warehouse", action=QUERY)
    sent = ToolCall("grant.request", ask.arguments())
    verifier = lab.authority.own_verifier()
    authentic = verifier.authenticate(capability.present(sent, now=int(lab.clock.now)).text)
    verifier.admit(authentic, sent).judge(Call("grant.request", sent.args, tenant="Acme"))
    die(lab, how, asking.bundle, asking.task, asking.other)
    answer = lab.authority.answer_asker(read_asker(authentic, ask), ask)
    assert isinstance(answer, Refused)
    assert [reason.code for reason in answer.reasons] == ["asker_dead"]


def refusal_of(lab: GrantingLab, asker: Asker) -> Refusal:
    """Why the ask of somebody who was admitted is refused."""
    refused = lab.authority.answer_asker(asker, Ask.of(QUERY))
    assert isinstance(refused, Refused)
    (refusal,) = refused.reasons
    return refusal


@pytest.mark.parametrize(
    ("how", "told"), [("task", "completed"), ("expiry", shown_instant(NOW + 600)), ("node", "revoked")]
)
def test_the_dead_are_told_how_they_died(lab: GrantingLab, how: str, told: str) -> None:
    asking = Asking(lab)
    asker = admitted_asker(lab, asking.bundle)
    die(lab, how, asking.bundle, asking.task, asking.other)
    assert told in refusal_of(lab, asker).sentence


def test_whose_key_is_retired_is_told_which(lab: GrantingLab) -> None:
    asking = Asking(lab)
    asker = admitted_asker(lab, asking.bundle)
    lab.authority.rekey(lab.authority.keyring.retired(asker.kid))
    refusal = refusal_of(lab, asker)
    assert (refusal.code, asker.kid in refusal.sentence) == ("asker_dead", True)


def test_whose_task_is_not_known_is_granted_nothing(lab: GrantingLab) -> None:
    asker = admitted_asker(lab, own(lab.open().bundle))
    refusal = refusal_of(lab, replace(asker, task="T-none"))
    assert (refusal.code, "T-none is unknown" in refusal.sentence) == ("asker_dead", True)


def test_who_is_of_another_tenant_than_the_intent_is_refused(lab: GrantingLab) -> None:
    asker = admitted_asker(lab, own(lab.open().bundle))
    refusal = refusal_of(lab, replace(asker, tenant="Globex"))
    assert (refusal.code, "tenant" in refusal.sentence) == ("intent_refused", True)


def test_an_intent_that_no_key_signed_is_refused_by_name(lab: GrantingLab) -> None:
    asker = admitted_asker(lab, own(lab.open().bundle))
    changed = policy(*RULES, principals=people(ana=replace(people()["ana"], key=people()["bob"].key)))
    with lab.authority.store.read() as reading, pytest.raises(NotOffered) as refused:
        offer(reading, lab.authority.keyring, changed, asker, Ask.of(QUERY), now=NOW)
    assert "ana" in str(refused.value.__cause__)


def last(lab: GrantingLab, kind: type[Event]) -> tuple[int, Event]:
    """The last event of a kind, and when it was."""
    return [(event.at, event.read(kind)) for event in lab.authority.log() if event.kind == kind.kind][-1]


def test_a_refused_ask_is_logged_with_who_asked_for_what(lab: GrantingLab) -> None:
    opened = lab.open()
    child = own(opened.bundle).delegate(to="sub", may_ask=["crm.export"])
    assert lab.refused(child, "crm.export") == ("not_offered",)
    event = last(lab, AskRefused)[1]
    assert event == AskRefused(opened.id, tuple(map(b64u, child.path)), ("sub",), "crm", "crm.export", ("not_offered",))


def test_a_request_is_logged_with_who_asked_for_what(lab: GrantingLab) -> None:
    opened = lab.open()
    child = own(opened.bundle).delegate(to="sub", may_ask=["mail.send"])
    pending = lab.pending(child, "mail.send")
    event = last(lab, RequestMade)[1]
    assert event.ask is not None
    assert replace(event, ask=None) == RequestMade(
        pending.request,
        opened.id,
        tuple(map(b64u, child.path)),
        ("sub",),
        "mail",
        "mail.send",
        NOW + 1800,
        ("finance",),
        1,
        policy=lab.policy.digest,
    )


def test_a_grant_is_logged_at_its_time_with_its_request(lab: GrantingLab) -> None:
    opened = lab.open()
    lab.clock.now += 7
    granted = lab.granted(opened.bundle, QUERY)
    at, minted = last(lab, CapabilityMinted)
    (request,) = lab.authority.requests()
    assert (at, minted.request, minted.expires) == (NOW + 7, request.id, opened.expires)
    assert (minted.allow, minted.ids) == ((QUERY,), tuple(map(b64u, granted.ids)))


def test_a_request_is_kept_with_all_that_it_was_about(lab: GrantingLab) -> None:
    ana = replace(people()["ana"], groups=("finance",))
    lab.policy = policy(*RULES, principals=people(ana=ana))
    child = own(lab.open().bundle).delegate(to="sub", may_ask=["mail.send"])
    lab.pending(child, "mail.send", {"to": "ann"})
    (request,) = lab.authority.requests()
    (capability,) = child
    assert (request.audience, request.action, request.args) == ("mail", "mail.send", '{"to":"ann"}')
    assert (request.kid, request.issued, request.asked) == (capability.kid, NOW, NOW)
    assert (request.labels, request.approvers, request.excluded) == (("sub",), ("finance",), ("ana",))


def test_a_grant_is_kept_with_how_it_was_minted(lab: GrantingLab) -> None:
    granted = lab.granted(lab.open().bundle, QUERY)
    (request,) = lab.authority.requests()
    assert (request.minted, request.minted_under) == (NOW, lab.authority.keyring.active.kid)
    assert (request.capability, set(request.granted)) == (b64u(granted.ids[0]), set(map(b64u, granted.ids)))


def test_a_denial_that_stands_is_written_as_any_refusal(lab: GrantingLab) -> None:
    opened = lab.open()
    lab.decide(lab.pending(opened.bundle, "mail.send").request, yes=False)
    lab.policy = policy(rule("on_request", "mail.send"))
    before = lab.kinds()
    assert lab.refused(opened.bundle, "mail.send") == ("request_denied",)
    assert lab.kinds() == [*before, "ask_refused"]


def test_who_waits_is_told_again_what_was_asked(lab: GrantingLab) -> None:
    opened = lab.open()
    first = lab.pending(opened.bundle, "mail.send", {"to": "ann"})
    assert lab.pending(opened.bundle, "mail.send", {"to": "ann"}).ask == first.ask


def test_what_died_with_one_token_is_granted_to_another(lab: GrantingLab) -> None:
    opened = lab.open()
    narrowed = opened.bundle.attenuate(fresh(20))
    lab.granted(narrowed, QUERY)
    (asking,) = own(narrowed)
    lab.authority.revoke(asking.id)
    assert lab.codes(lab.granted(opened.bundle, QUERY), QUERY) == ()


def test_a_request_whose_time_is_up_has_no_place_of_its_own(lab: GrantingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = lab.open()
    first = lab.pending(opened.bundle, "mail.send")
    lab.clock.now += 10
    lab.pending(opened.bundle, "mail.send", {"to": "ann"})
    lab.clock.now = first.until
    bound(monkeypatch, MOST_WAITING=2)
    assert lab.refused(opened.bundle, "mail.send") == ("too_many",)


@pytest.mark.parametrize("what", [QUERY, "mail.send"])
def test_who_asks_at_the_same_moment_gets_the_same_answer(lab: GrantingLab, what: str) -> None:
    # Between the read and the write of one ask, another one may have been answered.
    asker, ask = admitted_asker(lab, own(lab.open().bundle)), Ask.of(what)
    before = lab.kinds()
    with lab.authority.store.write() as transaction:
        first, second = (
            granting.answer(transaction, lab.authority.keyring, lab.policy, asker, ask, now=NOW) for _ in range(2)
        )
    assert str(first) == str(second)
    assert len(lab.kinds()) == len(before) + 1


def test_what_needed_no_person_waits_for_one_where_asked_now(lab: GrantingLab) -> None:
    opened, asked_with = lab.open(), lab.authority.keyring.active
    fresh_key = RootKey.generate()
    lab.authority.rekey(lab.authority.keyring.added(fresh_key).activated(fresh_key.kid))
    lab.granted(opened.bundle, QUERY)
    lab.policy = policy(rule("ask", "warehouse.*"))
    lab.authority.revoke(kid=fresh_key.kid)
    lab.authority.rekey(lab.authority.keyring.activated(asked_with.kid))
    assert lab.pending(opened.bundle, QUERY).approvers == ("finance",)


@pytest.mark.parametrize("what", [QUERY, "mail.send"])
def test_an_answer_that_stands_needs_nothing_written(lab: GrantingLab, what: str) -> None:
    bundle = own(lab.open().bundle)
    asker, ask = admitted_asker(lab, bundle), Ask.of(what)
    assert isinstance(decided(lab, asker, ask), Grantable)
    first = lab.ask(bundle, what)
    assert str(decided(lab, asker, ask)) == str(first)


def test_no_answer_stands_once_the_asker_is_dead(lab: GrantingLab) -> None:
    opened = lab.open()
    asker = admitted_asker(lab, own(opened.bundle))
    lab.granted(opened.bundle, QUERY)
    lab.authority.complete(opened.id)
    with pytest.raises(NotOffered, match="asker_dead"):
        decided(lab, asker, Ask.of(QUERY))


@pytest.mark.parametrize("how", DEATHS)
def test_a_grant_dies_with_whoever_asked_for_it(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    granted = lab.granted(asking.bundle, QUERY)
    below = granted.delegate(to="below")
    assert lab.codes(below, QUERY) == ()
    die(lab, how, asking.bundle, asking.task, asking.other)
    assert lab.codes(granted, QUERY) != ()
    assert lab.codes(below, QUERY) != ()
    lab.authority.check()


@pytest.mark.parametrize("how", DEATHS)
def test_what_a_person_agreed_to_dies_with_its_asker_too(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    pending = lab.pending(asking.bundle, "mail.send")
    lab.decide(pending.request)
    die(lab, how, asking.bundle, asking.task, asking.other)
    before = lab.kinds()
    assert denied_anyhow(lab, asking.bundle, "mail.send") != []
    assert lab.kinds() == before


@pytest.mark.parametrize("how", ["id", "first id", "kid", "instant"])
def test_what_dies_with_its_asker_has_an_event_of_its_own(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    granted = lab.granted(asking.bundle, QUERY)
    before = lab.authority.end()
    die(lab, how, asking.bundle, asking.task, asking.other)
    said = [event.body for event in lab.authority.log(since=before) if event.kind == "revoked"]
    assert len(said) == 2
    assert b64u(granted.ids[0]).encode() in said[1]


@pytest.mark.parametrize("how", ["id", "kid", "instant"])
def test_a_dry_run_tells_what_was_granted_on_the_strength_of_it(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    granted = lab.granted(asking.bundle, QUERY)
    (capability,) = asking.bundle
    if how == "id":
        tried = lab.authority.revoke(capability.ids[-1], dry_run=True)
    elif how == "kid":
        tried = lab.authority.revoke(kid=capability.kid, dry_run=True)
    else:
        tried = lab.authority.revoke(issued=NOW, dry_run=True)
    assert tried.dying is not None
    assert b64u(granted.id) in tried.dying.capabilities
    assert lab.codes(granted, QUERY) == ()


def test_siblings_of_an_asker_keep_what_they_were_granted(lab: GrantingLab) -> None:
    opened = lab.open()
    one, other = (own(opened.bundle).delegate(to=name, may_ask=[QUERY]) for name in ("one", "other"))
    mine, theirs = lab.granted(one, QUERY), lab.granted(other, QUERY)
    lab.authority.revoke(next(iter(one)).id)
    assert (lab.codes(mine, QUERY), lab.codes(theirs, QUERY)) == (("revoked",), ())


@pytest.mark.parametrize("round_", range(4))
def test_no_grant_outlives_a_revocation_that_it_raced(lab: GrantingLab, round_: int) -> None:
    opened = lab.open()
    child = own(opened.bundle).delegate(to="sub", may_ask=[QUERY])
    granted: list[Any] = []
    started = threading.Barrier(5)

    def ask(first: int) -> None:
        started.wait()
        for number in range(first, first + 40):
            try:
                answer = lab.ask(child, QUERY, {"id": number})
            except Denied:
                return
            if isinstance(answer, Granted):
                granted.append((answer.capability, number))

    threads = [threading.Thread(target=ask, args=(100 * number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    started.wait()
    while len(granted) < 3 * (round_ + 1):
        assert any(thread.is_alive() for thread in threads)
    lab.authority.revoke(next(iter(child)).ids[round_ % 3])
    known = len(granted)
    for thread in threads:
        thread.join()
    assert known > 0
    assert {lab.codes(capability, QUERY, {"id": number}) for capability, number in granted} == {("revoked",)}


def test_racing_asks_for_one_thing_are_granted_one_capability(lab: GrantingLab) -> None:
    opened = lab.open()
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(lab.granted(opened.bundle, QUERY).text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 8
    assert len(set(texts)) == 1


def test_what_a_delegator_pins_is_said_in_the_known_vocabulary(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[action("billing.refund", amount=between(0, 10))])
    entry, _ = next(one.entries for one in next(iter(child)).caveats[-1] if isinstance(one, Allow))
    assert any(isinstance(pair.constraint, Fields) for pair in entry.args or ())
    assert DEFAULT.decode(spelled([["allow", [entry.wire()]]])) == (Allow((entry,)),)


# Bounds.


def why(lab: GrantingLab, bundle: Bundle, what: str, args: Any = None) -> str:
    """The one reason for which an ask is refused, behind its code."""
    answer = lab.ask(bundle, what, args)
    assert isinstance(answer, Refused)
    (reason,) = answer.reasons
    return f"{reason.code}: {reason.sentence}"


def bound(monkeypatch: pytest.MonkeyPatch, **most: int) -> None:
    """Let there be so many requests at most."""
    for name, count in most.items():
        monkeypatch.setattr(quotas, name, count)


@pytest.mark.parametrize(("what", "name"), [(QUERY, "MOST_MADE"), ("mail.send", "MOST_WAITING")])
def test_one_request_too_many_says_how_many_there_may_be(
    lab: GrantingLab, monkeypatch: pytest.MonkeyPatch, what: str, name: str
) -> None:
    bound(monkeypatch, **{name: 4})
    opened = lab.open()
    for number in range(2):
        assert not isinstance(lab.ask(opened.bundle, what, {"n": number}), Refused)
    said = why(lab, opened.bundle, what, {"n": 2})
    assert said.startswith("too_many")
    assert "at most 4 of one task" in said


@pytest.mark.parametrize("name", ["MOST_WAITING", "MOST_MADE"])
@pytest.mark.parametrize("to", ["", "ann"])
def test_what_waits_and_is_asked_anew_takes_its_own_place(
    lab: GrantingLab, monkeypatch: pytest.MonkeyPatch, name: str, to: str
) -> None:
    bound(monkeypatch, **{name: 1})
    opened = lab.open()
    lab.pending(opened.bundle, "mail.send")
    lab.policy = policy(rule("ask", action("mail.send", to=to) if to else "mail.send", approvers=("legal",)))
    # On another offer it is another request, and all that were made count.
    refused = bool(to) and name == "MOST_MADE"
    assert isinstance(lab.ask(opened.bundle, "mail.send"), Refused if refused else Pending)


def test_what_was_granted_waits_anew_only_where_there_is_room(
    lab: GrantingLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(monkeypatch, MOST_WAITING=1)
    opened = lab.open()
    lab.granted(opened.bundle, QUERY)
    lab.pending(opened.bundle, "mail.send")
    lab.policy = policy(rule("ask", QUERY, "mail.send"))
    assert lab.refused(opened.bundle, QUERY) == ("too_many",)


def test_what_was_revoked_is_named_to_who_asks_again(lab: GrantingLab) -> None:
    opened = lab.open()
    id_ = b64u(lab.granted(opened.bundle, QUERY).id)
    lab.authority.revoke(id_)
    assert id_ in why(lab, opened.bundle, QUERY)
    assert id_ in why(lab, opened.bundle.attenuate(fresh(20)), QUERY)


def test_a_consent_of_another_group_counts_no_more(lab: GrantingLab) -> None:
    opened = lab.open()
    lab.decide(lab.pending(opened.bundle, "mail.send").request)
    lab.policy = policy(rule("ask", "mail.send", approvers=("legal",)))
    assert lab.pending(opened.bundle, "mail.send").approvers == ("legal",)


def test_a_consent_counts_while_its_approver_is_asked(lab: GrantingLab) -> None:
    opened = lab.open()
    lab.decide(lab.pending(opened.bundle, "mail.send").request)
    lab.policy = policy(rule("ask", "mail.send", approvers=("legal", "finance")))
    assert lab.granted(opened.bundle, "mail.send").audience == "mail"


def test_who_waits_is_asked_of_others_where_the_policy_says_so(lab: GrantingLab) -> None:
    opened = lab.open()
    first = lab.pending(opened.bundle, "mail.send")
    lab.policy = policy(rule("ask", "mail.send", approvers=("legal",)))
    again = lab.pending(opened.bundle, "mail.send")
    assert (again.request, again.approvers) == (first.request, ("legal",))


def test_what_waits_ends_with_its_asker_where_no_rule_ends_it(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", "mail.send", within=None))
    opened = lab.open()
    assert lab.pending(opened.bundle, "mail.send").until == opened.expires


def test_what_was_granted_before_is_kept_with_what_is_now(lab: GrantingLab) -> None:
    opened = lab.open()
    first = lab.granted(opened.bundle, QUERY)
    lab.policy = policy(rule("on_request", "warehouse.*", budgets=[budget("queries", 2)]))
    second = lab.granted(opened.bundle, QUERY)
    (request,) = lab.authority.requests()
    assert set(request.granted) == {b64u(id_) for one in (first, second) for id_ in one.ids}


def test_a_request_keeps_its_newest_grants_and_no_more(lab: GrantingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(granting, "_MOST_EARLIER", 6)
    opened, ids = lab.open(), list[str]()
    for limit in range(1, 9):
        lab.policy = policy(rule("on_request", "warehouse.*", budgets=[budget("queries", limit)]))
        ids += map(b64u, lab.granted(opened.bundle, QUERY).ids)
    (request,) = lab.authority.requests()
    assert sorted(request.granted) == sorted(ids[-8:])
    lab.authority.revoke(ids[-8])
    assert lab.refused(opened.bundle, QUERY) == ("grant_revoked",)


def test_a_request_with_listed_pins_needs_no_transaction(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", "mail.send", pinned=("to",)))
    asker = admitted_asker(lab, lab.open().bundle)

    def standing(body: str) -> object:
        return decided(lab, asker, Ask.of("mail.send", args={"to": "ben", "body": body}))

    assert isinstance(standing("one"), Grantable)
    first = lab.authority.answer_asker(asker, Ask.of("mail.send", args={"to": "ben", "body": "one"}))
    assert isinstance(first, Pending)
    for body in ("one", "two"):
        found = standing(body)
        assert isinstance(found, Pending)
        assert found.request == first.request


def test_nobody_is_asked_for_what_a_budget_has_no_room_for(lab: GrantingLab) -> None:
    spending = rule("on_request", "billing.refund", budgets=[budget("refunds", 3)])
    lab.policy = policy(rule("ask", "mail.send", budgets=[budget("refunds", 3)]), spending)
    bundle = lab.open().bundle
    waits = lab.pending(bundle, "mail.send", {"to": "ben"})
    assert lab.codes(lab.granted(bundle, "billing.refund"), "billing.refund", cost={"refunds": "2"}) == ()
    lab.pending(bundle, "mail.send", {"to": "ann"})
    assert lab.codes(lab.granted(bundle, "billing.refund"), "billing.refund", cost={"refunds": "1"}) == ()
    # Nor is an agent left waiting that asks again; a person can still answer, and the budget may get something back.
    for to in ("eve", "ben"):
        answer = lab.ask(bundle, "mail.send", {"to": to})
        assert isinstance(answer, Refused)
        assert [one.code for one in answer.reasons] == ["budget_exhausted"]
        assert "0 of 3 refunds are left" in str(answer)
    assert len(lab.authority.requests(pending=True)) == 2
    # What a person has agreed to is given all the same.
    lab.decide(waits.request)
    lab.granted(bundle, "mail.send", {"to": "ben"})
