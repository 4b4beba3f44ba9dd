"""Events are written for people: nothing in them acts, and nothing that cannot be read is hidden."""

import re
import sqlite3
from typing import Any

from capx.authority.authority import Authority
from capx.store import events
from capx.store.events import By, Fact, IntentWithdrawn, Revoked, TaskOpened, TaskWithdrawn
from capx_cli.events import _KINDS  # has no other list
from tests.cli.conftest import first
from tests.labs.terminal import on_terminal


def test_labels_neither_act_on_a_terminal_nor_pass_for_columns(home: Any) -> None:
    opened = home(
        "task", "open", "--tenant", "[red]Acme[/red]", "--purpose", "x, purpose y", "--allow", "crm.read"
    ).token
    for label in ("[bold]x[/bold] :smile:", "task > root", "a  2026-11-25T13:02:56Z  allowed", "b, by task"):
        home.decide(first(opened).delegate(to=label).text, "crm.write", "[red]Acme[/red]")
    said = home("find").out + home("log").out
    assert '"[bold]x[/bold] :smile:"' in said
    assert 'by task > "task > root"' in said
    assert all(line.isprintable() for line in said.splitlines())
    assert [line.split()[1] for line in home("find").out.splitlines()] == ["denied"] * 4
    for shown in (on_terminal(home, opened, "find", width=200), on_terminal(home, opened, "log", width=200)):
        # Our own colours and the sign that something is under way.
        plain = re.sub(rb"\x1b\[[?0-9;]*[A-Za-z]", b"", shown).decode()
        assert "\u202e" not in plain
        assert "[bold]x[/bold] :smile:" in plain
        assert "\x1b" not in plain
    with Authority.open_home(home.home) as authority, authority.store.write() as transaction:
        transaction.append("noted\u202e", b'{"x": "\\u001b[31m\\u202e"}', at=1)
    last = home("log", "--limit", "1").out
    assert last.rstrip("\n").isprintable()


def test_the_log_says_which_person_asked(home: Any) -> None:
    ana = By("ana", "ed25519:A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg")
    facts = (
        TaskOpened(task="t", root="r", expires=10, agent="planner", by=ana),
        TaskWithdrawn("t", by=ana),
        IntentWithdrawn("i", by=By("x, by ben", ana.key)),
        Revoked(id="i", task="t", person=ana),
        Revoked(id="i", task="t", by="n"),
    )
    with Authority.open_home(home.home) as authority, authority.store.write() as transaction:
        for fact in facts:
            fact.write(transaction, at=1)
    ends = [line.split("  ")[-1].strip() for line in home("log", "--limit", "5").out.splitlines()[-5:]]
    assert ends == [
        "task t, tenant -, purpose -, by planner, opened by ana",
        "task t, by ana",
        'intent i, by "x, by ben"',
        "node or capability i, by ana",
        "node or capability i, by the agent at node n",
    ]


def tamper(home: Any, position: int, body: str) -> None:
    with sqlite3.connect(home.home / "capx.db") as store:
        store.execute("UPDATE events SET body = ? WHERE position = ?", (body, position))
    store.close()


def test_what_cannot_be_read_is_told_and_hides_nothing_else(busy: Any) -> None:
    others = len(busy("find").out.splitlines()) - 1
    tamper(busy, 4, '{"id": 3}')
    tamper(busy, 10, '{"id": "D", "outcome": "denied"}')
    for args in (("find",), ("log",), ("find", "--denied", "--limit", "9")):
        assert busy(*args).out.count("not a decision as capx writes it") == 2
    assert len(busy("find").out.splitlines()) - 1 == others
    assert "not a decision as capx writes it" in busy("why", "D", code=2).err
    assert "DENIED" in busy("why", "last").out
    assert busy("graph").out
    assert "the log is broken at position 4" in busy("store", "check", code=3).err
    tamper(busy, 2, "[]")
    assert "the log is broken at position 2" in busy("keys", "list", code=3).err


def test_each_event_of_the_authority_is_told_in_words() -> None:
    facts = [one for one in vars(events).values() if isinstance(one, type) and issubclass(one, Fact)]
    assert {one.kind for one in facts if "kind" in vars(one)} == set(_KINDS)
