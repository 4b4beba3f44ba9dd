"""A doctor finds what is broken."""

from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.policy.file import FILE
from tests.cli.conftest import Shell
from tests.labs.principals import write_policy


def test_doctor_finds_what_is_broken(capx: Any) -> None:
    found = {finding["what"]: finding["state"] for finding in capx("doctor", "--json", code=3).json}
    assert (found["home"], found["root keys"], found["log"]) == ("FAIL", "FAIL", "FAIL")
    assert found["name"] == "ok"

    import sqlite3

    capx("init")
    capx("task", "open", "--allow", "crm.read")
    with sqlite3.connect(capx.home / "capx.db") as store:
        store.execute("UPDATE events SET body = replace(body, 'crm', 'crn') WHERE kind = 'capability_minted'")
    store.close()
    (capx.home / "root.keys").chmod(0o644)
    said = capx("doctor", code=3).out
    assert said.count("root.keys") == 2  # once said, once in the cure
    assert "the log is broken at position 2" in said
    assert "use it, or set CAPX_HOME to another folder" in capx("init", code=3).err
    assert f"chmod 600 {capx.home}" in said
    assert "chmod 600" in capx("task", "list", code=3).err


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE deaths SET key = 'another'",
        "UPDATE deaths SET reason = 'task_withdrawn'",
        "DELETE FROM deaths",
        "UPDATE head SET deaths = 0",
    ],
)
def test_doctor_finds_a_death_that_was_tampered_with(home: Any, tampering: str) -> None:
    import sqlite3

    home("task", "open", "--allow", "crm.read")
    home("task", "complete", "last")
    home("doctor")
    store = sqlite3.connect(home.home / "capx.db")
    store.execute(tampering)
    store.commit()
    store.close()
    found = {finding["what"]: finding["state"] for finding in home("doctor", "--json", code=3).json}
    assert found["log"] == "FAIL"


def test_a_doctor_tells_the_authoritys_name_and_its_policy(home: Shell) -> None:
    def found(code: int = 0) -> dict[str, tuple[str, str]]:
        said = home("doctor", "--json", code=code).json
        return {each["what"]: (each["state"], each["says"]) for each in said}

    with Authority.open_home(home.home) as authority:
        assert found()["epoch"] == ("ok", f"{authority.epoch()} is the name of this authority in intents")
    assert found()["policy"][1].startswith(f"there is no {FILE}")
    write_policy(home)
    home("principal", "add", "ana")
    assert found()["policy"] == ("ok", f"{FILE} names 1 purposes and 1 principals")
    write_policy(home, "nonsense")
    assert found(code=3)["policy"][0] == "FAIL"


def test_a_revoked_key_that_mints_is_a_failure(home: Shell) -> None:
    active = home("keys", "list", "--json").json[0]["kid"]
    home("revoke", "--kid", active)
    said = home("doctor", code=3).out
    assert f"the root key {active} that mints was revoked" in said
