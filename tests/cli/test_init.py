"""A home is not made where others may look."""

from typing import Any


def test_a_home_is_not_made_where_others_may_look(capx: Any) -> None:
    capx.home.mkdir(mode=0o755)
    assert f"chmod 700 {capx.home}" in capx("init", code=3).err
    assert not list(capx.home.iterdir())
    capx.home.chmod(0o700)
    capx("init")
