"""Check whether what a policy gives fits into tokens.

Laws: a policy reports each part that does not fit by its key path, before a task opens. So no task opens with a token
that every resource would deny. The grants at open share one token if they have the same audience and the same budgets.
Each later grant has a token of its own, which also holds a copy of the ask: at least the arguments to which the ask is
pinned.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from capx.policy.terms import Offer, Rule, Terms
from capx.tokens.bundle import MAX_TOKENS
from capx.tokens.grants import Claims, authority_block
from capx.tokens.lineage import MAX_BUDGETS
from capx.tokens.wire import MAX_BLOCK
from capx_caveats import CALLS, Allow, Budget, Caveat, Entry, Eq, InvalidCaveat, encode_block

_ID: Final = 22 * "A"
"""A task or node id of the length that all ids have."""
_DIGEST: Final = 43 * "A"
_KEY: Final = f"ed25519:{_DIGEST}"
"""An agent's key: any task may name one."""
_LATE: Final = 10**10
"""A time of expiry with as many digits as one can have."""


class Unfit(Exception):
    """These caveats cannot be a block of the authority; the message says why."""


def fitting_block(caveats: tuple[Caveat, ...]) -> bytes:
    """Return the block of the authority with these caveats; Unfit if every service would refuse it."""
    if sum(isinstance(caveat, Budget) for caveat in caveats) > MAX_BUDGETS:
        raise Unfit(f"a token has at most {MAX_BUDGETS} budgets")
    try:
        block = encode_block(caveats)
    except InvalidCaveat as error:
        raise Unfit(str(error)) from None
    if len(block) > MAX_BLOCK:
        raise Unfit(f"a block has at most {MAX_BLOCK} bytes, and this would have {len(block)}")
    return block


def block_problem(caveats: tuple[Caveat, ...]) -> str | None:
    """Return why these caveats cannot be a block of the authority, or None if they can."""
    try:
        fitting_block(caveats)
    except Unfit as why:
        return str(why)
    return None


def problems(terms: Terms) -> Iterator[str]:
    """Yield a sentence, which begins with its key path, for each part of the terms that fits into no token."""
    claims, capabilities = _sample_claims(terms), terms.given_at_open
    # One place in the bundle is for the capability at the authority itself.
    if len(capabilities) >= MAX_TOKENS:
        yield (
            f"purpose.{terms.purpose}: needs {len(capabilities)} capabilities at open, one for each audience, each set "
            f"of budgets and each approval at it, but a bundle has room for {MAX_TOKENS - 1}: grant some on_request"
        )
        # One sentence about the number is enough; sizes do not matter before that is mended.
        capabilities = ()
    for one in capabilities:
        if why := block_problem(authority_block(claims, one.allowed, _LATE, one.budgets)):
            # Several grants may share this token. Name them all, because each of them may fit by itself.
            alike = (rule for rule in terms.at_open() if (rule.budgets, rule.approval) == (one.budgets, one.approval))
            places = [rule.place for rule in alike if _at(rule, one.audience)]
            beside = f"together with {' and '.join(places[:-1])}, at {one.audience}: " if places[1:] else ""
            yield f"{places[-1]}.allow: {beside}{why}: shorten this grant, or move a part of it to on_request"
    for rule in terms.rules:
        if rule.how != "at_open":
            for offer in rule.offers:
                if why := grant_problem(terms, rule, offer, _pinned(offer.entry)):
                    yield f"{rule.place}.allow: {offer.entry.pattern}: {why}: shorten this grant"


def grant_problem(terms: Terms, rule: Rule, offer: Offer, asked: Entry) -> str | None:
    """Return why a later ask for this offer could not be granted, or None if it can.

    It is checked for the first agent of a task, whose token has no hops yet.
    """
    uses = () if rule.uses is None else (Budget(CALLS, str(rule.uses), _ID),)
    restricting = (Allow((asked,)), *rule.budgets, *uses)
    return block_problem(authority_block(_sample_claims(terms), (offer.entry,), _LATE, restricting))


def _sample_claims(terms: Terms) -> Claims:
    """Return claims of the lengths that those of a task on such terms have."""
    return Claims(_ID, _ID, terms.tenant, _DIGEST, _KEY)


def _at(rule: Rule, audience: str) -> bool:
    return any(offer.audience == audience for offer in rule.offers)


def _pinned(entry: Entry) -> Entry:
    """Return the shortest ask for this offer: it is pinned only to the arguments that must equal a value."""
    pairs = () if entry.args is UNSET else tuple(pair for pair in entry.args if isinstance(pair.constraint, Eq))
    return Entry(entry.pattern, pairs) if pairs else Entry(entry.pattern)
