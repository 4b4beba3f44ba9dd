"""Whatever stands in a file, it is a policy, or is told to be none: nothing else is raised."""

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from math import isfinite
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from capx.errors import InvalidRequest
from capx.policy.cases import read_cases
from capx.policy.constraint_operators import OPERATORS
from capx.policy.file import read_policy
from capx.policy.toml_reader import MAX_LINES, InvalidFile
from tests.labs.policies import KIM, POLICY, intent

PLAIN = st.characters(exclude_categories=["Cs"])
OURS = ["audience", "principal", "purpose", "grant", "how", "allow", "budget", "approvers", "within", "ttl", "require"]
THEIRS = ["tenant", "tenants", "purposes", "groups", "key", "case", "says", "call", "with", "never", "ask", "opens"]
OTHERS = ["a.b", "a.*", "x", "*", "kim", "work", "min", "max", "hosts", "ports", "schemes", "programs", "arguments"]
NAME = st.sampled_from([*OURS, *THEIRS, *OTHERS, *sorted(OPERATORS)]) | st.text(PLAIN, max_size=5)
TEXTS = ["", "a.b", "*", "{intent.p}", "{", "{{", "none", "ask", "on_request", "1h", "authority", "ed25519:AA", "kim"]
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.integers(-(10**20), 10**20)
    | st.booleans()
    | st.floats()
    | st.dates()
    | st.sampled_from(TEXTS)
    | st.text(PLAIN, max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAME, inner, max_size=4),
    max_leaves=12,
)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(name)} = {toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if isfinite(value) else str(value)
    return value.isoformat() if isinstance(value, date) else str(value)


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(one):08x}" for one in text) + '"'


def refused(read: Callable[[str], object], text: str) -> tuple[str, ...]:
    """What is told of a file that cannot be used: each in a line of its own, and not too many; nothing of another."""
    try:
        read(text)
    except InvalidFile as problem:
        told = problem.lines
    else:
        return ()
    assert 0 < len(told) <= MAX_LINES
    assert all(line.isprintable() and len(line) < 2000 for line in told)
    return told


def used(text: str) -> None:
    """Read a policy, and open whatever there is with it."""
    if refused(read_policy, text):
        return
    policy = read_policy(text)
    for purpose in policy.purposes:
        with suppress(InvalidRequest):
            policy.terms(intent(purpose, "ana", parameters={"p": "x"}))


@given(text=st.text(PLAIN, max_size=200))
def test_any_text(text: str) -> None:
    used(text)


@given(value=st.dictionaries(NAME, VALUE, max_size=4))
def test_any_tables(value: dict[str, Any]) -> None:
    used("".join(f"{quoted(name)} = {toml(one)}\n" for name, one in value.items()))


@given(at=st.integers(0, len(POLICY)), length=st.integers(0, 40), text=st.text(PLAIN, max_size=10))
def test_a_policy_of_which_a_piece_is_something_else(at: int, length: int, text: str) -> None:
    used(POLICY[:at] + text + POLICY[at + length :])


@given(key=st.sampled_from(["how", "allow", "audience", "budget", "approvers", "within"]), value=VALUE)
@example(key="allow", value={"a.b": {"x": {"each": {"min": 1, "absent": True}}}})
def test_a_grant_of_which_one_key_is_anything(key: str, value: Any) -> None:
    lines = {"how": '"ask"', "allow": '["a.b"]', "approvers": '["kim"]', key: toml(value)}
    grant = "".join(f"{name} = {said}\n" for name, said in lines.items())
    people = f'[principal.ana]\npurposes = ["work"]\ntenants = ["Acme"]\n[principal.kim]\nkey = "{KIM}"\n'
    used(f"{people}[[purpose.work.grant]]\n{grant}")


@given(value=VALUE)
def test_an_argument_that_is_anything(value: Any) -> None:
    people = '[principal.ana]\npurposes = ["work"]\ntenants = ["Acme"]\n'
    used(f'{people}[[purpose.work.grant]]\nhow = "at_open"\nallow."a.b" = {{ x = {toml(value)} }}\n')


@given(value=st.dictionaries(NAME, VALUE, max_size=5))
def test_any_cases(value: dict[str, Any]) -> None:
    stated = {"principal": "ana", "purpose": "work", **value}
    refused(read_cases, "[[case]]\n" + "".join(f"{quoted(name)} = {toml(one)}\n" for name, one in stated.items()))
