"""A policy that cannot be used is told with all that is wrong."""

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Shell
from tests.labs.policies import intent


def written(folder: Path, **said: Any) -> str:
    file = folder / "asked.json"
    file.write_text(json.dumps(intent("refund", **said).document()), encoding="utf-8")
    return str(file)


def test_who_needs_a_broken_policy_is_told_all_that_is_wrong(home: Shell, tmp_path: Path) -> None:
    file = home.home / "policy.toml"
    file.touch(0o600)
    file.write_text('wrong = 1\n"\\u001b[31m[bold]\\n" = 2\n', encoding="utf-8")
    said = home("task", "open", "--intent", written(tmp_path), "--attested", "here", code=3)
    first, *lines = said.err.splitlines()
    assert first == f"capx: {file} cannot be used:"
    assert [line.partition(":")[0] for line in lines] == ["  wrong", '  "\\u001b[31m[bold]\\n"']
    assert said.out == ""
    file.write_text("wrong = 1", encoding="utf-8")
    (line,) = home("task", "open", "--intent", written(tmp_path), "--attested", "here", code=3).err.splitlines()
    assert line.startswith(f"capx: {file}: wrong: unknown key")


def test_the_policy_of_an_authority_elsewhere_is_not_read_here(home: Shell) -> None:
    said = home("policy", "check", CAPX_AUTHORITY="unix:/nowhere.sock", code=2)
    assert "stays with its authority" in said.err
