"""The log shows each kind on a line, and goes on from a position."""

import signal
from typing import Any

from capx_caveats import allow
from tests.cli.conftest import Shell, first
from tests.labs.following_log import Following


def test_the_log_shows_a_line_an_event_from_a_position_on(busy: Any) -> None:
    busy("task", "complete", "last")
    busy("revoke", "A" * 22)
    lines = busy("log").out.splitlines()
    assert [line.split()[0] for line in lines] == [str(position) for position in range(1, 13)]
    kinds = [line.split()[2] for line in lines]
    opened = ["task_opened", "capability_minted", "capability_minted", "decision", "decision"]
    assert kinds == [*opened, *opened, "task_completed", "revoked"]
    assert lines[0].endswith(", tenant Acme, purpose -")
    assert "crm.read; crm.notes.add" in lines[1]
    assert busy("log", "--since", "10").out.splitlines() == lines[10:]
    assert busy("log", "--since", "3", "--limit", "2").out.splitlines() == lines[10:]
    assert busy("log", "--limit", "99", "--since", "1h").out.splitlines() == lines
    events = busy("log", "--json", "--since", "5").json
    assert [event["position"] for event in events] == [6, 7, 8, 9, 10, 11, 12]
    assert events[0]["facts"]["tenant"] == "Globex"
    for nothing in ("12", str(2**53 - 1), "2099-01-01T00:00:00Z"):
        assert busy("log", "--since", nothing).err == "nothing happened since\n"


def test_the_log_shows_a_call_once_and_each_if_asked(kept: Shell) -> None:
    token = kept("task", "open", "--allow", "crm.read").token
    narrow = first(token).attenuate(allow("crm.notes.read")).text
    one, passed, stayed = (
        kept.decide(each, "crm.read", id=nth).id for each, nth in ((narrow, 7), (token, 7), (narrow, 8))
    )

    def shown(*options: str) -> list[str]:
        return [line.split()[0] for line in kept("log", *options).out.splitlines()]

    assert shown() == shown("--since", "1h") == ["1", "2", "3", "5", "6"]
    assert shown("--limit", "2") == ["5", "6"]
    assert shown("--since", "4") == ["5", "6"]
    assert shown("--each") == ["1", "2", "3", "4", "5", "6"]
    assert shown("--each", "--limit", "3") == ["4", "5", "6"]
    lines = kept("log").out.splitlines()
    assert f"decision           allowed  {passed}  crm.read at crm, after 1 denial, node " in lines[3]
    assert f"decision           denied   {stayed}  crm.read at crm, action_not_allowed, node " in lines[4]
    assert one in kept("log", "--each").out
    assert [event["position"] for event in kept("log", "--json").json] == [1, 2, 3, 4, 5, 6]


def test_a_log_that_is_followed_shows_each_decision(home: Shell) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    narrow = first(token).attenuate(allow("crm.notes.read")).text
    made = [home.decide(each, "crm.read").id for each in (narrow, token)]
    following = Following(home, "log", "--follow", "--since", "0")
    following.until(lambda out, _: all(id_ in out for id_ in made))
    made.append(home.decide(narrow, "crm.read").id)
    made.append(home.decide(token, "crm.read").id)
    following.until(lambda out, _: all(id_ in out for id_ in made))
    following.process.send_signal(signal.SIGINT)
    assert following.process.wait(20) == 0
    assert "after" not in following.said[following.master]
