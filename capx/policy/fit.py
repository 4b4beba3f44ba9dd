"""Whether what a policy gives fits into the tokens that are to carry it.

Laws: what does not fit is told by its key path before anything is opened, and no task opens with a token that nobody
would take. What is given at open at one audience shares a token, if it shares its budgets; of what is given later, each
single thing has a token of its own, and in it once more what was asked for: the arguments that it pins, at least.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from capx.policy.terms import Offer, Rule, Terms
from capx.tokens.bundle import MAX_TOKENS
from capx.tokens.grants import Claims, authority_block
from capx.tokens.lineage import MAX_BUDGETS
from capx.tokens.wire import MAX_BLOCK
from capx_caveats import Allow, Budget, Caveat, Entry, Eq, InvalidCaveat, encode_block

_ID: Final = 22 * "A"
_DIGEST: Final = 43 * "A"
_LATE: Final = 10**10


def block_problem(caveats: tuple[Caveat, ...]) -> str | None:
    """Why these could be no authority's block, or one that nobody takes; None if they can."""
    if sum(isinstance(caveat, Budget) for caveat in caveats) > MAX_BUDGETS:
        return f"a token has at most {MAX_BUDGETS} budgets"
    try:
        size = len(encode_block(caveats))
    except InvalidCaveat as error:
        return str(error)
    return f"a block has at most {MAX_BLOCK} bytes, and this would have {size}" if size > MAX_BLOCK else None


def problems(terms: Terms) -> Iterator[str]:
    """What of these terms fits into no token, a sentence each, which begins with its key path."""
    claims, capabilities = _some_claims(terms), terms.given_at_open
    if len(capabilities) >= MAX_TOKENS:
        yield (
            f"purpose.{terms.purpose}: needs {len(capabilities)} capabilities at open, one for each audience and each "
            f"set of budgets at it, and a bundle has room for {MAX_TOKENS - 1}: give some of it on_request"
        )
        capabilities = ()
    for one in capabilities:
        if why := block_problem(authority_block(claims, one.allowed, _LATE, one.budgets)):
            places = [rule.place for rule in terms.at_open() if rule.budgets == one.budgets and _at(rule, one.audience)]
            beside = f"together with {' and '.join(places[:-1])}, at {one.audience}: " if places[1:] else ""
            yield f"{places[-1]}.allow: {beside}{why}"
    for rule in terms.rules:
        if rule.how != "at_open":
            for offer in rule.offers:
                if why := grant_problem(terms, rule, offer, _pinned(offer.entry)):
                    yield f"{rule.place}.allow: {offer.entry.pattern}: {why}"


def grant_problem(terms: Terms, rule: Rule, offer: Offer, asked: Entry) -> str | None:
    """Why this could not be granted when it is asked for later; None if it can to the first agent of a task."""
    restricting = (Allow((asked,)), *rule.budgets)
    return block_problem(authority_block(_some_claims(terms), (offer.entry,), _LATE, restricting))


def _some_claims(terms: Terms) -> Claims:
    """What tokens say of a task on such terms: only the lengths count."""
    return Claims(_ID, _ID, terms.tenant, _DIGEST)


def _at(rule: Rule, audience: str) -> bool:
    return any(offer.audience == audience for offer in rule.offers)


def _pinned(entry: Entry) -> Entry:
    """The least that an ask for this can be pinned to: the arguments that must equal something."""
    pairs = () if entry.args is UNSET else tuple(pair for pair in entry.args if isinstance(pair.constraint, Eq))
    return Entry(entry.pattern, pairs) if pairs else Entry(entry.pattern)
