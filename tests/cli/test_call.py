"""`capx call` against a real service on the loopback interface."""

import json
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.tokens.binding import HttpRequest
from capx.verify.decision import Denied
from capx_caveats import Call
from tests.labs.commands import COMMAND
from tests.labs.terminal import on_terminal

MISSING = {"/missing": b"no such page\n", "/bare": b"no line end", "/empty": b""}
"""What is answered for paths that the service does not have."""


class Service(ThreadingHTTPServer):
    """Judges `crm.METHOD` for Acme, and remembers what it was sent."""

    daemon_threads = True
    authority: Authority
    seen: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Service  # ours alone uses it

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        sent = self.headers.get("authorization", "")
        self.server.seen.append(sent)
        if self.path == "/away":
            self.answer(307, "text/plain", b"", location="http://127.0.0.1:1/evil")
            return
        if self.path in MISSING:
            self.answer(404, "text/plain", MISSING[self.path])
            return
        if self.path == "/liar":
            lie = {"reasons": [{"code": "\x1b[31m", "sentence": "a\nb\u202e", "wanted": 5}], "decision": ["\x1b"]}
            self.answer(403, "application/problem+json", json.dumps(lie).encode())
            return
        received = HttpRequest(
            method=self.command, target=self.path, content_type=self.headers.get("content-type"), body=body
        )
        call = Call(f"crm.{self.command.lower()}", {"body": body.decode()} if body else {}, tenant="Acme")
        try:
            admitted = self.server.authority.verifier("crm").admit(sent.removeprefix("Capx "), received)
            admitted.judge(call, sent=True)
        except Denied as denied:
            problem = json.dumps(denied.problem()).encode()
            self.answer(denied.status, "application/problem+json", problem, **{"Capx-Decision": denied.decision.id})
        else:
            self.answer(200, "application/json", b'{"deals": 3, "evil": "\x1b[31m"}\n')

    do_POST = do_GET  # noqa: N815 - the name that http.server looks up

    def answer(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service(home: Any) -> Iterator[Service]:
    with Service(("127.0.0.1", 0), Handler) as server, Authority.open_home(home.home) as authority:
        server.authority, server.seen = authority, []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_status_does_not_go_on_in_the_line_of_the_body(home: Any, service: Service) -> None:
    token = home("task", "open", "--tenant", "Acme", "--allow", "crm.read").token
    command = (*COMMAND, "call", f"http://127.0.0.1:{service.server_port}/a", "--data", "{}")
    out, err = subprocess.PIPE, subprocess.STDOUT
    done = subprocess.run(command, env=home.env, input=token.encode(), timeout=60, check=False, stdout=out, stderr=err)
    assert b"\ndenied, HTTP 403\n" in done.stdout


def test_a_call_presents_sends_and_explains_a_refusal(home: Any, service: Service, tmp_path: Path) -> None:
    base = f"http://127.0.0.1:{service.server_port}"
    token = home("task", "open", "--tenant", "Acme", "--allow", "crm.*", "--allow", "slides.write").token
    assert "choose one with --audience" in home("call", f"{base}/a", token=token, code=2).err
    done = home("call", f"{base}/a?b=c%20d", "--audience", "crm", token=token)
    assert done.out == '{"deals": 3, "evil": "\x1b[31m"}\n'
    assert done.err == "HTTP 200 OK\n"
    body = tmp_path / "body.json"
    body.write_text("[1]")
    home("call", f"{base}/a", "--audience", "crm", "--data-file", str(body), token=token)

    opened = home("task", "open", "--allow", "crm.*").token.split(",")[0]
    forged = home("call", f"{base}/a", token=opened[:-8] + "AAAAAAAA", code=1)
    assert "not_authentic" in forged.err
    assert "not recorded" in forged.err
    assert "capx why" not in forged.err

    reader = home("delegate", "--to", "reader", "--audience", "crm", "--allow", "crm.get", token=token).token
    home("call", f"{base}/a", token=reader)
    refused = home("call", f"{base}/a", "--data", "{}", token=reader, code=1)
    assert refused.err.startswith('denied, HTTP 403\n  action_not_allowed: hop 1 ("reader") allows only crm.get\n')
    problem = json.loads(refused.out)
    assert problem["decision"] in refused.err
    assert service.authority.flush()
    assert 'hop 1 ("reader") allows only crm.get' in home("why", problem["decision"]).out
    assert "reader" in home("graph").out

    for sent in service.seen:
        assert sent.startswith("Capx capx1_")
        assert sent.removeprefix("Capx ") not in {token, reader}
    assert len(set(service.seen)) == len(service.seen)


def test_a_call_that_needs_an_approval_is_told_how(home: Any, service: Service, tmp_path: Path) -> None:
    url, key = f"http://127.0.0.1:{service.server_port}/a", tmp_path / "lea.key"
    lea = home("principal", "new", "lea", "--key-file", str(key)).out.strip()
    task = home("task", "open", "--tenant", "Acme", "--allow", "crm.*").token
    token = home("delegate", "--to", "x", "--approval-by", lea, token=task).token
    body = ("--audience", "crm", "--data", "it's $HOME\x1b[31m")
    denied = home("call", url, *body, token=token, code=1).err
    assert "  needs_discharge: " in denied
    (found,) = re.findall(r"^  to get it approved: capx (.*)$", denied, re.MULTILINE)
    asked = tmp_path / "call.ask"
    asked.write_text(home(*shlex.split(found), token=token).out)
    assert json.loads(asked.read_text())["args"] == {"body": body[-1]}
    approval = tmp_path / "call.approval"
    signed = ("--key-file", str(key), "--yes", "--out", str(approval))
    home("requests", "approve", "--file", str(asked), *signed)
    approved = home("approval", "add", str(approval), token=token).out.strip()
    assert home("call", url, *body, token=approved).err == "HTTP 200 OK\n"
    # It was good for one call.
    assert "budget" in home("call", url, *body, token=approved, code=1).err


def test_a_body_ends_its_line_on_a_terminal_and_not_in_a_pipe(home: Any, service: Service) -> None:
    base = f"http://127.0.0.1:{service.server_port}"
    token = home("task", "open", "--tenant", "Acme", "--allow", "crm.*").token
    for page, body, shown in (
        ("bare", "no line end", "no line end\r\n"),
        ("missing", "no such page\n", "no such page\r\n"),
        ("empty", "", ""),
    ):
        assert home("call", f"{base}/{page}", token=token, code=3).out == body
        assert on_terminal(home, token, "call", f"{base}/{page}").decode().startswith(f"{shown}HTTP 404")


def test_what_is_asked_of_an_unnamed_authority_is_told_how(home: Any, service: Service) -> None:
    url = f"http://127.0.0.1:{service.server_port}/agent/status"
    token = home("task", "open", "--allow", "crm.read").token
    hint = "this was presented to crm; if an authority serves there, give --audience authority"
    assert hint in home("call", url, "--data", "{}", token=token, code=1).err
    assert hint not in home("call", url, "--data", "{}", "--audience", "crm", token=token, code=1).err


def test_answers_that_are_no_refusal_and_services_that_lie(home: Any, service: Service) -> None:
    base = f"http://127.0.0.1:{service.server_port}"
    token = home("task", "open", "--tenant", "Acme", "--allow", "crm.*").token
    away = home("call", f"{base}/away", token=token, code=3)
    assert "redirects to http://127.0.0.1:1/evil, which this client does not follow" in away.err
    missing = home("call", f"{base}/missing", token=token, code=3)
    assert (missing.out, missing.err) == ("no such page\n", "HTTP 404 Not Found\n")
    lie = home("call", f"{base}/liar", token=token, code=1)
    assert "\\x1b[31m: a\\nb\\u202e" in lie.err
    assert all(line.isprintable() for line in lie.err.split("\n"))


def test_without_httpx_it_says_what_to_install(home: Any, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "httpx.py").write_text("raise ModuleNotFoundError('gone', name='httpx')\n")
    token = home("task", "open", "--allow", "crm.*").token
    said = home("call", "http://127.0.0.1:1/", token=token, code=3, PYTHONPATH=str(hidden))
    assert "capx call needs httpx: pip install 'capx-auth[httpx]'" in said.err


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "9" * 5_000, "0", "-1", "soon"])
def test_no_time_that_no_clock_waits_is_waited(home: Any, seconds: str) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    said = home("call", "http://127.0.0.1:1/x", "--audience", "crm", "--timeout", seconds, token=token, code=2)
    assert "Invalid value for '--timeout'" in said.err
