"""What another home minted is judged with the keys of this one."""

from pathlib import Path
from typing import Any


def test_a_presentation_is_shown_as_one(home: Any) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    seen = home("inspect", "--blocks", token=home("present", "--action", "crm.read", token=token).token).out
    assert "  a presentation: good for one tool call, until 20" in seen
    assert "  delegation  none" in seen
    assert "this presentation: presented once" in seen


def test_what_another_home_minted_is_judged_by_this_ones_keys(home: Any, tmp_path: Path) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    other = str(tmp_path / "other")
    home("init", CAPX_HOME=other)
    said = home("verify", "--action", "crm.read", token=token, code=1, CAPX_HOME=other)
    assert f"Judged with the keys in {other}. For another home, set CAPX_HOME" in said.err
