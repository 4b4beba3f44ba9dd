"""An ask leaves its evidence in its event, and what was asked for in a row that fits it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from capx.crypto.base64url import b64u
from capx.errors import BrokenLog
from capx.store.events import CapabilityMinted, RequestMade
from capx.store.factory import create_store, open_store
from capx.store.records import AskedArguments
from capx.tokens.bundle import Bundle
from capx.verify.evidence import args_commitment
from tests.labs.granting_lab import policy, rule
from tests.labs.proving import PLANNER, READER, ProofLab
from tests.labs.tampering import Behind

REFUND, LOOK, ARGS = "billing.refund", "shop.look", {"amount": 40}


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    path = str(tmp_path / "capx.db")
    create_store(path).close()
    return path


@pytest.fixture
def lab(place: str, tmp_path: Path) -> Iterator[ProofLab]:
    made = ProofLab(tmp_path, store=open_store(place))
    made.policy = policy(rule("at_open", "crm.*"), rule("ask", "billing.*"), rule("on_request", "shop.*"))
    yield made
    made.close()


def asked(lab: ProofLab, task: str) -> tuple[Any, AskedArguments]:
    """The fact of the newest ask, and the row beside it."""
    kinds: dict[str, Any] = {one.kind: one for one in (RequestMade, CapabilityMinted)}
    newest = [event for event in lab.authority.log() if event.kind in kinds][-1]
    with lab.authority.store.read() as reading:
        return newest.read(kinds[newest.kind]), reading.asks(task)[-1]


def below(planner: Bundle) -> Bundle:
    return planner.delegate(to="reader", to_key=READER, may_ask=["shop.*"]).with_key(READER)


def test_the_event_commits_to_the_call_that_asked(lab: ProofLab) -> None:
    task, planner = lab.started()
    for action, ask in ((REFUND, lab.pending), (LOOK, lab.granted)):
        ask(planner, action, ARGS)
        fact, row = asked(lab, task.id)
        assert fact.ask.args == args_commitment(row.salt, row.args.encode())
        assert msgspec.json.decode(row.args) == {
            "audience": action.split(".", maxsplit=1)[0],
            "action": action,
            "args": ARGS,
        }
    with lab.authority.store.read() as reading:
        first, second = reading.asks(task.id)
    assert first.salt != second.salt
    lab.authority.check()


def test_the_chain_goes_on_from_what_the_task_was_given(lab: ProofLab) -> None:
    task, planner = lab.started()
    (given,) = [one for one in planner if one.audience == "authority"]
    lab.granted(planner, LOOK, ARGS)
    fact, _ = asked(lab, task.id)
    assert (fact.ask.after, fact.ask.blocks) == (b64u(given.digest), ())
    lab.granted(below(planner), LOOK, ARGS)
    fact, _ = asked(lab, task.id)
    assert (fact.ask.after, len(fact.ask.blocks)) == (b64u(given.digest), 1)
    assert '["call","tool"' in fact.ask.presented
    assert '"sig"' in fact.ask.presented


def test_the_event_names_the_arguments_that_count(lab: ProofLab) -> None:
    lab.policy = policy(rule("at_open", "crm.*"), rule("ask", "billing.*", pinned=("amount",)))
    _, planner = lab.started()
    args = {**ARGS, "note": "late"}
    lab.decide(lab.pending(planner, REFUND, args).request)
    lab.granted(planner, REFUND, args)
    kinds: tuple[Any, ...] = (RequestMade, CapabilityMinted)
    asks = [event.read(kind).ask for event in lab.authority.log() for kind in kinds if event.kind == kind.kind]
    assert [one.names for one in asks if one is not None] == [("amount",), ("amount",)]


def test_a_bearer_has_signed_no_ask(lab: ProofLab) -> None:
    task, bundle = lab.started(agent_key=None)
    lab.granted(bundle, LOOK, ARGS)
    fact, _ = asked(lab, task.id)
    assert '"sig"' not in fact.ask.presented


def test_the_row_of_an_ask_is_checked(place: str, lab: ProofLab) -> None:
    task, planner = lab.started()
    lab.granted(planner, LOOK, ARGS)
    lab.authority.check()
    for change in (
        "UPDATE asks SET args = replace(args, '40', '41')",
        "DELETE FROM asks",
        f"INSERT INTO asks SELECT 1, '{task.id}', body, '{{}}' FROM (SELECT hash AS body FROM events LIMIT 1) AS one",
    ):
        with Behind(place) as behind:
            behind.do(change)
        with pytest.raises(BrokenLog, match="has asked for"):
            lab.authority.check()
    assert PLANNER.public == task.holder
