"""Who asked is shown in the log: what honest agents leave is consistent, and whatever else stands there is told."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from capx.authority.in_process import present_and_judge
from capx.authority.requests.granting import Waiting
from capx.authority.requests.inheritance import read_asker
from capx.authority.row_guard import replace_marks
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.ledger.archive import Archive
from capx.proof import Proof, export
from capx.proof.document import ProofBroken
from capx.proof.verifying import CLOCKS_APART
from capx.store.factory import create_store, open_store
from capx.tokens.approval_caveat import approval
from capx.tokens.binding import WINDOW_AFTER, WINDOW_BEFORE, ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import mint
from capx.verify.ask import Ask, Granted, Pending
from capx_caveats import (
    Allow,
    Entry,
    Expires,
    Holder,
    Intent,
    NotBefore,
    Root,
    Step,
    Task,
    Tenant,
    UntilCompleted,
    action,
)
from tests.labs.granting_lab import CARA, policy, rule
from tests.labs.lab import NOW
from tests.labs.own_constraints import Odd
from tests.labs.proving import PLANNER, READER, ProofLab, Told, read, told

REFUND, LOOK = "billing.refund", "shop.look"
ARGS = {"amount": 40}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProofLab]:
    made = ProofLab(tmp_path, uses=1)
    made.policy = policy(
        rule("at_open", "crm.*"), rule("ask", "billing.*", uses=1), rule("on_request", "shop.*", uses=2)
    )
    yield made
    made.close()


def granted(lab: ProofLab, bundle: Bundle, action: str = LOOK, args: Any = ARGS) -> Any:
    answer = lab.ask(bundle, action, args)
    if isinstance(answer, Pending):
        lab.decide(answer.request)
        answer = lab.ask(bundle, action, args)
    assert isinstance(answer, Granted), answer
    return answer.capability


def exported(lab: ProofLab, task: str) -> Proof:
    lab.authority.flush()
    return export(lab.authority, task, now=int(lab.clock.now))


def result(lab: ProofLab, task: str) -> str:
    report = read(exported(lab, task), lab.trust())
    assert (report.contradictions, report.gaps) == ((), ())
    return report.result


# Honest logs.


def test_what_is_asked_for_is_consistent(lab: ProofLab) -> None:
    task, planner = lab.started()
    below = planner.delegate(to="reader", to_key=READER, may_ask=["shop.*", "billing.*"]).with_key(READER)
    held = [granted(lab, one, action) for one in (planner, below) for action in (LOOK, REFUND)]
    granted(lab, planner, LOOK, None)
    richer = planner.holding(held[0].with_key(PLANNER), now=int(lab.clock.now))
    lab.call(richer, LOOK, ARGS)
    lab.ask(planner, "hr.fire")
    lab.pending(planner, REFUND, {"amount": 41})
    assert result(lab, task.id) == "consistent"
    report = read(exported(lab, task.id), lab.trust())
    assert "by the keys of agents: 8 asks for requests and grants" in report.signed


def test_a_second_round_and_an_approval_are_consistent(lab: ProofLab) -> None:
    task, planner = lab.started()
    for _ in range(2):
        richer = planner.holding(granted(lab, planner, REFUND).with_key(PLANNER), now=int(lab.clock.now))
        lab.call(richer, REFUND, ARGS)
        lab.clock.now += 10
    lab.pending(planner, REFUND, ARGS)
    reader = planner.delegate(
        to="reader", to_key=READER, allow=["crm.read"], approval=approval(by=[CARA.public]), now=int(lab.clock.now)
    ).with_key(READER)
    lab.approved(reader, "crm.read", {"id": 2})
    assert result(lab, task.id) == "consistent"


def test_a_grant_after_a_rotation_is_consistent(lab: ProofLab) -> None:
    task, planner = lab.started()
    asked_with, fresh = lab.authority.keyring.active, RootKey.generate()
    lab.authority.rekey(lab.authority.keyring.added(fresh).activated(fresh.kid))
    granted(lab, planner, REFUND)
    lab.authority.rekey(lab.authority.keyring.activated(asked_with.kid))
    with lab.authority.store.write() as transaction:
        replace_marks(transaction, lab.authority.keyring, of=fresh.kid)
    lab.authority.rekey(lab.authority.keyring.retired(fresh.kid))
    granted(lab, planner, REFUND)
    assert result(lab, task.id) == "consistent"


def test_arguments_that_the_policy_lists_are_those_that_count(lab: ProofLab) -> None:
    lab.policy = policy(rule("at_open", "crm.*"), rule("ask", "billing.*", pinned=("amount", "to")))
    task, planner = lab.started()
    granted(lab, planner, REFUND, {"amount": 40, "note": "please"})
    granted(lab, planner, REFUND, {"note": "please"})
    assert result(lab, task.id) == "consistent"


def test_a_grant_on_a_constraint_of_a_service_is_consistent(lab: ProofLab) -> None:
    lab.policy = policy(rule("at_open", "crm.*"), rule("on_request", action(LOOK, amount=Odd())))
    task, planner = lab.started()
    granted(lab, planner, LOOK, {"amount": 3})
    assert result(lab, task.id) == "consistent"


def test_an_agent_that_waited_asked_when_its_request_was_made(lab: ProofLab) -> None:
    task, planner = lab.started()
    ask = Ask.of(REFUND, args=ARGS)
    call = ToolCall(ask.own_action, ask.arguments())
    authentic, _ = present_and_judge(lab.authority.own_verifier(), planner, call, now=int(lab.clock.now))
    asker = read_asker(authentic, ask)
    waits = lab.authority.answer_asker(asker, ask)
    assert isinstance(waits, Pending)
    lab.clock.now += 80
    lab.decide(waits.request)
    assert isinstance(lab.authority.answer_asker(asker, ask), Granted)
    assert result(lab, task.id) == "consistent"


def test_asked_again_after_a_restart_it_is_consistent(tmp_path: Path) -> None:
    place = str(tmp_path / "capx.db")
    create_store(place).close()
    keys = KeyRing(RootKey(bytes(range(32))))
    first = ProofLab(tmp_path, uses=1, store=open_store(place), keyring=keys)
    task, planner = first.started()
    waits = first.pending(planner, REFUND, ARGS)
    first.close()
    again = ProofLab(tmp_path, uses=1, store=open_store(place), keyring=keys)
    assert again.pending(planner, REFUND, ARGS).request == waits.request
    again.decide(waits.request)
    lost = again.granted(planner, REFUND, ARGS)
    assert again.granted(planner, REFUND, ARGS) == lost, "the answer got lost, and the agent asked once more"
    again.authority.complete(task.id)
    for _ in range(300):
        again.authority.open(allow=["crm.read"])
    before = exported(again, task.id)
    again.clock.now += 400 * 86_400
    folder = tmp_path / "archive"
    folder.mkdir()
    assert again.authority.archive(folder).decisions
    again.authority.prune()
    proof = export(again.authority, task.id, archive=Archive(folder), now=int(again.clock.now))
    assert read(before, again.trust()).result == "consistent"
    assert read(proof, again.trust()).result == "consistent"
    again.close()


def test_the_asks_of_bearers_are_the_word_of_the_authority(lab: ProofLab) -> None:
    task, bundle = lab.started(agent_key=None)
    granted(lab, bundle)
    report = read(exported(lab, task.id), lab.trust())
    assert report.result == "consistent"
    assert "of the authority: who asked for what was granted at run time" in report.words


# What is not there.


def test_a_grant_without_evidence_is_incomplete(lab: ProofLab) -> None:
    task, planner = lab.started()
    granted(lab, planner)
    proof = exported(lab, task.id)
    bare = [
        (at, kind, {name: value for name, value in body.items() if name != "ask"}) for at, kind, body in told(proof)
    ]
    report = read(lab.rewritten(replace(proof, asked=()), *bare), lab.trust())
    assert report.contradictions == ()
    assert [why for why in report.gaps if "could have made up the agent" in why]
    assert report.result == "incomplete"


def test_what_was_asked_for_is_disclosed(lab: ProofLab) -> None:
    task, planner = lab.started()
    granted(lab, planner)
    proof = exported(lab, task.id)
    report = read(replace(proof, asked=()), lab.trust())
    assert report.result == "incomplete"
    assert any("it could have asked for something else" in why for why in report.gaps)
    (part,) = proof.asked
    for wrong in (
        (replace(part, args={**part.args, "action": "shop.buy"}),),
        (replace(part, salt=b64u(bytes(32))),),
        (replace(part, position=part.position + 1),),
        (part, replace(part, position=1)),
    ):
        with pytest.raises(ProofBroken, match=r"(is not what the log commits to|commits to no arguments of an ask)$"):
            read(replace(proof, asked=wrong), lab.trust())
    with pytest.raises(ProofBroken, match="twice"):
        read(replace(proof, asked=(part, part)), lab.trust())


# What an operator with the root key makes up.


def puppet(lab: ProofLab, task: Any, key: AgentKey, action: str = LOOK) -> dict[str, Any]:
    """The event of a grant that the operator mints for a key of their own, below the first agent's node."""
    root = lab.authority.keyring.active
    step = Step("puppet", "AAAAAAAAAAA")
    claims = [Task(task.id), Intent(task.intent), Root(task.root, (step,)), UntilCompleted(task.id), Tenant("Acme")]
    offered, asked = Allow((Entry("shop.*"),)), Allow((Entry(action),))
    block = [*claims, Holder(key.public.removeprefix("ed25519:")), offered, asked, Expires(NOW + 3600)]
    made = mint(root.audience_key("shop"), block, now=NOW)
    return {
        "task": task.id,
        "audience": "shop",
        "kid": root.kid,
        "ids": list(map(b64u, made.ids)),
        "allow": [action],
        "expires": NOW + 3600,
        "request": "Q" * 22,
        "round": 1,
        "path": list(map(b64u, made.path)),
        "hops": ["puppet"],
        "digest": b64u(made.digest),
        "chain": msgspec.to_builtins(made.chain_text),
    }


def test_an_agent_that_nobody_knows_is_never_consistent(lab: ProofLab) -> None:
    task, planner = lab.started()
    granted(lab, planner)
    proof = exported(lab, task.id)
    events, real = told(proof), grant_in(proof)
    made_up = puppet(lab, task, AgentKey.generate("puppet"))
    silent = lab.rewritten(proof, *events, (NOW, "capability_minted", made_up))
    assert read(silent, lab.trust()).result != "consistent"
    borrowed = (NOW, "capability_minted", {**made_up, "ask": real["ask"], "asker": real["asker"]})
    found = read(lab.rewritten(proof, *events, borrowed), lab.trust())
    assert any("another agent" in why for why in found.contradictions), found.contradictions
    assert any("a presentation that another ask has used" in why for why in found.contradictions)


EVIDENCE: dict[str, tuple[Change, str]] = {
    "another chain": (lambda ask: ask.update(after="A" * 43), "does not continue what the task was opened with"),
    "a block more": (lambda ask: ask.update(blocks=['[["fresh",5]]']), "has not signed"),
    "no chain at all": (lambda ask: ask.update(blocks=[["a", "b", "c"]]), "cannot be read"),
    "nothing signed": (lambda ask: ask.pop("presented"), "without a presentation, although the task is bound"),
    "another presentation": (lambda ask: ask.update(presented='[["fresh",5]]'), "does not count"),
    "another offer": (lambda ask: ask.update(offer="A" * 43), "or is on another offer"),
    "no offer": (lambda ask: ask.pop("offer"), "has another id than the request"),
    "other names": (lambda ask: ask.update(names=["note"]), "has another id than the request"),
}


@pytest.mark.parametrize("how", EVIDENCE)
def test_evidence_that_does_not_fit_is_told(lab: ProofLab, how: str) -> None:
    task, planner = lab.started()
    granted(lab, planner)
    change, why = EVIDENCE[how]
    assert any(why in one for one in changed(lab, task.id, lambda body: change(body["ask"]))), how


EVENT: dict[str, tuple[Change, str]] = {
    "another request": (lambda body: body.update(request="Q" * 22), "has another id than the request"),
    "another path": (lambda body: body.update(path=["Q" * 22]), "by another agent than it says"),
    "other labels": (lambda body: body.update(hops=["boss"]), "by another agent than it says"),
    "another asker": (lambda body: body.update(asker=["Q" * 22]), "with another chain than it says"),
}


@pytest.mark.parametrize("how", EVENT)
def test_an_event_that_its_evidence_does_not_fit_is_told(lab: ProofLab, how: str) -> None:
    task, planner = lab.started()
    granted(lab, planner)
    change, why = EVENT[how]
    assert any(why in one for one in changed(lab, task.id, change)), how


def changed(lab: ProofLab, task: str, change: Change) -> list[str]:
    """What contradicts when the operator changes the event of the last grant."""
    proof = exported(lab, task)
    return list(read(lab.rewritten(proof, *with_grant(proof, change)), lab.trust()).contradictions)


def grant_in(proof: Proof) -> dict[str, Any]:
    """The body of the event that minted what an agent asked for."""
    return next(body for _, kind, body in told(proof) if kind == "capability_minted" and body.get("request"))


def with_grant(proof: Proof, change: Change, later: int = 0) -> list[Told]:
    """The events of the authority with a change of that event; this one, and what stands behind it, happen later."""
    found: list[Told] = []
    after = 0
    for at, kind, body in told(proof):
        if kind == "capability_minted" and body.get("request"):
            change(body)
            after = later
        found.append((at + after, kind, {**body, "at": body["at"] + after} if "at" in body else body))
    return found


def test_an_ask_of_another_time_is_none_of_this_grant(lab: ProofLab) -> None:
    task, planner = lab.started()
    granted(lab, planner)
    proof = exported(lab, task.id)
    late = lab.rewritten(proof, *with_grant(proof, lambda _: None, later=120))
    assert any("too early or too late for its event" in why for why in read(late, lab.trust()).contradictions)


def told_of_grant(lab: ProofLab, proof: Proof, later: int) -> list[str]:
    """What contradicts when the last grant and its event are of another time."""
    report = read(lab.rewritten(proof, *with_grant(proof, lambda _: None, later=later)), lab.trust())
    return [why for why in report.contradictions if why.startswith("the grant of event")]


def test_an_ask_counts_as_long_as_its_presentation(lab: ProofLab) -> None:
    task, planner = lab.started()
    granted(lab, planner)
    proof = exported(lab, task.id)
    early, late = -(WINDOW_BEFORE + CLOCKS_APART), WINDOW_AFTER + CLOCKS_APART
    for later in (early, 0, late):
        assert told_of_grant(lab, proof, later) == []
    for later in (early - 1, late + 1):
        (why,) = told_of_grant(lab, proof, later)
        assert why.endswith("a presentation that is too early or too late for its event")


def test_a_chain_that_had_expired_asks_for_nothing(lab: ProofLab) -> None:
    task, planner = lab.started()
    brief = planner.attenuate(Expires(NOW + 10), now=int(lab.clock.now))
    granted(lab, brief)
    proof = exported(lab, task.id)
    assert told_of_grant(lab, proof, 10 + CLOCKS_APART - 1) == []
    assert any("with a chain that had expired" in why for why in told_of_grant(lab, proof, 10 + CLOCKS_APART))


def test_a_chain_asks_for_nothing_before_it_is_valid(lab: ProofLab) -> None:
    task, planner = lab.started()
    late = planner.attenuate(NotBefore(NOW), now=int(lab.clock.now))
    granted(lab, late)
    proof = exported(lab, task.id)
    assert told_of_grant(lab, proof, 0) == []
    assert any("was not valid yet" in why for why in told_of_grant(lab, proof, -1))


def test_a_grant_is_for_what_was_asked_for(lab: ProofLab) -> None:
    task, planner = lab.started()
    granted(lab, planner)
    proof = exported(lab, task.id)
    wide = puppet(lab, task, PLANNER, "shop.buy")
    wider = {name: wide[name] for name in ("ids", "digest", "chain")}
    found = read(lab.rewritten(proof, *with_grant(proof, lambda body: body.update(wider))), lab.trust())
    assert any("allows something else than was asked for" in why for why in found.contradictions)
    assert any("went to another agent" in why for why in found.contradictions)


def test_one_presentation_is_one_ask(lab: ProofLab) -> None:
    task, planner = lab.started()
    granted(lab, planner)
    proof = exported(lab, task.id)
    events = [*told(proof), (NOW, "capability_minted", grant_in(proof))]
    asked = (*proof.asked, replace(proof.asked[0], position=len(events)))
    found = read(lab.rewritten(replace(proof, asked=asked), *events), lab.trust())
    assert any("a presentation that another ask has used" in why for why in found.contradictions)


def test_a_policy_that_changes_makes_no_honest_log_contradict(lab: ProofLab) -> None:
    task, planner = lab.started()
    granted(lab, planner)
    granted(lab, planner, REFUND)
    for uses in (3, 2):
        lab.policy = policy(
            rule("at_open", "crm.*"), rule("ask", "billing.*", uses=uses), rule("on_request", "shop.*", uses=uses)
        )
        granted(lab, planner)
        granted(lab, planner, REFUND)
    lab.pending(planner, REFUND, {"amount": 50})
    lab.policy = policy(rule("at_open", "crm.*"), rule("ask", "billing.*"), rule("ask", "shop.*", uses=2))
    granted(lab, planner)
    granted(lab, planner, REFUND, {"amount": 50})
    lab.clock.now += 1_000
    lab.decide(lab.pending(planner, REFUND, {"amount": 51}).request, yes=False)
    lab.ask(planner, REFUND, {"amount": 51})
    lab.clock.now += 1_900
    waits = lab.ask(planner, REFUND, {"amount": 52})
    assert isinstance(waits, Pending)
    lab.authority.complete(task.id)
    assert result(lab, task.id) == "consistent"


def test_what_the_policy_gives_later_needs_no_consent_before(lab: ProofLab) -> None:
    task, planner = lab.started()
    lab.pending(planner, REFUND, ARGS)
    granted(lab, planner, REFUND, {"amount": 1})
    lab.policy = policy(rule("at_open", "crm.*"), rule("on_request", "billing.*", uses=1))
    granted(lab, planner, REFUND, ARGS)
    granted(lab, planner, REFUND, {"amount": 1})
    assert result(lab, task.id) == "consistent"
    told_of = [(one.approver, one.yes) for one in lab.authority.answers(task.id)]
    assert told_of == [("bob", True), (None, True)]


def test_an_agent_that_is_woken_writes_nothing_else(lab: ProofLab) -> None:
    task, planner = lab.started()
    ask = Ask.of(REFUND, args={"amount": 40, "to": "bo"})
    call = ToolCall(ask.own_action, ask.arguments())
    authentic, _ = present_and_judge(lab.authority.own_verifier(), planner, call, now=int(lab.clock.now))
    asker = read_asker(authentic, ask)
    waits = lab.authority.answer_asker(asker, ask)
    assert isinstance(waits, Pending)
    waiting = Waiting(waits, 1)
    lab.policy = policy(rule("at_open", "crm.*"), rule("ask", "billing.*", pinned=("amount",)))
    assert lab.authority.answer_asker(asker, ask, waiting=waiting) is waits
    lab.policy = policy(rule("at_open", "crm.*"), rule("on_request", "billing.*"))
    assert lab.authority.answer_asker(asker, ask, waiting=waiting) is waits
    assert len(lab.authority.requests(task=task.id)) == 1
    lab.policy = policy(rule("at_open", "crm.*"), rule("ask", "billing.*", uses=1))
    lab.decide(waits.request)
    assert isinstance(lab.authority.answer_asker(asker, ask, waiting=waiting), Granted)
    assert result(lab, task.id) == "consistent"
