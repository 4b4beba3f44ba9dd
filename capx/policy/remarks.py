"""What a policy says that cannot have been meant, though it can be used.

Law: a remark is only about what is certain: a grant that never decides, whoever asks and whatever the intent says.
"""

from collections.abc import Iterator

from msgspec import UNSET

from capx.policy import HOWS, Policy, Purpose
from capx.policy.grants import Allowed, Grant, Grants
from capx_caveats import is_action
from capx_caveats.names import told_name


def remarks(policy: Policy) -> Iterator[str]:
    """A sentence for each, with its key path."""
    for purpose in policy.purposes.values():
        if not any(purpose.name in principal.purposes for principal in policy.principals.values()):
            yield f"purpose.{purpose.name}: no principal may ask for it"
        grants = purpose.rules.grants if isinstance(purpose.rules, Grants) else ()
        yield from _never_deciding(grants)
        yield from _alone(policy, purpose, grants)


def _never_deciding(grants: tuple[Grant, ...]) -> Iterator[str]:
    """What an earlier grant says yes to, whatever the arguments."""
    before: list[tuple[Grant, Allowed]] = []
    for grant in sorted(grants, key=lambda grant: HOWS.index(grant.how)):
        for allowed in grant.allowed:
            for earlier, covering in before:
                if _covers(covering, allowed):
                    yield f"{allowed.path}: never decides, since {earlier.place} gives it {_WHEN[earlier.how]}"
                    break
        before += [(grant, allowed) for allowed in grant.allowed]


_WHEN = {"at_open": "at open", "on_request": "on request", "ask": "before, by asking"}


def _covers(one: Allowed, other: Allowed) -> bool:
    if one.audience != other.audience or one.args is not UNSET:
        return False
    if one.pattern == other.pattern:
        return True
    return not is_action(one.pattern) and other.pattern.startswith(one.pattern[:-1])


def _alone(policy: Policy, purpose: Purpose, grants: tuple[Grant, ...]) -> Iterator[str]:
    """Who may ask, and would be the only one to consent, which nobody does to what they ask for."""
    asking = [principal.name for principal in policy.principals.values() if purpose.name in principal.purposes]
    for grant in grants:
        able = {
            name
            for approver in grant.approvers
            for name in policy.members(approver)
            if policy.principals[name].key is not None
        }
        for principal in asking:
            if grant.how == "ask" and able == {principal}:
                who = told_name(principal)
                yield f"{grant.place}.approvers: {who} alone can consent, and not to what {who} asks for"
