"""Graphs of what hostile agents chose, and graphs that are watched."""

import json

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx_caveats import Root
from tests.cli.conftest import Shell
from tests.labs.following_log import Following


def test_hostile_labels_act_nowhere(home: Shell) -> None:
    opened = home("task", "open", "--tenant", '"]; x', "--purpose", "<b>&#8238;", "--allow", "crm.read").token
    with Authority.open_home(home.home) as authority, authority.store.write() as transaction:
        facts: dict[str, object] = {
            "outcome": "denied",
            "audience": "crm\u202e",
            "task": "",
            "root": "",
            "path": [],
            "hops": [],
        }
        held = next(iter(Bundle.parse(opened)))
        facts |= {"id": "A" * 22, "task": held.task, "root": root_of(held), "ids": [b64u(held.id)]}
        facts |= {"path": [b64u(held.path[0]), "A" * 22], "hops": ['e"vil\n\u202e\x1b[2J']}
        transaction.append("decision", json.dumps(facts).encode(), at=1)
        none = {"id": "B" * 22, "path": [b64u(held.path[0]), "x\x1b[31m"], "hops": ["no node"]}
        transaction.append("decision", json.dumps(facts | none).encode(), at=1)
    for args in (("graph",), ("graph", "--format", "mermaid"), ("graph", "--format", "dot"), ("graph", "--json")):
        said = home(*args).out
        assert all(line.isprintable() for line in said.splitlines()), args
        assert "vil" in said
        assert "no node" not in said


def root_of(held: Capability) -> str:
    return next(caveat.id for caveat in held.caveats[0] if isinstance(caveat, Root))


def test_formats_that_exclude_each_other_are_refused(home: Shell) -> None:
    assert "give only one of --json and --format dot" in home("graph", "--json", "--format", "dot", code=2).err
    assert "--watch draws text on a terminal" in home("graph", "--watch", code=2).err
    assert "is not one of" in home("graph", "--format", "png", code=2).err


def test_a_watched_graph_is_drawn_again_when_something_happens(home: Shell) -> None:
    token = home("task", "open", "--tenant", "Acme", "--allow", "crm.read").token
    watching = Following(home, "graph", "last", "--watch", terminal=True)
    watching.until(lambda out, _: "position 3 of the log" in out)
    home.decide(next(iter(Bundle.parse(token))).delegate(to="reader").text, "crm.read", "Acme")
    watching.until(lambda out, _: "reader" in out and "1 allowed, 0 denied" in out)
    home("revoke", "last")
    watching.until(lambda out, _: "DEAD: revoked" in out)
    assert watching.end() == 0
    assert "Traceback" not in watching.said[watching.master] + watching.said[watching.err]
