"""What is left of a token: exactly what its hops have in common."""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from capx.crypto.keys import RootKey
from capx.tokens.capability import Capability, mint
from capx.tokens.effective.effective import effective, hops_left
from capx.tokens.effective.intersection import size
from capx_caveats import (
    DEFAULT,
    Absent,
    Allow,
    Anything,
    Caveat,
    Constraint,
    Entry,
    Eq,
    Expires,
    Holder,
    Judgement,
    Meant,
    Root,
    Task,
    Value,
    Where,
    absent,
    action,
    all_of,
    allow,
    any_of,
    anything,
    between,
    budget,
    expires,
    max_hops,
    not_,
    not_before,
    one_of,
    prefix,
    tenant,
    until_completed,
    where,
)
from tests.labs.entries import LEAVES, grant, hop
from tests.labs.lab import appended

NOW = 1_800_000_000
KEY = RootKey(bytes(range(32))).audience_key("crm")


def test_it_is_what_all_hops_have_in_common() -> None:
    token = hop(
        hop(grant(), "planner", action("crm.read", id=one_of(1, 2, 3), note=prefix("q")), "crm.list"),
        "reader",
        action("crm.read", id=between(2, 9), note="quick"),
        "crm.delete",
        caveats=(expires("10m"), max_hops(2), not_before("1m")),
    )
    left = effective(token, NOW)
    assert left.why_nothing == ()
    assert [entry.sentence() for entry in left.entries] == ['crm.read where id is one of 2, 3 and note is "quick"']
    assert (left.tenant, left.hops, left.hops_left) == ("Acme", ("planner", "reader"), 2)
    assert (left.not_before, left.expires, left.until) == (NOW + 60, NOW + 600, ("t1",))
    assert left.as_json()["may"] == [
        {
            "action": "crm.read",
            "words": 'crm.read where id is one of 2, 3 and note is "quick"',
            "args": {"id": ["in", [2, 3]], "note": ["eq", "quick"]},
        }
    ]


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (hop(hop(grant(), "a", "crm.read"), "b", "crm.write"), 'hop 2 ("b") allows only crm.write'),
        (hop(hop(grant(), "a", action("crm.r", id=1)), "b", action("crm.r", id=2)), "no action is left"),
        (hop(hop(grant(), "a", action("crm.r", id=1)), "b", action("crm.r", id=True)), "no action is left"),
        (hop(hop(grant(), "a", action("crm.r", id=1)), "b", action("crm.r", x=1)), "no action is left"),
        (grant().attenuate(tenant("Other")), "no call has two tenants"),
        (
            hop(grant(to=None), "a", caveats=(tenant("Acme"),)),
            'no call can have a tenant, because the task\'s grant names none: hop 1 ("a") says tenant is "Acme"',
        ),
        (
            grant().attenuate(budget("calls", "0.5")),
            "no call fits into a budget: the token's first holder allows at most 0.5",
        ),
        (grant(Holder("A" * 43)), "names a key for its hop, and this verifier cannot check signatures"),
        (
            appended(grant(), b'[["moon","full"]]'),
            "denies all calls: the token's first holder has a caveat that this version does not know, [\"m",
        ),
        (appended(grant(), b'[["tenant",7]]'), 'a caveat that this version does not know, ["tenant",7]'),
        (grant().attenuate(expires(NOW)), "expired at"),
        (grant().attenuate(not_before("2h"), now=NOW), "no time is left"),
        (hop(hop(grant().attenuate(max_hops(1)), "a"), "b"), "at most 1 more delegations, but 2 followed"),
        (grant().attenuate(where("region", "eu"), where("region", "us")), "no value satisfies all of"),
        (
            hop(grant(), "a", action("crm.r", id=1)).attenuate(where("args.id", 2)),
            "no allowed action can satisfy",
        ),
    ],
)
def test_a_token_that_can_allow_nothing_says_why(token: Capability, why: str) -> None:
    left = effective(token, NOW)
    assert any(why in reason for reason in left.why_nothing), left.why_nothing
    assert left.as_json()["may"] == []


def test_what_two_blocks_demand_alike_is_told_once() -> None:
    region, few = where("region", "eu"), budget("calls", "0.5")
    left = effective(hop(grant().attenuate(region, few), "a", caveats=(region, few)), NOW)
    assert left.also == ('region is "eu"', "at most 0.5 calls, shared by everyone below")
    twice = grant().attenuate(region).attenuate(region, where("region", "us"))
    alike = grant().attenuate(where("region", "a" * 90), where("region", "a" * 91))
    assert len(effective(alike, NOW).why_nothing[0].split("; ")) == 2
    (why,) = effective(twice, NOW).why_nothing
    assert why.count('region is "eu"') == 1
    twice = grant().attenuate(few).attenuate(few)
    assert len(effective(twice, NOW).why_nothing) == 1


def test_what_is_not_understood_is_named_with_its_hop() -> None:
    class Region(Caveat, frozen=True, tag="acme.region"):
        name: str

        def sentence(self) -> str:
            return f"region {self.name}"

    token = hop(grant(), "a", caveats=(Region("eu"),))
    left = effective(token, NOW)
    assert left.why_nothing == ()
    assert left.entries == effective(grant(), NOW).entries
    assert left.also[-1].startswith('a caveat of hop 1 ("a") is satisfied (unknown here, only the service')
    assert left.also[-1].endswith(': ["acme.region","eu"])')


def test_a_grant_with_an_own_constraint_may_still_allow() -> None:
    class Even(Constraint, frozen=True, tag="acme.even"):
        def judge(self, value: Value) -> Judgement:
            return value == 2

        def sentence(self) -> str:
            return "is even"

    claims = (Task("t1"), Root("r1"), Expires(NOW + 9), until_completed("t1"))
    token = mint(KEY, (*claims, allow(action("crm.read", args={"x": Even()}))), now=NOW)
    left = effective(token, NOW)
    assert left.untold
    assert left.why_nothing == (
        "its grant has caveats that are unknown here: only the service that defines them can judge them",
    )
    assert not effective(token, NOW, DEFAULT.extended(Even)).why_nothing


def test_an_authority_block_without_what_it_must_have_is_refused() -> None:
    token = mint(KEY, (Task("t1"), Root("r1"), Expires(NOW + 9), allow("crm.read")), now=NOW)
    assert effective(token.attenuate(until_completed("t1")), NOW).why_nothing == (
        "the authority's block has no until_completed of its task",
    )


def test_hops_left_is_the_tightest_of_all_limits() -> None:
    token = hop(hop(grant().attenuate(max_hops(5)), "a", caveats=(max_hops(1),)), "b", caveats=(max_hops(9),))
    assert hops_left(token.caveats) == 0
    assert hops_left(grant().caveats) is None


def test_lists_too_long_to_combine_are_shown_beside() -> None:
    many = [action("crm.read", id=number) for number in range(60)]
    token = grant()
    for name in "abc":
        token = hop(token, name, *(action("crm.read", any_id=prefix(f"{name}{n}")) for n in range(40)), *many[:20])
    left = effective(token, NOW)
    assert left.entries
    free = hop(grant(), "x", *(f"crm.a{n}" for n in range(200)))
    left = effective(hop(free, "y", *(f"crm.a{n}" for n in range(200))), NOW)
    assert len(left.also) == 1
    assert left.also[0].startswith('hop 2 ("y") allows only crm.a0;')


def test_many_hops_that_name_few_actions_are_combined_to_the_end() -> None:
    token = grant()
    for number in range(16):
        entries = [action(f"crm.a{n}", id=not_(number), note=prefix("q"), x=anything()) for n in range(8)]
        token = hop(token, f"h{number}", *entries)
    left = effective(token, NOW)
    assert (len(left.entries), left.also) == (8, ())
    assert left.entries[0].sentence().count("not: ") == 16


def differing(count: int, first: int = 0) -> list[Entry]:
    return [action("crm.r", args={"x": not_(first + n), "*": anything()}) for n in range(count)]


def many_wheres() -> Capability:
    token = hop(hop(grant(), "a", *differing(10)), "b", *differing(10, 100))
    for block in range(6):
        token = token.attenuate(*(where("args.x", not_(1000 + 30 * block + n)) for n in range(30)))
    return token


def many_lists() -> Capability:
    token = grant()
    for number in range(6):
        token = hop(token, "x", *differing(10, 10 * number))
    return token


def many_optional_names() -> Capability:
    token = grant()
    for number in range(9):
        maybe: list[dict[str, Meant]] = [{f"k{number}{n}": any_of(Absent(), Eq(n)), "*": Anything()} for n in range(8)]
        token = hop(token, "x", *(action("crm.r", args=args) for args in maybe))
    return token


def many_names_under_a_long_rule_for_the_rest() -> Capability:
    names: dict[str, Meant] = {f"n{n}": any_of(absent(), anything()) for n in range(35)}
    token = hop(grant(), "x", action("crm.r", args={**names, "*": anything()}))
    for block in range(3):
        rest = all_of(*(not_(100 * block + n) for n in range(100)))
        token = hop(token, "y", action("crm.r", args={"*": rest}))
    return token


def many_entries_and_then_many_short_lists() -> Capability:
    token = hop(hop(grant(), "a", *differing(25)), "b", *differing(25, 100))
    for _ in range(4):
        token = token.attenuate(*(allow("crm.*") for _ in range(20)))
    return token


@pytest.mark.parametrize(
    "made",
    [
        many_entries_and_then_many_short_lists,
        many_wheres,
        many_lists,
        many_optional_names,
        many_names_under_a_long_rule_for_the_rest,
    ],
)
def test_a_token_made_to_multiply_is_described_in_bounds(
    made: Callable[[], Capability],
) -> None:
    token = made()
    left = effective(token, NOW)
    assert left.entries
    assert size(left.entries) <= 2**18
    demanded = [caveat for block in token.caveats for caveat in block if isinstance(caveat, Allow | Where)]
    assert 0 < len(left.also) < len(demanded)
    assert not left.why_nothing


present = [leaf for leaf in LEAVES if not leaf.about_absence]
rest = st.none() | st.sampled_from(present)
