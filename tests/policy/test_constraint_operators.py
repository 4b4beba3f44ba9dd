"""A constraint of a policy that cannot be meant is told before any intent exists."""

import pytest

from tests.labs.policies import granting, problems

WORK = 'purpose.work.grant[1].allow."a.b".x'
OPERATORS = (
    "choose from eq, in, range, prefix, glob, regex, path, url, host, cidr, each, contains, length, fields, argv, any, "
    "all, not, absent, anything"
)


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("{ foo = 1 }", f".foo: unknown operator: {OPERATORS}"),
        ("{ not_in = [1] }", ".not_in: unknown operator: write { not = { in = [ … ] } }"),
        ("{ min = 1 }", ".min: unknown operator: write { range = { min = … } }"),
        (
            '{ eq = 1, prefix = "x" }',
            ": has 2 operators, eq and prefix: a constraint has one, such as { all = [{ … }] }",
        ),
        ("{ eq = [] }", ".eq: is empty: list values, or remove the key"),
        (
            "{ eq = [[1]] }",
            ".eq[1]: is an array, but must be a string, a number, true or false",
        ),
        ('""', ": is an empty string, but must be a string, a number, true, false, or a flat array of these"),
        ("inf", ": is inf, but must be a string, a number, true, false, or a flat array of these"),
        ("nan", ": is nan, but must be"),
        ("9007199254740992", ': is "a number beyond ±(2^53 - 1)", but must be a string, a number'),
        ("2026-11-25", ": is a date or a time, but must be a string, a number, true, false"),
        ("12:00:00", ": is a date or a time, but must be"),
        ("{ in = [] }", ".in: is empty: list values, or remove the key"),
        ('{ in = "a" }', '.in: is a string, but must be an array of values: write ["a"]'),
        ("{ range = [1] }", ".range: is not a range: write [lo, hi], { min = lo } or { max = hi }"),
        ("{ range = 5 }", ".range: is not a range"),
        ('{ range = "{intent.range}" }', ".range: is not a range"),
        ("{ range = {} }", ": Range: give at least one end: without one, every number is allowed"),
        ("{ range = { min = 1, mx = 2 } }", ".range.mx: unknown key: did you mean max?"),
        ('{ range = ["a", 2] }', '.range[1]: is "a", but must be a number'),
        ("{ range = [true, 2] }", ".range[1]: is true, but must be a number"),
        ("{ length = { min = 1.5 } }", ".length.min: is 1.5, but must be a whole number, 0 or more"),
        ("{ length = { max = -1 } }", ".length.max: is -1, but must be a whole number, 0 or more"),
        ("{ prefix = 5 }", ".prefix: is 5, but must be a string that is not empty"),
        ('{ path = "data" }', ": Path: "),
        ('{ regex = "(" }', ": Regex: "),
        ('{ glob = "***" }', ": Glob: a glob may have `*` and `**`, but not `***`"),
        (
            '{ regex = "a{3}" }',
            '.regex: "a{3}" contains a {: write {{ for the character, or {intent.NAME} as the whole',
        ),
        (
            '{ regex = "{intent.pattern}" }',
            ".regex: is a pattern, which an intent cannot give: write it here, or take a value, { eq = … }",
        ),
        ('{ glob = "{intent.pattern}" }', ".glob: is a pattern, which an intent cannot give"),
        ('{ host = "x.example" }', '.host: is a string, but must be an array of hosts: write ["x.example"]'),
        ('{ host = ["10.0.0.1"] }', ": Host: "),
        ('{ cidr = ["10.0.0.1/8"] }', ": Cidr: "),
        ('{ url = { host = ["x.example"] } }', ".url.hosts: is missing: add it"),
        ('{ url = { host = ["x.example"] } }', ".url.host: unknown key: did you mean hosts?"),
        (
            '{ url = { hosts = ["x.example"], ports = [0] } }',
            ".url.ports[1]: is 0, but must be a port, 1 to 65535",
        ),
        ('{ url = { hosts = ["x.example"], schemes = ["ftp"] } }', ": Url: ftp has no known port of its own"),
        ('{ url = ["x.example"] }', ".url: is an array, but must be a table such as { name = value }"),
        ("{ argv = { program = 1 } }", ".argv.programs: is missing: add it"),
        (
            '{ argv = { programs = ["git"], arguments = ["log"] } }',
            ".argv.arguments[1]: is a string, but must be an array of",
        ),
        ("{ absent = false }", ".absent: must be true, the only value of this operator"),
        ("{ anything = 1 }", ".anything: must be true, the only value of this operator"),
        ("{ any = [] }", ".any: is empty: list constraints, or remove the key"),
        ("{ any = [{ eq = 1 }, { rnge = 1 }] }", ".any[2].rnge: unknown operator: did you mean range?"),
        ("{ each = { min = 2 } }", ".each: has no operator"),
        ('{ each = { min = "2", eq = 1 } }', '.each.min: is "2", but must be a whole number, 0 or more'),
        ("{ each = { absent = true } }", ": Each: `absent` cannot be used here"),
        ("{ fields = { a = { rnge = 1 } } }", ".fields.a.rnge: unknown operator"),
        ('{ fields = { "*" = { absent = true } } }', '.fields."*": Pair: `absent` cannot be used here'),
        ('"{intent.Ticket}"', ': "{intent.Ticket}" names no value: use a letter, then letters, digits and _'),
        ('"{intent.}"', ': "{intent.}" names no value'),
        ('"{ intent.ticket }"', ': "{ intent.ticket }" contains a {: write {{ for the character'),
        (
            '"T-{intent.ticket}"',
            ': "T-{intent.ticket}" contains a {: write {{ for the character, or {intent.NAME} as the whole',
        ),
        ('"{intent.ticket} "', ': "{intent.ticket} " contains a {'),
        ('"{intent.a}{intent.b}"', ': "{intent.a}{intent.b}" contains a {'),
        ('"{{{"', ': "{{{" contains a {'),
        ('"{"', ': "{" contains a {'),
    ],
)
def test_an_ill_formed_constraint_is_refused_before_any_intent(argument: str, told: str) -> None:
    found = problems(granting(f'allow."a.b" = {{ x = {argument} }}'))
    assert any(line.startswith(WORK + told) for line in found), found
