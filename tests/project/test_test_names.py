"""Tests are easy to find, and their names are short.

The test of capx/store/log.py is tests/store/test_log.py, or test_log_*.py for one aspect. If two modules of a room
share a name, the name of the folder goes first. ELSEWHERE lists the exceptions.
"""

import ast
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = CHECKOUT / "tests"
# Folders whose tests are named after what they are: attacks, models, the project itself, measurements.
NAMED_OTHERWISE = {"attacks", "bench", "fuzz", "golden", "models", "project"}
LONGEST = 60

# A module or folder, and the file that tests it.
ELSEWHERE = {
    # Protocols and records: they have nothing of their own to run.
    "capx.agent.protocols": "agent/test_agent.py",
    "capx.authority.graph.agents": "attacks/test_hostile_reports.py",
    "capx.authority.graph.building": "authority/test_graph.py",
    "capx.authority.graph.impact": "authority/test_graph.py",
    "capx.authority.graph.reported": "authority/test_graph.py",
    "capx.store.records": "store/test_store.py",
    "capx.store.sql.statements": "store/test_store.py",
    "capx.verify.problem_details": "verify/test_decision.py",
    "capx.verify.protocols": "verify/test_verifier.py",
    "capx_caveats.caveat": "caveats/test_caveats.py",
    "capx_caveats.constraint": "caveats/test_constraints.py",
    "capx_caveats.errors": "caveats/test_builders.py",
    # The other half tests them, mostly over HTTP: a client and its server, a writer and its reader.
    "capx.api.messages": "server/test_openapi.py",
    "capx.api.problems": "server/test_openapi.py",
    "capx.authority.in_process": "agent/test_actor.py",
    "capx.authority.people": "server/test_people.py",
    "capx.authority.remote": "server/test_operators.py",
    "capx.crypto.named_key": "crypto/test_agent_key.py",
    "capx.guard.current": "guard/test_tool.py",
    "capx.server.waiting.head_watch": "server/test_askers.py",
    "capx.store.atomic_file": "store/test_backup.py",
    "capx.store.check": "authority/test_history.py",
    "capx.store.row_check": "authority/test_row_guard.py",
    "capx.store.row_marks": "authority/test_row_guard.py",
    "capx.store.sqlite.backup_reader": "store/test_restore_checks.py",
    "capx.tokens.grants": "tokens/test_capability.py",
    "capx.tokens.wording": "tokens/test_effective.py",
    "capx_cli.call_approval": "cli/test_approval.py",
    "capx_cli.calls": "cli/test_verify.py",
    "capx_cli.intents": "cli/test_intent.py",
    # One table of cases tests them all.
    "capx.policy.constraints": "policy/test_constraint_operators.py",
    "capx.policy.rule_templates": "policy/test_placeholders.py",
    "capx_caveats.texts": "caveats/test_constraints.py",
    "capx_caveats.value_constraints": "caveats/test_constraints.py",
    # They run whole.
    "capx.server.app": "server/test_openapi.py",
    "capx.server.service": "server/test_running.py",
    "capx_cli.commands": "cli/test_main_examples.py",
    "capx_cli.demo": "cli/test_demo.py",
}


def modules() -> dict[str, Path]:
    """Every module by its dotted name, with the folder in which its test lies."""
    found: dict[str, Path] = {}
    for package, source in (("capx", "capx"), ("capx_cli", "cli/capx_cli"), ("capx_caveats", "caveats/capx_caveats")):
        for path in sorted((CHECKOUT / source).rglob("*.py")):
            if not path.stem.startswith("__"):
                inside = path.relative_to(CHECKOUT / source).with_suffix("").parts
                # A module that lies flat in capx has its test flat in tests.
                room = {"capx_cli": "cli", "capx_caveats": "caveats"}.get(package, "/".join(inside[:-1][:1]))
                found[".".join((package, *inside))] = TESTS / room
    return found


MODULES = modules()
TEST_FILES = sorted(path for path in TESTS.rglob("test_*.py") if path.parent.name not in NAMED_OTHERWISE)


def names(module: str) -> tuple[str, ...]:
    """The beginnings that the name of a module's test may have."""
    *_, folder, stem = (part.rstrip("_") for part in module.split("."))
    return f"test_{stem}_", f"test_{folder}_{stem}_"


def is_of(test: Path, module: str) -> bool:
    return test.parent == MODULES[module] and f"{test.stem}_".startswith(names(module))


def elsewhere(module: str) -> str | None:
    """The row of the table that is about a module, or about a folder in which it lies."""
    return next((row for row in ELSEWHERE if f"{module}.".startswith(f"{row}.")), None)


def has_test(module: str) -> bool:
    return any(is_of(test, module) for test in TEST_FILES)


def test_a_module_has_a_test_of_its_name_or_is_in_the_table() -> None:
    assert [module for module in MODULES if not has_test(module) and elsewhere(module) is None] == []


def test_the_table_is_short_and_names_what_is_there() -> None:
    assert len(ELSEWHERE) <= 40
    assert {elsewhere(module) for module in MODULES if not has_test(module)} == set(ELSEWHERE)
    assert [test for test in ELSEWHERE.values() if not (TESTS / test).is_file()] == []


def test_a_test_file_of_a_room_is_named_after_a_module() -> None:
    listed = {TESTS / test for test in ELSEWHERE.values()}
    assert [test for test in TEST_FILES if test not in listed and not any(is_of(test, one) for one in MODULES)] == []


def test_names_of_tests_are_short() -> None:
    found: list[str] = []
    for path in TESTS.rglob("test_*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        found += [name for name in functions if name.startswith("test_") and len(name) > LONGEST]
    assert found == []
