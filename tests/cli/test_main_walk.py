"""The whole path as transcripts, every command and every --json among them."""

from pathlib import Path
from typing import Any

from capx.crypto.base64url import b64u
from capx.tokens.bundle import Bundle


def test_from_init_to_the_graph_of_what_died(capx: Any, tmp_path: Path) -> None:
    assert "created an authority in" in capx("init").out
    assert capx.home.stat().st_mode & 0o777 == 0o700
    again = capx("init", code=3)
    assert "already holds an authority" in again.err
    assert again.out == ""

    opened = capx(
        *("task", "open", "--tenant", "Acme", "--purpose", "qbr", "--allow", "crm.read", "--allow", "slides.write"),
        *("--with", "deck=deck-42", "--with", "pages=range:1..9", "--allow", "slides.list@slides", "--no-args"),
    )
    bundle = Bundle.parse(opened.token)
    assert bundle.audiences == ("crm", "slides", "authority")
    assert f"opened task {bundle.task}" in opened.err
    assert "at slides: slides.write where deck is" in opened.err

    child = capx("delegate", "--to", "slides-agent", "--allow", "slides.*", "--expires", "10m", token=opened.token)
    sub = Bundle.parse(child.token)
    assert sub.node is not None
    assert b64u(sub.node) in child.err
    assert "at crm: nothing" in child.err
    crm = capx("delegate", "--to", "crm-agent", "--audience", "crm", "--max-hops", "0", token=opened.token)
    assert Bundle.parse(crm.token).audiences == ("crm",)
    narrow = capx("attenuate", "--allow", "slides.write", "--where", "args.deck=deck-42", token=child.token)

    call = ("--action", "slides.write", "--arg", "deck=deck-42", "--arg", "pages:=3")
    said = capx("verify", *call, "--tenant", "Acme", token=narrow.token)
    assert said.out.startswith('ALLOWED  slides.write at slides for tenant "Acme"\n')
    assert "A service denies this bare token" in said.err
    refused = capx("verify", "--action", "crm.read", "--tenant", "Acme", "--json", token=child.token, code=1)
    assert refused.json["reasons"][0]["sentence"] == 'hop 1 ("slides-agent") allows only slides.*'
    assert (refused.json["allowed"], refused.json["bare_token"]) == (False, True)

    presented = capx("present", *call, token=narrow.token)
    assert "good once at slides" in presented.err
    judged = capx("verify", *call, "--tenant", "Acme", token=presented.token)
    assert "bare token" not in judged.err
    header = capx("present", "--http", "POST", "/a?b=c", "--data", "{}", "--header", token=crm.token).out
    assert header.startswith("Authorization: Capx capx1_")

    seen = capx("inspect", "--blocks", token=narrow.token)
    assert seen.out.startswith("NOTHING WAS VERIFIED")
    assert "slides, held by task > slides-agent" in seen.out
    assert 'may         slides.write where deck is "deck-42" and pages is between 1 and 9' in seen.out
    assert "allows nothing  no action is left" in seen.out
    assert 'hop 1 ("slides-agent"): delegated to slides-agent' in seen.out
    view = capx("inspect", "--json", token=narrow.token).json
    assert view["verified"] is False
    assert view["tokens"][0]["effective"]["may"] == []

    slides = next(capability for capability in sub if capability.audience == "slides")
    allowed = capx.decide(slides.text, "slides.write", "Acme", deck="deck-42", pages=2)
    denied = capx.decide(slides.text, "slides.erase", "Acme")
    assert allowed.allowed
    assert not denied.allowed

    why = capx("why", denied.id)
    assert why.out.startswith("DENIED  slides.erase at slides")
    assert "who     task > slides-agent" in why.out
    assert "action_not_allowed: the task's grant allows only" in why.out
    assert capx("why", allowed.id, "--json").json["outcome"] == "allowed"
    capx("why", "nobody", code=2)

    dry = capx("revoke", b64u(sub.node), "--dry-run")
    assert "would be revoked" in dry.out
    assert "and everything below, seen or not" in dry.out
    (killed,) = capx("revoke", b64u(sub.node), "--json").json["killed"]
    assert killed["key"] == b64u(sub.node)
    assert "was revoked before" in capx("revoke", "--held", token=child.token).out
    dead = capx("verify", *call, "--tenant", "Acme", token=narrow.token, code=1)
    assert 'revoked: hop 1 ("slides-agent") was revoked, and all below it' in dead.out
    capx("verify", "--action", "crm.read", "--tenant", "Acme", token=crm.token)

    graph = capx("graph", "last").out
    assert f"slides-agent  {b64u(sub.node)}  1 allowed, 1 denied  DEAD: revoked" in graph
    assert "root" in graph
    assert capx("graph", "--json").json["trees"][0]["tenant"] == "Acme"

    minted = capx("mint", "last", "--allow", "tickets.read", "--expires", "10m")
    assert Bundle.parse(minted.token).node == bundle.node
    assert capx("task", "show", "last", "--json").json["minted"][-1]["audience"] == "tickets"
    assert "minted" in capx("task", "show", str(bundle.task)).out
    assert capx("task", "list", "--active", "--json").json[0]["id"] == bundle.task
    assert "active" in capx("task", "list").out

    assert capx("task", "complete", "last", "--dry-run", "--json").json["position"] is None
    assert "is completed, at position" in capx("task", "complete", "last").out
    assert "was completed before" in capx("task", "withdraw", "last").out
    ended = capx("verify", "--action", "crm.read", "--tenant", "Acme", token=opened.token, code=1)
    assert "task_completed" in ended.out
    capx("mint", "last", "--allow", "tickets.read", code=2)

    out = tmp_path / "crm.keys"
    assert capx("keys", "export", "crm", "--out", str(out)).out == ""
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.read_text() == capx("keys", "export", "crm").out
    capx("keys", "export", "crm", "--out", str(out), code=3)
    capx("keys", "export", "authority", code=2)

    assert "FAIL" not in capx("doctor").out
    assert {finding["state"] for finding in capx("doctor", "--json").json} <= {"ok", "warning"}


def test_a_token_that_allows_nothing_is_said_to(home: Any) -> None:
    token = home("task", "open", "--allow", "crm.read", "--allow", "slides.write", "--with", "deck=d1").token
    some = home("delegate", "--to", "x", "--allow", "crm.*", token=token)
    assert "allows nothing any more" not in some.err
    none = home("delegate", "--to", "x", "--allow", "hr.read", token=token)
    assert none.err.count("nothing (no action is left: hop 1") == 2
    assert none.err.splitlines()[-1] == "this token allows nothing any more"
    for command in (("attenuate",), ("delegate", "--to", "x")):
        for past in ("2020-01-01T00:00:00Z", "0s"):
            assert "has passed" in home(*command, "--expires", past, token=token, code=2).err
    present = ("present", "--action", "slides.write", "--arg")
    assert "will be denied" not in home(*present, "deck=d1", token=token).err
    warned = home(*present, "deck=d2", token=token)
    assert warned.token
    assert 'this will be denied: the task\'s grant: allows slides.write only where deck is "d1"' in warned.err
    assert "this will be denied: no action is left" in home(*present, "deck=d1", token=none.token).err
    assert "is for crm, slides, authority, not for hr" in home("verify", "--action", "hr.read", token=token, code=2).err


def test_what_was_never_seen_is_revoked_and_said_to_be_unseen(home: Any) -> None:
    id_ = "A" * 22
    assert "has seen nothing alive with this id so far" in home("revoke", id_, "--dry-run").out
    assert "has not seen this id so far" in home("revoke", id_).out
    token = home("task", "open", "--allow", "crm.read").token
    known = Bundle.parse(token)
    for capability in known:
        assert "this id so far" not in home("revoke", b64u(capability.id)).out


def test_commands_pipe_into_each_other(home: Any) -> None:
    import subprocess

    line = (
        "$CAPX task open --tenant Acme --allow crm.read --allow crm.write"
        " | $CAPX delegate --to reader --allow crm.read | $CAPX attenuate --expires 5m"
        " | $CAPX verify --action crm.read --tenant Acme --json"
    )
    from shlex import quote
    from sys import executable

    script = line.replace("$CAPX", f"{quote(executable)} -m capx_cli.main")
    done = subprocess.run(["/bin/sh", "-c", script], env=home.env, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert b'"allowed": true' in done.stdout
