"""A process that crashes with a root key in it leaves no file that holds it."""

import os
import resource
import sys
from pathlib import Path

import pytest

from capx.authority.home import create_home
from capx.crypto.keys import KeyRing
from tests.labs.processes import in_a_child

CRASH = """
import os, resource, sys
from capx.authority.authority import Authority
from capx.crypto.keys import KeyRing, RootKey

os.chdir(sys.argv[1])
_, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
{holds}
with open("limits", "w") as file:
    print(*resource.getrlimit(resource.RLIMIT_CORE), hard, file=file)
os.abort()
"""


@pytest.mark.parametrize(
    "holds",
    [
        "held = Authority.open_home('../home')",
        "held = Authority.temporary()",
        "held = RootKey.generate()",
        "from capx_cli.main import run; run(['doctor'])",
    ],
)
def test_a_process_that_crashes_with_root_keys_dumps_no_core(tmp_path: Path, holds: str) -> None:
    create_home(tmp_path / "home")
    folder = tmp_path / "crash"
    folder.mkdir()
    env = {**os.environ, "CAPX_HOME": str(tmp_path / "home")}
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", CRASH.format(holds=holds), str(folder)], env)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert not os.WCOREDUMP(status)
    (left,) = folder.iterdir()
    soft, kept, hard = left.read_text().split()
    # 1: a limit of 0 would not keep Linux from handing the core to a program.
    assert (soft, kept) == ("0" if hard == "0" else "1", hard)


def test_where_no_dump_is_allowed_at_all_keys_can_be_read(tmp_path: Path) -> None:
    keys = create_home(tmp_path / "home") / "root.keys"

    def holds() -> bool:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        KeyRing.load(keys)
        return resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)

    assert in_a_child(holds)
