"""What a policy says that cannot have been meant, though it can be used.

Law: a remark is about what is certain, whoever asks and whatever the intent says: a grant that never decides, a purpose
or a consent that nobody can make use of, a task that no authority opens unless it was told to.
"""

from collections.abc import Iterable, Iterator

from msgspec import UNSET

from capx.policy.policy import MAX_TTL, Policy, Principal, Purpose
from capx.policy.rule_templates import RuleTemplate, RuleTemplates
from capx.policy.terms import HOWS
from capx_caveats import is_action, shown_duration
from capx_caveats.names import told_name


def warnings(policy: Policy) -> Iterator[str]:
    """A sentence for each, with its key path."""
    yield from _same_keys(policy.principals.values())
    asking: dict[str, set[str]] = {}
    answering: dict[str, set[str]] = {}
    for principal in policy.principals.values():
        for wanted in principal.purposes:
            asking.setdefault(wanted, set()).add(principal.name)
        if principal.key is not None:
            for name in (principal.name, *principal.groups):
                answering.setdefault(name, set()).add(principal.name)
    for purpose in policy.purposes.values():
        may_ask = asking.get(purpose.name, set())
        yield from _unopened(purpose, may_ask)
        grants = purpose.rules.grants if isinstance(purpose.rules, RuleTemplates) else ()
        yield from _never_deciding(grants)
        for grant in grants:
            yield from _alone(grant, may_ask, answering)


def _same_keys(principals: Iterable[Principal]) -> Iterator[str]:
    """Who signs as somebody else too: nobody consents under one name to what they asked for under another."""
    first: dict[bytes, str] = {}
    for principal in principals:
        if principal.key is None:
            continue
        other = first.setdefault(principal.key, principal.name)
        if other != principal.name:
            who, whom = told_name(principal.name), told_name(other)
            yield f"principal.{who}.key: is the key of {whom}: neither consents to what the other one asks for"


def _unopened(purpose: Purpose, asking: set[str]) -> Iterator[str]:
    if not asking:
        yield f"purpose.{purpose.name}: no principal may ask for it"
    if purpose.ttl > MAX_TTL:
        yield (
            f"purpose.{purpose.name}.ttl: no task opens for {shown_duration(purpose.ttl)}, unless its authority was "
            f"made with a max_ttl of more than {shown_duration(MAX_TTL)}"
        )


def _never_deciding(grants: tuple[RuleTemplate, ...]) -> Iterator[str]:
    """What an earlier grant says yes to, whatever the arguments."""
    before: dict[tuple[str, str], RuleTemplate] = {}
    for grant in sorted(grants, key=lambda grant: HOWS.index(grant.how)):
        for allowed in grant.allowed:
            for pattern in _covering(allowed.pattern):
                earlier = before.get((allowed.audience, pattern))
                if earlier is not None:
                    yield f"{allowed.path}: never decides, since {earlier.place} gives it {_WHEN[earlier.how]}"
                    break
        for allowed in grant.allowed:
            if allowed.args is UNSET:
                before.setdefault((allowed.audience, allowed.pattern), grant)


_WHEN = {"at_open": "at open", "on_request": "on request", "ask": "before, by asking"}


def _covering(pattern: str) -> Iterator[str]:
    """The patterns that say yes to all that this one does."""
    yield pattern
    labels = pattern.removesuffix(".*").split(".")
    for count in range(len(labels) - is_action(pattern), 0, -1):
        yield f"{'.'.join(labels[:count])}.*"


def _alone(grant: RuleTemplate, asking: set[str], answering: dict[str, set[str]]) -> Iterator[str]:
    """Who may ask, and would be the only one to consent, which nobody does to what they ask for."""
    groups = [answering.get(approver, set()) for approver in grant.approvers]
    able = set[str]() if any(len(group) > 1 for group in groups) else set[str]().union(*groups)
    if len(able) == 1 and able <= asking:
        who = told_name(*able)
        yield f"{grant.place}.approvers: {who} alone can consent, and not to what {who} asks for"
