"""`capx ask` and `capx delegate --may-ask`: more at run time, for whoever may ask, and what every view says of it."""

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.authority.requests.verdict import Verdict
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx_caveats import Call
from tests.cli.conftest import Shell
from tests.labs.office import Office
from tests.labs.waiting import until
from tests.server.conftest import serving

TWENTY = ("--with", "amount:=20")


@pytest.fixture
def bundle(office: Office) -> Bundle:
    with Authority.open_home(office.home) as authority:
        return authority.open(office.signed(authority)).bundle


def decide(office: Office, *, yes: bool = True) -> None:
    """Answer what waits."""
    with Authority.open_home(office.home) as authority:
        (request,) = authority.requests(pending=True)
        inquiry = authority.inquiry(request.id)
        authority.answer(Verdict.sign(inquiry, office.ben, yes=yes, at=int(time.time())))


def waits(office: Office) -> bool:
    with Authority.open_home(office.home) as authority:
        return bool(authority.requests(pending=True))


def test_what_is_granted_is_written_with_what_was_held(capx: Shell, bundle: Bundle) -> None:
    said = capx("ask", "warehouse.stock.read", token=bundle.text)
    fuller = Bundle.parse(said.token)
    assert list(fuller)[:-1] == list(bundle)
    assert fuller.audiences == ("crm", "authority", "warehouse")
    assert "granted\n  at warehouse: warehouse.stock.read\n" in said.err
    # The same again is the same, and held once.
    assert capx("ask", "warehouse.stock.read", token=said.token).token == said.token
    assert capx("ask", "stock.read@warehouse", token=said.token, code=1).out == ""


def test_what_is_pending_writes_no_token(capx: Shell, office: Office, bundle: Bundle) -> None:
    said = capx("ask", "billing.refund", "--with", "ticket=T-1", "--with", "amount:=20", token=bundle.text, code=1)
    assert said.out == ""
    assert said.err.startswith(
        'pending: billing.refund at billing, with ticket "T-1" and amount 20 needs the consent of'
    )
    decide(office)
    granted = capx("ask", "billing.refund", "--with", "amount:=20", "--with", "ticket=T-1", token=bundle.text)
    assert "at billing: billing.refund where amount is 20 and ticket is" in granted.err
    assert "billing" in Bundle.parse(granted.token).audiences


def test_what_is_refused_says_why(capx: Shell, office: Office, bundle: Bundle) -> None:
    said = capx("ask", "crm.accounts.delete", token=bundle.text, code=1)
    assert (said.out, said.err.splitlines()[0]) == ("", "refused")
    assert "  not_offered: the policy offers this to no task of the purpose" in said.err
    capx("ask", "billing.refund", *TWENTY, token=bundle.text, code=1)
    decide(office, yes=False)
    again = capx("ask", "billing.refund", *TWENTY, token=bundle.text, code=1)
    assert "  request_denied: a person has denied it (for good: to ask again does not help)" in again.err
    # Deep below the first agent, where one request may wait.
    for depth in range(5):
        below = ("delegate", "--to", f"helper-{depth}", "--may-ask", "billing.*")
        bundle = Bundle.parse(capx(*below, token=bundle.text).token)
    capx("ask", "billing.refund", "--with", "n:=1", token=bundle.text, code=1)
    full = capx("ask", "billing.refund", "--with", "n:=2", token=bundle.text, code=1)
    assert "  too_many: " in full.err


def test_a_child_asks_for_what_may_ask_says_and_no_more(capx: Shell, office: Office, bundle: Bundle) -> None:
    child = capx(
        *("delegate", "--to", "refund-agent", "--allow", "crm.accounts.read", "--no-args"),
        *(
            "--may-ask",
            "warehouse.*",
            "--may-ask",
            "billing.refund",
            "--with",
            "ticket=T-1",
            "--with",
            "amount=range:0..50",
        ),
        token=bundle.text,
    )
    assert "at crm: crm.accounts.read without arguments\n" in child.err
    assert "  may ask for warehouse.* at warehouse\n" in child.err
    where = 'ticket is "T-1" and amount is between 0 and 50'
    asked = f"may ask for billing.refund at billing, where {where} and no other argument"
    assert f"  {asked}\n" in child.err
    assert f"\nauthority {asked}\n" in capx("can", token=child.token).out
    assert f"  may         {asked.removeprefix('may ')}\n" in capx("inspect", token=child.token).out
    token = child.token
    assert capx("ask", "warehouse.stock.read", token=token).token.startswith(token)
    pinned = ("--with", "ticket=T-1", "--with", "amount:=20")
    assert "pending: " in capx("ask", "billing.refund", *pinned, token=token, code=1).err
    for args in (
        ("billing.refund",),
        ("billing.refund", "--no-args"),
        ("billing.refund", "--with", "ticket=T-1", "--with", "amount:=51"),
        ("billing.refund", *pinned, "--with", "more=x"),
        ("billing.pay", *pinned),
        ("crm.accounts.read",),
    ):
        said = capx("ask", *args, token=token, code=1)
        assert (said.out, said.err.startswith('capx: denied: hop 1 ("refund-agent") allows grant.request only')) == (
            "",
            True,
        )
    # Without it nothing may be asked for, and nobody gives on what they may not ask for themselves.
    closed = capx("delegate", "--to", "x", "--allow", "crm.accounts.read", token=bundle.text).token
    why = "refused\n  this token may ask for nothing: its delegator must allow that with --may-ask\n"
    said = capx("ask", "warehouse.stock.read", token=closed, code=1)
    assert (said.out, said.err) == ("", why)
    wider = capx("delegate", "--to", "y", "--may-ask", "billing.*", token=token).token
    assert "denied" in capx("ask", "billing.pay", *TWENTY, token=wider, code=1).err


def test_what_a_task_may_ask_for_is_said_in_words_everywhere(capx: Shell, bundle: Bundle) -> None:
    anything = "may ask for anything that its policy offers"
    assert f"\nauthority {anything}\n" in capx("can", token=bundle.text).out
    assert f"  may         {anything.removeprefix('may ')}\n" in capx("inspect", token=bundle.text).out
    assert f"; {anything}\n" in capx("task", "show", "last").out


def test_a_token_minted_apart_is_told_what_it_is_joined_with(capx: Shell, bundle: Bundle) -> None:
    alone = capx("mint", "last", "--allow", "hr.read").token
    assert "holds no capability for the authority: join it" in capx("ask", "hr.write", token=alone, code=1).err


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("warehouse.*",), "is not an action"),
        (("",), "is not an audience"),
        (("task.complete@authority",), "is reserved"),
        (("crm.read@",), "names no audience after the @"),
        (("crm.read@CRM",), "is not an audience"),
        (("crm.read", "--with", "x"), "is not NAME=VALUE"),
        (("crm.read", "--with", "x=1", "--with", "x=2"), "given twice"),
        (("crm.read", "--with", "x=1", "--no-args"), "give only one of --with and --no-args"),
        (("crm.read", "--wait", "soon"), "soon"),
        (("crm.read", "--wait", "2d"), "longer than a day"),
        (("crm.read", "--url", "authority.internal"), "is not the URL of an authority"),
        (("crm.read", "--url", "file:///etc/passwd"), "is not the URL of an authority"),
        (("crm.read", "--url", "unix:/run/capx.sock"), "and unix: is for operators"),
        (
            ("crm.read", "--authority", "unix:/run/capx.sock"),
            "an agent asks with --url https://… or CAPX_AUTHORITY_URL",
        ),
    ],
)
def test_what_cannot_be_asked_is_told_as_usage(capx: Shell, bundle: Bundle, args: tuple[str, ...], why: str) -> None:
    said = capx("ask", *args, token=bundle.text, code=2)
    assert why in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_no_token_on_the_command_line_and_none_that_is_none(capx: Shell, bundle: Bundle) -> None:
    assert "a token on the command line" in capx("ask", bundle.text, code=2).err
    assert "capx: " in capx("ask", "crm.read", token="nonsense", code=3).err
    assert "no token was given" in capx("ask", "crm.read", code=3).err


def asking(capx: Shell, bundle: Bundle, *args: str) -> "subprocess.Popen[str]":
    waiting = ("--wait", "60s", "--token-file", "-", *args)
    process = capx.start("ask", "billing.refund", *TWENTY, *waiting, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(bundle.text)
    process.stdin.close()
    process.stdin = None
    return process


def test_who_waits_writes_nothing_down_meanwhile(capx: Shell, bundle: Bundle) -> None:
    said = capx("ask", "billing.refund", *TWENTY, "--wait", "2s", token=bundle.text, code=1)
    assert said.err.startswith("pending: ")
    # Asked when it began, and when time was over.
    kinds = [event["kind"] for event in capx("log", "--json").json]
    assert (kinds.count("decision"), kinds.count("request_made")) == (2, 1)


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("place", ["home", "served"])
def test_who_waits_is_told_when_a_person_has_answered(
    capx: Shell, office: Office, bundle: Bundle, *, place: str, yes: bool
) -> None:
    with serving(office.home) as served:
        process = asking(capx, bundle, *(("--url", served.url) if place == "served" else ()))
        until(lambda: waits(office))
        decide(office, yes=yes)
        out, err = process.communicate(timeout=30)
    assert process.returncode == (0 if yes else 1), err
    assert ("billing" in err, out.startswith(bundle.text) and out.count("\n") == 1) == (yes, yes)


def test_an_authority_that_serves_is_asked_by_its_url(capx: Shell, office: Office, bundle: Bundle) -> None:
    with serving(office.home) as served:
        there: Any = {"CAPX_AUTHORITY_URL": served.url, "CAPX_HOME": "/nonexistent"}
        assert "warehouse" in Bundle.parse(capx("ask", "warehouse.read", token=bundle.text, **there).token).audiences
        assert "pending: " in capx("ask", "billing.refund", *TWENTY, token=bundle.text, code=1, **there).err
        assert "not_offered" in capx("ask", "crm.x", token=bundle.text, code=1, **there).err
        child = bundle.delegate(to="x", may_ask=["billing.*"]).text
        assert 'denied: hop 1 ("x") allows' in capx("ask", "warehouse.read", token=child, code=1, **there).err
    away = capx("ask", "warehouse.read", token=bundle.text, code=3, **there).err
    assert re.fullmatch(r"capx: no authority answers at \S+: .* \(from CAPX_AUTHORITY_URL\)\n", away)
    typed = capx("ask", "warehouse.read", "--url", served.url, token=bundle.text, code=3).err
    assert typed == away.replace(" (from CAPX_AUTHORITY_URL)", "")
    nonsense = capx("ask", "warehouse.read", token=bundle.text, code=2, CAPX_AUTHORITY_URL="authority.internal").err
    assert nonsense.endswith("(from CAPX_AUTHORITY_URL)\n")


def test_where_only_operators_are_served_the_home_is_not_asked(capx: Shell, bundle: Bundle) -> None:
    said = capx("ask", "warehouse.read", token=bundle.text, code=2, CAPX_AUTHORITY="unix:/run/capx.sock")
    assert "CAPX_AUTHORITY (unix:/run/capx.sock) is for operators" in said.err
    assert "CAPX_AUTHORITY_URL; unset it to ask the authority in CAPX_HOME" in said.err


def test_every_view_says_what_was_asked_for_and_on_whose_intent(capx: Shell, office: Office, bundle: Bundle) -> None:
    child = bundle.delegate(to="refund-agent", may_ask=["billing.*", "warehouse.*"], allow=["crm.accounts.read"])
    capx("ask", "billing.refund", *TWENTY, token=child.text, code=1)
    capx("ask", "billing.pay", *TWENTY, token=child.text, code=1)
    fuller = Bundle.parse(capx("ask", "warehouse.read", token=child.text).token)
    capx("ask", "crm.delete", token=bundle.text, code=1)
    with Authority.open_home(office.home) as authority:
        pending = {one.action: one.id for one in authority.requests(pending=True)}
        inquiry = authority.inquiry(pending["billing.pay"])
        authority.answer(Verdict.sign(inquiry, office.ben, yes=False, at=int(time.time())))
        intent = authority.task(str(bundle.task)).intent
        received = ToolCall("warehouse.read")
        token = fuller.present("warehouse", received).text
        verifier = authority.verifier("warehouse")
        decision = verifier.decide(token, received, Call("warehouse.read", tenant="Acme"))
        assert decision.allowed
        assert authority.flush()
    log = capx("log").out
    for words in (
        f"task {bundle.task}, on intent {intent} of ana, tenant Acme, purpose refund",
        f"request {pending['billing.refund']} in task {bundle.task}: billing.refund at billing, for certain ",
        f"request {pending['billing.pay']} in task {bundle.task}, by ben",
        f"in task {bundle.task}: crm.delete at crm, not_offered, by task",
        " at warehouse: warehouse.read",
        "of task > refund-agent",
    ):
        assert words in log
    kinds = {event["kind"] for event in capx("log", "--json").json}
    assert kinds >= {"request_made", "request_denied", "ask_refused", "capability_minted", "task_opened"}
    graph = capx("graph", "last").out
    for words in (
        f"for ana, on intent {intent}",
        "granted at run time",
        f"request {pending['billing.refund']} for billing.refund at billing waits for an answer",
        f"request {pending['billing.pay']} for billing.pay at billing was denied by ben",
    ):
        assert words in graph
    (tree,) = capx("graph", "last", "--json").json["trees"]
    assert (tree["principal"], tree["intent"]) == ("ana", intent)
    (below,) = tree["node"]["children"]
    assert [one["action"] for one in below["requests"]] == ["billing.refund", "billing.pay", "warehouse.read"]
    task = capx("task", "show", "last").out
    for words in (
        f"  for      ana, on intent {intent}",
        " at warehouse, to task > refund-agent: warehouse.read",
        f"  asked    {pending['billing.refund']} for billing.refund at billing, by task > refund-agent: waits for an",
        f"  asked    {pending['billing.pay']} for billing.pay at billing, by task > refund-agent: was denied by ben",
    ):
        assert words in task
    requests = capx("task", "show", "last", "--json").json["requests"]
    assert [one["state"] for one in requests] == ["pending", "denied", "granted"]
    why = capx("why", decision.id).out
    assert f"  intent  {intent}" in why
    assert "  by      what was asked for at run time: request " in why
    told = capx("why", decision.id, "--json").json
    (answer,) = told["beside"]["answers"]
    assert (told["intent"], answer["action"], answer["approver"]) == (intent, "warehouse.read", None)
    capx("task", "withdraw", "last")
    assert f"{pending['billing.refund']}  expired" in capx("requests", "list", "--all").out


def test_an_ask_that_was_refused_does_not_read_as_allowed(capx: Shell, office: Office, tmp_path: Path) -> None:
    with Authority.open_home(office.home) as authority:
        bundle = authority.open(office.signed(authority)).bundle
    capx("ask", "crm.export", token=bundle.text, code=1)
    proof = tmp_path / "task.proof"
    capx("proof", "export", "last", "--out", str(proof))
    (trust := tmp_path / "trust").write_text(capx("proof", "trust").out)
    decision = capx("find", "--json").json[0]["id"]
    for view in (("find",), ("log",), ("proof", "show", str(proof), "--trust", str(trust))):
        (line,) = (line for line in capx(*view).out.splitlines() if decision in line)
        assert f"  may ask  {decision}  grant.request at authority" in line
    assert capx("why", decision).out.startswith("MAY ASK  grant.request at authority\n")
