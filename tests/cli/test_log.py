"""The log shows each kind on a line, and goes on from a position."""

from typing import Any


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
