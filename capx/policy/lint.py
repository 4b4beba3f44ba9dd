"""Warnings about a valid policy: parts of it that cannot work as they are written.

Law: a warning holds for every principal and every intent. It reports a grant that never decides, a purpose or a consent
that nobody can use, a consent that is good for several calls or for other arguments, or a task that an authority with
default settings never opens.
"""

from collections.abc import Iterable, Iterator

from msgspec import UNSET

from capx.policy.describe import listed, uses_in_words
from capx.policy.policy import MAX_TTL, Policy, Principal, Purpose
from capx.policy.rule_templates import RuleTemplate, RuleTemplates
from capx.policy.terms import HOWS
from capx_caveats import is_action, shown_duration
from capx_caveats.names import told_name


def warnings(policy: Policy) -> Iterator[str]:
    """Yield one sentence for each warning; it begins with the key path."""
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
        yield from _unusable(purpose, may_ask)
        grants = purpose.rules.grants if isinstance(purpose.rules, RuleTemplates) else ()
        yield from _never_deciding(grants)
        for grant in grants:
            yield from _sole_approver(grant, may_ask, answering)
            yield from _reused(grant)
            yield from _loosely_pinned(grant)


def _same_keys(principals: Iterable[Principal]) -> Iterator[str]:
    """Warn about principals with the same key: neither can consent to what the other asks for."""
    first: dict[bytes, str] = {}
    for principal in principals:
        if principal.key is None:
            continue
        other = first.setdefault(principal.key, principal.name)
        if other != principal.name:
            who, whom = told_name(principal.name), told_name(other)
            yield f"principal.{who}.key: is also the key of {whom}, so neither can consent for the other: use two keys"


def _unusable(purpose: Purpose, asking: set[str]) -> Iterator[str]:
    if not asking:
        yield f"purpose.{purpose.name}: no principal may ask for it: add it to the purposes of one"
    if purpose.ttl > MAX_TTL:
        most = shown_duration(MAX_TTL)
        yield f"purpose.{purpose.name}.ttl: is over {most}, the default max_ttl: shorten it, or raise max_ttl"


def _never_deciding(grants: tuple[RuleTemplate, ...]) -> Iterator[str]:
    """Warn about grants that repeat an earlier grant of the same action with any arguments."""
    before: dict[tuple[str, str], RuleTemplate] = {}
    for grant in sorted(grants, key=lambda grant: HOWS.index(grant.how)):
        for allowed in grant.allowed:
            for pattern in _covering(allowed.pattern):
                earlier = before.get((allowed.audience, pattern))
                if earlier is not None:
                    when = _WHEN[earlier.how]
                    yield f"{allowed.path}: never decides: {earlier.place} gives the same {when}: remove one of the two"
                    break
        # After the comparison, so that a grant is not compared with itself.
        for allowed in grant.allowed:
            if allowed.args is UNSET:
                before.setdefault((allowed.audience, allowed.pattern), grant)


_WHEN = {"at_open": "at open", "on_request": "on request", "ask": "before it, by asking"}


def _covering(pattern: str) -> Iterator[str]:
    """Yield the patterns that match every action that this one matches."""
    yield pattern
    labels = pattern.removesuffix(".*").split(".")
    for count in range(len(labels) - is_action(pattern), 0, -1):
        yield f"{'.'.join(labels[:count])}.*"


def _reused(grant: RuleTemplate) -> Iterator[str]:
    """Warn if one consent is good for more than one call: the person sees only the first of them."""
    if grant.how == "ask" and grant.uses != 1:
        good = uses_in_words(grant.uses)
        yield f"{grant.place}.uses: one consent is good for {good}: remove the key to ask a person for each call"


def _loosely_pinned(grant: RuleTemplate) -> Iterator[str]:
    """Warn if one consent is good for calls with other arguments than those that the person sees."""
    if grant.how == "ask" and grant.pinned is not True:
        loose = (
            f"the agent may change all arguments but {listed(grant.pinned)} after the consent"
            if grant.pinned
            else "the agent may ask without naming arguments, and the consent is then good for any"
        )
        yield f"{grant.place}.pinned: {loose}: remove the key to pin a consent to the whole call"


def _sole_approver(grant: RuleTemplate, asking: set[str], answering: dict[str, set[str]]) -> Iterator[str]:
    """Warn if the only principal who can consent may also ask, because nobody consents to their own ask."""
    groups = [answering.get(approver, set()) for approver in grant.approvers]
    # A group of two always has another member, even if one of them asks.
    able = set[str]() if any(len(group) > 1 for group in groups) else set[str]().union(*groups)
    if len(able) == 1 and able <= asking:
        who = told_name(*able)
        yield f"{grant.place}.approvers: only {who} can consent, but not to what {who} asks for: add another approver"
