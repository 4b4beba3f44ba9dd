"""What asking at run time means, told from the design alone and as plainly as it can be: a model to hold it to.

A grant is what its asker's own chain would be at the other audience, if its allowlists were replaced by two: what the
policy offers, and what was asked. So nothing is inherited here: the asker's caveats are judged where they stand.
"""

import json
from base64 import urlsafe_b64encode
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from tests.models import naive

HOWS = ["at_open", "on_request", "ask"]
ASK = "grant.request"


def offered(rules: Any, said: Any, ask: Any) -> Any:
    """The rule that decides, and the entry of it, with what it takes from the intent put in; None if none does."""
    for rule in sorted(rules, key=lambda rule: HOWS.index(rule["how"])):
        for audience, entry in filled(rule["allow"], said):
            if audience == ask["audience"] and fnmatchcase(ask["action"], entry[0]) and fits(entry, ask.get("args")):
                return rule, entry
    return None


def filled(value: Any, said: Any) -> Any:
    if isinstance(value, str) and value.startswith("{intent."):
        return said[value[8:-1]]
    return [filled(one, said) for one in value] if isinstance(value, list) else value


def fits(entry: Any, args: Any) -> bool:
    return args is None or len(entry) == 1 or all(said is True for _, said in naive.closed(entry[1], args))


def pinned(chain: "Chain", rule: Any, ask: Any) -> Any:
    """To which arguments a grant is pinned, and by which names if not by all: the policy's list, for the unbound."""
    args, names = ask.get("args"), rule["pinned"]
    unbound = {"action": ASK, "args": {"audience": ask["audience"], "action": ask["action"]}}
    bound = any(naive.refusal(one, unbound, 0, 0) for one in chain.caveats if one[0] == "allow")
    if args is None or bound or not isinstance(names, list):
        return args, None
    return {name: args[name] for name in names if name in args}, names


def pinnable(args: Any) -> bool:
    """Whether these arguments can be held to their values: no array holds another, an object or an empty text."""
    return args is None or all(
        name != "*" and naive.is_a("label", name) and pinnable_value(value) for name, value in args.items()
    )


def pinnable_value(value: Any) -> bool:
    if isinstance(value, dict):
        return pinnable(value)
    return value in ("", []) or naive.is_a("literal", value)


def same(one: Any, other: Any) -> bool:
    """Whether two values are one value of JSON."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    numbers = all(type(value) in (int, float) for value in (one, other))
    return (numbers or type(one) is type(other)) and one == other


def usable(chain: "Chain", args: Any) -> bool:
    """Whether what restricts the asker says yes to the arguments to which the ask is pinned."""
    bounds = [one for one in chain.caveats if one[0] == "where" and one[1].startswith("args.")]
    return args is None or all(naive.judge(rule, args.get(name[5:], naive.MISSING)) is True for _, name, rule in bounds)


class Chain:
    """An asker: the blocks of its token for the authority, as JSON arrays, None for a third-party caveat."""

    def __init__(self, token: str, secret: bytes) -> None:
        self.token = token
        self.kid, _, identifier, self.raw, _ = naive.decoded(token)
        self.issued = json.loads(identifier)[4]
        self.ids = [each[:16] for each in naive.chained(secret, identifier, self.raw)[1]]
        self.blocks: list[Any] = [json.loads(block) if isinstance(block, bytes) else None for block in self.raw]
        self.caveats = [caveat for block in self.blocks for caveat in block or []]
        self.claims = {caveat[0]: caveat for caveat in self.blocks[0]}

    def nodes(self, blocks: Any = None) -> list[bytes]:
        """The nodes from the root along all hops of these blocks, or of all."""
        found = [naive.hashed(b"capx/1/root", self.claims["root"][1].encode())[:16]]
        for caveat in [one for block in (self.blocks if blocks is None else blocks) for one in block or []]:
            if caveat[0] == "hop":
                found.append(naive.hashed(b"capx/1/node", found[-1], caveat[2].encode())[:16])
        return found

    def budgets(self) -> list[tuple[str, str, Decimal]]:
        """The counter, unit and limit of each budget."""
        found = []
        for at, block in enumerate(self.blocks):
            for caveat in block or []:
                if caveat[0] == "budget":
                    own = self.nodes(self.blocks[: at + 1])[-1] if block[0][0] == "hop" else self.ids[at + 1]
                    counter = caveat[3] if len(caveat) == 4 else urlsafe_b64encode(own).decode().rstrip("=")
                    found.append((counter, caveat[1], Decimal(caveat[2])))
        return found


class Grant:
    """What an ask gets, if it gets anything: `None` from `of` says that it does not."""

    def __init__(self, chain: Chain, rule: Any, entry: Any, ask: Any, kept: Any) -> None:
        self.chain, self.rule, self.ask = chain, rule, ask
        self.args, self.names = pinned(chain, rule, ask)
        self.request = f"{chain.token} {json.dumps({**ask, 'args': self.args}, sort_keys=True)} {json.dumps(entry)}"
        self.terms = json.dumps([rule["budgets"], rule["uses"], entry, self.args, self.names])
        own = [caveat for caveat in chain.caveats if caveat[0] != "allow"]
        self.caveats = [*own, ["allow", [entry]]]
        task = chain.claims["task"][1]
        shared = [(task, unit, Decimal(limit)) for unit, limit in rule["budgets"]]
        # What this consent is good for is counted apart from everything else, and anew in each round.
        self.round = kept.round_after(self.request, rule["uses"])
        counter = (f"{self.request} {self.round}", "calls")
        uses = [] if rule["uses"] is None else [(*counter, Decimal(rule["uses"]))]
        self.budgets = [*chain.budgets(), *shared, *uses]

    @classmethod
    def of(cls, chain: Chain, rules: Any, said: Any, ask: Any, kept: "Kept") -> "Grant | None":
        """The grant that the ask gets now, by whatever way, once the ask itself was allowed as a call."""
        found = offered(rules, said, ask)
        if found is None or not usable(chain, ask.get("args")):
            return None
        rule, entry = found
        if rule["how"] == "ask" and rule["pinned"] is not False and ask.get("args") is None:
            return None
        return cls(chain, rule, entry, ask, kept) if pinnable(pinned(chain, rule, ask)[0]) else None

    def refuses(self, call: Any, hops_below: int, *, now: int, deaths: Any, spent: Any) -> bool:
        """Whether a call on the grant is refused, made by an agent so many delegations below the asker."""
        chain, caveats = self.chain, [*self.caveats, *[["hop", "below", "AAAAAAAAAAA"]] * hops_below]
        past = [key for key in deaths if str(key)[:7] == "issued:" and int(key[7:]) >= chain.issued]
        mortal = [*chain.ids, *chain.nodes(), f"kid:{chain.kid}", *past]
        if naive.deaths(chain.claims, caveats, mortal, deaths) or naive.standing(
            chain.claims, caveats, call, {"age": 0}
        ):
            return True
        if not self.is_for(call):
            return True
        for caveat in caveats:
            if caveat[0] == "acme.region":
                if call["attributes"].get("region") != caveat[1]:
                    return True
            elif caveat[0] != "budget" and naive.refusal(caveat, call, now, 0):
                return True
        return not self.pays(call, spent)

    def is_for(self, call: Any) -> bool:
        """Whether a call is of the action, and has the arguments, to which the grant is pinned."""
        if call["action"] != self.ask["action"] or self.args is None:
            return bool(call["action"] == self.ask["action"])
        compared = call["args"] if self.names is None else {name: call["args"].get(name, naive) for name in self.names}
        return same({name: value for name, value in compared.items() if value is not naive}, self.args)

    def has_room(self, spent: Any) -> bool:
        """Whether each counter has room for some call: for one of `calls`, or for anything."""
        left = [(unit, limit - spent.get((counter, unit), 0)) for counter, unit, limit in self.budgets]
        return all(rest >= 1 if unit == "calls" else rest > 0 for unit, rest in left)

    def pays(self, call: Any, spent: Any) -> bool:
        """Whether every counter has room for the call, which then has spent from each of them once."""
        costs = {"calls": Decimal(1), **{unit: Decimal(cost) for unit, cost in call["cost"].items()}}
        for counter, unit, limit in self.budgets:
            if unit not in costs or spent.get((counter, unit), 0) + costs[unit] > limit:
                return False
        for counter, unit in {(counter, unit) for counter, unit, _ in self.budgets}:
            spent[counter, unit] = spent.get((counter, unit), 0) + costs[unit]
        return True


class Kept:
    """What the authority keeps of each request: its round, for how many calls it was granted, and on which terms."""

    def __init__(self) -> None:
        self.requests: dict[str, tuple[int, Any, str]] = {}
        self.spent: dict[Any, Any] = {}

    def round_after(self, request: str, uses: Any) -> int:
        """The round of the next grant: a new one if what was granted, or would be now, is used up."""
        if request not in self.requests:
            return 1
        round_, granted, _ = self.requests[request]
        limits = [limit for limit in (granted, uses) if limit is not None]
        return round_ + bool(limits and self.spent.get((f"{request} {round_}", "calls"), 0) >= min(limits))

    def granted(self, grant: Grant) -> bool:
        """Whether the request was granted on these very terms, in this round."""
        return self.requests.get(grant.request) == (grant.round, grant.rule["uses"], grant.terms)

    def keep(self, grant: Grant) -> None:
        self.requests[grant.request] = grant.round, grant.rule["uses"], grant.terms
