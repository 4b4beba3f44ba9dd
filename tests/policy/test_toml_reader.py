"""What is no policy at all is told as what it is, with little work."""

import time
from datetime import date

import pytest

from capx.policy.file import read_policy
from capx.policy.lint import warnings
from capx.policy.toml_reader import LARGEST, MAX_LINES, InvalidFile, Wrong, every, load, name, near, wrong
from capx.policy.toml_reader import text as text_of
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


def dots(count: int) -> str:
    return "# " + "." * count


def test_a_file_is_read_up_to_its_limits() -> None:
    assert load("#" * LARGEST) == {}
    assert load(f"\n{dots(512)}\n") == {}
    for text, told in (
        ("#" * (LARGEST + 1), "the file is larger than 1024 KiB: make it smaller"),
        (f"\n\n{dots(513)}\n", "line 3 has more than 512 dots: split it into several lines"),
    ):
        with pytest.raises(Wrong) as caught:
            load(text)
        assert caught.value.lines == (told,)


def test_an_error_has_one_line_for_each_mistake_up_to_a_limit() -> None:
    one = InvalidFile("p.toml", ("first",))
    assert (str(one), one.name, one.lines) == ("p.toml: first", "p.toml", ("first",))
    assert str(InvalidFile("p.toml", ("a", "b"))) == "p.toml cannot be used:\n  a\n  b"
    lines = tuple(map(str, range(MAX_LINES)))
    assert InvalidFile("p.toml", lines).lines == lines
    more = InvalidFile("p.toml", (*lines, "last")).lines
    assert (len(more), more[:-1], more[-1][:8]) == (MAX_LINES, lines[:-1], "and more")


@pytest.mark.parametrize("count", [MAX_LINES, MAX_LINES + 1, 2 * MAX_LINES])
def test_reading_stops_after_one_mistake_more_than_shown(count: int) -> None:
    def read(nth: int) -> None:
        raise wrong("", str(nth))

    with pytest.raises(Wrong) as caught:
        every(read, [(nth,) for nth in range(count)])
    assert caught.value.lines == tuple(str(nth) for nth in range(min(count, MAX_LINES + 1)))


def test_an_empty_text_or_a_date_is_told_with_its_path() -> None:
    for value, told in (("", "a.b: is empty: write at least one character"), (date(2026, 1, 1), "a date or a time")):
        with pytest.raises(Wrong) as caught:
            text_of(value, "a.b")
        assert told in caught.value.lines[0]
        assert caught.value.lines[0].startswith("a.b: ")
    with pytest.raises(Wrong) as caught:
        name(str.isupper, "loud")("", "a.b")
    assert caught.value.lines == ("a.b: is empty: write at least one character",)


def test_a_name_nearby_is_suggested_up_to_a_limit() -> None:
    assert near("grant", ["grants", "grunt"]) == ": did you mean grants?"
    assert near("zzz", ["a", "b"]) == ": choose from a, b"
    assert near("zzz", []) == ""
    longest = "n" * 64
    assert near(longest, [longest[:-1] + "m"]).startswith(": did you mean")
    assert near("n" * 65, ["n" * 64]).startswith(": choose from")
    assert near("n" * 64, ["n" * 65]).startswith(": choose from")
    many = [f"a{number}" for number in range(100)]
    assert near("zzzz", [*many, "zzzy"]).startswith(": choose from a0, a1, ")
    assert near("zzzz", [*many[1:], "zzzy"]) == ": did you mean zzzy?"
