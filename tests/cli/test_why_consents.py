"""Who consented to a call is told as long as there is a log: after a retry, a denial, a revocation, a restoration."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from capx.agent.authority_client import AuthorityClient
from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.authority.requests.verdict import Verdict
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.tokens.binding import ToolCall
from capx.verify.ask import Granted, Pending
from capx_caveats import Call
from tests.cli.conftest import Shell
from tests.labs.office import Office
from tests.labs.waiting import until
from tests.server.conftest import serving

REFUND, ARGS = "billing.refund", {"amount": 20}


class Consented:
    """A task in which ben agreed to one call, and the agent made it."""

    def __init__(self, office: Office, capx: Shell) -> None:
        self.office, self.capx, self.key = office, capx, AgentKey.generate("agent")
        with Authority.open_home(office.home) as authority:
            task = authority.open(office.signed(authority, agent_key=self.key.public))
            self.task, self.bundle = task.id, task.bundle.with_key(self.key)
            assert isinstance(self.ask(authority), Pending)
            self.answer(authority)
            granted = self.ask(authority)
            assert isinstance(granted, Granted)
            self.granted = granted.capability.with_key(self.key)
            call = ToolCall(REFUND, ARGS)
            verifier = authority.verifier("billing")
            decided = verifier.decide(self.granted.present(call).text, call, Call(REFUND, ARGS, tenant="Acme"))
            assert decided.allowed
            assert authority.flush()
        self.decision = decided.id

    def ask(self, authority: Any) -> Any:
        return authority.ask(self.bundle, REFUND, args=ARGS)

    def answer(self, authority: Any, *, yes: bool = True) -> None:
        (request,) = authority.requests(pending=True)
        inquiry = authority.inquiry(request.id)
        authority.answer(Verdict.sign(inquiry, self.office.ben, yes=yes, at=int(time.time())))

    def demand_told(self, *more: str) -> None:
        """Each view names ben for the call that ran; `more` are the last words about the request."""
        why = self.capx("why", self.decision).out
        assert "  by      what was asked for at run time: request " in why
        assert " was approved by ben at " in why
        for view in (self.capx("graph", self.task).out, self.capx("task", "show", self.task).out):
            shown = " ".join(view.replace("│", " ").split())
            for words in ("was approved by ben at", *more):
                assert words in shown, (words, view)
        (answer, *_) = self.capx("why", self.decision, "--json").json["beside"]["answers"]
        assert (answer["approver"], answer["yes"]) == ("ben", True)

    def demand_proven(self, folder: Path, *more: str) -> None:
        trust, file = folder / "trust.keys", folder / f"{time.time_ns()}.proof"
        trust.write_text(self.capx("proof", "trust").out)
        self.capx("proof", "export", self.task, "--out", str(file), *more)
        report = self.capx("proof", "verify", str(file), "--trust", str(trust), "--json").json
        assert (report["result"], report["gaps"]) == ("consistent", [])
        assert ("ben", True, True) in [(one["approver"], one["yes"], one["is_signed"]) for one in report["answers"]]


@pytest.fixture(params=["sqlite", "postgres"])
def consented(request: pytest.FixtureRequest, tmp_path: Path) -> Consented:
    store = None
    if request.param == "postgres":
        server, database = (request.getfixturevalue(f"postgres_{name}") for name in ("server", "database"))
        store = server.url(database)
    return Consented(Office(tmp_path, store=store), Shell(tmp_path))


def test_a_retry_a_denial_and_a_revocation_hide_no_consent(consented: Consented, tmp_path: Path) -> None:
    consented.demand_told("and granted")
    with Authority.open_home(consented.office.home) as authority:
        assert isinstance(consented.ask(authority), Pending)
    consented.demand_told("and granted", "waits for an answer")
    consented.demand_proven(tmp_path)
    with Authority.open_home(consented.office.home) as authority:
        consented.answer(authority, yes=False)
    consented.demand_told("and granted", "was denied by ben at")
    consented.demand_proven(tmp_path)
    consented.capx("revoke", b64u(consented.granted.id))
    consented.demand_told("and granted")
    consented.demand_proven(tmp_path)


def test_what_keeps_a_store_keeps_consents(consented: Consented, tmp_path: Path) -> None:
    with Authority.open_home(consented.office.home) as authority:
        assert isinstance(consented.ask(authority), Pending)
    capx = consented.capx
    capx("task", "complete", consented.task)
    capx("store", "prune")
    capx("store", "check")
    consented.demand_told("and granted")
    capx("store", "backup", str(tmp_path / "saved.db"))
    capx("store", "restore", str(tmp_path / "saved.db"), "--yes")
    capx("store", "check")
    consented.demand_told("and granted")


def test_consents_are_told_over_http(tmp_path: Path) -> None:
    consented = Consented(Office(tmp_path), Shell(tmp_path))
    with serving(consented.office.home) as served, RemoteAuthority(served.place) as remote:
        with AuthorityClient(served.url, consented.bundle) as client:
            until(lambda: remote.decision(consented.decision))
            assert isinstance(client.ask(REFUND, args=ARGS), Pending)
            (told,) = remote.answers(consented.task)
            assert (told.approver, told.yes, told.round, len(told.given)) == ("ben", True, 1, 2)
            consented.answer(remote)
            assert isinstance(client.ask(REFUND, args=ARGS), Granted)
        assert [(one.approver, one.round) for one in remote.answers(consented.task)] == [("ben", 1), ("ben", 2)]
        for view in (("why", consented.decision), ("graph", consented.task), ("task", "show", consented.task)):
            said = consented.capx(*view, CAPX_AUTHORITY=str(served.place)).out
            assert "was approved by ben at" in " ".join(said.replace("│", " ").split())
    consented.demand_proven(tmp_path)


def test_a_denial_says_what_became_of_what_was_asked(tmp_path: Path) -> None:
    consented = Consented(Office(tmp_path), Shell(tmp_path))
    capx = consented.capx

    def denied(*said: str) -> None:
        with Authority.open_home(consented.office.home) as authority:
            call = ToolCall(REFUND, ARGS)
            token = consented.granted.present(call).text
            assert not authority.verifier("billing").decide(token, call, Call(REFUND, ARGS, tenant="Acme")).allowed
            assert authority.flush()
        shown = capx("why", "last").out
        assert "  by " not in shown
        for words in said:
            assert re.search(rf"^  asked +request \S+ {words}", shown, re.MULTILINE), shown

    denied("was approved by ben at .*, and granted$")
    with Authority.open_home(consented.office.home) as authority:
        consented.ask(authority)
    denied(r"waits for an answer until 20\S+Z$")
    with Authority.open_home(consented.office.home) as authority:
        consented.answer(authority, yes=False)
    denied("was denied by ben at 20")
    capx("task", "withdraw", consented.task)
    denied("was denied by ben at 20")
    assert "  by      what was asked for at run time: request " in capx("why", consented.decision).out
