"""A module's test is found by its name, and a test's name is short enough to read in a list.

The test of a module lies in the folder of its room and begins with its name: of `capx/store/log.py` it is
`tests/store/test_log.py`, or `test_log_*.py` for one aspect of it. Where two modules of a room have one name, that of
their folder stands before it: `test_sqlite_schema.py`. What is tested under another name stands in `ELSEWHERE`.
"""

import ast
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = CHECKOUT / "tests"
# Folders whose tests are named after what they are: attacks, models, the project itself, measurements.
NAMED_OTHERWISE = {"attacks", "bench", "fuzz", "golden", "models", "project"}
LONGEST = 60

# Module or folder, as it is imported: what tests it, and why under that name.
ELSEWHERE = {
    "capx.agent.protocols": "agent/test_agent.py: protocols alone, which agents and tools fulfil",
    "capx.api.messages": "server/test_openapi.py: each message goes over real HTTP, and the document describes it",
    "capx.api.problems": "server/test_openapi.py: each problem is provoked over real HTTP",
    "capx.authority.graph.impact": "authority/test_graph.py: what dies is told by its graph",
    "capx.authority.in_process": "agent/test_actor.py: agents ask it",
    "capx.authority.remote": "server/test_operators.py: a client and its server are tested by each other",
    "capx.crypto.strict_json": "intents/test_intent.py: intents are read by it",
    "capx.errors": "project/test_exports.py: classes without behaviour",
    "capx.guard.asgi": "guard/test_asgi.py: a guard is tested whole, over real HTTP",
    "capx.guard.current": "guard/test_tool.py: tools look for the current request",
    "capx.policy.constraints": "policy/test_constraint_operators.py: a constraint is written with its operators",
    "capx.policy.grant_tables": "policy/test_tables.py: a grant is told as any other table",
    "capx.policy.rule_templates": "policy/test_placeholders.py: a template is what has placeholders",
    "capx.resource.report_client": "server/test_resources.py: a client and its server are tested by each other",
    "capx.server.app": "server/test_openapi.py: an application is the faces that its document describes",
    "capx.server.service": "server/test_running.py: a service is what runs",
    "capx.server.waiting.head_watch": "server/test_askers.py: who waits is woken by it",
    "capx.store.atomic_file": "store/test_backup.py: a backup is written by it",
    "capx.store.check": "authority/test_history.py: a store is checked with the authority whose log it holds",
    "capx.store.records": "store/test_store.py: records are what a store gives back",
    "capx.store.sqlite.backup_reader": "store/test_restore_checks.py: crafted backups are read by it",
    "capx.tokens.grants": "tokens/test_capability.py: a block is minted with what it makes",
    "capx.tokens.wording": "tokens/test_effective.py: labels stand in what a token says",
    "capx.verify.problem_details": "verify/test_decision.py: a denial is told as problem details",
    "capx.verify.protocols": "verify/test_verifier.py: protocols alone, which a verifier stands on",
    "capx_caveats.caveat": "caveats/test_caveats.py: the base of every caveat",
    "capx_caveats.constraint": "caveats/test_constraints.py: the base of every constraint",
    "capx_caveats.errors": "caveats/test_builders.py: classes without behaviour",
    "capx_caveats.texts": "caveats/test_constraints.py: one table of values judges every constraint",
    "capx_caveats.value_constraints": "caveats/test_constraints.py: one table of values judges every constraint",
    "capx_cli.calls": "cli/test_verify.py: `verify` and `explain` judge a call by it",
    "capx_cli.commands": "cli/test_main_examples.py: every command runs as its example says",
    "capx_cli.demo": "cli/test_demo.py: a demo is run whole",
    "capx_cli.intents": "cli/test_intent.py: the commands of intents read and show them by it",
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
    """What the name of a module's test may begin with."""
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
    assert len(ELSEWHERE) < 40
    assert {elsewhere(module) for module in MODULES if not has_test(module)} == set(ELSEWHERE)
    for row, reason in ELSEWHERE.items():
        test, _, why = reason.partition(": ")
        assert (TESTS / test).is_file(), row
        assert why, row


def test_a_test_file_of_a_room_is_named_after_a_module() -> None:
    listed = {TESTS / reason.partition(": ")[0] for reason in ELSEWHERE.values()}
    assert [test for test in TEST_FILES if test not in listed and not any(is_of(test, one) for one in MODULES)] == []


def test_names_of_tests_are_short() -> None:
    found: list[str] = []
    for path in TESTS.rglob("test_*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        found += [name for name in functions if name.startswith("test_") and len(name) > LONGEST]
    assert found == []
