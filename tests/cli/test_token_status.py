"""What of a token is dead is said with its death."""

import pytest

from capx.crypto.base64url import b64u
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from tests.cli.conftest import Shell
from tests.labs.spent_tokens import flat


@pytest.mark.parametrize("end", ["node", "task", "kid", "instant", "capability"])
def test_what_of_a_token_is_dead_is_said_with_its_death(home: Shell, spending: Bundle, end: str) -> None:
    held = next(iter(spending))
    args, says = {
        "node": (("revoke", b64u(spending.node or b"")), 'revoked: node of hop 1 ("reader") '),
        "task": (("task", "complete", "last"), "task_completed: task "),
        "kid": (("revoke", "--kid", held.kid), f"revoked: all that was minted under key {held.kid}"),
        "instant": (("revoke", "--issued-before", "now"), "revoked: all that was issued up to 20"),
        "capability": (("revoke", b64u(held.ids[0])), f"revoked: capability {b64u(held.ids[0])}"),
    }[end]
    home(*args)
    assert f"DEAD {says}" in flat(home("inspect", "--store", token=held.text).out)
    assert home("inspect", "--store", "--json", token=held.text).json["tokens"][0]["store"]["dead"]
    shown = held.present(ToolCall("crm.read")).text
    assert f"DEAD {says}" in flat(home("inspect", "--store", token=shown).out)
