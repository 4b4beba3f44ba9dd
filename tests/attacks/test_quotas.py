"""What attackers tried to use up the asks of others: with branches, made-up nodes, revocations, resources and races."""

import contextlib
import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.authority.requests import quotas
from capx.store.protocols import Store, Writing
from capx.tokens.bundle import Bundle, hops_between
from capx.verify.ask import Granted, Pending, Refused
from capx_caveats import expires
from tests.labs.granting_asks import own
from tests.labs.granting_lab import GrantingLab, rule
from tests.labs.lab import NOW
from tests.store.conftest import Places

QUERY, SEND, READ = "warehouse.query", "mail.send", "crm.read"
EVERYWHERE = ("warehouse.*", "crm.*", "wiki.*", "drive.*", "ledger.*")
MADE, WAITING = 40, 16
"""The bounds that hold here, so that few asks reach them."""


@pytest.fixture
def lab(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[GrantingLab]:
    """An authority over each kind of store."""
    monkeypatch.setattr(quotas, "MOST_MADE", MADE)
    monkeypatch.setattr(quotas, "MOST_WAITING", WAITING)
    made = GrantingLab(rule("on_request", *EVERYWHERE), rule("ask", "mail.*"), store=store)
    yield made
    # Its recorder would go on, and tell other tests of this process that the store is closed.
    made.authority.close()


def first(lab: GrantingLab) -> Bundle:
    """What a first agent asks with."""
    return own(lab.open().bundle)


def below(bundle: Bundle, to: str = "helper") -> Bundle:
    """A child that may ask for the same."""
    return bundle.delegate(to=to, may_ask=[*EVERYWHERE, "mail.*"])


def asked(lab: GrantingLab, bundle: Bundle, what: str = QUERY) -> int:
    """How often this agent gets an answer, each time with other arguments, until there is no room."""
    for number in range(2 * MADE):
        answer = lab.ask(bundle, what, {"n": number})
        if isinstance(answer, Refused):
            assert [reason.code for reason in answer.reasons] == ["too_many"]
            return number
    raise AssertionError("there is no end to it")


def crowd(lab: GrantingLab, bundle: Bundle, what: str = QUERY) -> int:
    """How often an agent gets an answer in all, with children beside and below each other."""
    deep = below(bundle, "deep")
    return sum(asked(lab, one, what) for one in (bundle, *(below(bundle) for _ in range(4)), deep, below(deep)))


@pytest.mark.parametrize("what", [QUERY, SEND])
def test_a_branch_that_asks_without_end_leaves_room(lab: GrantingLab, what: str) -> None:
    most = MADE if what == QUERY else WAITING
    lead = first(lab)
    rogue, good = below(lead, "rogue"), below(lead, "good")
    assert most // 8 <= crowd(lab, rogue, what) <= most // 2
    assert asked(lab, good, what) >= most // 8
    assert asked(lab, lead, what) >= most // 8


def test_a_branch_that_asks_everywhere_leaves_room(lab: GrantingLab) -> None:
    lead = first(lab)
    rogue, good = below(lead, "rogue"), below(lead, "good")
    everything = [f"{audience.removesuffix('.*')}.read" for audience in EVERYWHERE]
    assert MADE // 4 < sum(crowd(lab, rogue, what) for what in everything) <= MADE // 2
    assert sum(asked(lab, good, what) for what in everything) >= MADE // 8


@pytest.mark.parametrize("what", [QUERY, SEND])
def test_a_branch_that_an_operator_revokes_gives_back_its_room(lab: GrantingLab, what: str) -> None:
    lead = first(lab)
    rogue, good = below(lead, "rogue"), below(lead, "good")
    crowd(lab, rogue, what)
    left = asked(lab, below(lead, "good"), what)
    lab.authority.revoke(rogue)
    assert asked(lab, good, what) >= left
    kept = len(lab.authority.requests())
    lab.authority.revoke(good)
    assert asked(lab, below(lead, "another"), what) >= left
    assert len(lab.authority.requests()) > kept


def test_asking_below_a_child_and_revoking_it_gains_nothing(lab: GrantingLab) -> None:
    lead = first(lab)
    rogue = below(lead, "rogue")
    made = 0
    for number in range(MADE):
        child = below(rogue, f"child-{number}")
        made += isinstance(lab.ask(child, QUERY, {"n": number}), Granted)
        revoked = lab.authority.revoke_below(lab.authority.tasks()[0].id, rogue.path, hops_between(rogue, child))
        assert not revoked.killed[0].again
    assert made <= MADE // 4
    assert asked(lab, rogue) == 0
    assert asked(lab, below(lead, "good")) >= MADE // 8


def test_an_operator_frees_what_an_agent_revoked_before(lab: GrantingLab) -> None:
    lead = first(lab)
    child = below(lead, "child")
    made = crowd(lab, child)
    lab.authority.revoke_below(lab.authority.tasks()[0].id, lead.path, hops_between(lead, child))
    before = asked(lab, below(lead, "second"))
    revoked = lab.authority.revoke(child)
    assert revoked.killed[0].again
    assert before < made <= before + asked(lab, below(lead, "third"))


def test_a_chain_of_made_up_nodes_gains_nothing(lab: GrantingLab) -> None:
    lead = first(lab)
    chain = [below(lead, "rogue")]
    for depth in range(12):
        chain.append(below(chain[-1], f"below-{depth}"))
    assert sum(asked(lab, one) for one in reversed(chain)) <= MADE // 2
    assert isinstance(lab.ask(below(lead, "good"), QUERY), Granted)


def test_other_tokens_of_a_node_share_its_room(lab: GrantingLab) -> None:
    rogue = below(first(lab), "rogue")
    alone = asked(lab, rogue)
    assert sum(asked(lab, rogue.attenuate(expires(NOW + 600 + number))) for number in range(4)) == 0
    assert alone <= MADE // 2


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_resource_burns_no_asks_for_others(lab: GrantingLab, depth: int) -> None:
    agent = first(lab)
    for _ in range(depth):
        agent = below(agent)
    burnt = asked(lab, agent, QUERY)
    assert asked(lab, agent, READ) >= burnt // 2 >= 1


def test_a_resource_leaves_half_of_the_room_that_is_left(lab: GrantingLab) -> None:
    agent = below(first(lab))
    for number in range(2):
        for audience in EVERYWHERE[1:]:
            lab.granted(agent, f"{audience.removesuffix('.*')}.read", {"n": number})
    left = MADE // 2 - len(lab.authority.requests())
    assert asked(lab, agent, QUERY) == left // 2
    assert asked(lab, agent, "ledger.write") >= 1


def test_asking_again_takes_no_room(lab: GrantingLab) -> None:
    agent = below(first(lab))
    once = lab.granted(agent, QUERY)
    for _ in range(MADE):
        assert lab.granted(agent, QUERY).text == once.text
    asked(lab, agent)
    assert lab.granted(agent, QUERY).text == once.text
    assert isinstance(lab.ask(below(first(lab)), QUERY), Granted)


def test_what_waits_is_asked_again_with_no_room_left(lab: GrantingLab) -> None:
    agent = below(first(lab))
    once = lab.pending(agent, SEND)
    asked(lab, agent, SEND)
    assert lab.pending(agent, SEND).request == once.request
    lab.clock.now = once.until
    assert lab.pending(agent, SEND).until > once.until


def test_a_task_of_its_own_has_room_of_its_own(lab: GrantingLab) -> None:
    crowd(lab, first(lab))
    assert asked(lab, first(lab)) == MADE // 2


def test_racing_asks_take_the_last_room_once(lab: GrantingLab, places: Places) -> None:
    agent = first(lab)
    for number in range(MADE // 2 - 1):
        lab.granted(agent, QUERY, {"n": number})
    # Each with connections of its own, as processes have them.
    others = [
        Authority(places.again(lab.authority.store), lab.authority.keyring, policy=lab.policy, clock=lab.clock)
        for _ in range(6)
    ]
    gate, answers = threading.Barrier(len(others)), list[Any]()

    def race(authority: Authority, number: int) -> None:
        gate.wait()
        answers.append(authority.ask(agent, QUERY, args={"racer": number}))

    racers = [threading.Thread(target=race, args=(one, number)) for number, one in enumerate(others)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    # Each still holds what it decided. Its recorder would tell another test that it cannot write any more.
    for one in others:
        one.close()
    assert sum(isinstance(answer, Granted) for answer in answers) == 1
    assert sum(isinstance(answer, Refused) for answer in answers) == len(others) - 1
    assert len(lab.authority.requests()) == MADE // 2


class OnlyAppends:
    """A writing transaction in which the log can grow, and nothing can be read."""

    def __init__(self, transaction: Writing) -> None:
        self.append = transaction.append


@contextlib.contextmanager
def appending(lab: GrantingLab, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Let no transaction of this authority that writes do anything but append to the log."""
    store = lab.authority.store
    write = store.write

    @contextlib.contextmanager
    def only_append(**settings: Any) -> Generator[Any]:
        with write(**settings) as transaction:
            yield OnlyAppends(transaction)

    with monkeypatch.context() as patched:
        patched.setattr(store, "write", only_append)
        yield


@pytest.mark.parametrize("what", [QUERY, SEND, READ, "billing.refund"])
def test_a_refused_ask_reads_nothing_that_others_wait_for(
    lab: GrantingLab, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    agent = first(lab)
    if what == READ:
        lab.authority.revoke(lab.granted(agent, READ).ids[0])
        agent = agent.attenuate(expires(NOW + 60))
    elif what != "billing.refund":
        asked(lab, agent, what)
    with appending(lab, monkeypatch):
        answer = lab.ask(agent, what)
    assert isinstance(answer, Refused)
    assert lab.kinds()[-1] == "ask_refused"


def test_a_pending_answer_needs_no_write(lab: GrantingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = below(first(lab))
    once = lab.pending(agent, SEND)
    before = lab.kinds()
    with appending(lab, monkeypatch):
        again = lab.ask(agent, SEND)
    assert isinstance(again, Pending)
    assert again.request == once.request
    assert lab.kinds() == before
