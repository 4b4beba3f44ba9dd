"""The policy: what an intent gets at once, what it gets on request, and what a person must approve first.

    from capx.policy import read_policy

    policy = read_policy('''
        [principal."ana@our.example"]
        purposes = ["qbr"]

        [purpose.qbr]
        tenant = "none"

        [[purpose.qbr.grant]]
        how = "at_open"
        allow = ["crm.read"]
    ''')
    assert list(policy.purposes) == ["qbr"]

Modules:

    policy, terms             who may ask for what, and the rules for one intent
    rule_templates            rules with placeholders for the values of an intent
    fit                       whether a rule fits into a token
    file, toml_reader, tables, grant_tables, placeholders    readers for policy.toml
    constraints, constraint_operators                        readers for its constraints
    lint, describe, cases     warnings, plain sentences, and test cases
"""

from capx.policy.file import read_policy
from capx.policy.policy import Policy

__all__ = ["Policy", "read_policy"]
