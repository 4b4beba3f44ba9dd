"""What another home minted is judged with the keys of this one."""

import time
from pathlib import Path
from typing import Any

from capx.tokens.binding import ToolCall
from tests.cli.conftest import Shell, first


def test_a_presentation_is_shown_as_one(home: Any) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    seen = home("inspect", "--blocks", token=home("present", "--action", "crm.read", token=token).token).out
    assert "  a presentation: good for one tool call, until 20" in seen
    assert "  delegation  none" in seen
    assert "this presentation: presented once" in seen


def test_a_presentation_that_has_expired_is_told(home: Shell, task: str) -> None:
    verify = ("verify", "--action", "crm.read", "--tenant", "Acme")
    for ago, told in ((0, False), (3_600, True)):
        shown = first(task).present(ToolCall("crm.read"), now=int(time.time()) - ago).text
        assert ("This presentation has expired" in home(*verify, token=shown).err) is told
        assert home(*verify, "--json", token=shown).json["presentation_expired"] is told
    assert home(*verify, "--json", token=task).json["presentation_expired"] is False


def test_what_another_home_minted_is_judged_by_this_ones_keys(home: Any, tmp_path: Path) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    other = str(tmp_path / "other")
    home("init", CAPX_HOME=other)
    said = home("verify", "--action", "crm.read", token=token, code=1, CAPX_HOME=other)
    assert f"Judged with the keys in {other}. For another home, set CAPX_HOME" in said.err


def test_the_help_says_that_a_bound_token_is_presented(home: Any) -> None:
    said = " ".join(home("verify", "--help").out.split())
    assert "bound to a key must be presented, with capx present" in said
    assert "Otherwise it is denied: hop_unsigned" in said
