"""What is wrong with a policy is told by its key path, with what would do, all of it together."""

import pytest

from capx.errors import ConfigurationProblem
from capx.policy.file import read_policy
from capx.policy.toml_reader import MAX_LINES
from tests.labs.policies import KIM, changed, granting, problems

AMOUNT = 'purpose.refund.grant[2].allow."billing.refund".amount'
WORK = 'purpose.work.grant[1].allow."a.b".x'


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[audience]", "[audiences]", "audiences: unknown key: did you mean audience?"),
        ("crm = ", "CRM = ", 'audience.CRM: "CRM" is not an audience: use lower-case letters, digits, dots and dashes'),
        (
            "crm = ",
            "authority = ",
            "audience.authority: authority is reserved for the authority itself: choose another name",
        ),
        (
            '"https://crm.internal"',
            '"https://crm.internal/"',
            (
                'audience.crm: "https://crm.internal/" is not an origin: write one like '
                "https://crm.internal, "
                "without a path"
            ),
        ),
        ('"https://crm.internal"', "5", 'audience.crm: is a number, but must be a string: write it in " "'),
        ("key = ", "keys = ", 'principal."ana@our.example".keys: unknown key: did you mean key?'),
        (
            "ed25519:",
            "rsa:",
            (
                'principal."ana@our.example".key: this is not a public key: '
                "capx principal show and capx agent-key show print ed25519:…"
            ),
        ),
        (
            '["Acme"]',
            "[]",
            'principal."ana@our.example".tenants: is empty: list tenants, or remove the key',
        ),
        (
            '["Acme"]',
            '"Acme"',
            'principal."ana@our.example".tenants: is a string, but must be an array of tenants: write it in [ ]',
        ),
        ('["Acme"]', '["Acme", "Acme"]', 'principal."ana@our.example".tenants[2]: "Acme" is listed twice: remove one'),
        (
            '["Acme"]',
            '["{intent.tenant}"]',
            (
                'principal."ana@our.example".tenants[1]: "{intent.tenant}" contains a {, but a name cannot come '
                "from an intent: write it in full"
            ),
        ),
        (
            '["Acme"]',
            '["Ac\\u200bme"]',
            (
                'principal."ana@our.example".tenants[1]: "Ac\\u200bme" is not a tenant: use 1 to 128 characters, '
                "none of "
                "them hidden"
            ),
        ),
        (
            '"qbr", "refund"',
            '"qbr", "refunds"',
            (
                'principal."ana@our.example".purposes[2]: is "refunds", but the policy has no such purpose: did you '
                "mean refund?"
            ),
        ),
        (
            'groups = ["finance"]',
            'groups = ["robot"]',
            'principal."kim@our.example".groups: "robot" is the name of a principal: give the group another name',
        ),
        *(
            (
                'groups = ["finance"]',
                f"max_waiting = {raw}",
                'principal."kim@our.example".max_waiting: must be a whole number from 1 to 100000',
            )
            for raw in ("0", "-1", "true", "1.5", '"9"', "100001")
        ),
        ("[purpose.qbr]", "[purpose.qbr]\ntll = 1", "purpose.qbr.tll: unknown key: did you mean ttl?"),
        ('"2h"', '"2 hours"', "purpose.qbr.ttl: '2 hours' is not a duration: write 90s, 15m, 2h or 1d"),
        ('"2h"', '"0s"', "purpose.qbr.ttl: is 0: write a longer time, such as 15m"),
        ('"2h"', "2", 'purpose.qbr.ttl: is a number, but must be a string: write it in " "'),
        ('tenant = "none"', 'tenant = "Acme"', 'purpose.nightly.tenant: is not "none": write tenant'),
        (
            'tenant = "none"',
            'tenant = "none"\nrequire = ["tenant"]',
            'purpose.nightly.require: has tenant, but this purpose has tenant = "none": remove one of the two',
        ),
        (
            '"tenant", "ticket"',
            '"purpose", "ticket"',
            "purpose.refund.require[1]: is purpose, which every intent has: remove it from the list",
        ),
        (
            '"tenant", "ticket"',
            '"holder", "ticket"',
            "purpose.refund.require: has holder, which only services can require: require agent_key here",
        ),
        ("[[purpose.nightly.grant]]", "[[purpose.nightly.grants]]", "purpose.nightly.grant: is missing: add it"),
        ('"crm.accounts.read", ', '"crm accounts", ', 'purpose.qbr.grant[1].allow[1]: "crm accounts" is not an action'),
        (
            '"crm.accounts.read", ',
            '"*", ',
            (
                'purpose.qbr.grant[1].allow[1]: "*" is not an action: write one such as crm.accounts.read, or crm.* '
                "for all that begin with crm."
            ),
        ),
        (
            '"crm.accounts.read", ',
            '"crn.accounts.read", ',
            "purpose.qbr.grant[1].allow[1]: is crn, which [audience] does not list: did you mean crm?",
        ),
        (
            '"crm.accounts.read", ',
            '"authority.all", ',
            "purpose.qbr.grant[1].allow[1]: is authority, which is reserved: name the audience of a service",
        ),
        (
            '"crm.accounts.read", ',
            '"CRM.read", ',
            (
                'purpose.qbr.grant[1].allow[1]: begins with "CRM", which cannot be an audience: add audience = … to '
                "this grant"
            ),
        ),
        (
            '"crm.accounts.read", ',
            '"crm.{intent.x}", ',
            (
                'purpose.qbr.grant[1].allow[1]: "crm.{intent.x}" contains a {, but a name cannot come from an intent: '
                "write it in full"
            ),
        ),
        (
            "allow = [",
            'audience = "{intent.x}"\nallow = [',
            (
                'purpose.qbr.grant[1].audience: "{intent.x}" contains a {, but a name cannot come from an intent: '
                "write it in full"
            ),
        ),
        (
            "allow = [",
            'audience = "authority"\nallow = [',
            "purpose.qbr.grant[1].audience: is authority, which is reserved: name the audience of a service",
        ),
        (
            'how = "on_request"',
            'how = "on-request"',
            'purpose.refund.grant[1].how: is "on-request", which is unknown: did you mean on_request?',
        ),
        (
            'how = "on_request"',
            'how = "at_open"\napprovers = ["finance"]',
            (
                'purpose.refund.grant[1].approvers: works only with how = "ask", but this grant is at_open: remove '
                "the key, or change how"
            ),
        ),
        ('approvers = ["finance"]', "", "purpose.refund.grant[2].approvers: is missing: add it"),
        (
            'approvers = ["finance"]',
            'approvers = ["finanze"]',
            (
                'purpose.refund.grant[2].approvers[1]: "finanze" is neither a principal nor a group with '
                "members: did you mean finance?"
            ),
        ),
        (
            'approvers = ["finance"]',
            'approvers = ["robot"]',
            ('purpose.refund.grant[2].approvers[1]: is "robot", but nobody there has a key to sign with: add one'),
        ),
        (
            'approvers = ["finance"]',
            'approvers = ["{intent.agent}"]',
            (
                'purpose.refund.grant[2].approvers[1]: "{intent.agent}" contains a {, but a name cannot come '
                "from an intent: write it in full"
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
                'a string, such as "0.50"'
            ),
        ),
        (
            "refunds = 1",
            "refunds = -1",
            (
                "purpose.refund.grant[1].budget.refunds: is -1, but must be a whole number, or an amount as a "
                "string such as "
                '"0.50"'
            ),
        ),
        ("{ refunds = 1 }", "{}", "purpose.refund.grant[1].budget: is empty: name a unit, or remove the key"),
        ("[50, 500]", "[500, 50]", f"{AMOUNT}: Range: no number is between 500 and 50: give the smaller end first"),
        ("{ range = [50, 500] }", "[50, 500]", f"{AMOUNT}: is an array: write {{ in = [ … ] }} for any of these"),
        ("{ range = [50, 500] }", "{ rnge = 5 }", f"{AMOUNT}.rnge: unknown operator: did you mean range?"),
        ("{ range = [50, 500] }", "{}", f"{AMOUNT}: has no operator: write {{ eq = … }}, or {{ anything = true }}"),
        (
            'allow."billing.refund" = { ticket = "{intent.ticket}", amount = { range = [50, 500] } }',
            "allow.billing.refund = { amount = 50 }",
            (
                "purpose.refund.grant[2].allow.billing: looks like part of an action: quote names "
                "with dots, as in "
                'purpose.refund.grant[2].allow."billing.…"'
            ),
        ),
        ('allow."crm.export" = {}', "allow = {}", "purpose.nightly.grant[1].allow: is empty: name an action"),
        ('allow."crm.export" = {}', "", "purpose.nightly.grant[1].allow: is missing: add it"),
        (
            'allow."crm.export" = {}',
            'allow = "crm.export"',
            "purpose.nightly.grant[1].allow: must be an array of actions, or a table of actions with their arguments",
        ),
        (
            'allow."crm.export" = {}',
            'allow."crm.export" = { a = "{intent.tenant}" }',
            (
                'purpose.nightly.grant[1].allow."crm.export".a: takes tenant from the intent, but this purpose has '
                'tenant = "none": remove one of the two'
            ),
        ),
        ("[purpose.nightly]", "[purpose.Nightly]", 'purpose.Nightly: "Nightly" is not a name such as qbr'),
    ],
)
def test_a_mistake_is_told_by_its_key_path(old: str, new: str, told: str) -> None:
    text = changed(old, new)
    assert any(line.startswith(told) for line in problems(text)), problems(text)


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
    assert len(found) == MAX_LINES
    assert found[-1] == "and more: correct the lines above, then check the file again"


def test_a_wrong_principal_does_not_make_its_group_unknown() -> None:
    assert [line.partition(":")[0] for line in problems(changed(KIM, "ed25519:AA"))] == [
        'principal."kim@our.example".key'
    ]


@pytest.mark.parametrize("name", ["__proto__", "constructor", "__init__", "x y", "a.b", "*"])
def test_a_strange_argument_name_is_a_name_like_others(name: str) -> None:
    policy = read_policy(granting(f'allow."a.b" = {{ "{name}" = 1 }}'))
    assert policy.purposes["work"].names == frozenset()


def test_no_key_of_a_stranger_is_shown_in_full() -> None:
    (line,) = problems(changed('"qbr", "refund", "nightly"', f'"{"q" * 5000}"'))
    assert len(line) < 300


@pytest.mark.parametrize("number", ["1" * 400, "-" + "1" * 400, "0x" + "f" * 5000, str(2**53), "1e400", "nan", "-inf"])
@pytest.mark.parametrize("place", ["eq = {}", "range = [0, {}]", "in = [{}]", "length = [{}, 1]"])
def test_a_number_of_any_size_is_told_and_crashes_nothing(place: str, number: str) -> None:
    (line,) = problems(granting('allow."a.b".x = { ' + place.format(number) + " }"))
    assert line.startswith(f"{WORK}.{place.split(maxsplit=1)[0]}")


def test_a_parameter_that_a_grant_uses_may_be_a_holder() -> None:
    found = read_policy(granting('allow."crm.read" = { name = "{intent.holder}" }', 'require = ["holder"]').encode())
    assert found.purposes["work"].names == {"holder"}


LISTED = '[audience]\npartner = "https://partner.example"\n'


def test_statements_are_made_for_listed_audiences() -> None:
    policy = read_policy(f'{LISTED}[statement]\npartner = "5m"\n')
    assert policy.statements == {"partner": 300}
    assert read_policy(LISTED).statements == {}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('partner = "301s"', "statement.partner: must be from 1s to 300s: nobody can end a statement before"),
        ('partner = "0s"', "statement.partner: is 0"),
        ("partner = 60", "statement.partner: is a number"),
        ('partners = "60s"', "[audience] does not list: did you mean partner?"),
        ('authority = "60s"', "[audience] does not list"),
    ],
)
def test_a_statement_that_cannot_be_is_told(line: str, told: str) -> None:
    with pytest.raises(ConfigurationProblem) as problem:
        read_policy(f"{LISTED}[statement]\n{line}\n")
    assert told in str(problem.value)


def test_audiences_of_one_origin_have_no_statements() -> None:
    listed = f'{LISTED}other = "https://partner.example"\n'
    assert read_policy(listed).audiences.keys() == {"partner", "other"}
    with pytest.raises(ConfigurationProblem, match='has the origin of "other", which could take'):
        read_policy(f'{listed}[statement]\npartner = "5m"\n')
