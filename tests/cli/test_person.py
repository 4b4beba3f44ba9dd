"""Every command of a person who is elsewhere, over a real authority; and what each of them refuses."""

import http.client
import json
import os
import pty
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import Raw

from capx.agent.authority_client import AuthorityClient
from capx.authority.authority import Authority
from capx.authority.people.messages import AuthorityNow, InboxItem, OwnDecision, OwnDecisions, OwnTasks
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import public_text
from capx.errors import StoreProblem
from capx.intents.epoch import authority_of
from capx.store.records import TaskRecord
from capx.tokens.approval_caveat import approval
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.ask import Granted, Pending
from capx_caveats import Call
from capx_cli.inbox import WAITING
from capx_cli.person import PersonOperations
from tests.cli.conftest import Shell
from tests.labs.commands import COMMAND
from tests.labs.following_log import Following
from tests.labs.inbox import told
from tests.labs.office import Office
from tests.labs.ssh import SshAgent, needs_ssh
from tests.server.conftest import Served, serving

REFUND = ("billing.refund", {"amount": 20})


class Elsewhere:
    """The shells of people, each in a home folder of their own, and the authority that they dial."""

    def __init__(self, office: Office, served: Served, folder: Path) -> None:
        self.office, self.served, self.folder = office, served, folder
        self.origin = served.url
        self.shells: dict[str, Shell] = {}
        with Authority.open_home(office.home) as authority:
            self.id = authority_of(authority.epoch())

    def shell(self, name: str, *, trusts: bool = True) -> Shell:
        """The shell of a person, with their key alone; they trust the authority."""
        if not trusts or name not in self.shells:
            folder = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
            folder.mkdir(mode=0o700)
            key = folder / f"{name}.key"
            key.touch(mode=0o600)
            key.write_text(self.office.key_file(name).read_text())
            shell = Shell(folder)
            shell.env |= {"CAPX_AUTHORITY": self.origin, "CAPX_PERSON_KEY_FILE": str(key), "NO_PROXY": "*"}
            if not trusts:
                return shell
            shell("task", "list", "--trust", self.id)
            self.shells[name] = shell
        return self.shells[name]

    def intent(self, **said: str) -> Path:
        """The file of an intent that ana has written and signed at her own place."""
        ana = self.shell("ana")
        options = [part for name, text in said.items() for part in (f"--{name}", text)]
        written = ana(
            "intent", "new", "--purpose", "refund", "--statement", "what they ask for", "--tenant", "Acme", *options
        )
        file = ana.home.parent / f"{time.monotonic_ns()}.json"
        file.write_text(written.out)
        signed = file.with_suffix(".intent")
        signed.write_text(ana("intent", "sign", str(file)).out)
        return signed

    def opened(self) -> Bundle:
        """A task that ana has opened."""
        return Bundle.parse(self.shell("ana")("task", "open", "--intent", str(self.intent())).token)

    def asked(self, bundle: Bundle) -> Any:
        with AuthorityClient(self.origin, bundle, trust_env=False) as agent:
            return agent.ask(REFUND[0], args=REFUND[1])

    def pending(self, bundle: Bundle) -> Pending:
        answer = self.asked(bundle)
        assert isinstance(answer, Pending)
        return answer

    def denied(self, bundle: Bundle) -> str:
        """The id of a denied call in the task."""
        with Authority.open_home(self.office.home) as authority:
            received = ToolCall("crm.write")
            shown = bundle.present("crm", received).text
            decision = authority.verifier("crm").decide(shown, received, Call("crm.write", tenant="Acme"))
            assert authority.flush()
        return decision.id


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    office = Office(tmp_path_factory.mktemp("office"))
    with serving(office.home) as served:
        yield Elsewhere(office, served, tmp_path_factory.mktemp("people"))


def task_of(bundle: Bundle) -> str:
    assert bundle.task is not None
    return bundle.task


# Who is where.


def test_an_authority_is_trusted_once_and_then_known(elsewhere: Elsewhere) -> None:
    ana = elsewhere.shell("ana", trusts=False)
    stranger = ana("task", "list", code=2)
    assert f"nobody has confirmed that {elsewhere.origin} is the authority {elsewhere.id}" in stranger.err
    assert "--trust ID" in stranger.err
    assert "capx doctor" in stranger.err
    assert elsewhere.id in served_shell(elsewhere)("doctor").out
    other = ana("task", "list", "--trust", "A" * 22, code=3)
    assert f"and not {'A' * 22}" in other.err
    known = ana.home.parent / "known"
    assert not known.exists()
    ana("task", "list", "--trust", elsewhere.id)
    assert known.read_text() == f"{elsewhere.origin} {elsewhere.id}\n"
    assert known.stat().st_mode & 0o777 == 0o600
    ana("task", "list")
    known.write_text(f"{elsewhere.origin} {'A' * 22}\n")
    assert "Do not sign anything for it" in ana("task", "list", code=3).err


def served_shell(elsewhere: Elsewhere) -> Shell:
    """The shell of the operator."""
    shell = Shell(elsewhere.office.home.parent)
    shell.home = elsewhere.office.home
    shell.env["CAPX_HOME"] = str(shell.home)
    return shell


@pytest.mark.parametrize(("typed", "trusted"), [("y\n", True), ("n\n", False)])
def test_on_a_terminal_a_person_is_asked(elsewhere: Elsewhere, typed: str, trusted: bool) -> None:
    ana = elsewhere.shell("ana", trusts=False)
    main, sub = pty.openpty()
    process = subprocess.Popen((*COMMAND, "task", "list"), env=ana.unmeasured, stdin=sub, stdout=sub, stderr=sub)
    os.close(sub)
    os.write(main, typed.encode())
    said = b""
    try:
        while chunk := os.read(main, 65_536):
            said += chunk
    except OSError:
        pass
    os.close(main)
    assert process.wait(timeout=30) == (0 if trusted else 3), said
    assert elsewhere.id.encode() in said
    assert (ana.home.parent / "known").exists() == trusted


def test_without_a_key_the_error_says_how_to_name_one(elsewhere: Elsewhere) -> None:
    ana = elsewhere.shell("ana")
    for args in (("task", "list"), ("intent", "new", "--purpose", "refund", "--statement", "x"), ("requests", "list")):
        said = ana(*args, code=2, CAPX_PERSON_KEY_FILE="")
        assert "name your key with --key-file FILE or CAPX_PERSON_KEY_FILE" in said.err
    # The option counts more than the variable, and an operator's command takes no key.
    key = ana.env["CAPX_PERSON_KEY_FILE"]
    ana("task", "list", "--key-file", key, CAPX_PERSON_KEY_FILE="/nowhere")
    assert "name it with --authority https://" in ana("task", "list", "--key-file", key, code=2, CAPX_AUTHORITY="").err


def test_who_is_unknown_is_told_so_and_no_intent_is_blamed(elsewhere: Elsewhere, tmp_path: Path) -> None:
    ana, file = elsewhere.shell("ana"), elsewhere.intent()
    other = tmp_path / "ana.key"
    Shell(tmp_path)("principal", "new", "ana", "--key-file", str(other))
    stranger = ("--key-file", str(other), "--trust", elsewhere.id)
    for args in (("task", "list"), ("task", "open", "--intent", str(file)), ("requests", "list")):
        assert "no person whom the policy knows has proven this" in ana(*args, *stranger, code=3).err


@pytest.mark.parametrize(
    "args",
    [
        ("mint", "last", "--allow", "crm.read"),
        ("log",),
        ("find",),
        ("task", "complete", "last"),
        ("intent", "list"),
        ("keys", "list"),
        ("keys", "export", "crm"),
        ("store", "prune"),
        ("store", "check"),
        ("store", "stats"),
        ("policy", "check"),
        ("principal", "list"),
        ("checkpoint", "make"),
        ("serve",),
        ("graph", "last", "--watch"),
    ],
    ids=" ".join,
)
def test_what_only_operators_can_do_says_so(elsewhere: Elsewhere, args: tuple[str, ...]) -> None:
    said = elsewhere.shell("ana")(*args, code=2)
    assert said.out == ""
    assert said.err.count("\n") == 1
    if "--watch" not in args:
        assert elsewhere.origin in said.err
        assert "CAPX_AUTHORITY" in said.err


@pytest.mark.parametrize("place", ["http://capx.example", "https://capx.example/path", "https://u:pw@capx.example"])
def test_a_place_that_is_no_origin_is_refused(elsewhere: Elsewhere, place: str) -> None:
    said = elsewhere.shell("ana")("task", "list", "--authority", place, code=2)
    assert "origin" in said.err or "no TLS" in said.err
    assert "pw" not in said.err.replace("https://capx.example", "")


def test_doctor_says_whether_the_authority_knows_a_person(elsewhere: Elsewhere, tmp_path: Path) -> None:
    ana = elsewhere.shell("ana")
    said = ana("doctor").out
    assert f"{elsewhere.origin} is the authority {elsewhere.id}, and knows ana by this key; the clocks agree" in said
    assert "root keys" not in said
    other = tmp_path / "ana.key"
    Shell(tmp_path)("principal", "new", "ana", "--key-file", str(other))
    (tmp_path / "known").write_text((ana.home.parent / "known").read_text())
    (tmp_path / "known").chmod(0o600)
    assert "FAIL" in ana("doctor", code=3, CAPX_PERSON_KEY_FILE=str(other)).out


# Intents and tasks.


def test_an_intent_is_written_signed_and_opened_from_elsewhere(elsewhere: Elsewhere, tmp_path: Path) -> None:
    ana, file = elsewhere.shell("ana"), elsewhere.intent()
    document = json.loads(file.read_text())["intent"]
    assert (document["principal"], authority_of(document["authority"])) == ("ana", elsewhere.id)
    out = tmp_path / "refund.token"
    said = ana("task", "open", "--intent", str(file), "--expires", "10m", "--out", str(out), "--json").json
    bundle = Bundle.parse(out.read_text().strip())
    assert said["task"] == bundle.task
    assert (said["principal"], len(said["intent"])) == ("ana", 43)
    again = ana("task", "open", "--intent", str(file), code=1)
    assert "opened" in again.err
    (listed,) = ana("task", "list", "--intent", said["intent"], "--json").json
    assert listed["id"] == bundle.task
    assert listed["position"] is None
    shown = ana("task", "show", "last")
    assert f"task {bundle.task}" in shown.out
    assert f"ana, on intent {said['intent']}" in shown.out
    assert ana("task", "show", task_of(bundle), "--json").json["minted"] is None
    # Nobody else has this task.
    assert "you have no task" in elsewhere.shell("ben")("task", "show", task_of(bundle), code=2).err


def test_tasks_are_paged_from_the_newest_on(elsewhere: Elsewhere) -> None:
    ana = elsewhere.shell("ana")
    made = [task_of(elsewhere.opened()) for _ in range(3)]
    page = ana("task", "list", "--limit", "2", "--json")
    assert [one["id"] for one in page.json] == made[1:]
    assert f"--before {made[1]}" in page.err
    assert ana("task", "list", "--limit", "1", "--before", made[1], "--json").json[0]["id"] == made[0]
    assert "give --before, not --after" in ana("task", "list", "--after", made[0], code=2).err
    ana("task", "withdraw", made[2])
    active = [one["id"] for one in ana("task", "list", "--active", "--limit", "all", "--json").json]
    assert set(made[:2]) <= set(active)
    assert made[2] not in active
    assert elsewhere.shell("ben")("task", "list").out == "There is no task. Open one: capx task open --intent FILE\n"


def test_an_operator_lists_the_tasks_of_an_intent_too(elsewhere: Elsewhere) -> None:
    bundle = elsewhere.opened()
    digest = elsewhere.shell("ana")("task", "show", "last", "--json").json["intent"]
    operator = served_shell(elsewhere)
    for place in ("", elsewhere.served.place):
        (found,) = operator("task", "list", "--intent", digest, "--json", CAPX_AUTHORITY=place).json
        assert found["id"] == bundle.task
    assert operator("task", "list", "--intent", "A" * 43).out == "This intent has opened no task.\n"
    assert "not the digest of an intent" in operator("task", "list", "--intent", "x", code=2).err


def test_a_token_comes_sealed_from_either_kind_of_authority(elsewhere: Elsewhere, tmp_path: Path) -> None:
    key = AgentKey.generate("worker")
    ana = elsewhere.shell("ana")
    said = ana("task", "open", "--intent", str(elsewhere.intent()), "--seal-to", key.public)
    assert f"sealed to {key.public}" in said.err
    bundle = Bundle.unseal(said.out.strip(), key)
    assert bundle.task == ana("task", "list", "--limit", "1", "--json").json[0]["id"]
    named = elsewhere.intent(**{"agent-key": key.public})
    other = AgentKey.generate("other").public
    assert "could not use it" in ana("task", "open", "--intent", str(named), "--seal-to", other, code=2).err
    assert ana("task", "open", "--intent", str(named), "--seal-to", key.public).out.startswith("capxseal1_")
    out = tmp_path / "sealed"
    opening = ("task", "open", "--allow", "crm.read", "--seal-to", key.public, "--out", str(out), "--json")
    at_home = served_shell(elsewhere)(*opening).json
    assert at_home["sealed_to"] == key.public
    assert Bundle.unseal(out.read_text().strip(), key).task == at_home["task"]


def test_what_only_an_operator_says_of_a_task_is_refused(elsewhere: Elsewhere) -> None:
    ana, file = elsewhere.shell("ana"), elsewhere.intent()
    unsigned = str(file.with_suffix(".json"))
    for args in (
        ("--allow", "crm.read"),
        ("--intent", unsigned),
        ("--intent", unsigned, "--attested", "sso"),
        ("--intent", str(file), "--budget", "calls=3"),
    ):
        ana("task", "open", *args, code=2)
    not_yours = elsewhere.shell("ben")("task", "open", "--intent", str(file), code=1)
    assert "not yours" in not_yours.err
    assert ana("task", "open", "--intent", str(file)).token


def test_a_task_and_an_intent_are_withdrawn(elsewhere: Elsewhere) -> None:
    ana, bundle = elsewhere.shell("ana"), elsewhere.opened()
    assert "would be withdrawn" in ana("task", "withdraw", task_of(bundle), "--dry-run").out
    ended = ana("task", "withdraw", task_of(bundle))
    assert ended.out == f"task {bundle.task} is withdrawn\n"
    assert "was withdrawn before" in ana("task", "withdraw", task_of(bundle)).out
    file = elsewhere.intent()
    task = task_of(Bundle.parse(ana("task", "open", "--intent", str(file)).token))
    digest = ana("intent", "show", str(file), "--json").json["digest"]
    refused = ana("intent", "withdraw", digest, code=2)
    assert "cannot tell from a digest whose intent it is" in refused.err
    assert "not yours" in elsewhere.shell("ben")("intent", "withdraw", str(file), code=2).err
    assert ana("intent", "withdraw", str(file), "--dry-run", "--json").json["tasks"][0]["task"] == task
    # The document without its signature is enough.
    done = ana("intent", "withdraw", str(file.with_suffix(".json")))
    assert done.out.splitlines() == [f"intent {digest} is withdrawn", f"  task {task} is withdrawn"]
    assert "withdrawn" in ana("task", "open", "--intent", str(file), code=1).err


def test_a_graph_is_drawn_and_a_part_of_it_revoked(elsewhere: Elsewhere) -> None:
    ana, bundle = elsewhere.shell("ana"), elsewhere.opened()
    task = task_of(bundle)
    elsewhere.denied(bundle.delegate(to="reader"))
    assert f"task {task}  tenant Acme  refund" in ana("graph", task).out
    (tree,) = ana("graph", "last", "--json").json["trees"]
    assert tree["principal"] == "ana"
    child = tree["node"]["children"][0]["id"]
    assert "draws one task of yours at a time" in ana("graph", code=2).err
    assert "give --task TASK" in ana("revoke", child, code=2).err
    for more in (("--wait",), ("--where", "tenant=Acme")):
        ana("revoke", *(() if "--where" in more else (child,)), *more, "--task", task, code=2)
    assert "would be revoked" in ana("revoke", child, "--task", task, "--dry-run").out
    assert ana("revoke", child, "--task", "last").out == f"node or capability {child} is revoked\n"
    assert ana("revoke", child, "--task", task, "--json").json["killed"][0]["again"] is True
    other = b64u(next(iter(elsewhere.opened())).id)
    assert "has no node and no capability" in ana("revoke", other, "--task", task, code=2).err
    assert (
        "--task is for an authority elsewhere" in served_shell(elsewhere)("revoke", child, "--task", task, code=2).err
    )


def test_a_decision_in_a_task_is_explained(elsewhere: Elsewhere) -> None:
    ana, bundle = elsewhere.shell("ana"), elsewhere.opened()
    task, denied = task_of(bundle), elsewhere.denied(bundle.delegate(to="reader"))
    for typed in (denied, "last"):
        said = ana("why", typed, "--task", task).out
        assert said.startswith("DENIED  crm.write at crm")
        assert "who     task > reader" in said
        assert "action_not_allowed" in said
        assert "position" not in said
    found = ana("why", denied, "--task", "last", "--json").json
    assert (found["id"], found["outcome"]) == (denied, "denied")
    assert "position" not in found
    assert "give --task TASK" in ana("why", denied, code=2).err
    for more in (("--receipt",), ("--archive", ".")):
        ana("why", denied, "--task", task, *more, code=2)
    other = task_of(elsewhere.opened())
    assert "no decision" in ana("why", denied, "--task", other, code=2).err
    assert "no call" in ana("why", "last", "--task", other, code=2).err
    assert "you have no task" in elsewhere.shell("ben")("why", denied, "--task", task, code=2).err
    assert "--task is for" in served_shell(elsewhere)("why", denied, "--task", task, code=2).err


# Requests.


def test_a_request_is_listed_shown_and_approved_from_elsewhere(elsewhere: Elsewhere) -> None:
    ben, ana, bundle = elsewhere.shell("ben"), elsewhere.shell("ana"), elsewhere.opened()
    request = elsewhere.pending(bundle).request
    (row,) = (line for line in ben("requests", "list").out.splitlines() if line.startswith(request))
    assert row.split()[1:3] == ["billing.refund@billing", "task"]
    mine = next(one for one in ana("requests", "list", "--json").json if one["id"] == request)
    assert (mine["mine"], mine["yours"], mine["args"]) == (False, True, {"amount": 20})
    assert elsewhere.shell("eve")("requests", "list").out.startswith("Nothing waits for you")
    assert "you have no request" in elsewhere.shell("eve")("requests", "show", request, code=2).err
    said = ben("requests", "show", request[:8])
    assert "ana wanted refund for Acme" in said.out
    assert "the agent that asks has made 1 request, 1 of them at billing" in said.out
    assert ben("requests", "show", request, "--json").json["counts"]
    assert "requested this work" in ana("requests", "approve", request, "--yes", code=1).err
    assert "not of ana" in ben("requests", "approve", request, "--as", "ana", "--yes", code=2).err
    done = ben("requests", "approve", request, "--as", "ben", "--yes")
    assert "was approved by ben" in done.out
    assert isinstance(elsewhere.asked(bundle), Granted)
    refused = ben("requests", "list", "--all", code=2).err
    assert "tells answers only of one task on your own intent: give its --task TASK; of others, capx " in refused
    told = "no task was opened on an intent of yours; capx requests list shows what asks you"
    assert told in ben("requests", "list", "--all", "--task", "last", code=2).err
    every = ana("requests", "list", "--all", "--task", task_of(bundle)).out
    assert request in every
    assert "granted" in every
    again = ben("requests", "approve", request, "--yes", code=1)
    assert "already" in again.err


def test_a_request_is_denied_from_elsewhere(elsewhere: Elsewhere) -> None:
    ben = elsewhere.shell("ben")
    request = elsewhere.pending(elsewhere.opened()).request
    assert ben("requests", "deny", request, "--yes", "--json").json["state"] == "denied"
    assert "you have no request" in elsewhere.shell("eve")("requests", "deny", request, "--yes", code=2).err


def test_the_approval_of_a_call_is_given_from_elsewhere(elsewhere: Elsewhere) -> None:
    ben, bundle = elsewhere.shell("ben"), elsewhere.opened()
    clerk = bundle.delegate(to="clerk", approval=approval(by=[elsewhere.office.ben.public]))
    asking = ("ask", "crm.accounts.read", "--approval", "--with", "account=a-1", "--url", elsewhere.origin)
    ben(*asking, token=clerk.text, code=1)
    (item,) = (one for one in ben("requests", "list", "--json").json if one["task"] == bundle.task)
    assert (item["for_call"], item["mine"]) == (True, True)
    assert "Approve" not in ben("requests", "approve", item["id"], "--yes", "--uses", "2").err
    approved = Bundle.parse(ben(*asking, token=clerk.text).out.strip())
    assert len(approved.approvals) == 1


def test_the_inbox_is_watched_from_elsewhere(elsewhere: Elsewhere) -> None:
    ben = elsewhere.shell("ben")
    watching = Following(ben, "requests", "watch", "--json")
    request = elsewhere.pending(elsewhere.opened()).request
    watching.until(told(request, "pending", "waits"))
    ben("requests", "deny", request, "--yes")
    watching.until(told(request, "denied", "was denied"))
    assert watching.end() == 0


# What goes wrong.


class Cutting:
    """A proxy that loses the answers to what is posted."""

    def __init__(self, origin: str) -> None:
        self._to = origin.removeprefix("http://")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._listening.accept()
            except OSError:
                return
            with one:
                asked = one.recv(65_536)
                if asked.startswith(b"POST"):
                    continue
                connection = http.client.HTTPConnection(self._to, timeout=20)
                connection.request("GET", asked.split(b" ")[1].decode())
                answer = connection.getresponse()
                body = answer.read()
                head = f"HTTP/1.1 {answer.status} OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
                one.sendall(head.encode() + body)
                connection.close()


def test_an_opening_without_an_answer_says_what_to_look_for(elsewhere: Elsewhere) -> None:
    ana, file = elsewhere.shell("ana", trusts=False), elsewhere.intent()
    digest = ana("intent", "show", str(file), "--json").json["digest"]
    proxy = Cutting(elsewhere.origin)
    try:
        said = ana(
            *("task", "open", "--intent", str(file), "--trust", elsewhere.id), code=3, CAPX_AUTHORITY=proxy.origin
        )
    finally:
        proxy.close()
    assert said.out == ""
    assert f"capx task list --intent {digest}" in said.err


class Endless:
    """An authority that says that one more page follows: the same again, or one without anything."""

    origin = "https://capx.example"

    def __init__(self, *ids: str, next: str) -> None:
        self.ids, self.next, self.asked = ids, next, 0

    def _page(self) -> None:
        self.asked += 1
        assert self.asked < 5, "it is asked without an end"

    def tasks(self, **_: object) -> OwnTasks:
        self._page()
        return OwnTasks([TaskRecord(id, "", 0, 1, state="withdrawn") for id in self.ids], self.next)

    def decisions(self, *_: object, **__: object) -> OwnDecisions:
        self._page()
        return OwnDecisions([OwnDecision(0, Raw(b"{}")) for _ in self.ids], self.next)


@pytest.mark.parametrize("ids", [(), ("one",), ("one", "two"), ("two", "one", "two")])
@pytest.mark.parametrize("next", ["one", "two"])
def test_pages_that_do_not_move_on_are_refused(ids: tuple[str, ...], next: str) -> None:
    for active in (True, False):
        me = PersonOperations(cast("Any", Endless(*ids, next=next)), AuthorityNow("", 0))
        with pytest.raises(StoreProblem, match="do not move on"):
            me.task_page(limit=10**9, active=active)
    me = PersonOperations(cast("Any", Endless(*ids, next=next)), AuthorityNow("", 0))
    with pytest.raises(StoreProblem, match="do not move on"):
        list(me.decisions("one"))


@pytest.mark.parametrize("args", ["", "{", "\x1b[2J", "[" * 100_000])
def test_arguments_that_are_no_json_are_one_clear_error(args: str) -> None:
    item = InboxItem("A" * 22, "t", None, "refund", "billing", args, (), 0, 1, True, False, False)
    for as_json in (True, False):
        with pytest.raises(StoreProblem, match="has arguments that are no JSON"):
            WAITING.show([item], as_json)


def test_where_nobody_serves_the_error_says_so(elsewhere: Elsewhere) -> None:
    said = elsewhere.shell("ana")("task", "list", code=3, CAPX_AUTHORITY="http://127.0.0.1:9")
    assert "no authority answers at http://127.0.0.1:9" in said.err


def test_completion_signs_nothing(elsewhere: Elsewhere) -> None:
    ana = elsewhere.shell("ana", trusts=False)
    said = ana("x", _CAPX_COMPLETE="bash_complete", COMP_WORDS="capx task show ", COMP_CWORD="3")
    assert (said.out.strip(), said.err) == ("", "")


# A key in ssh-agent.


@needs_ssh
def test_a_person_whose_key_is_in_ssh_agent_signs_and_opens(tmp_path: Path) -> None:
    office = Office(tmp_path)
    with SshAgent(tmp_path) as agent:
        public = public_text(agent.add("laptop"))
        office.rule(office.policy.read_text().replace(office.ana.public, public))
        shell = Shell(tmp_path / "ana")
        shell.env["SSH_AUTH_SOCK"] = agent.path
        (tmp_path / "ana").mkdir(mode=0o700)
        as_ana = ("--key-agent", "ana")
        assert shell("principal", "show", *as_ana).out == f"{public}\n"
        with serving(office.home) as served:
            shell.env["CAPX_AUTHORITY"] = served.url
            with Authority.open_home(office.home) as authority:
                trust = ("--trust", authority_of(authority.epoch()))
            asking = ("--purpose", "refund", "--statement", "x", "--tenant", "Acme")
            written = shell("intent", "new", *asking, *as_ana, *trust).out
            signed = shell("intent", "sign", *as_ana, token=written).out
            (tmp_path / "x.intent").write_text(signed)
            opened = shell("task", "open", "--intent", str(tmp_path / "x.intent"), "--key-agent", f"ana={public}")
            assert opened.token
            # There is no key file, so it lies with the keys of the home.
            assert (shell.home / "principals" / "known").read_text().startswith(served.url)
            # The approval of a call needs the secret itself.
            clerk = Bundle.parse(opened.token).delegate(to="clerk", approval=approval(by=[public]))
            request = clerk.approval_request("crm.accounts.read", args={})
            (tmp_path / "call.ask").write_text(json.dumps(request.document()))
            asked = ("requests", "approve", "--file", str(tmp_path / "call.ask"), "--yes", *as_ana)
            refused = shell(*asked, code=1, CAPX_AUTHORITY="")
            assert "needs the secret of your key, and ssh-agent keeps it" in refused.err
            agent.add("another")
            assert "name the public key that you mean" in shell("task", "list", *as_ana, code=3).err
            both = (*as_ana, "--key-file", str(office.key_file("ben")))
            assert "only one of" in shell("task", "list", *both, code=2).err
