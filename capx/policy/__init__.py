"""The policy: what an intent gets at once, what on request, and what a person has to approve.

    from capx.policy import read_policy

    policy = read_policy('''
        [principal."ana@our.example"]
        purposes = ["qbr"]

        [purpose.qbr]
        tenant = "none"

        [[purpose.qbr.grant]]
        allow = ["crm.read"]
    ''')
    assert list(policy.purposes) == ["qbr"]

Modules:

    policy, terms             who may ask for what, and what one intent gets
    rule_templates            rules, before an intent fills in what they take from it
    fit                       whether that fits into a token
    file, toml_reader, tables, grant_tables, placeholders    how policy.toml is read
    constraints, constraint_operators                        how its constraints are read
    lint, describe, cases     warnings, plain sentences, and test cases
"""

from capx.policy.file import read_policy
from capx.policy.policy import Policy

__all__ = ["Policy", "read_policy"]
