"""What is wrong with a policy is told by its key path, with what would do, all of it together."""

import time

import pytest

from capx.errors import ConfigurationProblem
from capx.policy.file import read_policy
from capx.policy.lint import warnings
from capx.policy.toml_reader import LARGEST, TOLD, InvalidFile
from tests.labs.policies import KIM, POLICY, changed, granting


def problems(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(InvalidFile) as caught:
        read_policy(text)
    assert isinstance(caught.value, ConfigurationProblem)
    return caught.value.lines


AMOUNT = 'purpose.refund.grant[2].allow."billing.refund".amount'
WORK = 'purpose.work.grant[1].allow."a.b".x'
OPERATORS = (
    "there is eq, in, range, prefix, glob, regex, path, url, host, cidr, each, contains, length, fields, argv, any, "
    "all, not, absent, anything"
)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[audience]", "[audiences]", "audiences: is no key here: did you mean audience?"),
        ("crm = ", "CRM = ", 'audience.CRM: "CRM" is not an audience: lower-case letters, digits, dots and dashes'),
        ("crm = ", "authority = ", "audience.authority: authority is reserved: nothing is granted at it"),
        (
            '"https://crm.internal"',
            '"https://crm.internal/"',
            (
                'audience.crm: is "https://crm.internal/", which is no origin: write it like https://crm.internal, '
                "without a path"
            ),
        ),
        ('"https://crm.internal"', "5", 'audience.crm: is a number, and a text belongs here: write it in " "'),
        ("key = ", "keys = ", 'principal."ana@our.example".keys: is no key here: did you mean key?'),
        (
            "ed25519:",
            "rsa:",
            (
                f"principal.\"ana@our.example\".key: 'rsa:{POLICY.partition('ed25519:')[2][:43]}' is no public key: it "
                "begins with ed25519:, as capx principal new writes it"
            ),
        ),
        (
            '["Acme"]',
            "[]",
            'principal."ana@our.example".tenants: is empty: name tenants, or leave it out',
        ),
        (
            '["Acme"]',
            '"Acme"',
            'principal."ana@our.example".tenants: is a text, and an array of tenants belongs here: write it in [ ]',
        ),
        ('["Acme"]', '["Acme", "Acme"]', 'principal."ana@our.example".tenants[2]: "Acme" stands here twice'),
        (
            '["Acme"]',
            '["{intent.tenant}"]',
            (
                'principal."ana@our.example".tenants[1]: "{intent.tenant}" holds a {: no name is taken from an intent, '
                "only values of arguments are"
            ),
        ),
        (
            '["Acme"]',
            '["Ac\\u200bme"]',
            (
                'principal."ana@our.example".tenants[1]: "Ac\\u200bme" is not a tenant: 1 to 128 characters, none of '
                "them hidden"
            ),
        ),
        (
            '"qbr", "refund"',
            '"qbr", "refunds"',
            'principal."ana@our.example".purposes[2]: is "refunds", and there is no such purpose: did you mean refund?',
        ),
        (
            'groups = ["finance"]',
            'groups = ["robot"]',
            'principal."kim@our.example".groups: "robot" is a principal: call the group otherwise',
        ),
        ("[purpose.qbr]", "[purpose.qbr]\ntll = 1", "purpose.qbr.tll: is no key here: did you mean ttl?"),
        ('"2h"', '"2 hours"', "purpose.qbr.ttl: '2 hours' is not a duration: write 90s, 15m, 2h or 1d"),
        ('"2h"', '"0s"', "purpose.qbr.ttl: is no time at all"),
        ('"2h"', "2", 'purpose.qbr.ttl: is a number, and a text belongs here: write it in " "'),
        ('tenant = "none"', 'tenant = "Acme"', "purpose.nightly.tenant: is not"),
        (
            'tenant = "none"',
            'tenant = "none"\nrequire = ["tenant"]',
            'purpose.nightly.require: names tenant, and the purpose is for none: leave out tenant = "none"',
        ),
        (
            '"tenant", "ticket"',
            '"purpose", "ticket"',
            "purpose.refund.require[1]: purpose stands in every intent: leave it out",
        ),
        ("[[purpose.nightly.grant]]", "[[purpose.nightly.grants]]", "purpose.nightly.grant: is missing"),
        ('"crm.accounts.read", ', '"crm accounts", ', 'purpose.qbr.grant[1].allow[1]: "crm accounts" is not an action'),
        (
            '"crm.accounts.read", ',
            '"*", ',
            'purpose.qbr.grant[1].allow[1]: "*" is not an action, such as crm.accounts.read, or crm.* for all below',
        ),
        (
            '"crm.accounts.read", ',
            '"crn.accounts.read", ',
            "purpose.qbr.grant[1].allow[1]: is crn, which [audience] does not list: did you mean crm?",
        ),
        (
            '"crm.accounts.read", ',
            '"authority.all", ',
            "purpose.qbr.grant[1].allow[1]: is authority, which is reserved: nothing is granted at it",
        ),
        (
            '"crm.accounts.read", ',
            '"CRM.read", ',
            'purpose.qbr.grant[1].allow[1]: names no audience by its first label, "CRM": say audience = … beside allow',
        ),
        (
            '"crm.accounts.read", ',
            '"crm.{intent.x}", ',
            (
                'purpose.qbr.grant[1].allow[1]: "crm.{intent.x}" holds a {: no name is taken from an intent, '
                "only values of arguments are"
            ),
        ),
        (
            "allow = [",
            'audience = "{intent.x}"\nallow = [',
            (
                'purpose.qbr.grant[1].audience: "{intent.x}" holds a {: no name is taken from an intent, '
                "only values of arguments are"
            ),
        ),
        (
            "allow = [",
            'audience = "authority"\nallow = [',
            "purpose.qbr.grant[1].audience: is authority, which is reserved: nothing is granted at it",
        ),
        (
            'how = "on_request"',
            'how = "on-request"',
            'purpose.refund.grant[1].how: is "on-request": did you mean on_request?',
        ),
        (
            'how = "on_request"',
            'approvers = ["finance"]',
            'purpose.refund.grant[1].approvers: is for how = "ask" alone, and this is at_open',
        ),
        ('approvers = ["finance"]', "", "purpose.refund.grant[2].approvers: is missing"),
        (
            'approvers = ["finance"]',
            'approvers = ["finanze"]',
            (
                'purpose.refund.grant[2].approvers[1]: "finanze" is neither a principal nor a group that anybody is '
                "in: did you mean finance?"
            ),
        ),
        (
            'approvers = ["finance"]',
            'approvers = ["robot"]',
            'purpose.refund.grant[2].approvers[1]: is "robot", of whom nobody has a key',
        ),
        (
            'approvers = ["finance"]',
            'approvers = ["{intent.agent}"]',
            (
                'purpose.refund.grant[2].approvers[1]: "{intent.agent}" holds a {: no name is taken from an intent, '
                "only values of arguments are"
            ),
        ),
        ("refunds = 1", "Refunds = 1", 'purpose.refund.grant[1].budget.Refunds: "Refunds" is not a unit'),
        (
            "refunds = 1",
            "refunds = 0.5",
            'purpose.refund.grant[1].budget.refunds: is a float, which is not exact: write refunds = "0.5"',
        ),
        (
            "refunds = 1",
            "refunds = 1e-9",
            (
                "purpose.refund.grant[1].budget.refunds: is a float, which is not exact: write refunds = an amount as "
                'text, such as "0.50"'
            ),
        ),
        (
            "refunds = 1",
            "refunds = -1",
            (
                "purpose.refund.grant[1].budget.refunds: is -1, and a whole number, or an amount as text such as "
                '"0.50" belongs here'
            ),
        ),
        ("{ refunds = 1 }", "{}", "purpose.refund.grant[1].budget: is empty: name a unit, or leave it out"),
        ("[50, 500]", "[500, 50]", f"{AMOUNT}: Range: no number lies between 500 and 50"),
        ("{ range = [50, 500] }", "[50, 500]", f"{AMOUNT}: is an array: write {{ in = [ … ] }} for one of these"),
        ("{ range = [50, 500] }", "{ rnge = 5 }", f"{AMOUNT}.rnge: is no operator: did you mean range?"),
        ("{ range = [50, 500] }", "{}", f"{AMOUNT}: has no operator: write {{ eq = … }}, or {{ anything = true }}"),
        (
            'allow."billing.refund" = { ticket = "{intent.ticket}", amount = { range = [50, 500] } }',
            "allow.billing.refund = { amount = 50 }",
            (
                "purpose.refund.grant[2].allow.billing: has arguments that are none: a name with dots is quoted, as in "
                'purpose.refund.grant[2].allow."billing.…"'
            ),
        ),
        ('allow."crm.export" = {}', "allow = {}", "purpose.nightly.grant[1].allow: is empty: name an action"),
        ('allow."crm.export" = {}', "", "purpose.nightly.grant[1].allow: is missing"),
        (
            'allow."crm.export" = {}',
            'allow = "crm.export"',
            "purpose.nightly.grant[1].allow: is no array of actions, and no table of actions with their arguments",
        ),
        (
            'allow."crm.export" = {}',
            'allow."crm.export" = { a = "{intent.tenant}" }',
            'purpose.nightly.grant[1].allow."crm.export".a: takes tenant from the intent, and the purpose is for none',
        ),
        ("[purpose.nightly]", "[purpose.Nightly]", 'purpose.Nightly: "Nightly" is not a name such as qbr'),
    ],
)
def test_a_mistake_is_told_by_its_key_path(old: str, new: str, told: str) -> None:
    text = changed(old, new)
    assert any(line.startswith(told) for line in problems(text)), problems(text)


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
        ("{ range = {} }", ": Range: one end at least is needed: no number is ruled out"),
        ("{ range = { min = 1, mx = 2 } }", ".range.mx: is no key here: did you mean max?"),
        ('{ range = ["a", 2] }', '.range[1]: is "a", and a number belongs here'),
        ("{ range = [true, 2] }", ".range[1]: is true, and a number belongs here"),
        ("{ length = { min = 1.5 } }", ".length.min: is 1.5, and a whole number, not negative belongs here"),
        ("{ length = { max = -1 } }", ".length.max: is -1, and a whole number, not negative belongs here"),
        ("{ prefix = 5 }", ".prefix: is 5, and a text that is not empty belongs here"),
        ('{ path = "data" }', ": Path: "),
        ('{ regex = "(" }', ": Regex: "),
        ('{ glob = "***" }', ": Glob: a glob has `*` and `**`, and no `***`"),
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
        ('{ url = { hosts = ["x.example"], schemes = ["ftp"] } }', ": Url: ftp has no port of its own"),
        ('{ url = ["x.example"] }', ".url: is an array, and a table belongs here"),
        ("{ argv = { program = 1 } }", ".argv.programs: is missing"),
        ('{ argv = { programs = ["git"], arguments = ["log"] } }', ".argv.arguments[1]: is a text, and an array of"),
        ("{ absent = false }", ".absent: is not true: there is nothing else to say"),
        ("{ anything = 1 }", ".anything: is not true: there is nothing else to say"),
        ("{ any = [] }", ".any: is empty: name constraints, or leave it out"),
        ("{ any = [{ eq = 1 }, { rnge = 1 }] }", ".any[2].rnge: is no operator: did you mean range?"),
        ("{ each = { min = 2 } }", ".each: has no operator"),
        ('{ each = { min = "2", eq = 1 } }', '.each.min: is "2", and a whole number, not negative belongs here'),
        ("{ each = { absent = true } }", ": Each: `absent` may not stand here"),
        ("{ fields = { a = { rnge = 1 } } }", ".fields.a.rnge: is no operator"),
        ('{ fields = { "*" = { absent = true } } }', '.fields."*": Pair: `absent` may not stand here'),
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
def test_a_constraint_that_cannot_be_meant_is_told_before_any_intent_exists(argument: str, told: str) -> None:
    found = problems(granting(f'allow."a.b" = {{ x = {argument} }}'))
    assert any(line.startswith(WORK + told) for line in found), found


def test_everything_that_is_wrong_is_told_together_a_line_each() -> None:
    text = (
        changed('ttl = "2h"', 'tll = "2h"')
        .replace("[50, 500]", "[500, 50]")
        .replace('"finance"]\nwithin', '"x"]\nwithin')
    )
    found = problems(text)
    assert [line.partition(":")[0] for line in found] == [
        "purpose.qbr.tll",
        "purpose.refund.grant[2].approvers[1]",
        AMOUNT,
    ]
    with pytest.raises(ConfigurationProblem) as caught:
        read_policy(text, "draft.toml")
    assert str(caught.value).splitlines() == ["draft.toml cannot be used:", *(f"  {line}" for line in found)]


def test_of_very_many_mistakes_it_is_told_that_there_are_more() -> None:
    found = problems("".join(f"k{number} = 1\n" for number in range(100)))
    assert len(found) == TOLD
    assert found[-1] == "and more, once these are mended"


def test_a_principal_that_is_wrong_does_not_make_its_group_unknown() -> None:
    assert [line.partition(":")[0] for line in problems(changed(KIM, "ed25519:AA"))] == [
        'principal."kim@our.example".key'
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = ", "it is no TOML: Invalid value (at line 1, the last)"),
        ("a = 1\n\nb = [\n  2,\n\n", "it is no TOML: Invalid value (at line 4, the last)"),
        ("[purpose]\n[purpose]", "it is no TOML: Cannot declare ('purpose',) twice (at line 2, column 9)"),
        ("\ufeff[purpose]", "it is no TOML: "),
        (b"\xff", "it is no UTF-8, at byte 0"),
        ("a = '\ud800'", "it is no UTF-8"),
        ("a = " + "9" * 5000, "it is no TOML: "),
        ("purpose = 5", "purpose: is a number, and a table belongs here"),
        ("principal = []", "principal: is an array, and a table belongs here"),
        ('[purpose]\nqbr = "x"', "purpose.qbr: is a text, and a table belongs here"),
        ("[purpose.qbr]\ngrant = {}", "purpose.qbr.grant: is a table, and an array of grants"),
        ("[purpose.qbr]\ngrant = [5]", "purpose.qbr.grant[1]: is a number, and a table belongs here"),
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
        assert "is no key here" in line


@pytest.mark.parametrize("name", ["__proto__", "constructor", "__init__", "x y", "a.b", "*"])
def test_a_strange_argument_name_is_a_name_like_others(name: str) -> None:
    policy = read_policy(granting(f'allow."a.b" = {{ "{name}" = 1 }}'))
    assert policy.purposes["work"].names == frozenset()


def test_a_block_that_no_token_could_hold_is_told_before_any_intent_exists() -> None:
    (line,) = problems(granting('allow."a.b".x.any = [' + "{ eq = 1 }, " * 300 + "]"))
    assert line == "purpose.work.grant[1].allow: a block has more than 256 brackets"


def test_no_key_of_a_stranger_is_shown_in_full() -> None:
    (line,) = problems(changed('"qbr", "refund", "nightly"', f'"{"q" * 5000}"'))
    assert len(line) < 300


@pytest.mark.parametrize("number", ["1" * 400, "-" + "1" * 400, "0x" + "f" * 5000, str(2**53), "1e400", "nan", "-inf"])
@pytest.mark.parametrize("place", ["eq = {}", "range = [0, {}]", "in = [{}]", "length = [{}, 1]"])
def test_a_number_of_any_size_is_told_and_crashes_nothing(place: str, number: str) -> None:
    (line,) = problems(granting('allow."a.b".x = { ' + place.format(number) + " }"))
    assert line.startswith(f"{WORK}.{place.split(maxsplit=1)[0]}")


def limits(count: int) -> str:
    return "".join(f"u{number} = 1\n" for number in range(count))


def together(*actions: str, how: str = "at_open") -> str:
    """Another grant."""
    return f'[[purpose.work.grant]]\nhow = "{how}"\nallow = [{", ".join(map(repr, actions))}]\n'


def test_a_grant_with_more_budgets_than_a_token_may_have_is_told() -> None:
    good = granting('allow = ["a.b"]\n[purpose.work.grant.budget]\n' + limits(16))
    read_policy(good)
    (line,) = problems(good + "more = 1\n")
    assert line == "purpose.work.grant[1].allow: a token has at most 16 budgets"
    later = 'how = "on_request"\n'
    assert problems(granting(later + 'allow = ["a.b"]\n[purpose.work.grant.budget]\n' + limits(17))) == (
        "purpose.work.grant[1].allow: a.b: a token has at most 16 budgets",
    )


def test_grants_of_one_audience_that_fit_apart_and_not_together_are_told() -> None:
    half, rest = ([f"a.{half}{number}" for number in range(150)] for half in "xy")
    read_policy(granting(f"allow = {half}"))
    (line,) = problems(granting(f"allow = {half}") + together(*rest))
    assert line == (
        "purpose.work.grant[2].allow: together with purpose.work.grant[1], at a: a block has more than 256 brackets"
    )
    read_policy(granting(f"allow = {half}") + together(*rest, how="on_request"))


def test_grants_that_are_longer_than_a_block_together_are_told() -> None:
    half, rest = ([f"a.{'x' * 100}{half}{number}" for number in range(18)] for half in "xy")
    read_policy(granting(f"allow = {half}"))
    (line,) = problems(granting(f"allow = {half}") + together(*rest))
    assert "at a: a block has at most 4096 bytes, and this would have" in line


def test_more_capabilities_at_open_than_a_bundle_holds_are_told() -> None:
    read_policy(granting(f"allow = {[f'a{number}.b' for number in range(31)]}"))
    (line,) = problems(granting(f"allow = {[f'a{number}.b' for number in range(32)]}"))
    assert line.startswith("purpose.work: needs 32 capabilities at open")


def test_what_could_be_asked_for_and_never_pinned_is_told() -> None:
    grant = 'how = "ask"\napprovers = ["kim"]\nallow."a.b" = {{ note = "{}" }}'
    read_policy(granting(grant.format("x" * 1000)))
    (line,) = problems(granting(grant.format("x" * 2000)))
    assert line.startswith("purpose.work.grant[1].allow: a.b: a block has at most 4096 bytes")


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
def test_many_mistakes_among_many_names_are_told_with_little_work(text: str) -> None:
    assert len(text) < LARGEST
    began = time.process_time()
    assert problems(text)
    assert time.process_time() - began < 5


def test_a_large_file_that_is_good_is_read_and_remarked_upon_with_little_work() -> None:
    tenants = f"tenants = {NAMES}\ngroups = {['g' + name for name in NAMES]}"
    actions = ",\n".join(f"'a.{name}'" for name in NAMES)
    grant = f'how = "ask"\napprovers = {["g" + name for name in NAMES]}\nallow = [{actions}]'
    large = granting(grant).replace("[principal.kim]", f"[principal.kim]\n{tenants}")
    assert 400_000 < len(large) < LARGEST
    began = time.process_time()
    assert list(warnings(read_policy(large))) == []
    assert time.process_time() - began < 10
