"""The keys of agents at the authority: which key a task names, and which keys it never names again.

Laws:

- If an intent names a key, its tasks name that key and no other: the principal has signed who may act. If it names
  none, or there is no intent, whoever opens the task may name one. With a key, fewer can use the tokens, never more.
- A task names no key that the policy has for a person.
- A key that was revoked is named in nothing any more, for ever: not when a task opens, and not when more is minted or
  granted. The transaction that writes decides this.
- The transaction that forgets the death of a key kills the key anew. Otherwise an agent could name it in a hop again.
  So each revoked key has one new death in `max_ttl`.
"""

from msgspec import UNSET

from capx.authority.ending import forget_ended
from capx.authority.revoking import by_key, kill
from capx.errors import InvalidRequest
from capx.intents.intent import Intent, demand_agent_key
from capx.policy.policy import Policy
from capx.store.events import revoked_agent_keys
from capx.store.protocols import Reading, Writing
from capx.store.records import Pruned
from capx.tokens.revocation_key import of_public
from capx_caveats import shown


def agreed(intent: Intent | None, given: str | None) -> str | None:
    """The key that a task names: that of its intent, or the given one (`ed25519:` and 43 characters); None for neither.

    InvalidRequest for a text that is no key, or for another key than that of the intent.
    """
    if given is not None:
        demand_agent_key(given)
    named = UNSET if intent is None else intent.agent_key
    if named is UNSET or given in {None, named}:
        return given if named is UNSET else named
    raise InvalidRequest(
        f"the intent names the key {named}, so its tokens cannot be bound to {given}: leave out agent_key "
        "(--agent-key), or have the principal sign an intent for the other key"
    )


def demand_living(reading: Reading, key: str | None) -> None:
    """Raise InvalidRequest for an agent's key that was revoked."""
    if key is not None and reading.death(of_public(key)):
        raise InvalidRequest(
            f"the agent's key {key} was revoked, and nothing is bound or sealed to it any more: make another key (capx "
            "agent-key new), and name that one"
        )


def demand_no_persons(policy: Policy, key: str) -> None:
    """Raise InvalidRequest for the key of a person in the policy: who acts and who consents are two keys."""
    from capx.crypto.ed25519 import parse_public  # slow to import, and only keyed tasks need it

    public = parse_public(key)
    for person in policy.principals.values():
        if person.key == public:
            raise InvalidRequest(
                f"{key} is the key of {shown(person.name)} in the policy, and no agent's: make a key for the agent "
                "(capx agent-key new), and name that one"
            )


def forget(transaction: Writing, *, now: int, max_ttl: int) -> Pruned:
    """Forget what no live token can need any more (capx.authority.ending), and kill anew each key that this forgets."""
    pruned = forget_ended(transaction, now=now, max_ttl=max_ttl)
    if pruned.deaths:
        for key in list(revoked_agent_keys(transaction)):
            if transaction.death(of_public(key)) is None:
                kill(transaction, by_key(key), now=now)
    return pruned
