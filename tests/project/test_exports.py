import ast
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import capx
import capx_caveats
from capx_caveats import builders


@pytest.mark.parametrize("package", [capx, capx_caveats], ids=lambda package: package.__name__)
def test_a_package_exports_exactly_its_public_names(package: types.ModuleType) -> None:
    public = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and name != "TYPE_CHECKING" and not isinstance(value, types.ModuleType)
    }
    exported: list[str] = package.__all__
    # What was asked for before is there by now.
    later: set[str] = set(vars(package).get("_LAZY", {}))
    assert {name for name in exported if name not in vars(package)} <= later
    assert public | later == set(exported)
    assert len(exported) == len(set(exported))


@pytest.mark.parametrize("package", [capx, capx_caveats], ids=lambda package: package.__name__)
def test_every_exported_name_says_what_it_is(package: types.ModuleType) -> None:
    exported: list[str] = package.__all__
    for name in exported:
        value = getattr(package, name)
        if isinstance(value, type | types.FunctionType):
            assert value.__doc__, name


def test_type_checkers_know_each_name_that_is_imported_later() -> None:
    tree = ast.parse(Path(capx.__file__).read_text("utf-8"))
    (known,) = (node.body for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in known if isinstance(node, ast.ImportFrom)]
    later: dict[str, tuple[str, ...]] = vars(capx)["_IMPORTED_LATER"]
    assert {node.module: tuple(alias.name for alias in node.names) for node in imports} == later


def test_capx_exports_all_builders_of_caveats_and_constraints() -> None:
    own = {
        name
        for name, value in vars(builders).items()
        if isinstance(value, types.FunctionType) and value.__module__ == builders.__name__ and not name.startswith("_")
    }
    exported: list[str] = vars(builders)["__all__"]
    assert own - {"as_constraint", "as_entry", "resolved"} == set(exported)
    assert set(exported) <= set(capx.__all__) & set(capx_caveats.__all__)


def test_a_listing_of_capx_shows_what_is_imported_later() -> None:
    assert set(capx.__all__) <= set(dir(capx))


def test_the_decision_of_a_running_tool_is_reached_from_capx() -> None:
    # What the docs tell people to call; `capx.acting` is a function, and has no such attribute.
    assert capx.current_allowed() is None


def test_to_import_capx_is_not_to_import_what_only_some_need() -> None:
    some = {"asyncio", "httpx", "httpx2", "json", "langchain", "langchain_core", "nacl", "requests", "sqlite3"}
    program = f"import sys, capx; print({some!r}.intersection(sys.modules))"
    # What measures coverage imports some of them.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


def test_a_name_that_is_imported_later_is_looked_up_once() -> None:
    assert capx.Verifier is capx.Verifier
    assert "Verifier" in vars(capx)


IN_THREADS = """
import random, sys, threading
import capx

names, failed = list(capx._LAZY), []
begin = threading.Barrier(8)

def work():
    mine = random.sample(names, len(names))
    begin.wait()
    for name in mine:
        try:
            getattr(capx, name)
        except BaseException as error:
            failed.append(f"{name}: {error!r}")

threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit("; ".join(failed) or 0)
"""


@pytest.mark.parametrize("attempt", range(8))
def test_threads_that_ask_for_names_at_once_all_get_them(attempt: int) -> None:
    done = subprocess.run([sys.executable, "-c", IN_THREADS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


FORKED = """
import os, sys, threading
import capx

held = threading.Event()
def hold():
    with capx._lock:
        held.set()
        threading.Event().wait(20)

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    os._exit(0 if capx.Intent else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_imports_though_its_parent_was_importing() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    assert subprocess.run(command, timeout=15, check=False).returncode == 0
