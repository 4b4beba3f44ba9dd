"""The inbox of those who answer: what they are shown, what they sign, and what becomes of it."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.intents.principal_key import PrincipalKey
from capx.verify.ask import Granted, Pending, Refused
from tests.cli.conftest import Shell
from tests.labs.following_log import Following
from tests.labs.inbox import REFUND, as_, asks, opened
from tests.labs.office import Office
from tests.labs.terminal import on_terminal
from tests.server.conftest import serving


def test_a_request_is_listed_shown_and_approved(capx: Shell, office: Office) -> None:
    assert capx("requests", "list").out.startswith("Nothing waits for a person.")
    assert capx("requests", "list", "--all").out == "No agent has asked for anything.\n"
    bundle = opened(office).delegate(to="refund-agent", may_ask=["billing.*"])
    pending = asks(office, bundle, ticket="T-1", amount=20)
    listed = capx("requests", "list").out.splitlines()
    assert listed[0].split() == ["REQUEST", "ACTION", "WHO", "LEFT", "APPROVERS", "TASK"]
    row = rf"{pending.request} +billing.refund@billing +refund-agent +(29|30) min +finance +{bundle.task}"
    assert re.fullmatch(row, listed[1])
    said = capx("requests", "show", pending.request).out
    assert said.startswith(
        f'request {pending.request}: waits for an answer\n  "refund-agent" asks, in task {bundle.task}\n'
    )
    for words in (
        "ana wanted refund for Acme, in their words",
        'it would be allowed billing.refund at billing, only with amount 20 and ticket "T-1"',
        "within what the policy offers: billing.*",
        'tenant is "Acme"',
        f"it ends with task {bundle.task}",
        "by finance",
    ):
        assert words in said
    done = capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes")
    # Whoever signs was shown the very same.
    assert done.out.startswith(said)
    assert f"request {pending.request} was approved by ben at 20" in done.out
    assert "is granted when its agent asks again" in done.out
    with Authority.open_home(office.home) as authority:
        assert isinstance(authority.ask(bundle, "billing.refund", args={"ticket": "T-1", "amount": 20}), Granted)
    assert capx("requests", "list").out.startswith("Nothing waits")
    every = capx("requests", "list", "--all", "--task", "last").out
    assert re.search(rf"{pending.request} +granted +billing.refund@billing +refund-agent +- +finance", every)
    assert "was approved by ben" in capx("requests", "show", pending.request).out


def test_a_request_is_denied_for_good(capx: Shell, office: Office) -> None:
    bundle = opened(office)
    pending = asks(office, bundle)
    said = capx("requests", "deny", pending.request, *as_(office, "ben"), "--yes")
    assert f"request {pending.request} was denied by ben at 20" in said.out
    with Authority.open_home(office.home) as authority:
        assert isinstance(authority.ask(bundle, "billing.refund", args=REFUND), Refused)
    again = capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes", code=1)
    assert re.fullmatch(
        rf"capx: request {pending.request} was denied by ben at \S+Z already: it can no longer be approved\n",
        again.err,
    )
    assert again.out == ""
    again = capx("requests", "deny", pending.request, *as_(office, "ben"), "--yes", code=1)
    assert again.err.endswith("Z already\n")


def test_denying_what_was_approved_is_refused_with_advice(capx: Shell, office: Office) -> None:
    bundle = opened(office)
    pending = asks(office, bundle)
    capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes")
    said = capx("requests", "deny", pending.request, *as_(office, "ben"), "--yes", code=1)
    assert said.err.endswith("Z already: it can no longer be denied\n")
    with Authority.open_home(office.home) as authority:
        granted = authority.ask(bundle, "billing.refund", args=REFUND)
        assert isinstance(granted, Granted)
        assert isinstance(authority.ask(bundle, "warehouse.read"), Granted)
        (at_once,) = [one.id for one in authority.requests() if not one.approvers]
    said = capx("requests", "deny", pending.request, *as_(office, "ben"), "--yes", code=1)
    kills = re.search(r"no longer be denied; to revoke what was granted: (capx revoke (\S+))", said.err)
    assert kills is not None
    capx("revoke", kills[2])
    with Authority.open_home(office.home) as authority:
        assert isinstance(authority.ask(bundle, "billing.refund", args=REFUND), Refused)
    said = capx("requests", "deny", at_once, *as_(office, "ben"), "--yes", code=1)
    assert "was granted at once: it needs no answer" in said.err


@pytest.mark.parametrize("name", ["ana", "eve"])
def test_who_may_not_answer_is_told_so(capx: Shell, office: Office, name: str) -> None:
    pending = asks(office, opened(office))
    for command in ("approve", "deny"):
        said = capx("requests", command, pending.request, "--yes", *as_(office, name), code=1)
        # Before they read all that they cannot answer.
        assert (said.out, said.err) == ("", f'capx: {name} cannot answer this request; who can: "finance" ("ben")\n')
    assert pending.request in capx("requests", "list").out


def test_who_is_asked_by_now_answers_for_those_asked_before(capx: Shell, office: Office) -> None:
    pending = asks(office, opened(office))
    office.rule(office.policy.read_text().replace('approvers = ["finance"]', 'approvers = ["sales"]'))
    said = capx("requests", "approve", pending.request, "--yes", *as_(office, "ben"), code=1)
    assert said.err == 'capx: ben cannot answer this request; who can: "sales" ("eve")\n'
    # Whoever was asked may still say no.
    said = capx("requests", "deny", pending.request, "--yes", *as_(office, "eve"), code=1)
    assert said.err == 'capx: eve cannot answer this request; who can: "finance" ("ben")\n'
    assert "was approved by eve" in capx("requests", "approve", pending.request, "--yes", *as_(office, "eve")).out


def test_an_agent_with_an_approvers_name_is_refused_as_approver(capx: Shell, office: Office) -> None:
    pending = asks(office, opened(office).delegate(to="ben", may_ask=["billing.*"]))
    with serving(office.home) as served:
        for at in ((), ("--authority", served.place)):
            said = capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes", *at, code=1)
            assert "requested this work, or has the same name or key as one of its agents" in said.err
            assert said.out == ""
    # To say no is open to them.
    assert "was denied by ben" in capx("requests", "deny", pending.request, *as_(office, "ben"), "--yes").out


def test_what_cannot_be_answered_is_told_by_its_exit_code(capx: Shell, office: Office, tmp_path: Path) -> None:
    pending = asks(office, opened(office))
    ben = as_(office, "ben")
    for args, code, why in (
        (("approve", pending.request, *ben), 2, "there is no terminal to ask on"),
        (("deny", pending.request, *ben), 2, "then give --yes"),
        (("approve", "last", *ben, "--yes"), 2, "name the request by its id"),
        (("approve", pending.request[:5], *ben, "--yes"), 2, "there is no request"),
        (("approve", "nobody", *ben, "--yes"), 2, "there is no request"),
        (("show", "nobody"), 2, "there is no request"),
        (
            ("approve", pending.request, "--as", "eve", "--key-file", str(office.key_file("ben")), "--yes"),
            2,
            "key of ben",
        ),
        (("approve", pending.request, "--as", "ben", "--key-file", str(tmp_path / "none.key"), "--yes"), 3, "none.key"),
        (("approve", pending.request, "--as", "ben", "--key-file", str(office.policy), "--yes"), 3, "wanted"),
        (("approve", pending.request, "--yes"), 2, "there is no key in"),
        (("approve", pending.request, "--as", "ben", "--yes"), 3, "there is no key of ben at"),
        (("list", "--task", "nobody"), 2, "there is no task"),
    ):
        said = capx("requests", *args, code=code)
        assert why in said.err, args
        assert said.err.count("\n") == 1
    assert pending.request in capx("requests", "list").out
    # A key of that name that the policy does not know signs nothing that counts.
    stranger = tmp_path / "stranger.key"
    PrincipalKey.generate("ben").save(stranger)
    wrong = capx("requests", "approve", pending.request, "--as", "ben", "--key-file", str(stranger), "--yes", code=1)
    assert "this key of ben is not the key that the policy has for them" in wrong.err
    with serving(office.home) as served:
        args = ("--as", "ben", "--key-file", str(stranger), "--yes", "--authority", served.place)
        assert "does not fit what request" in capx("requests", "approve", pending.request, *args, code=1).err


def test_the_key_at_home_answers_if_it_is_clear_whose_is_meant(capx: Shell, office: Office) -> None:
    bundle = opened(office)
    folder = capx.home / "principals"
    folder.mkdir(mode=0o700)
    office.ben.save(folder / "ben.key")
    first, second, third = (asks(office, bundle, amount=amount).request for amount in (1, 2, 3))
    assert "was approved by ben" in capx("requests", "approve", first, "--yes").out
    assert "was approved by ben" in capx("requests", "approve", second, "--yes", "--as", "ben").out
    office.eve.save(folder / "eve.key")
    said = capx("requests", "deny", third, "--yes", code=2)
    assert f"there are 2 keys in {folder}: choose one with --as NAME" in said.err
    assert "was denied by ben" in capx("requests", "deny", third, "--yes", "--as", "ben").out


def test_a_request_is_named_by_its_unique_beginning_or_as_last(capx: Shell, office: Office) -> None:
    assert "no request needs an answer" in capx("requests", "show", "last", code=2).err
    bundle = opened(office)
    first, second = (asks(office, bundle, amount=amount).request for amount in (1, 2))
    with Authority.open_home(office.home) as authority:
        assert isinstance(authority.ask(bundle, "warehouse.read"), Granted)
    for id_ in (first, second):
        assert capx("requests", "show", id_[:6]).out == capx("requests", "show", id_).out
    # What nobody was asked for is not the last.
    assert capx("requests", "show", "last").out.startswith(f"request {second}: waits")
    assert "was approved by ben" in capx("requests", "approve", first[:10], *as_(office, "ben"), "--yes").out
    assert "there is no request" in capx("requests", "show", "______", code=2).err


def test_how_several_requests_begin_names_none_of_them(capx: Shell, office: Office) -> None:
    pending = asks(office, opened(office))
    other = "B" if pending.request[12] == "A" else "A"
    alike = f"{pending.request[:12]}{other}{'A' * 9}"
    with Authority.open_home(office.home) as authority, authority.store.write() as transaction:
        request = transaction.request(pending.request)
        assert request is not None
        transaction.keep_request(replace(request, id=alike, state="denied"))
    said = capx("requests", "show", pending.request[:12], code=2)
    assert f"2 requests begin with {pending.request[:12]}: type more of the id" in said.err
    assert capx("requests", "show", pending.request[:13]).out.startswith(f"request {pending.request}")


def test_a_request_that_the_policy_has_overtaken_is_not_approved(capx: Shell, office: Office) -> None:
    pending = asks(office, opened(office))
    office.rule(office.policy.read_text().replace('"billing.*"', '"billing.refund"'))
    said = capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes", code=1)
    assert "the agent must ask again" in said.err
    office.rule(office.policy.read_text().replace('approvers = ["finance"]', 'aprovers = ["finance"]'))
    said = capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes", code=3)
    assert "aprovers" in said.err


def test_requests_are_told_as_json(capx: Shell, office: Office) -> None:
    bundle = opened(office).delegate(to="refund-agent", may_ask=["billing.*"])
    pending = asks(office, bundle, until=5, amount=2.5)
    (listed,) = capx("requests", "list", "--json").json
    assert (listed["id"], listed["state"], listed["hops"]) == (pending.request, "pending", ["refund-agent"])
    assert (listed["audience"], listed["action"], listed["pinned"]) == ("billing", "billing.refund", True)
    # What an agent has sent is no instant of ours, whatever it is called.
    assert listed["args"] == {"until": 5, "amount": 2.5}
    assert listed["until"].endswith("Z")
    shown = capx("requests", "show", pending.request, "--json").json
    assert {**shown, **listed} == shown
    assert shown["intent"]["document"]["statement"] == "refund what they ask for"
    assert any("only with" in sentence for sentence in shown["shown"])
    assert "block" not in shown
    assert "nonce" not in shown


def test_the_inbox_of_an_authority_that_serves_is_the_same(capx: Shell, office: Office) -> None:
    with serving(office.home) as served:
        there: Any = {"CAPX_AUTHORITY": served.place, "CAPX_HOME": "/nonexistent"}
        pending = asks(office, opened(office))
        assert capx("requests", "list", **there).out == capx("requests", "list").out
        assert capx("requests", "show", pending.request, **there).out == capx("requests", "show", pending.request).out
        refused = capx("requests", "approve", pending.request, *as_(office, "eve"), "--yes", code=1, **there)
        assert "cannot answer this request; who can:" in refused.err
        assert "there is no request" in capx("requests", "show", "nobody", code=2, **there).err
        done = capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes", **there)
        assert "was approved by ben" in done.out
    assert "no authority answers" in capx("requests", "list", code=3, **there).err


EVIL = "\x1b[2J\x1b[31mALLOWED\u202e\u2066\u200b\u2028\n  by finance\r[bold]x[/bold] :smile: [link=http://evil]"


def test_what_agents_chose_acts_on_no_screen(capx: Shell, office: Office) -> None:
    label = "a asks, in task x [red]b[/red] :smile:"
    statement = 'refund\n  it would be allowed nothing\n"\n[bold]really[/bold]'
    bundle = opened(office, statement=statement).delegate(to=label, may_ask=["billing.*"])
    pending = asks(office, bundle, note=EVIL)
    watching = Following(capx, "requests", "watch")
    watching.until(lambda out, _: "by finance\n" in out)
    views = [
        capx("requests", "list").out,
        capx("requests", "show", pending.request).out,
        capx("graph").out,
        capx("log").out,
        watching.said[watching.master],
        capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes").out,
    ]
    assert watching.end() == 0
    for seen in views:
        lines = seen.split("\n")
        assert all(line.isprintable() for line in lines)
        for harmful in "\x1b\x9b\u202e\u2066\u200b\u2028\x7f\x00\r":
            assert harmful not in seen
        # A line of what is said begins with nothing that an agent or the statement chose.
        assert not any(line.startswith(("ALLOWED", "  by finance", "  it would be allowed nothing")) for line in lines)
        assert "[red]b[/red] :smile:" in seen
    shown = capx("requests", "show", pending.request).out
    assert "\\u001b[2J\\u001b[31mALLOWED" in shown
    assert len([line for line in shown.splitlines() if line.startswith("  it would be allowed ")]) == 1
    raw = capx("requests", "list", "--all", "--json").out + capx("requests", "show", pending.request, "--json").out
    assert raw.isascii()
    assert "\x1b" not in raw
    for width in (32, 80, 200):
        for args in (("requests", "show", pending.request), ("requests", "list", "--all")):
            drawn = on_terminal(capx, bundle.text, *args, width=width)
            plain = re.sub(rb"\x1b\[[0-9;]*m", b"", drawn)
            assert b"\x1b" not in plain
            assert "\u202e" not in plain.decode()
        plain = re.sub(rb"\x1b\[[0-9;]*m", b"", on_terminal(capx, "", "requests", "show", pending.request, width=width))
        # What goes on in a further line looks like no sentence of ours.
        drawn_lines = plain.decode().replace("\r\n", "\n").rstrip("\n").split("\n")
        assert all(line.startswith("  ") for line in drawn_lines[1:])
        assert max(map(len, drawn_lines)) <= width
        assert len([line for line in drawn_lines if line.startswith("  it would be allowed ")]) == 1


def test_a_request_that_nobody_answered_is_told_as_such(capx: Shell, tmp_path: Path) -> None:
    office = Office(tmp_path, within="1s")
    with Authority.open_home(office.home, clock=lambda: time.time() - 10) as authority:
        bundle = authority.open(office.signed(authority, now=int(time.time()) - 20)).bundle
        pending = authority.ask(bundle, "billing.refund", args=REFUND)
    assert isinstance(pending, Pending)
    assert capx("requests", "list").out.startswith("Nothing waits")
    assert "was not answered in time" in capx("requests", "show", pending.request).out
    said = capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes", code=1)
    assert said.err == f"capx: request {pending.request} was not answered in time\n"


def test_a_request_of_a_withdrawn_task_needs_no_answer(capx: Shell, office: Office) -> None:
    bundle = opened(office)
    pending = asks(office, bundle)
    capx("task", "withdraw", "last")
    for view in (("requests", "show", pending.request), ("graph", "last"), ("task", "show", "last")):
        said = " ".join(capx(*view).out.replace("\u2502", " ").split())
        assert "needs no answer: its task has ended (20" in said
        assert "in time" not in said
    refused = capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes", code=1)
    assert "needs no answer: its task has ended (20" in refused.err
    with Authority.open_home(office.home) as authority:
        authority.end_overdue()
    assert f"request {pending.request} in task" in (told := capx("log").out)
    assert "its task has ended" in told


def test_a_request_of_a_revoked_agent_is_told_as_such(capx: Shell, office: Office) -> None:
    bundle = opened(office)
    pending = asks(office, bundle)
    with Authority.open_home(office.home) as authority:
        assert bundle.node is not None
        authority.revoke(bundle.node)
        authority.end_overdue()
    assert "needs no answer: its agent was revoked (20" in capx("requests", "show", pending.request).out
    assert "its agent was revoked" in capx("log").out


def test_a_consent_whose_grant_is_dead_is_told_as_such(capx: Shell, office: Office) -> None:
    bundle = opened(office)
    first, second = asks(office, bundle), asks(office, bundle, amount=30)
    for pending in (first, second):
        capx("requests", "approve", pending.request, *as_(office, "ben"), "--yes")
    with Authority.open_home(office.home) as authority:
        answer = authority.ask(bundle, "billing.refund", args=REFUND)
        assert isinstance(answer, Granted)
        authority.revoke(answer.capability.id)

    dead = r"; its task, its agent or the grant ended at 20"

    def told(request: str, words: str) -> None:
        for view in (("requests", "show", request), ("graph", "last"), ("task", "show", "last")):
            said = " ".join(capx(*view).out.replace("\u2502", " ").split())
            assert re.search(rf"was approved by ben at \S+Z{words}", said), said

    told(first.request, ", and granted" + dead)
    told(second.request, ", and is granted when its agent asks again")
    capx("revoke", b64u(bundle.node or b""))
    told(second.request, dead)
    states = {one["id"]: one["state"] for one in capx("requests", "list", "--all", "--json").json}
    assert states == {first.request: "ended", second.request: "ended"}
    late = capx("requests", "deny", first.request, *as_(office, "ben"), "--yes", code=1).err
    assert "to revoke" not in late
