"""For each constraint, a table: this value, yes, no, or cannot judge."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from capx_caveats import (
    DEFAULT,
    MISSING,
    SAFE_INTEGER,
    Absent,
    AllOf,
    AnyConstraint,
    AnyOf,
    Anything,
    Argv,
    Call,
    Contains,
    Each,
    Eq,
    Facts,
    Fields,
    Glob,
    In,
    InvalidCaveat,
    Judgement,
    Length,
    Not,
    Pair,
    Path,
    Prefix,
    Range,
    Regex,
    TooLarge,
    Value,
    Where,
    action,
    allow,
    encode_block,
)
from tests.labs.enumerations import each_case

YES, NO, CANNOT = True, False, None

TABLE: list[tuple[AnyConstraint, list[tuple[Value, Judgement]]]] = [
    (Eq(1), [(1, YES), (1.0, YES), (2, NO), (True, CANNOT), ("1", CANNOT), (None, CANNOT)]),
    (Eq(1), [([1], CANNOT), ({}, CANNOT)]),
    (Eq(1.0), [(1, YES), (True, CANNOT), (1.5, NO)]),
    (Eq(0), [(0, YES), (-0.0, YES), (False, CANNOT), (None, CANNOT), ("", CANNOT)]),
    (Eq(True), [(True, YES), (False, NO), (1, CANNOT), (1.0, CANNOT), ("true", CANNOT)]),
    (Eq(False), [(False, YES), (0, CANNOT), (None, CANNOT), ("", CANNOT)]),
    (Eq(None), [(None, YES), (False, CANNOT), (0, CANNOT), ("", CANNOT), ([], CANNOT)]),
    (Eq("a"), [("a", YES), ("A", NO), ("a ", NO), ("", NO), ("\u0430", NO), ("a\u200b", NO)]),
    (Eq("a"), [(1, CANNOT), (["a"], CANNOT)]),
    (Eq("\u00e9"), [("\u00e9", YES), ("e\u0301", NO)]),
    (Eq((1, 2)), [([1, 2], YES), ((1, 2.0), YES), ([2, 1], NO), ([1], NO), ([], NO), ([1, 2, 3], NO)]),
    (Eq((1, 2)), [([True, 2], CANNOT), (["1", 2], CANNOT), ([1, [2]], CANNOT), (1, CANNOT), ({}, CANNOT)]),
    (Eq((True,)), [([True], YES), ([1], CANNOT)]),
    (Eq((None, "a")), [([None, "a"], YES), ([None, None], CANNOT)]),
    (In((1, "a")), [(1, YES), (1.0, YES), ("a", YES), (2, NO), ("b", NO), (True, CANNOT), (None, CANNOT)]),
    (In((1, True)), [(True, YES), (1, YES), (False, NO), (0, NO)]),
    (In(((1, 2), 3)), [([1, 2], YES), (3, YES), ([2, 1], NO), ([True, 2], CANNOT)]),
    (Range(0, 50), [(0, YES), (50, YES), (49.5, YES), (-0.0, YES), (51, NO), (-1, NO), (50.000001, NO)]),
    (Range(0, 1), [(True, CANNOT), ("1", CANNOT), (None, CANNOT), ([1], CANNOT), ({}, CANNOT)]),
    (Range(None, 5), [(-SAFE_INTEGER, YES), (5, YES), (6, NO), (None, CANNOT)]),
    (Range(5, None), [(SAFE_INTEGER, YES), (4, NO)]),
    (Range(0.1, 0.1), [(0.1, YES), (0.2, NO)]),
    (Prefix("ab"), [("ab", YES), ("abc", YES), ("a", NO), ("Ab", NO), (" ab", NO), ("", NO)]),
    (Prefix("ab"), [(1, CANNOT), (["ab"], CANNOT)]),
    (Path("/data/acme"), [("/data/acme", YES), ("/data/acme/x", YES), ("/data/acme/x/...", YES)]),
    (Path("/data/acme"), [("/data/acmebank", NO), ("/data", NO), ("/", NO)]),
    (Path("/data/acme"), [("/data/ACME", NO), ("/data/acm\u0435", NO)]),
    (
        Path("/data/acme"),
        [
            (bad, CANNOT)
            for bad in (
                "/data/acme/../globex", "/data/acme/..", "/data/acme/./x", "/data/acme/", "/data//acme", "//data/acme",
                "data/acme", "", "/data/acme/%2e%2e", "/data/acme\\..\\x", "/data/acme\0", "/data/acme/%",
                1, None, ["/data/acme"],
            )
        ],
    ),
    (Path("/data/acme"), [("/data/acme2", NO), ("/data/acme2/x", NO), ("/data/acme.bak", NO), ("/data/acme ", NO)]),
    (Path("/data/acme"), [("/Data/acme", NO), ("/data/acme\u200b", NO), ("/data/acme\u200b/x", NO)]),
    (Path("/data/acme"), [("/data/a\u0441me", NO)]),
    (Path("/data/acme"), [("/data/acme/\u2024\u2024/x", YES), ("/data/acme/\uff0e\uff0e", YES)]),
    (Path("/data/acme"), [("/data/acme/ ..", YES)]),
    (Path("/data/acme"), [("/data/acme/X", YES), ("/data/acme/" + "a" * 4085, YES)]),
    (Path("/data/acme"), [("/data/acme/" + "a" * 4086, CANNOT)]),
    (Path("/data/acme"), [("/data/acme\u2215x", NO), ("/data/acme\uff0fx", NO), ("/data/acme/x\n", YES)]),
    (Path("/data/acme"), [("\n/data/acme", CANNOT)]),
    (Path("/caf\u00e9"), [("/caf\u00e9/x", YES), ("/cafe\u0301/x", NO), ("/caf\u00c9", NO)]),
    (
        Path("/data/acme"),
        [
            (bad, CANNOT)
            for bad in (
                "/data/acme/../../etc/passwd", "/data/acme/x/../../globex",
                "/../data/acme", "/data/acme/x/.", "/data/acme/x/",
                "/data/acme//etc/passwd", "///data/acme",
                "/data/acme/..%2f..%2fetc", "/data/acme/%252e%252e", "/data/acme%00",
                "/data/acme/%c0%ae%c0%ae", "\\data\\acme", "/data/acme/x\\y",
                "C:/data/acme", "C:\\data\\acme", "file:///data/acme",
                "./data/acme", "../data/acme", "~/acme",
                " /data/acme", "/data/acme/x\0.txt", "/data/acme/" + "a" * 4096,
                True, 0, [], {}, ["/data/acme/x"], {"path": "/data/acme"},
            )
        ],
    ),
    (Prefix("a.b"), [("a.b", YES), ("axb", NO), ("a.b/../c", YES), (" a.b", NO), ("\u200ba.b", NO), ("A.b", NO)]),
    (Prefix("\u00e9"), [("\u00e9t\u00e9", YES), ("e\u0301", NO), ("e", NO)]),
    (Glob("/a/*.txt"), [("/a/x.txt", YES), ("/a/.txt", YES), ("/a/x.txt.txt", YES), ("/a/ .txt", YES)]),
    (Glob("/a/*.txt"), [("/a/x\n.txt", YES)]),
    (Glob("/a/*.txt"), [("/a/b/x.txt", NO), ("/a/x.TXT", NO), ("/a/x.txt\n", NO), ("/a/x.txt ", NO)]),
    (Glob("/a/*.txt"), [("\n/a/x.txt", NO)]),
    (Glob("/a/*.txt"), [("/a/xatxt", NO), ("/a/../x.txt", NO), ("/a/x.txt\0", NO), ("/a/x\0.txt", YES)]),
    (Glob("/a/*.txt"), [("/a/x.tx\u0442", NO)]),
    (Glob("/a/**"), [("/a/", YES), ("/a/b", YES), ("/a/b/c\nd", YES), ("/a", NO), ("/ab", NO), ("/a/../etc", YES)]),
    (Glob("a/**/b"), [("a/x/b", YES), ("a//b", YES), ("a/x/y/b", YES), ("a/b", NO), ("a/x/bb", NO)]),
    (Glob("**"), [("", YES), ("/", YES), ("a\nb/\0", YES), (1, CANNOT), (["a"], CANNOT)]),
    (Glob("*"), [("", YES), ("a\nb", YES), ("/", NO), ("a/b", NO), ("a\uff0fb", YES)]),
    (Glob("a?c"), [("abc", YES), ("a\nc", YES), ("a\U0001f600c", YES), ("a/c", NO), ("ac", NO), ("abbc", NO)]),
    (Glob("a?c"), [("ae\u0301c", NO)]),
    (Glob("[ab]{c,d}\\*"), [("[ab]{c,d}\\x", YES), ("ac*", NO), ("[ab]{c,d}*", NO)]),
    (Glob("a.b+(c)|$^"), [("a.b+(c)|$^", YES), ("axb+(c)|$^", NO), ("a.b", NO)]),
    (Glob("*@acme.com"), [("a@acme.com", YES), ("a@b@acme.com", YES), ("a@acme.com.evil.io", NO), ("a@acmeXcom", NO)]),
    (Glob("*a*a*a*a*a*a*a*a*b"), [("a" * 4000, NO), ("a" * 4000 + "b", YES), ("a" * 5000 + "b", CANNOT)]),
    (Glob("**a**a**a**a**a**b"), [("a" * 4000, NO), ("a" * 4000 + "b", YES)]),
    (Regex("[a-z]+"), [("abc", YES), ("abc\n", NO), ("\nabc", NO), ("abc\ndef", NO), ("ABC", NO), ("", NO)]),
    (Regex("[a-z]+"), [("\u0430bc", NO)]),
    (Regex("[a-z]+"), [("abc\0", NO), ("abc\r", NO), ("abc\u2028", NO), ("ab\u200bc", NO), (1, CANNOT)]),
    (Regex("[a-z]+"), [(["abc"], CANNOT)]),
    (Regex("^[a-z]+$"), [("abc", YES), ("abc\n", NO), ("abc\ndef", NO)]),
    (Regex("(?m)^[a-z]+$"), [("abc", YES), ("abc\n", NO), ("abc\ndef", NO), ("1\nabc", NO)]),
    (Regex("a|b"), [("a", YES), ("b", YES), ("ab", NO), ("ax", NO), ("xb", NO)]),
    (Regex("^a|b$"), [("a", YES), ("b", YES), ("a evil", NO), ("evil b", NO)]),
    (Regex("read|read-all"), [("read-all", YES), ("read", YES), ("read-al", NO)]),
    (Regex("a.b"), [("axb", YES), ("a\U0001f600b", YES), ("a\nb", NO), ("ae\u0301b", NO), ("ab", NO)]),
    (Regex("(?s)a.b"), [("a\nb", YES)]),
    (Regex("(?i)k"), [("K", YES), ("k", YES)]),
    (Regex("a*"), [("", YES), ("aaa", YES), ("b", NO)]),
    (Regex("()"), [("", YES), ("a", NO)]),
    (Regex("\u00e9"), [("\u00e9", YES), ("e\u0301", NO), ("\u00c9", NO)]),
    (Regex("a\0b"), [("a\0b", YES), ("a", NO)]),
    (Regex("\\d+"), [("12", YES), ("\u0661", NO), (12, CANNOT), (1.0, CANNOT)]),
    (Regex("(a+)+"), [("a" * 4000, YES), ("a" * 4000 + "!", NO), ("a" * 5000, CANNOT)]),
    (Regex("(a|a)*"), [("a" * 4000 + "!", NO)]),
    (Regex("(.*a){9}"), [("a" * 4000 + "b", NO), ("a" * 4000, YES)]),
    (Regex("(x+x+)+y"), [("x" * 4000, NO)]),
    (Regex("[ab]*a[ab]{20}"), [("ba" * 2000, YES), ("ab" * 2000, NO)]),
    (Contains(("a",)), [(["a"], YES), (["b", "a"], YES), (("a", "a"), YES), (["b"], NO), ([], NO), (["A", "a "], NO)]),
    (Contains(("a",)), [([1], CANNOT), (["b", 1], CANNOT), (["a", 1], YES), ([["a"]], CANNOT), ([{"a": 1}], CANNOT)]),
    (Contains(("a",)), [("a", CANNOT), ("abc", CANNOT), ({"a": 1}, CANNOT), (None, CANNOT), (1, CANNOT)]),
    (Contains((1,)), [([1.0], YES), ([True], CANNOT), (["1"], CANNOT), ([2, None], CANNOT), ([2], NO)]),
    (Contains((True, 1)), [([True, 1], YES), ([True], CANNOT), ([1], CANNOT), ([], NO)]),
    (Contains(("a", "b")), [(["b", "a", "c"], YES), (["a"], NO), (["a", 1], CANNOT), (["c"], NO)]),
    (Contains(("a", 1)), [(["b"], NO), (["a"], CANNOT), ([2, "b"], CANNOT)]),
    (Contains(((1, 2),)), [([[1, 2]], YES), ([[1, 3]], NO), ([[1]], NO), ([1, 2], CANNOT), ([[1, "2"]], CANNOT)]),
    (Contains((None,)), [([None], YES), ([0], CANNOT), ([], NO)]),
    (Contains(("a",)), [(["a"] * 1024, YES), (["a"] * 1025, CANNOT), (["a", [1] * 1024], CANNOT)]),
    (Contains(tuple(range(128))), [(list(range(512)), YES), (list(range(513)), CANNOT)]),
    (Length(1, 3), [("a", YES), ("abc", YES), ("", NO), ("abcd", NO), ("\U0001f600" * 3, YES), ("e\u0301e\u0301", NO)]),
    (Length(1, 3), [([0], YES), ([[], {}, 1], YES), ((1,), YES), ([], NO), ([1] * 4, NO)]),
    (Length(1, 3), [(2, CANNOT), (None, CANNOT), (True, CANNOT), ({"a": 1}, CANNOT), ({}, CANNOT)]),
    (Length(0, 0), [("", YES), ([], YES), ("\0", NO), ("\u200b", NO), ({}, CANNOT)]),
    (Length(None, 2), [("", YES), ("ab", YES), ("abc", NO)]),
    (Length(2, None), [("ab", YES), ("a", NO), ("a" * 100_000, YES)]),
    (Fields(()), [({}, YES), ({"a": 1}, NO), ({"": None}, NO), ([], CANNOT), (None, CANNOT)]),
    (Fields((Pair("a", Eq(1)),)), [({"a": 1}, YES), ({"a": 1.0}, YES), ({"a": 2}, NO), ({"a": True}, CANNOT)]),
    (Fields((Pair("a", Eq(1)),)), [({"a": "1"}, CANNOT)]),
    (Fields((Pair("a", Eq(1)),)), [({}, CANNOT), ({"A": 1}, NO), ({"a": 1, "b": 1}, NO), ({"a": True, "b": 1}, NO)]),
    (Fields((Pair("a", Eq(1)),)), [({"a": 1, "": 1}, NO)]),
    (Fields((Pair("a", Eq(1)),)), [([], CANNOT), ([["a", 1]], CANNOT), ("a", CANNOT), (None, CANNOT), (1, CANNOT)]),
    (Fields((Pair("a", Absent()), Pair("b", Anything()))), [({"b": None}, YES), ({"a": None, "b": 1}, NO)]),
    (Fields((Pair("a", Absent()), Pair("b", Anything()))), [({}, CANNOT)]),
    (Fields((Pair("a", AnyOf((Absent(), Eq(1)))),)), [({}, YES), ({"a": 1}, YES), ({"a": 2}, NO), ({"b": 1}, NO)]),
    (Fields((Pair("*", Eq(1)),)), [({}, YES), ({"a": 1, "b": 1}, YES), ({"a": 2}, NO), ({"a": "1"}, CANNOT)]),
    (Fields((Pair("*", Eq(1)),)), [({"*": 2}, NO)]),
    (Fields((Pair("a", Eq("x")), Pair("*", Eq(1)))), [({"a": "x", "*": 1}, YES), ({"a": "x", "b": 2}, NO)]),
    (Fields((Pair("a", Eq("x")), Pair("*", Eq(1)))), [({"b": 1}, CANNOT)]),
    (Fields((Pair("a", Fields((Pair("b", Eq(1)),))),)), [({"a": {"b": 1}}, YES), ({"a": {"b": 2}}, NO)]),
    (Fields((Pair("a", Fields((Pair("b", Eq(1)),))),)), [({"a": [1]}, CANNOT)]),
    (Fields((Pair("*", Anything()),)), [({"a": [1] * 1023}, YES), ({"a": [1] * 1024}, CANNOT)]),
    (Fields((Pair("*", Anything()),)), [(dict.fromkeys(map(str, range(1025))), CANNOT)]),
    (Argv(("git",)), [(["git"], YES), (["git", "push", "; rm -rf /"], YES), (("git", "$(id)"), YES), ([], NO)]),
    (Argv(("git",)), [(["", "git"], NO)]),
    (
        Argv(("git",)),
        [
            ([word, "status"], NO)
            for word in (
                "/usr/bin/git", "./git", "../git", "git ", " git", "git\n",
                "git\t", "git\0", "Git", "GIT", "git.exe", "git-lfs",
                "gi\u0442", "g\u0131t", "git\u200b", "git;id", "git && id",
                "$(git)", "`git`", "git|sh", "'git'", "git\\", "git status",
                "env", "sudo", "GIT_SSH=x", "--", "",
            )
        ],
    ),
    (Argv(("git",)), [("git", CANNOT), (["git", 1], CANNOT), (["git", None], CANNOT), (["git", ["x"]], CANNOT)]),
    (Argv(("git",)), [([True], CANNOT)]),
    (Argv(("git",)), [({"0": "git"}, CANNOT), (None, CANNOT), (["git"] * 1024, YES), (["git"] * 1025, CANNOT)]),
    (Argv(("git", "hg"), (("status",), ("log", "-1"))), [(["git", "status"], YES)]),
    (Argv(("git", "hg"), (("status",), ("log", "-1"))), [(["hg", "log", "-1", "--", ";"], YES)]),
    (Argv(("git", "hg"), (("status",), ("log", "-1"))), [(["git"], NO), (["git", "log"], NO)]),
    (Argv(("git", "hg"), (("status",), ("log", "-1"))), [(["git", "log", "-2"], NO)]),
    (Argv(("git", "hg"), (("status",), ("log", "-1"))), [(["git", "status "], NO)]),
    (Argv(("git", "hg"), (("status",), ("log", "-1"))), [(["git", "-c", "x=!sh", "status"], NO)]),
    (Argv(("git", "hg"), (("status",), ("log", "-1"))), [(["svn", "status"], NO)]),
    (Argv(("git",), (("log -1",),)), [(["git", "log", "-1"], NO), (["git", "log -1"], YES)]),
    (Argv(("/usr/bin/git",)), [(["/usr/bin/git"], YES), (["/usr/bin//git"], NO), (["/usr/bin/git ", "x"], NO)]),
    (Argv(("/usr/bin/git",)), [(["git"], NO)]),
    (Range(0, 5), [(float("nan"), NO), (float("inf"), NO), (float("-inf"), NO), ("NaN", CANNOT), ("3", CANNOT)]),
    (Range(0, 5), [(False, CANNOT)]),
    (Range(0, 5), [(-0.0, YES), (0.0, YES), (5.0, YES), (-1e-300, NO), (2**53, NO), ({"a": 1}, CANNOT)]),
    (Range(0, 5), [("0x1", CANNOT)]),
    (Range(None, 5), [(-(2**53), YES), (float("nan"), NO)]),
    (Eq(1), [(float("nan"), NO), (2**53 + 1, NO), (-0.0, NO), ("1.0", CANNOT)]),
    (Eq(SAFE_INTEGER), [(float(SAFE_INTEGER), YES), (SAFE_INTEGER - 1, NO), (2**53, NO), (str(SAFE_INTEGER), CANNOT)]),
    (In(("a", "b")), [("c", NO), ("A", NO), ("a\0", NO), (["a"], CANNOT), ({"a": 1}, CANNOT), ("\u0430", NO)]),
    (Each(Prefix("a")), [([["a"]], CANNOT), (["a", None], CANNOT), (["b", None], NO), ([{}], CANNOT)]),
    (Each(Prefix("a")), [(["a"] * 1025, CANNOT)]),
    (Each(Anything()), [([None], YES), ([[], {}], YES), ([], NO), ("", CANNOT), ({}, CANNOT)]),
    (Each(Contains((1,)), 0), [([[1], [2, 1]], YES), ([[1], []], NO), ([[1], 1], CANNOT), ([], YES)]),
    (Each(Regex("[a-z]+")), [(["a"] * 1024, YES), (["a" * 4000] * 1000, CANNOT), (["a", "B"], NO), (["B", 1], NO)]),
    (AllOf((Length(1, 9), Glob("*"), Not(Regex(".*\\.exe")))), [("a.txt", YES), ("a.exe", NO), ("", NO), ("a/b", NO)]),
    (AllOf((Length(1, 9), Glob("*"), Not(Regex(".*\\.exe")))), [(["a"], CANNOT)]),
    (Not(Contains(("admin",))), [(["user"], YES), (["admin"], NO), ([], YES), ("admin", CANNOT)]),
    (Not(Contains(("admin",))), [([["admin"]], CANNOT), (["user", 0], CANNOT)]),
    (Not(Length(None, 3)), [("abcd", YES), ("abc", NO), (4, CANNOT), ({"a": 1}, CANNOT)]),
    (Not(Glob("*.exe")), [("a.txt", YES), ("a.exe", NO), (["a.exe"], CANNOT), ("a" * 4097, CANNOT)]),
    (Not(Regex("rm.*")), [("ls", YES), ("rm -rf", NO), (["rm"], CANNOT), ("ls" * 4096, CANNOT)]),
    (Not(Argv(("rm",))), [(["ls"], YES), (["rm"], NO), ("rm", CANNOT), (["ls", 1], CANNOT), ([], YES)]),
    (Not(Fields((Pair("a", Eq(1)),))), [({"a": 2}, YES), ({"a": 1}, NO), ({"a": "1"}, CANNOT), ({}, CANNOT)]),
    (Not(Fields((Pair("a", Eq(1)),))), [([], CANNOT)]),
    (Not(AnyOf((Eq(1), Eq("a")))), [(2, CANNOT), (1, NO), ("b", CANNOT)]),
    (Not(AllOf((Eq(1), Eq("a")))), [(2, YES), (1, CANNOT)]),
    (Path("/"), [("/", YES), ("/a", YES), ("", CANNOT), ("//", CANNOT), ("/..", CANNOT)]),
    (Each(Eq(1)), [([1], YES), ([1, 1.0], YES), ((1,), YES), ([1, 2], NO), ([], NO)]),
    (Each(Eq(1)), [(["1"], CANNOT), ([1, "1"], CANNOT), ([2, "1"], NO), ("11", CANNOT), (1, CANNOT)]),
    (Each(Eq(1)), [({"a": 1}, CANNOT), (None, CANNOT)]),
    (Each(Eq(1), 0), [([], YES), ([1], YES), ([2], NO)]),
    (Each(Eq(1), 3), [([1, 1], NO), ([1, 1, 1], YES), ([1, True], CANNOT)]),
    (Each(Each(Eq(1))), [([[1], [1]], YES), ([[]], NO), ([1], CANNOT)]),
    (Each(Not(Eq(1))), [([2], YES), ([1], NO), (["1"], CANNOT)]),
    (AnyOf((Eq(1), Eq("a"))), [(1, YES), ("a", YES), (True, CANNOT), (2, CANNOT), ("b", CANNOT)]),
    (AnyOf((Eq(1), Eq(2))), [(1, YES), (2, YES), (3, NO), ("1", CANNOT)]),
    (AllOf((Range(0, 5), Not(Eq(3)))), [(1, YES), (3, NO), (6, NO), ("1", CANNOT)]),
    (AllOf((Eq(1), Eq("a"))), [(1, CANNOT), ("a", CANNOT), (2, NO)]),
    (Not(Eq(1)), [(2, YES), (1, NO), (1.0, NO), ("1", CANNOT), (True, CANNOT), (None, CANNOT)]),
    (Not(Not(Eq(1))), [(1, YES), (2, NO), ("1", CANNOT)]),
    (Not(Prefix("a")), [("b", YES), ("a", NO), (1, CANNOT), ([], CANNOT)]),
    (Not(Path("/secret")), [("/public", YES), ("/secret", NO), ("/public/../secret", CANNOT), ("/%73ecret", CANNOT)]),
    (Not(In((1, 2))), [(3, YES), (1, NO), ("1", CANNOT), (True, CANNOT)]),
    (Not(Range(0, 5)), [(6, YES), (5, NO), ("6", CANNOT), (True, CANNOT)]),
    (Not(Each(Eq(1))), [([2], YES), ([], YES), ([1], NO), (["1"], CANNOT)]),
    (Not(Anything()), [(1, NO), (None, NO)]),
    (Anything(), [(None, YES), (0, YES), ("", YES), ([], YES), ({}, YES), (False, YES)]),
    (Absent(), [(None, NO), (0, NO), ("", NO), ([], NO)]),
    (Not(Absent()), [(None, YES), (1, YES)]),
    (AnyOf((Absent(), Eq(1))), [(1, YES), (2, NO), ("1", CANNOT), (None, CANNOT)]),
]  # fmt: skip
CASES = [(constraint, value, verdict) for constraint, rows in TABLE for value, verdict in rows]
CONSTRAINTS = [constraint for constraint, _ in TABLE]
ABOUT_ABSENCE: dict[AnyConstraint, Judgement] = {
    Absent(): YES,
    Not(Absent()): NO,
    AnyOf((Absent(), Eq(1))): YES,
    AllOf((Absent(), Eq(1))): CANNOT,
}


@each_case(("constraint", "value", "verdict"), CASES)
def test_a_constraint_says_yes_no_or_cannot_judge(constraint: AnyConstraint, value: Value, verdict: Judgement) -> None:
    assert constraint.judge(value) is verdict
    assert Not(constraint).judge(value) is (None if verdict is None else not verdict)


@each_case("constraint", CONSTRAINTS)
def test_only_absent_judges_what_is_missing(constraint: AnyConstraint) -> None:
    if constraint.about_absence:
        assert constraint.judge(MISSING) is not None
    else:
        assert constraint.judge(MISSING) is None
        assert Not(constraint).judge(MISSING) is None


@pytest.mark.parametrize("constraint", ABOUT_ABSENCE, ids=repr)
def test_absent_within_others_follows_kleene(constraint: AnyConstraint) -> None:
    assert constraint.judge(MISSING) is ABOUT_ABSENCE[constraint]


@each_case("constraint", CONSTRAINTS)
def test_every_constraint_reads_back_and_says_what_it_demands(constraint: AnyConstraint) -> None:
    assert encode_block((allow(action("a.read", x=constraint)),))
    assert constraint.sentence()


KLEENE = {"yes": Eq("a"), "no": Eq("b"), "cannot": Eq(1)}
AND = {
    ("yes", "yes"): YES,
    ("yes", "no"): NO,
    ("yes", "cannot"): CANNOT,
    ("no", "no"): NO,
    ("no", "cannot"): NO,
    ("cannot", "cannot"): CANNOT,
}
OR = {
    ("yes", "yes"): YES,
    ("yes", "no"): YES,
    ("yes", "cannot"): YES,
    ("no", "no"): NO,
    ("no", "cannot"): CANNOT,
    ("cannot", "cannot"): CANNOT,
}


@pytest.mark.parametrize(("one", "other"), AND)
def test_all_and_any_are_kleenes_in_either_order(one: str, other: str) -> None:
    for pair in ((KLEENE[one], KLEENE[other]), (KLEENE[other], KLEENE[one])):
        assert AllOf(pair).judge("a") is AND[one, other]
        assert AnyOf(pair).judge("a") is OR[one, other]


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 5),
        st.floats(-5, 5),
        st.floats(),
        st.text(max_size=3),
        st.sampled_from(["", "a", "/a", "/a/b", "/a/..", "git", "\ud800", "a\udfff"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "*", ""]), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(values)
def test_no_constraint_raises_and_not_never_opens_the_unjudged(value: Any) -> None:
    for constraint in CONSTRAINTS:
        said = constraint.judge(value)
        assert said in (True, False, None)
        assert not (said is not True and Not(constraint).judge(value) is not True and said is False)
        if said is None:
            assert AnyOf((constraint, Not(constraint))).judge(value) is None


leaves: st.SearchStrategy[AnyConstraint] = st.sampled_from([one for one in CONSTRAINTS if not one.about_absence])
rules = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Each, inner, st.integers(0, 2)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: AllOf(tuple(parts))),
        st.dictionaries(st.sampled_from(["a", "b", "*"]), inner, min_size=1, max_size=2).map(
            lambda named: Fields(tuple(Pair(name, one) for name, one in named.items()))
        ),
    ),
    max_leaves=4,
)


@given(rules, values)
def test_any_constraint_answers_any_value_and_not_twice_undoes(rule: AnyConstraint, value: Any) -> None:
    said = rule.judge(value)
    assert said in (True, False, None)
    assert Not(rule).judge(value) is (None if said is None else not said)
    assert Not(Not(rule)).judge(value) is said
    assert rule.judge(MISSING) is None


@given(rules)
def test_any_constraint_reads_back_as_it_was_written(rule: AnyConstraint) -> None:
    assume(encoded := written(rule))
    ((caveat,),) = [DEFAULT.decode(encoded)]
    assert caveat == Where("args.x", rule)
    assert rule.sentence()


def written(rule: AnyConstraint) -> bytes:
    """The block, none if it has too many brackets."""
    try:
        return encode_block((Where("args.x", rule),))
    except TooLarge:
        return b""


def test_not_may_be_nested_as_deep_as_a_block_may() -> None:
    rule: AnyConstraint = Eq(1)
    for _ in range(240):
        rule = Not(rule)
    (caveat,) = DEFAULT.decode(encode_block((Where("args.x", rule),)))
    assert caveat == Where("args.x", rule)
    assert (rule.judge(1), rule.judge(2), rule.judge("1")) == (YES, NO, CANNOT)
    value: Any = 1
    each: AnyConstraint = Eq(1)
    for _ in range(60):
        value, each = [value], Each(each)
    assert each.judge(value) is YES
    assert each.judge([value]) is CANNOT


def test_the_work_of_one_judgement_does_not_grow_with_its_value() -> None:
    heavy = Regex("(?:(?:a|b|ab|ba)*[ab]{0,5}){0,50}")
    assert heavy.judge("ab" * 300) is YES
    assert heavy.judge("ab" * 320) is CANNOT
    assert Each(heavy).judge(["ab"] * 300) is YES
    assert Each(heavy).judge(["ab"] * 320) is CANNOT
    assert Each(AllOf((heavy, heavy))).judge(["ab"] * 160) is CANNOT
    assert Fields((Pair("*", heavy),)).judge({str(at): "ab" for at in range(320)}) is CANNOT
    entry = allow(action("a.read", args={"*": heavy}))
    for many, refused in ((300, False), (320, True)):
        call = Call("a.read", {str(at): "ab" for at in range(many)})
        assert (entry.refusal(Facts(call, 0, 0)) is not None) is refused


def test_the_longest_text_is_judged_by_the_heaviest_pattern() -> None:
    weighing = {one.work_character: one for one in (Regex("a*|" + "b" * count) for count in range(100, 130))}
    assert weighing[128].judge("a" * 4096) is YES
    assert weighing[129].judge("a" * 4096) is CANNOT
    assert Regex("a*").judge("a" * 4096) is YES
    assert Regex("a*").judge("a" * 4097) is CANNOT


@pytest.mark.parametrize("pattern", ["\\pL", "\\p{Greek}", "[\\PN]", "a\\\\\\pL", "x\\p{^Lu}+"])
def test_a_pattern_means_the_same_in_every_version_of_unicode(pattern: str) -> None:
    with pytest.raises(InvalidCaveat, match="Unicode classes"):
        Regex(pattern)
    assert Regex("a\\\\pL").judge("a\\pL") is YES


def test_a_text_that_no_rule_reads_whole_may_be_long() -> None:
    text = "a" * 2_000_000
    for rule in (Prefix("a"), Each(Prefix("a")), Fields((Pair("*", Prefix("a")),)), Length(1, None)):
        assert rule.judge(text) is YES or rule.judge([text]) is YES or rule.judge({"x": text}) is YES


def test_a_refused_pattern_is_told_to_the_caller_and_to_no_log(capfd: pytest.CaptureFixture[str]) -> None:
    for pattern in ("(", "(?=a)", "[a-z]{1000}{9}"):
        with pytest.raises(InvalidCaveat, match="RE2 refuses"):
            Regex(pattern)
    assert capfd.readouterr() == ("", "")


BAD: dict[str, Any] = {
    "empty text": lambda: Eq(""),
    "empty list": lambda: Eq(()),
    "empty text within": lambda: Eq(("a", "")),
    "nested list": lambda: Eq(((1,),)),  # type: ignore[arg-type] # what is not flat
    "an object": lambda: Eq({"a": 1}),  # type: ignore[arg-type] # no literal
    "a set": lambda: Eq({1}),  # type: ignore[arg-type] # no literal
    "2**53": lambda: Eq(2**53),
    "-(2**53)": lambda: Eq(-(2**53)),
    "1e16": lambda: Eq(1e16),
    "nan": lambda: Eq(float("nan")),
    "inf": lambda: Range(0, float("inf")),
    "a lone surrogate": lambda: Eq("\ud800"),
    "a list with nan": lambda: Eq((float("nan"),)),
    "no literals": lambda: In(()),
    "a literal that is empty": lambda: In(("a", "")),
    "a constraint for a literal": lambda: In((Eq(1),)),  # type: ignore[arg-type] # no literal
    "no end": lambda: Range(None, None),
    "ends crossed": lambda: Range(2, 1),
    "empty prefix": lambda: Prefix(""),
    "relative path": lambda: Path("data"),
    "empty path": lambda: Path(""),
    "path with dots": lambda: Path("/a/../b"),
    "path with an empty segment": lambda: Path("/a//b"),
    "path with a trailing slash": lambda: Path("/a/"),
    "path with percent": lambda: Path("/a%2e"),
    "fewer than none": lambda: Each(Eq(1), -1),
    "more than can be": lambda: Each(Eq(1), 2**53),
    "absent element": lambda: Each(Absent()),
    "absent element within not": lambda: Each(Not(Absent())),
    "absent element within any": lambda: Each(AnyOf((Eq(1), AllOf((Absent(), Eq(1)))))),
    "empty glob": lambda: Glob(""),
    "three stars": lambda: Glob("a***b"),
    "four stars": lambda: Glob("****"),
    "glob beyond what RE2 may take": lambda: Glob("?" * 4000),
    "empty pattern": lambda: Regex(""),
    "unbalanced": lambda: Regex("(a"),
    "lookahead": lambda: Regex("(?=a)b"),
    "negative lookahead": lambda: Regex("(?!a)b"),
    "lookbehind": lambda: Regex("(?<=a)b"),
    "atomic group": lambda: Regex("(?>a)"),
    "backreference": lambda: Regex(r"(a)\1"),
    "named backreference": lambda: Regex("(?P<n>a)(?P=n)"),
    "possessive": lambda: Regex("a++"),
    "recursion": lambda: Regex("(?R)"),
    "repetition beyond what RE2 has": lambda: Regex("a{1001}"),
    "repetition that multiplies": lambda: Regex("((a{1,100}){1,100}){1,100}"),
    "pattern beyond what RE2 may take": lambda: Regex(r"\p{L}{200}"),
    "pattern with a lone surrogate": lambda: Regex("\ud800"),
    "glob with a lone surrogate": lambda: Glob("\udfff"),
    "prefix with a lone surrogate": lambda: Prefix("\ud800"),
    "contains nothing": lambda: Contains(()),
    "contains nan": lambda: Contains((float("nan"),)),
    "contains an object": lambda: Contains(({"a": 1},)),  # type: ignore[arg-type] # no literal
    "contains a nested array": lambda: Contains((((1,),),)),  # type: ignore[arg-type] # what is not flat
    "no length": lambda: Length(None, None),
    "lengths crossed": lambda: Length(2, 1),
    "negative length": lambda: Length(-1, None),
    "true for a length": lambda: Length(True, None),
    "length with a fraction": lambda: Length(1.0, None),  # type: ignore[arg-type] # no integer
    "length beyond what can be": lambda: Length(None, 2**53),
    "a field twice": lambda: Fields((Pair("a", Eq(1)), Pair("a", Eq(2)))),
    "a field without a name": lambda: Fields((Pair("", Eq(1)),)),
    "a field that hides": lambda: Fields((Pair("a\u202e", Eq(1)),)),
    "absent for all other fields": lambda: Fields((Pair("*", Absent()),)),
    "a field that is no pair": lambda: Fields((("a",),)),  # type: ignore[arg-type] # no pair
    "no program": lambda: Argv(()),
    "a program without a name": lambda: Argv(("git", "")),
    "no list of arguments": lambda: Argv(("git",), ()),
    "an empty list of arguments": lambda: Argv(("git",), ((),)),
    "an empty argument": lambda: Argv(("git",), (("",),)),
    "any of nothing": lambda: AnyOf(()),
    "all of nothing": lambda: AllOf(()),
}


TAKES: list[Callable[[Any], Any]] = [
    *(Prefix, Glob, Regex, Path, Eq, In, Contains, AnyOf, AllOf, Not, Each, Fields, Argv),
    lambda one: In((one,)),
    lambda one: AnyOf((one,)),
    lambda one: Pair("a", one),
    lambda one: Pair(one, Eq(1)),
    lambda one: Argv((one,)),
    lambda one: Argv(("a",), one),
    lambda one: Length(one, None),
    lambda one: Range(one, None),
    lambda one: Each(Eq(1), one),
    lambda one: Where(one, Eq(1)),
    lambda one: Where("args.x", one),
]


@pytest.mark.parametrize("foreign", [b"a", {"a"}, {"a": 1}, object(), 1j, int])
def test_what_is_no_json_is_refused_wherever_it_stands(foreign: Any) -> None:
    for build in TAKES:
        with pytest.raises(InvalidCaveat):
            build(foreign)


@pytest.mark.parametrize("build", [Prefix, Glob, Regex, Path, In, Contains, AnyOf, AllOf, Not, Each, Fields, Argv])
def test_a_number_is_no_text_no_list_and_no_constraint(build: Any) -> None:
    for foreign in (5, True, None, 1.5):
        with pytest.raises(InvalidCaveat):
            build(foreign)


@pytest.mark.parametrize("build", BAD.values(), ids=list(BAD))
def test_a_constraint_that_cannot_be_meant_cannot_be_built(build: Any) -> None:
    with pytest.raises(InvalidCaveat):
        build()
