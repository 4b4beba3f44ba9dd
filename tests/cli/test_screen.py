"""What a terminal is given: colours, no tricks, no long lines."""

import re
from typing import Any

from tests.labs.terminal import hostile, on_terminal

COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-7][0-9;]*m")


def test_a_terminal_gets_colours_no_tricks_and_no_long_lines(home: Any) -> None:
    token = hostile(home)
    said = on_terminal(home, token, "inspect", "--blocks", width=32)
    assert COLOUR.search(said)
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", said)
    assert b"\x1b" not in plain
    text = plain.decode()
    assert "\u202e" not in text
    assert max(len(line) for line in text.split("\r\n")) <= 32
    assert not COLOUR.search(on_terminal(home, token, "inspect", NO_COLOR="1"))
    assert b"\x1b" not in on_terminal(home, token, "inspect", TERM="dumb")
    drawn = on_terminal(home, token, "graph", width=32).decode()
    assert "DEAD" not in drawn
    assert "[red]Acme[/red]" in drawn.replace("\r\n", "") or "Acme" in drawn
    ended = home("task", "complete", "last").out
    assert "is completed" in ended
    assert b"DEAD" in on_terminal(home, token, "graph")
    refused = on_terminal(home, token, "keys", "export", "crm")
    assert b"a key is a secret and is not written to a terminal" in refused


def test_an_encoding_that_lacks_characters_is_no_failure(home: Any) -> None:
    home("task", "open", "--tenant", "S\u00f8n", "--allow", "crm.read")
    said = home("task", "list", PYTHONIOENCODING="ascii")
    assert "S\\xf8n" in said.out
    assert "root" in home("graph", PYTHONIOENCODING="ascii").out
