"""What is no policy at all is told as what it is, with little work."""

import time

import pytest

from capx.policy.file import read_policy
from capx.policy.lint import warnings
from capx.policy.toml_reader import LARGEST
from tests.labs.policies import granting, problems


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = ", "the file is not TOML: Invalid value (at line 1, the last)"),
        ("a = 1\n\nb = [\n  2,\n\n", "the file is not TOML: Invalid value (at line 4, the last)"),
        ("[purpose]\n[purpose]", "the file is not TOML: Cannot declare ('purpose',) twice (at line 2, column 9)"),
        ("\ufeff[purpose]", "the file is not TOML: "),
        (b"\xff", "the file is not UTF-8, at byte 0: save it as UTF-8"),
        ("a = '\ud800'", "the file is not UTF-8"),
        ("a = " + "9" * 5000, "the file is not TOML: "),
        ("purpose = 5", "purpose: is a number, but must be a table such as { name = value }"),
        ("principal = []", "principal: is an array, but must be a table such as { name = value }"),
        ('[purpose]\nqbr = "x"', "purpose.qbr: is a string, but must be a table such as { name = value }"),
        ("[purpose.qbr]\ngrant = {}", "purpose.qbr.grant: is a table, but must be an array of grants"),
        (
            "[purpose.qbr]\ngrant = [5]",
            "purpose.qbr.grant[1]: is a number, but must be a table such as { name = value }",
        ),
    ],
)
def test_what_is_no_policy_at_all_is_told_as_what_it_is(text: str | bytes, told: str) -> None:
    assert problems(text)[0].startswith(told), problems(text)


@pytest.mark.parametrize(
    "bomb",
    [
        "a = " + "[" * 100_000,
        "a = " + "{a=" * 100_000,
        "a." * 100_000 + "a = 1",
        "[" + "a." * 100_000 + "a]",
        "x" * (LARGEST + 1),
        "a = 1\n" * 100_000,
        "[[purpose.a.grant]]\n" * 40_000,
        granting('allow."a.b".x' + ".not" * 400 + ".eq = 1"),
        granting('allow."a.b".x = ' + "{ not = " * 40 + "1" + " }" * 40),
        granting('allow."a.b".x.any = [' + "{ eq = 1 }, " * 2000 + "]"),
        granting("allow = [" + "".join(f'"a.b{n}",\n' for n in range(2000)) + "]"),
    ],
    ids=["arrays", "tables", "dots", "header", "large", "twice", "many", "deep", "deep inline", "wide", "long"],
)
def test_a_bomb_is_refused_with_little_work(bomb: str) -> None:
    for line in problems(bomb):
        assert len(line) < 2000
        assert "\n" not in line


@pytest.mark.parametrize(
    "name", ["__proto__", "constructor", "__class__", "", " ", "a.b", 'a"b', "a\nb", "\u202e", "x" * 300]
)
def test_a_strange_key_is_told_in_one_line_as_it_is(name: str) -> None:
    quoted = "".join(f"\\u{ord(one):04x}" for one in name)
    for place, path in (("", ""), ("[purpose.qbr]\n", "purpose.qbr."), ('[principal."ana"]\n', "principal.ana.")):
        *_, line = problems(f'{place}"{quoted}" = 1')
        assert line.startswith(path)
        assert line.isprintable()
        assert "unknown key" in line


NAMES = [f"{letter}n{number}" for number in range(5_000) for letter in "ab"]


def people(each: str) -> str:
    return "".join(f"[principal.{name}]\n{each}\n" for name in NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"[principal.{name}]\npurposes = ['x{name}']\n" for name in NAMES)
        + "".join(f"[purpose.{name}.x]\n" for name in NAMES),
        people("groups = ['g']")
        + granting(f'how = "ask"\napprovers = {["z" + name for name in NAMES]}\nallow = ["a.b"]'),
        "".join(f"{name} = 1\n" for name in NAMES),
        f"[audience]\n{''.join(f'{name} = 1{chr(10)}' for name in NAMES)}" + granting('allow = ["zz.b"]'),
        granting("allow = [" + ", ".join(f'"{"x" * 90}{name}"' for name in NAMES[:2000]) + "]"),
    ],
    ids=["purposes", "approvers", "tables", "audiences", "actions"],
)
def test_many_mistakes_among_many_names_cost_little_work(text: str) -> None:
    assert len(text) < LARGEST
    began = time.process_time()
    assert problems(text)
    assert time.process_time() - began < 5


def test_a_large_good_file_is_remarked_upon_with_little_work() -> None:
    tenants = f"tenants = {NAMES}\ngroups = {['g' + name for name in NAMES]}"
    actions = ",\n".join(f"'a.{name}'" for name in NAMES)
    grant = f'how = "ask"\napprovers = {["g" + name for name in NAMES]}\nallow = [{actions}]'
    large = granting(grant).replace("[principal.kim]", f"[principal.kim]\n{tenants}")
    assert 400_000 < len(large) < LARGEST
    began = time.process_time()
    assert list(warnings(read_policy(large))) == []
    assert time.process_time() - began < 10
