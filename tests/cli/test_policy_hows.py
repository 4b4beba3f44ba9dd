"""`capx policy check --fix` writes the `how` that a grant lacks, and nothing else."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from capx.policy.file import FILE
from tests.cli.conftest import Shell
from tests.labs.principals import POLICY, write_policy

OLD = """# Whoever edits this: keep it readable aloud.\r
[purpose.qbr]   # a review
ttl = "2h"

[[purpose.qbr.grant]]   # at once
# what everybody needs
allow = ["crm.read"]          # and no more

[principal.ana]
# Ana asks for reviews.
purposes = ["qbr", "tidy"]
[purpose.tidy]
tenant = "none"
grant = [{ allow = ["disk.tidy"] }, { how = "on_request", allow = ["disk.read"] }]
  [[purpose.qbr.grant]]
  audience = "crm"
    [purpose.qbr.grant.budget]
    calls = 3
  [purpose.qbr.grant.allow]
  "crm.note" = {}
[[purpose.qbr.grant]]
how = "on_request"
allow = ["crm.list"]
"""
NEW = (
    OLD.replace("# at once\n", '# at once\nhow = "at_open"\n')
    .replace("{ allow", '{ how = "at_open", allow')
    .replace("  audience", '  how = "at_open"\n  audience')
)
PLACES = ["purpose.qbr.grant[1].how", "purpose.qbr.grant[2].how", "purpose.tidy.grant[1].how"]


def test_fix_writes_what_was_meant_and_the_comments_stay(home: Shell) -> None:
    file = write_policy(home, OLD)
    refused = home("policy", "check", code=3)
    assert refused.err.count("capx policy check --fix writes that") == 3
    said = home("policy", "check", "--fix")
    assert said.out.splitlines()[:3] == [f'wrote {place} = "at_open"' for place in PLACES]
    assert said.out.splitlines()[3].startswith(f"{file} is good: 1 principal, 2 purposes, digest ")
    assert file.read_bytes().decode() == NEW
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [each.name for each in home.home.iterdir() if each.name.startswith(FILE)] == [FILE]


def test_a_draft_elsewhere_is_fixed_and_programs_are_told(capx: Shell, tmp_path: Path) -> None:
    draft = tmp_path / "draft.toml"
    draft.write_bytes(OLD.replace("\r\n", "\n").replace("\n", "\r\n").encode())
    said = capx("policy", "check", str(draft), "--fix", "--json").json
    assert (said["good"], said["wrote"]) == (True, PLACES)
    assert draft.read_bytes() == NEW.replace("\r\n", "\n").replace("\n", "\r\n").encode()
    before = draft.stat()
    assert capx("policy", "check", str(draft), "--fix", "--json").json["wrote"] == []
    assert "wrote" not in capx("policy", "check", str(draft), "--json").json
    assert draft.stat().st_mtime_ns == before.st_mtime_ns
    assert not capx.home.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OLD.replace('ttl = "2h"', 'tll = "2h"'), "purpose.qbr.tll: unknown key"),
        (OLD.replace('"crm.read"]', '"crm.read"]\nwithin = "1h"'), 'within: works only with how = "ask"'),
        (OLD.replace('how = "on_request"', 'how = "on_reqest"'), "did you mean on_request?"),
        (OLD.replace("[purpose.qbr]", "[purpose.qbr"), "not TOML"),
        ("grant = 1\npurpose = 5\n", "unknown key"),
        ("[purpose]\na = 1\nb.grant = 5\nc.grant = [5]\n", "is a number, but must be a table"),
    ],
)
def test_a_policy_with_other_mistakes_is_not_fixed(home: Shell, text: str, says: str) -> None:
    file = write_policy(home, text)
    assert says in home("policy", "check", "--fix", code=3).err
    facts = home("policy", "check", "--fix", "--json", code=3).json
    assert (facts["good"], facts["wrote"]) == (False, [])
    assert any(says in line for line in facts["problems"])
    assert file.read_bytes() == text.encode()


def test_there_is_nothing_to_fix_where_there_is_no_policy(home: Shell, tmp_path: Path) -> None:
    assert "there is no policy at" in home("policy", "check", "--fix", code=3).err
    assert "there is no policy at" in home("policy", "check", "--fix", str(tmp_path / "none.toml"), code=3).err
    file = write_policy(home, OLD)
    file.chmod(0o660)
    assert f"chmod go-w {file}" in home("policy", "check", "--fix", code=3).err
    assert file.read_bytes() == OLD.encode()


@pytest.mark.parametrize(
    "wrong",
    [
        "tomlkit.dumps = lambda it: ''",
        "tomlkit.dumps = lambda it, d=tomlkit.dumps: d(it).replace('= 3', '= 4' if 'at_open' in d(it) else '= 3')",
    ],
)
def test_a_fix_that_would_change_more_is_refused(home: Shell, wrong: str) -> None:
    file = write_policy(home, OLD)
    program = (
        f'import sys, tomlkit\n{wrong}\nfrom capx_cli.main import run\nsys.exit(run(["policy", "check", "--fix"]))'
    )
    done = subprocess.run((sys.executable, "-c", program), env=home.env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f'cannot edit {file}: add how = "at_open" by hand, where capx policy check says' in done.stderr
    assert file.read_bytes() == OLD.encode()


MEANWHILE = """
import os, sys

def edit(event, args):
    if event == "open" and str(args[0]).endswith("policy.toml.new"):
        with open(file, "a") as opened:
            opened.write("# mine")

sys.addaudithook(edit)
file = os.path.join(os.environ["CAPX_HOME"], "policy.toml")
from capx_cli.main import run
sys.exit(run(["policy", "check", "--fix"]))
"""


def test_an_editors_change_while_a_policy_is_fixed_stays(home: Shell) -> None:
    file = write_policy(home, OLD)
    os.utime(file, (1, 1))
    done = subprocess.run((sys.executable, "-c", MEANWHILE), env=home.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, f"capx: {file} was changed meanwhile: try again\n")
    assert file.read_text().endswith("# mine")
    assert "at_open" not in file.read_text()


def test_an_old_policy_is_told_with_the_command_that_fixes_it(home: Shell) -> None:
    write_policy(home, POLICY.replace('how = "at_open"\n', ""))
    cure = "purpose.qbr.grant[1].how: is missing: add how = "
    for command, code in ((("doctor",), 3), (("principal", "add", "ana"), 3)):
        said = home(*command, code=code)
        assert cure in said.out + said.err
        assert "capx policy check --fix" in said.out + said.err
