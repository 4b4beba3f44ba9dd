"""A constraint of a policy that cannot be meant is told before any intent exists."""

import pytest

from tests.labs.policies import granting, problems

WORK = 'purpose.work.grant[1].allow."a.b".x'
OPERATORS = (
    "there is eq, in, range, prefix, glob, regex, path, url, host, cidr, each, contains, length, fields, argv, any, "
    "all, not, absent, anything"
)


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("{ foo = 1 }", f".foo: is no operator: {OPERATORS}"),
        ("{ not_in = [1] }", ".not_in: is no operator: write { not = { in = [ … ] } }"),
        ("{ min = 1 }", ".min: is no operator: write { range = { min = … } }"),
        ('{ eq = 1, prefix = "x" }', ": has 2 operators, eq and prefix: write { all = [{ … }, { … }] }"),
        ("{ eq = [] }", ".eq: is empty: name values, or leave it out"),
        (
            "{ eq = [[1]] }",
            ".eq[1]: is an array, and a text, a number, true or false belongs here",
        ),
        ('""', ": is an empty text, and a text, a number, true, false, or a flat array of these belongs here"),
        ("inf", ": is inf, and a text, a number, true, false, or a flat array of these belongs here"),
        ("nan", ": is nan, and"),
        ("9007199254740992", ': is "a number beyond ±(2^53 - 1)", and a text, a number'),
        ("2026-11-25", ": is a date or a time, and a text, a number, true, false"),
        ("12:00:00", ": is a date or a time, and"),
        ("{ in = [] }", ".in: is empty: name values, or leave it out"),
        ('{ in = "a" }', '.in: is a text, and an array of values belongs here: write ["a"]'),
        ("{ range = [1] }", ".range: has not two ends: write [lo, hi], { min = lo } or { max = hi }"),
        ("{ range = 5 }", ".range: has not two ends"),
        ('{ range = "{intent.range}" }', ".range: has not two ends"),
        ("{ range = {} }", ": Range: give at least one end: without one, every number is allowed"),
        ("{ range = { min = 1, mx = 2 } }", ".range.mx: is no key here: did you mean max?"),
        ('{ range = ["a", 2] }', '.range[1]: is "a", and a number belongs here'),
        ("{ range = [true, 2] }", ".range[1]: is true, and a number belongs here"),
        ("{ length = { min = 1.5 } }", ".length.min: is 1.5, and a whole number, not negative belongs here"),
        ("{ length = { max = -1 } }", ".length.max: is -1, and a whole number, not negative belongs here"),
        ("{ prefix = 5 }", ".prefix: is 5, and a text that is not empty belongs here"),
        ('{ path = "data" }', ": Path: "),
        ('{ regex = "(" }', ": Regex: "),
        ('{ glob = "***" }', ": Glob: a glob may have `*` and `**`, but not `***`"),
        ('{ regex = "a{3}" }', '.regex: "a{3}" holds a {: write {{ for it; a value is taken whole'),
        (
            '{ regex = "{intent.pattern}" }',
            ".regex: is a pattern, which is not taken from an intent: take a whole value, { eq = … }",
        ),
        ('{ glob = "{intent.pattern}" }', ".glob: is a pattern, which is not taken from an intent"),
        ('{ host = "x.example" }', '.host: is a text, and an array of hosts belongs here: write ["x.example"]'),
        ('{ host = ["10.0.0.1"] }', ": Host: "),
        ('{ cidr = ["10.0.0.1/8"] }', ": Cidr: "),
        ('{ url = { host = ["x.example"] } }', ".url.hosts: is missing"),
        ('{ url = { host = ["x.example"] } }', ".url.host: is no key here: did you mean hosts?"),
        (
            '{ url = { hosts = ["x.example"], ports = [0] } }',
            ".url.ports[1]: is 0, and a port, 1 to 65535 belongs here",
        ),
        ('{ url = { hosts = ["x.example"], schemes = ["ftp"] } }', ": Url: ftp has no known port"),
        ('{ url = ["x.example"] }', ".url: is an array, and a table belongs here"),
        ("{ argv = { program = 1 } }", ".argv.programs: is missing"),
        ('{ argv = { programs = ["git"], arguments = ["log"] } }', ".argv.arguments[1]: is a text, and an array of"),
        ("{ absent = false }", ".absent: is not true: there is nothing else to say"),
        ("{ anything = 1 }", ".anything: is not true: there is nothing else to say"),
        ("{ any = [] }", ".any: is empty: name constraints, or leave it out"),
        ("{ any = [{ eq = 1 }, { rnge = 1 }] }", ".any[2].rnge: is no operator: did you mean range?"),
        ("{ each = { min = 2 } }", ".each: has no operator"),
        ('{ each = { min = "2", eq = 1 } }', '.each.min: is "2", and a whole number, not negative belongs here'),
        ("{ each = { absent = true } }", ": Each: `absent` cannot be used here"),
        ("{ fields = { a = { rnge = 1 } } }", ".fields.a.rnge: is no operator"),
        ('{ fields = { "*" = { absent = true } } }', '.fields."*": Pair: `absent` cannot be used here'),
        ('"{intent.Ticket}"', ': "{intent.Ticket}" takes nothing: a name is a letter, then letters, digits and _'),
        ('"{intent.}"', ': "{intent.}" takes nothing'),
        ('"{ intent.ticket }"', ': "{ intent.ticket }" holds a {: write {{ for it'),
        ('"T-{intent.ticket}"', ': "T-{intent.ticket}" holds a {: write {{ for it; a value is taken whole'),
        ('"{intent.ticket} "', ': "{intent.ticket} " holds a {'),
        ('"{intent.a}{intent.b}"', ': "{intent.a}{intent.b}" holds a {'),
        ('"{{{"', ': "{{{" holds a {'),
        ('"{"', ': "{" holds a {'),
    ],
)
def test_an_ill_formed_constraint_is_refused_before_any_intent(argument: str, told: str) -> None:
    found = problems(granting(f'allow."a.b" = {{ x = {argument} }}'))
    assert any(line.startswith(WORK + told) for line in found), found
