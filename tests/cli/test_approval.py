"""Approvals by commands: an operator, an agent and a person who share no home, and the files that go between them."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u, unb64u
from capx.intents.principal_key import PrincipalKey
from capx.tokens.approval_caveat import approval as demand
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.bundle import Bundle
from capx.tokens.discharge import Discharge
from capx.verify.ask import Pending
from tests.cli.conftest import Said, Shell
from tests.cli.test_approve import typed
from tests.labs.inbox import as_, opened
from tests.labs.office import Office
from tests.labs.small_disk import fill, small_disk
from tests.labs.terminal import on_terminal
from tests.server.conftest import serving

CREDIT = ("--action", "billing.credit")
FORTY = (*CREDIT, "--arg", "amount:=40")
NO_SOCKETS = """
import os, sys

def refuse(event, args):
    if event.startswith("socket."):
        os.close(os.open(os.environ["OPENED"], os.O_CREAT | os.O_WRONLY))
        raise RuntimeError(f"{event}: this process may open no socket")

sys.addaudithook(refuse)
"""
"""A sitecustomize.py: each socket is refused, and leaves a file behind even if somebody catches the refusal."""


class Parties:
    """An operator with a home, and an agent and two people who have none; each has a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.operator, self.agent, self.person = (self._party(name) for name in ("operator", "agent", "person"))
        with Authority.create_home(self.operator.home):
            pass
        self.lea, self.ben = self._key("lea"), self._key("ben")

    def _party(self, name: str) -> Shell:
        (self.folder / name).mkdir()
        return Shell(self.folder / name)

    def _key(self, name: str) -> str:
        return self.person("principal", "new", name, "--key-file", str(self.key_file(name))).out.strip()

    def key_file(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def token(self, *demand: str) -> str:
        """The token of an agent whose calls need the approval of Lea, or of whom `demand` says."""
        task = self.operator("task", "open", "--tenant", "Acme", "--allow", "billing.credit").token
        delegated = self.operator("delegate", "--to", "clerk", *(demand or ("--approval-by", self.lea)), token=task)
        return delegated.token

    def asked(self, token: str, *call: str) -> Path:
        """The file with the request of the agent, for 40 unless another call is named."""
        return self.file("call.ask", self.agent("approval", "ask", *(call or FORTY), token=token).out)

    def file(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        return file

    def approve(self, asked: Path, *options: str, who: str = "lea", code: int = 0, **env: str) -> Said:
        """What a person's command says that approves the request in a file."""
        key = ("--key-file", str(self.key_file(who)), "--yes")
        return self.person("requests", "approve", "--file", str(asked), *key, *options, code=code, **env)

    def approval(self, asked: Path, *options: str, who: str = "lea") -> Path:
        """The file with the approval of a request."""
        return self.file(f"{who}.approval", self.approve(asked, *options, who=who).out)

    def add(self, approval: Path, token: str, **how: Any) -> Said:
        return self.agent("approval", "add", str(approval), token=token, **how)

    def approved(self, token: str, *options: str) -> str:
        """The token with Lea's approval of a credit of 40."""
        text = self.add(self.approval(self.asked(token), *options), token).out.strip()
        assert re.fullmatch(r"capx1_[\w-]+(,capx1_[\w-]+)*,capxd1_[\w-]+", text)
        return text

    def verify(self, token: str, amount: int = 40, *, code: int = 0) -> Said:
        call = (*CREDIT, "--arg", f"amount:={amount}", "--tenant", "Acme")
        return self.operator("verify", *call, token=token, code=code)


@pytest.fixture
def parties(tmp_path: Path) -> Parties:
    return Parties(tmp_path)


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, Any]:
    """The environment of a process that can open no socket; OPENED is there if it tried to."""
    folder = tmp_path / "offline"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NO_SOCKETS)
    return {"PYTHONPATH": str(folder), "OPENED": str(folder / "opened")}


def members(file: Path) -> dict[str, Any]:
    """The members of a request in a file."""
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def only_line(said: Said, words: str) -> None:
    """Nothing went to standard output, and one harmless line to standard error."""
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("capx: ")
    assert words in said.err
    assert said.err.rstrip("\n").isprintable()


def last_line(said: Said, words: str) -> None:
    """Nothing went to standard output; the last line of standard error says this."""
    assert said.out == ""
    assert words in said.err.splitlines()[-1]


def test_the_way_of_an_approval_from_party_to_party(parties: Parties, offline: dict[str, Any]) -> None:
    token = parties.token()
    denied = parties.verify(token, code=1)
    assert f"needs_discharge: this token demands the approval of {parties.lea}" in denied.out
    assert "To get it approved: capx approval ask, with the same --action and --arg" in denied.err

    asking = parties.agent("approval", "ask", *FORTY, token=token)
    assert asking.err == f"Next: send it to the owner of {parties.lea}\n"
    assert "capx1_" not in asking.out
    asked = parties.file("call.ask", asking.out)

    shown = parties.person("approval", "show", str(asked)).out
    assert shown.startswith("Nothing here was verified")
    assert "it wants one call approved: billing.credit at billing, only with amount 40\n" in shown
    assert f"it needs the approval of {parties.lea}\n" in shown
    signed = parties.approve(asked, **offline)
    # Whoever signs was shown the very same.
    assert signed.err == f"{shown}approved. Next: capx approval add, where the agent has its token\n"
    assert not Path(offline["OPENED"]).exists()

    added = parties.add(parties.file("call.approval", signed.out), token)
    assert added.err == "the token holds the approval now\n"
    approved = added.out.strip()
    assert approved == f"{token},{signed.out.strip()}"
    assert parties.verify(approved).out.startswith("ALLOWED  billing.credit at billing")
    other = parties.verify(approved, 41, code=1)
    assert "needs_discharge: " in other.out
    assert "To get it approved: " in other.err


def test_who_may_open_no_socket_is_refused_one(offline: dict[str, Any]) -> None:
    script = "import socket\ntry: socket.socket()\nexcept RuntimeError: print('refused')"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **offline}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused\n"
    assert Path(offline["OPENED"]).exists()


def test_every_step_by_file_opens_no_socket(parties: Parties, offline: dict[str, Any]) -> None:
    token = parties.token()
    asked = parties.file("call.ask", parties.agent("approval", "ask", *FORTY, token=token, **offline).out)
    parties.person("approval", "show", str(asked), **offline)
    parties.person("requests", "deny", "--file", str(asked), **offline)
    approval = parties.approval(asked)
    parties.person("approval", "show", str(approval), **offline)
    parties.add(approval, token, **offline)
    assert not Path(offline["OPENED"]).exists()


def test_a_request_and_an_approval_go_through_pipes(parties: Parties) -> None:
    token = parties.token()
    asked = parties.asked(token)
    assert parties.person("approval", "show", token=asked.read_text()).out.startswith("Nothing here was verified")
    lea = ("--key-file", str(parties.key_file("lea")), "--yes")
    signed = parties.person("requests", "approve", "--file", "-", *lea, token=asked.read_text()).out
    file = parties.file("agent.token", token)
    file.chmod(0o600)
    added = parties.agent("approval", "add", "-", "--token-file", str(file), token=signed)
    parties.verify(added.out.strip())


def test_every_view_of_an_approval_is_there_as_json(parties: Parties, tmp_path: Path) -> None:
    token = parties.token()
    asked = parties.asked(token)
    document = members(asked)
    assert (document["action"], document["args"], document["audience"]) == ("billing.credit", {"amount": 40}, "billing")
    shown = parties.person("approval", "show", str(asked), "--json").json
    assert shown == {"verified": False, "request": document, "approvers": [parties.lea]}
    denied = parties.person("requests", "deny", "--file", str(asked), "--json").json
    assert denied == {"answer": "denied", "request": document}

    file = tmp_path / "call.approval"
    signed = parties.approve(asked, "--out", str(file), "--json", "--uses", "3", "--lasts", "5m")
    facts = {name: value for name, value in signed.json.items() if name != "wrote"}
    assert signed.json["wrote"] == str(file)
    assert facts["missing_signatures"] == 0
    assert "allows only billing.credit where amount is 40" in facts["blocks"][0]
    assert "at most 3 calls, shared by everyone below" in facts["blocks"][0]
    assert parties.person("approval", "show", str(file), "--json").json == {"verified": False, **facts}

    out = tmp_path / "approved.token"
    added = parties.add(file, token).out
    said = parties.agent("approval", "add", str(file), "--out", str(out), "--json", token=token).json
    assert (said["approvals"], said["wrote"], out.read_text()) == ([facts], str(out), added)
    inspected = parties.agent("inspect", "--json", "--token-file", str(out)).json
    assert (inspected["approvals"], len(inspected["tokens"])) == ([facts], 2)
    assert not any("capxd1_" in each for each in (signed.out, json.dumps(said), json.dumps(inspected)))


def test_json_of_an_approval_needs_a_file_for_it(parties: Parties) -> None:
    asked = parties.asked(parties.token())
    only_line(parties.approve(asked, "--json", code=2), "--json with --file needs --out FILE")


def test_what_a_token_holds_is_inspected_and_foreseen(parties: Parties) -> None:
    token = parties.token()
    approved = parties.approved(token)
    shown = parties.agent("inspect", token=approved).out
    assert f"\nan approval, which the holder has\n  approved at {time.strftime('%Y')}" in shown
    assert "an approval" not in parties.agent("inspect", token=token).out.replace("needs the approval", "")
    assert "approvals" not in parties.agent("inspect", "--json", token=token).json
    other = (*CREDIT, "--arg", "amount:=41")
    for held, call, code in ((token, FORTY, 1), (approved, FORTY, 0), (approved, other, 1)):
        foreseen = parties.agent("explain", *call, token=held, code=code).out
        assert ("NO  each call needs the approval of" in foreseen) == bool(code)
        presented = parties.agent("present", *call, token=held)
        warned = "this will be denied: this token: there is no approval of this call here\n"
        assert (warned in presented.err) == bool(code)
        assert (",capxd1_" in presented.out) == (not code)
    # As a resource gets it, with the approval bound to it.
    assert parties.verify(parties.agent("present", *FORTY, token=approved).out.strip()).out.startswith("ALLOWED")


def test_what_is_made_of_a_token_keeps_its_approvals(parties: Parties) -> None:
    approved = parties.approved(parties.token())
    approval = approved.rpartition(",")[2]
    for command in (("attenuate", "--expires", "5m"), ("delegate", "--to", "helper", "--allow", "billing.*")):
        below = parties.agent(*command, token=approved).out.strip()
        assert below.endswith(f",{approval}")
        parties.verify(below)


def test_an_approval_is_taken_back_by_its_id(parties: Parties) -> None:
    approved = parties.approved(parties.token())
    facts = parties.agent("inspect", "--json", token=approved).json["approvals"][0]
    parties.operator("revoke", facts["id"])
    assert "revoked: " in parties.verify(approved, code=1).out


def test_who_is_not_asked_signs_nothing(parties: Parties, tmp_path: Path) -> None:
    asked = parties.asked(parties.token())
    said = parties.approve(asked, "--out", str(tmp_path / "none"), who="ben", code=1)
    only_line(said, f"ben cannot approve this call with the key {parties.ben}: it needs the approval of {parties.lea}")
    assert not (tmp_path / "none").exists()
    # A key that has only the name of the right one.
    PrincipalKey.generate("lea").save(tmp_path / "other.key")
    stranger = ("--key-file", str(tmp_path / "other.key"), "--yes")
    said = parties.person("requests", "approve", "--file", str(asked), *stranger, code=1)
    only_line(said, "lea cannot approve this call with the key")
    wrong = parties.approve(asked, "--as", "lea", who="ben", code=2)
    only_line(wrong, "is the key of ben, not of lea")
    only_line(parties.person("requests", "approve", "--file", str(asked), "--yes", code=2), "there is no key in")
    agent_key = tmp_path / "agent.key"
    parties.agent("agent-key", "new", "clerk", "--out", str(agent_key))
    mine = ("--key-file", str(agent_key), "--yes")
    assert parties.person("requests", "approve", "--file", str(asked), *mine, code=3).out == ""


def test_nothing_is_signed_without_a_yes(parties: Parties, tmp_path: Path) -> None:
    asked, file = parties.asked(parties.token()), tmp_path / "call.approval"
    command = ("requests", "approve", "--file", str(asked), "--key-file", str(parties.key_file("lea")))
    only_line(parties.person(*command, code=2), "there is no terminal to ask on")
    for answer, ended in (("n\n", 1), ("\n", 1), ("\x04", 130), ("y\n", 0)):
        code, said = typed(parties.person, answer, *command, "--out", str(file))
        assert code == ended, said
        assert said.index("only with amount 40") < said.index("Approve this call, as lea?")
        assert file.exists() == (ended == 0)
        assert ("Nothing was signed." in said) == (ended == 1)


@pytest.mark.parametrize("most", [0, 1, 40, 200, -1, -3])
def test_a_request_that_is_cut_is_one_line(parties: Parties, most: int) -> None:
    asked = parties.asked(parties.token())
    cut = parties.file("cut.ask", asked.read_text().rstrip()[:most])
    for command in (("approval", "show"), ("requests", "deny", "--file")):
        said = parties.person(*command, str(cut), code=3 if most == 0 and command[0] == "approval" else 2)
        only_line(said, f"{cut}: this is no")
    only_line(parties.approve(cut, code=2), f"{cut}: this is not the JSON that belongs here")


@pytest.mark.parametrize("most", [0, 7, 20, 100, -1, -30])
def test_an_approval_that_is_cut_is_one_line(parties: Parties, most: int) -> None:
    token = parties.token()
    approval = parties.approval(parties.asked(token))
    cut = parties.file("cut.approval", approval.read_text().rstrip()[:most])
    only_line(parties.person("approval", "show", str(cut), code=3), f"{cut}: this is no approval: ")
    only_line(parties.add(cut, token, code=3), f"{cut}: this is no approval: ")


@pytest.mark.parametrize(
    ("member", "value", "says"),
    [
        ("approve", 2, "approve"),
        ("cid", "[1]", "its cid is no demand that capx writes"),
        ("audience", "bill\x1b[31ming", "it names no audience"),
        ("action", "billing.*", "it names no action"),
        ("action", "billing.credit\n  only with amount 1", "it names no action"),
        ("node", "AAAA", "its node is not 16 bytes in base64url"),
        ("task", "\u202e", "it names no task"),
        ("intent", "", "its intent is not a digest"),
        ("asked", -1, "asked"),
        ("nonce", "", "its nonce is not 16 bytes in base64url"),
        ("args", {"note": "x" * 3000}, "more than 2048 bytes"),
        ("args", [40], "args"),
        ("why", "Please, it is urgent.", "why"),
    ],
)
def test_a_request_that_no_agent_writes_is_one_line(parties: Parties, member: str, value: Any, says: str) -> None:
    asked = parties.asked(parties.token())
    edited = parties.file("edited.ask", json.dumps({**members(asked), member: value}))
    only_line(parties.person("approval", "show", str(edited), code=2), says)
    only_line(parties.approve(edited, code=2), says)
    assert "Nothing here was verified" not in parties.person("requests", "deny", "--file", str(edited), code=2).out


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        # What is for another agent is not even presented.
        ("node", b64u(bytes(16)), "needs_discharge"),
        ("task", b64u(bytes(16)), "bad_discharge"),
        ("intent", b64u(bytes(32)), "bad_discharge"),
    ],
)
def test_an_approval_got_by_a_lie_opens_nothing(parties: Parties, member: str, value: str, code: str) -> None:
    token = parties.token()
    asked = parties.asked(token)
    edited = parties.file("edited.ask", json.dumps({**members(asked), member: value}))
    approved = parties.add(parties.approval(edited), token).out.strip()
    assert f"  {code}: " in parties.verify(approved, code=1).out


def test_another_call_in_a_file_is_another_request(parties: Parties) -> None:
    token = parties.token()
    edited = parties.file("edited.ask", json.dumps({**members(parties.asked(token)), "args": {"amount": 4000}}))
    # The person sees what they sign, and the approval is for that.
    assert "only with amount 4000\n" in parties.person("approval", "show", str(edited)).out
    approved = parties.add(parties.approval(edited), token).out.strip()
    parties.verify(approved, code=1)
    parties.verify(approved, 4000)


def test_an_edited_approval_opens_nothing(parties: Parties) -> None:
    token = parties.token()
    found = Discharge.parse(parties.approval(parties.asked(token)).read_text().strip())
    wider = found.blocks[0].replace(b"40", b"99")
    assert wider != found.blocks[0]
    raw = unb64u(found.text.removeprefix("capxd1_")).replace(found.blocks[0], wider)
    forged = parties.file("forged.approval", f"capxd1_{b64u(raw)}")
    assert "amount is 99" in parties.person("approval", "show", str(forged)).out
    held = parties.add(forged, token).out.strip()
    assert "bad_discharge: " in parties.verify(held, 99, code=1).out


def test_an_approval_of_another_token_is_not_added(parties: Parties) -> None:
    one, other = parties.token(), parties.token()
    approval = parties.approval(parties.asked(one))
    said = parties.add(approval, other, code=2)
    only_line(said, "no capability of this bundle demands this approval: it is another agent's")


@pytest.mark.parametrize("what", ["request", "token", "key"])
def test_what_is_no_approval_is_told_so(parties: Parties, what: str) -> None:
    token = parties.token()
    file = {
        "request": parties.asked(token),
        "token": parties.file("agent.token", token),
        "key": parties.key_file("lea"),
    }[what]
    said = parties.add(file, token, code=3)
    only_line(said, f"{file}: this is no approval: ")
    assert "capx1_" not in said.err


def test_a_call_that_needs_no_approval_asks_for_none(parties: Parties) -> None:
    task = parties.operator("task", "open", "--tenant", "Acme", "--allow", "billing.credit").token
    only_line(parties.agent("approval", "ask", *FORTY, token=task, code=2), "demands an approval of it")
    token = parties.token()
    only_line(parties.agent("approval", "ask", token=token, code=2), "name the call to approve with --action")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--approvals", "2"), "need --approval-by: whose approval is it?"),
        (("--approval-lasts", "5m"), "need --approval-by: whose approval is it?"),
        (("--approval-by", "lea"), "this is not a public key: capx principal show"),
        (("--approval-by", f"ed25519:{'A' * 43}"), "this is not a safe public key"),
        (("--approval-by", "{lea}", "--approvals", "2"), "--approvals must be a whole number from 1 to 1"),
        (("--approval-by", "{lea}", "--approvals", "0"), "0 is not in the range"),
        (("--approval-by", "{lea}", "--approval-lasts", "2d"), "from 1s to 1d: write --approval-lasts such as 15m"),
        (("--approval-by", "{lea}", "--approval-lasts", "soon"), "--approval-lasts: 'soon' is not a duration"),
        (("--approval-by", "{lea}", "--approval-by", "{lea}"), "a key is in --approval-by twice"),
    ],
)
def test_a_demand_that_nobody_can_answer_is_refused(parties: Parties, options: tuple[str, ...], says: str) -> None:
    task = parties.operator("task", "open", "--allow", "billing.credit").token
    given = [each.format(lea=parties.lea) for each in options]
    for command in (("delegate", "--to", "clerk"), ("attenuate",)):
        only_line(parties.agent(*command, *given, token=task, code=2), says)


def test_attenuate_demands_an_approval_as_well(parties: Parties) -> None:
    task = parties.operator("task", "open", "--tenant", "Acme", "--allow", "billing.credit").token
    token = parties.agent("attenuate", "--approval-by", parties.lea, token=task).token
    parties.verify(token, code=1)
    parties.verify(parties.approved(token))


def test_uses_and_lasts_are_those_of_the_approver(parties: Parties) -> None:
    asked = parties.asked(parties.token("--approval-by", parties.lea, "--approval-lasts", "5m"))

    def said(*options: str) -> str:
        return parties.person("approval", "show", str(parties.approval(asked, *options))).out

    assert "at most 1 call" in said()
    assert "at most 7 calls" in said("--uses", "7")
    assert "at most" not in said("--uses", "any")
    for uses in ("0", "-1", "1.5", "many", "1000001", "9" * 50, "\u0663"):
        last_line(parties.approve(asked, f"--uses={uses}", code=2), "write a whole number from 1 to 1000000, or any")
    for lasts, code in (("6m", 1), ("0s", 1), ("soon", 2)):
        assert parties.approve(asked, "--lasts", lasts, code=code).out == ""


def test_an_approval_whose_time_is_up_opens_nothing(parties: Parties) -> None:
    approved = parties.approved(parties.token(), "--lasts", "3s")
    time.sleep(4)
    assert "needs_discharge: " in parties.verify(approved, code=1).out
    assert "there is no approval of this call here" in parties.agent("explain", *FORTY, token=approved, code=1).out


BOTH = ("--approvals", "2")


def test_two_people_sign_one_approval_one_after_another(parties: Parties) -> None:
    token = parties.token("--approval-by", parties.lea, "--approval-by", parties.ben, *BOTH)
    asked = parties.asked(token)
    first = parties.approve(asked)
    assert first.err.endswith("1 more must sign it: capx requests approve --file REQUEST --cosign FILE\n")
    half = parties.file("half.approval", first.out)
    only_line(parties.add(half, token, code=2), "this approval cannot be used: 1 more must sign it")
    second = parties.approve(asked, "--cosign", str(half), who="ben")
    assert f"it says that {parties.lea} has signed this approval:\n" in second.err
    assert "at most 1 call" in second.err
    assert second.err.endswith("approved. Next: capx approval add, where the agent has its token\n")
    whole = parties.file("whole.approval", second.out)
    parties.verify(parties.add(whole, token).out.strip())
    # The first signature is still in the file where it was.
    assert half.read_text() == first.out


def test_what_cannot_be_cosigned_is_refused(parties: Parties, tmp_path: Path) -> None:
    token = parties.token("--approval-by", parties.lea, "--approval-by", parties.ben, *BOTH)
    asked = parties.asked(token)
    half = parties.approval(asked)
    cosign = ("--cosign", str(half))
    for options, who, code, words in (
        (cosign, "lea", 1, "you have signed this approval already: somebody else must"),
        ((*cosign, "--uses", "2"), "ben", 2, "leave out --uses and --lasts"),
        ((*cosign, "--lasts", "5m"), "ben", 2, "leave out --uses and --lasts"),
        (("--cosign", str(asked)), "ben", 3, "this is no approval: "),
        (("--cosign", str(tmp_path / "none")), "ben", 3, "cannot read"),
    ):
        last_line(parties.approve(asked, *options, who=who, code=code), words)
    other = parties.file("other.ask", parties.agent("approval", "ask", *FORTY, token=token).out)
    last_line(
        parties.approve(other, *cosign, who="ben", code=1),
        "this approval is for another call than the request: read both, and approve the request",
    )
    whole = parties.approval(asked, *cosign, who="ben")
    last_line(parties.approve(asked, "--cosign", str(whole), who="ben", code=1), "signed this approval already")


def test_an_approval_that_expired_is_not_signed_as_well(parties: Parties) -> None:
    token = parties.token("--approval-by", parties.lea, "--approval-by", parties.ben, *BOTH)
    asked = parties.asked(token)
    request = ApprovalRequest.parse(asked.read_bytes())
    lea = PrincipalKey.load(parties.key_file("lea"))
    old = parties.file("old.approval", lea.approve(request, now=int(time.time()) - 3600).text)
    said = parties.approve(asked, "--cosign", str(old), who="ben", code=1)
    last_line(said, "this approval has expired: approve the request anew")


def test_a_file_that_is_there_is_neither_lost_nor_shown(parties: Parties, tmp_path: Path) -> None:
    token = parties.token()
    asked, there = parties.asked(token), parties.file("there", "what was there")
    said = parties.approve(asked, "--out", str(there), code=3)
    # Before the person reads all that they cannot keep.
    only_line(said, f"{there} is there already: choose another name")
    only_line(
        parties.approve(asked, "--out", str(tmp_path / "no" / "x"), code=3), f"there is no folder {tmp_path / 'no'}"
    )
    approval = parties.approval(asked)
    said = parties.agent("approval", "add", str(approval), "--out", str(there), token=token, code=3)
    only_line(said, f"{there} is there already: choose another name, or give --replace")
    assert there.read_text() == "what was there"


def test_an_approval_goes_into_a_private_file(parties: Parties, tmp_path: Path) -> None:
    file = tmp_path / "call.approval"
    before = os.umask(0)
    try:
        said = parties.approve(parties.asked(parties.token()), "--out", str(file))
    finally:
        os.umask(before)
    assert (said.out, file.stat().st_mode & 0o777) == ("", 0o600)
    assert f"wrote {file}: an approval\n" in said.err
    assert "capxd1_" not in said.err


def test_a_token_gets_an_approval_in_its_own_file(parties: Parties, tmp_path: Path) -> None:
    token, file = parties.token(), tmp_path / "agent.token"
    Bundle.parse(token).save(file)
    approval = parties.approval(parties.asked(token))
    parties.agent("approval", "add", str(approval), "--token-file", str(file), "--out", str(file), "--replace")
    assert file.read_text() == f"{token},{approval.read_text()}"


def test_a_full_disk_keeps_token_and_approval(parties: Parties, tmp_path: Path) -> None:
    token = parties.token()
    asked = parties.asked(token)
    approval = parties.approval(asked)
    with small_disk(tmp_path) as disk:
        held, new = disk / "agent.token", disk / "new.approval"
        Bundle.parse(token).save(held)
        fill(disk)
        add = ("approval", "add", str(approval), "--token-file", str(held), "--out", str(held), "--replace")
        only_line(parties.agent(*add, code=3), f"cannot write {held}: No space left on device")
        assert held.read_text() == f"{token}\n"
        last_line(parties.approve(asked, "--out", str(new), code=3), f"cannot write {new}: No space left on device")
        assert sorted(each.name for each in disk.iterdir()) == ["agent.token", "filler"]
    parties.verify(parties.add(approval, token).out.strip())


def test_long_arguments_are_shown_whole(parties: Parties) -> None:
    token, note = parties.token(), "x" * 1900
    asked = parties.asked(token, *CREDIT, "--arg", f"note={note}")
    approval = parties.approval(asked)
    for shown in (
        parties.person("approval", "show", str(asked)).out,
        parties.approve(asked).err,
        parties.person("approval", "show", str(approval)).out,
    ):
        assert f'"{note}"' in shown


EVIL = "\x1b[2J\x1b[31mALLOWED\u202e\u2066\u200b\u2028\n  it needs the approval of nobody\r[bold]x[/bold] :smile:"


def test_what_a_request_says_acts_on_no_screen(parties: Parties) -> None:
    token = parties.token()
    asked = parties.file("evil.ask", json.dumps({**members(parties.asked(token)), "args": {"note": EVIL}}))
    approval = parties.approval(asked)
    views = [
        parties.person("approval", "show", str(asked)).out,
        parties.person("requests", "deny", "--file", str(asked)).out,
        parties.approve(asked).err,
        parties.person("approval", "show", str(approval)).out,
        parties.agent("inspect", token=parties.add(approval, token).out.strip()).out,
    ]
    for seen in views:
        assert all(line.isprintable() for line in seen.split("\n"))
        assert "\\u001b[2J" in seen
        assert "[bold]x[/bold] :smile:" in seen
        assert not any(line.startswith(("ALLOWED", "  it needs the approval of nobody")) for line in seen.split("\n"))
    for width in (32, 80, 200):
        drawn = on_terminal(parties.person, "", "approval", "show", str(asked), width=width)
        plain = re.sub(rb"\x1b\[[0-9;]*m", b"", drawn).decode()
        assert not {"\x1b", "\u202e", "\u2066", "\u2028"} & set(plain)
        assert len([line for line in plain.splitlines() if line.startswith("  it needs the approval")]) == 1
    raw = parties.person("approval", "show", str(asked), "--json").out
    assert raw.isascii()
    assert "\x1b" not in raw


@pytest.mark.parametrize(
    "data",
    [
        '{"\x1b[31m\u202e": 1}',
        '{"approve": 1, "\\u001b[31m\\n": 1}',
        "\x1b[31m{",
        "\x00" * 20,
        "{" * 5000,
        "[" * 70_000,
        "capxd1_\x1b[31m",
        "capxd1_\n\n",
    ],
)
def test_a_file_of_tricks_is_one_harmless_line(parties: Parties, data: str) -> None:
    file = parties.file("evil\n\x1b[31m", data)
    said = parties.person("approval", "show", str(file), code=2 if data.startswith("{") else 3)
    only_line(said, "this is no")
    only_line(parties.person("requests", "deny", "--file", str(file), code=2), "this ")
    only_line(parties.add(file, parties.token(), code=3), "this is no approval: ")


def test_online_options_and_those_of_a_file_stay_apart(parties: Parties, tmp_path: Path) -> None:
    asked = str(parties.asked(parties.token()))
    for options, says in (
        ((), "name a request: its id, as capx requests list shows it, or a file with --file"),
        (("A" * 22, "--cosign", asked), "--cosign and --out go with --file"),
        (("A" * 22, "--out", str(tmp_path / "x")), "--cosign and --out go with --file"),
        (("A" * 22, "--file", asked), "give only one of REQUEST and --file"),
    ):
        only_line(parties.person("requests", "approve", *options, "--yes", code=2), says)
    only_line(parties.person("requests", "deny", "--yes", code=2), "name a request")
    only_line(parties.person("requests", "deny", "A" * 22, "--file", asked, code=2), "give only one of")


@pytest.fixture
def clerk(office: Office) -> Bundle:
    """An agent of a task on an intent; what it does at the CRM needs the approval of Ben."""
    return opened(office).delegate(to="clerk", approval=demand(by=[office.ben.public]))


READ = ("crm.accounts.read", "--approval", "--with", "account=a-1")


def the_request(capx: Shell) -> str:
    """The id of the only request that waits."""
    (found,) = capx("requests", "list", "--json").json
    assert (found["action"], found["pinned"]) == ("crm.accounts.read", True)
    return str(found["id"])


def test_an_approval_goes_through_an_authority(capx: Shell, office: Office, clerk: Bundle) -> None:
    with serving(office.home) as served:
        at, there = ("--url", served.url), ("--authority", served.place)
        pending = capx("ask", *READ, *at, token=clerk.text, code=1)
        assert pending.out == ""
        assert (
            'pending: crm.accounts.read at crm, with account "a-1" needs the approval of a person ("ben")'
            in pending.err
        )
        request = the_request(capx)
        shown = capx("requests", "show", request, *there).out
        assert '"clerk" asks, in task' in shown
        assert 'it wants one call approved: crm.accounts.read at crm, only with account "a-1"\n' in shown
        assert f"it needs the approval of {office.ben.public}\n" in shown
        done = capx("requests", "approve", request, *as_(office, "ben"), "--yes", "--uses", "2", *there)
        # Whoever signs was shown the very same.
        assert done.out.startswith(shown)
        assert f"request {request} was approved by ben at 20" in done.out
        assert "its agent gets the approval when it asks again" in done.out
        approved = capx("ask", *READ, *at, token=clerk.text)
        assert approved.err == "approved: the token holds the approval now\n"
    held = Bundle.parse(approved.out.strip())
    assert len(held.approvals) == 1
    assert "at most 2 calls" in capx("inspect", token=held.text).out
    call = ("verify", "--action", "crm.accounts.read", "--tenant", "Acme", "--arg")
    assert capx(*call, "account=a-1", token=held.text).out.startswith("ALLOWED")
    assert "needs_discharge" in capx(*call, "account=a-2", token=held.text, code=1).out


def test_an_answer_through_an_authority_is_there_as_json(
    capx: Shell, office: Office, clerk: Bundle, tmp_path: Path
) -> None:
    out = ("--out", str(tmp_path / "clerk.token"), "--json")
    waiting = capx("ask", *READ, *out, token=clerk.text, code=1).json
    request = waiting["request"]
    assert (waiting["answer"], waiting["wrote"], waiting["approvers"]) == ("pending", None, ["ben"])
    shown = capx("requests", "show", request, "--json").json
    assert any("it wants one call approved" in sentence for sentence in shown["shown"])
    assert shown["approval"]["revoke"] is None
    done = capx("requests", "approve", request, *as_(office, "ben"), "--yes", "--json")
    assert done.json["state"] == "granted"
    assert "it wants one call approved" in done.err
    approved = capx("ask", *READ, *out, token=clerk.text).json
    assert (approved["answer"], approved["wrote"]) == ("approved", out[1])
    assert approved["approval"]["id"] == done.json["approval"]["revoke"]
    # What was approved is taken back by the id that is named.
    late = capx("requests", "deny", request, *as_(office, "ben"), "--yes", code=1).err
    assert f"to revoke what was granted: capx revoke {approved['approval']['id']}\n" in late
    capx("revoke", approved["approval"]["id"])
    call = ("verify", "--action", "crm.accounts.read", "--tenant", "Acme", "--arg", "account=a-1")
    assert "revoked: " in capx(*call, "--token-file", out[1], code=1).out


def test_a_request_for_an_approval_is_denied_for_good(capx: Shell, office: Office, clerk: Bundle) -> None:
    with serving(office.home) as served:
        at, there = ("--url", served.url), ("--authority", served.place)
        capx("ask", *READ, *at, token=clerk.text, code=1)
        request = the_request(capx)
        said = capx("requests", "deny", request, *as_(office, "ben"), "--yes", *there)
        assert f"request {request} was denied by ben at 20" in said.out
        again = capx("ask", *READ, *at, token=clerk.text, code=1)
        assert (again.out, again.err.splitlines()[0]) == ("", "refused")
        assert "request_denied: " in again.err
        late = capx("requests", "approve", request, *as_(office, "ben"), "--yes", *there, code=1)
        assert late.err.endswith("already: it can no longer be approved\n")


def test_who_may_not_approve_a_call_is_told_so(capx: Shell, office: Office, clerk: Bundle) -> None:
    capx("ask", *READ, token=clerk.text, code=1)
    request = the_request(capx)
    with serving(office.home) as served:
        there: tuple[str, ...] = ("--authority", served.place)
        for at in ((), there):
            for name in ("ana", "eve"):
                said = capx("requests", "approve", request, "--yes", *as_(office, name), *at, code=1)
                # Before they read all that they cannot answer.
                only_line(said, f"{name} cannot approve this call with the key ed25519:")
                assert office.ben.public in said.err
    assert the_request(capx) == request


def asked_of_two(capx: Shell, office: Office) -> tuple[Bundle, str]:
    """What a clerk holds, each call of which ben and eve must approve; and the id of the request for one call."""
    both = demand(by=[office.ben.public, office.eve.public], count=2)
    bundle = opened(office).delegate(to="clerk", approval=both)
    capx("ask", *READ, token=bundle.text, code=1)
    request = the_request(capx)
    return bundle, request


def test_two_people_approve_through_an_authority(capx: Shell, office: Office) -> None:
    bundle, request = asked_of_two(capx, office)
    capx("requests", "approve", request, *as_(office, "ben"), "--yes", "--uses", "3")
    assert the_request(capx) == request
    half = capx("requests", "show", request).out
    assert f"it says that {office.ben.public} has signed this approval:" in half
    again = capx("requests", "approve", request, *as_(office, "ben"), "--yes", code=1)
    assert again.err == "capx: you have signed this approval already: somebody else must\n"
    late = capx("requests", "approve", request, *as_(office, "eve"), "--yes", "--uses", "5", code=2)
    assert "leave out --uses and --lasts" in late.err
    assert "was approved by" in capx("requests", "approve", request, *as_(office, "eve"), "--yes").out
    held = Bundle.parse(capx("ask", *READ, token=bundle.text).out.strip())
    assert "at most 3 calls" in capx("inspect", token=held.text).out
    call = ("verify", "--action", "crm.accounts.read", "--tenant", "Acme", "--arg", "account=a-1")
    assert capx(*call, token=held.text).out.startswith("ALLOWED")


def test_a_request_of_which_the_time_is_up_is_not_signed(capx: Shell, office: Office) -> None:
    ago = 2 * 3600
    with Authority.open_home(office.home, clock=lambda: time.time() - ago) as authority:
        task = authority.open(office.signed(authority, now=int(time.time()) - ago)).bundle
        bundle = task.delegate(to="clerk", approval=demand(by=[office.ben.public]), now=int(time.time()) - ago)
        cid = next(iter(bundle)).demands[0].decode()
        answer = authority.ask(bundle, "crm.accounts.read", args={"account": "a-1"}, demand=cid)
    assert isinstance(answer, Pending)
    said = capx("requests", "approve", answer.request, *as_(office, "ben"), "--yes", code=1)
    only_line(said, f"request {answer.request} was not answered in time")


def test_the_time_of_an_approval_is_asked_for_calls_alone(capx: Shell, office: Office) -> None:
    bundle = opened(office)
    capx("ask", "billing.refund", "--with", "amount:=20", token=bundle.text, code=1)
    (waiting,) = capx("requests", "list", "--json").json
    for option in (("--uses", "2"), ("--lasts", "5m")):
        said = capx("requests", "approve", waiting["id"], *as_(office, "ben"), "--yes", *option, code=2)
        only_line(said, "--uses and --lasts are for the approval of a call")
    options: tuple[tuple[tuple[str, ...], str], ...] = (
        ((), "name its arguments with --with, or give --no-args"),
        (("--no-args",), "no capability for crm that may allow this call demands an approval"),
    )
    for named, says in options:
        only_line(capx("ask", "crm.accounts.read", "--approval", *named, token=bundle.text, code=2), says)


def test_who_asked_is_asked_on_a_terminal(capx: Shell, office: Office, clerk: Bundle) -> None:
    capx("ask", *READ, token=clerk.text, code=1)
    request = the_request(capx)
    for answer, ended in (("n\n", 1), ("y\n", 0)):
        code, said = typed(capx, answer, "requests", "approve", request, *as_(office, "ben"))
        assert code == ended, said
        assert said.index("it wants one call approved") < said.index("Approve this call, as ben?")


def test_an_approval_that_has_expired_is_not_added(parties: Parties) -> None:
    token = parties.token()
    old = parties.approval(parties.asked(token), "--lasts", "3s")
    time.sleep(3.1)
    only_line(parties.add(old, token, code=2), "this approval has expired: ask for another one")


def test_a_first_signature_that_is_too_old_is_begun_anew(capx: Shell, office: Office) -> None:
    _, request = asked_of_two(capx, office)
    capx("requests", "approve", request, *as_(office, "ben"), "--yes", "--lasts", "3s")
    time.sleep(3.1)
    said = capx("requests", "approve", request, *as_(office, "eve"), "--yes")
    assert "was signed by eve" in said.out
    assert "was approved by" in capx("requests", "approve", request, *as_(office, "ben"), "--yes").out
