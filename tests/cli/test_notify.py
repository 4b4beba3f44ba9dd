"""`capx notify test`: which hooks have taken a test, in words and as JSON."""

import json
from pathlib import Path

from tests.cli.conftest import Shell
from tests.labs.hooks import Receiver, status, write_file

DESK = '[hook.desk]\ncommand = ["/bin/true"]'


def test_each_hook_gets_a_test_whatever_its_kinds(capx: Shell, tmp_path: Path) -> None:
    with Receiver() as receiver:
        done = capx("notify", "test", str(write_file(tmp_path, receiver.table(more='kinds = ["task_denied"]'), DESK)))
        assert (done.code, done.err) == (0, "")
        assert done.out.splitlines() == ["pager has taken it", "desk has taken it"]
        assert receiver.kinds() == ["test"]


def test_one_that_fails_is_told_and_the_others_are_tried(capx: Shell, tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.behaviour = status(500)
        file = str(write_file(tmp_path, receiver.table(), DESK))
        done = capx("notify", "test", file, "--json", code=3)
        pager, desk = json.loads(done.out)
        assert pager == {
            "hook": "pager", "id": receiver.told[0]["id"], "taken": False, "why": "it answered HTTP 500",
        }  # fmt: skip
        assert (desk["hook"], desk["taken"], desk["why"]) == ("desk", True, None)
        only = capx("notify", "test", file, "desk")
        assert (only.code, only.out) == (0, "desk has taken it\n")
        assert len(receiver.got) == 1


def test_what_cannot_be_tried_is_told(capx: Shell, tmp_path: Path) -> None:
    file = str(write_file(tmp_path, DESK))
    assert f"{file} has no hook 'nobody': it has desk" in capx("notify", "test", file, "nobody", code=2).err
    bad = str(write_file(tmp_path, '[hook.desk]\ncommand = ["x"]', name="bad.toml"))
    assert "is not the full path of a program" in capx("notify", "test", bad, code=3).err
