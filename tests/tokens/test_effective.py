"""What is left of a token: exactly what its hops have in common."""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from capx.crypto.keys import RootKey
from capx.tokens.capability import Capability, mint
from capx.tokens.effective.effective import Effective, effective, hops_left
from capx.tokens.effective.intersection import size
from capx.tokens.grants import OWN_ENTRIES
from capx_caveats import (
    DEFAULT,
    Absent,
    Allow,
    Anything,
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
from tests.labs.lab import appended, minted, raw
from tests.labs.own_constraints import Region

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
        (grant(Holder("A" * 43)), "under which others than its owner could sign, or nobody"),
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
    # Two holders may demand the same. Then both are named.
    both = hop(grant().attenuate(region), "a", caveats=(region, where("region", "us")))
    (why,) = effective(both, NOW).why_nothing
    assert why.count('says region is "eu"') == 2


def test_all_that_is_left_is_told_as_json() -> None:
    narrow = (expires("10m"), not_before("1m"), where("region", "eu"), where("args.id", between(1, 5)))
    token = hop(
        grant(), "reader", action("crm.read", id=1), "crm.list", caveats=(*narrow, budget("eur", "20"), max_hops(3))
    )
    left = effective(token, NOW)
    assert left.as_json() == {
        "audience": "crm",
        "task": "t1",
        "tenant": "Acme",
        "for": ["reader"],
        "may": [
            {"action": "crm.read", "words": "crm.read where id is 1", "args": {"id": ["eq", 1]}},
            {"action": "crm.list", "words": "crm.list", "args": None},
        ],
        "also": [
            'region is "eu"',
            "args.id is between 1 and 5",
            "at most 20 eur, shared by everyone below",
        ],
        "from": "2027-01-15T08:01:00Z",
        "until": "2027-01-15T08:10:00Z",
        "until_completed": ["t1"],
        "hops_left": 3,
        "why_nothing": [],
        "untold": False,
    }
    assert left.sentences() == ("crm.read where id is 1", "crm.list")


def test_what_was_never_narrowed_has_no_further_bounds() -> None:
    left = effective(grant(to=None), NOW)
    assert left == Effective(audience="crm", task="t1", entries=(action("crm.*"),), expires=NOW + 3600, until=("t1",))
    assert (left.as_json()["from"], left.as_json()["hops_left"], left.as_json()["tenant"]) == (None, None, None)


def test_what_allows_nothing_lists_no_action_and_says_why() -> None:
    left = effective(grant().attenuate(expires(NOW)), NOW)
    assert (left.sentences(), left.as_json()["may"]) == ((), [])
    assert left.as_json()["why_nothing"] == ["expired at 2027-01-15T08:00:00Z"]
    assert effective(grant().attenuate(expires(NOW + 1)), NOW).why_nothing == ()


def test_a_token_that_cannot_be_read_still_says_whose_it_is() -> None:
    token = hop(mint(KEY, (Task("t1"), Root("r1"), Expires(NOW + 9), allow("crm.read")), now=NOW), "reader")
    left = effective(token, NOW)
    why = ("the authority's block has no until_completed of its task",)
    assert left == Effective(audience="crm", task="t1", hops=("reader",), why_nothing=why)
    assert (left.as_json()["until"], left.as_json()["untold"]) == (None, False)


def test_at_the_authority_what_may_be_asked_for_is_in_words() -> None:
    own = minted(audience="authority", allowed=Allow(OWN_ENTRIES))
    assert effective(own, own.issued_at).sentences()[-1] == "may ask for anything that its policy offers"
    elsewhere = minted(allowed=Allow(OWN_ENTRIES))
    assert effective(elsewhere, own.issued_at).sentences()[-1] == OWN_ENTRIES[-1].sentence()


def test_a_rule_for_every_call_is_merged_into_closed_entries() -> None:
    both = hop(grant(), "a", action("crm.read", id=one_of(1, 2)), action("crm.list", id=one_of(2, 3), page=1))
    left = effective(both.attenuate(where("args.id", one_of(2, 9)), where("region", "eu")), NOW)
    assert left.entries == (action("crm.read", id=2), action("crm.list", id=2, page=1))
    assert left.also == ('region is "eu"',)
    # An entry without rules for arguments allows any, so the rule stays beside it; a rule for `*` stays too.
    half = hop(grant(), "a", action("crm.read", id=one_of(1, 2)), "crm.list").attenuate(where("args.id", one_of(2, 9)))
    assert effective(half, NOW).entries == (action("crm.read", id=2), action("crm.list"))
    assert effective(half, NOW).also == ("args.id is one of 2, 9",)
    star = hop(grant(), "a", action("crm.read", args={"id": 1, "*": anything()})).attenuate(where("args.*", 3))
    assert effective(star, NOW).entries == (action("crm.read", args={"id": 1, "*": anything()}),)
    assert len(effective(star, NOW).also) == 1


@pytest.mark.parametrize(
    ("token", "named"),
    [
        (
            hop(hop(grant(), "a", action("crm.r", id=1)), "b", action("crm.r", id=2)),
            ('hop 2 ("b") allows only crm.r where id is 2', "above it allows only crm.r where id is 1"),
        ),
        (
            grant().attenuate(tenant("Acme")).attenuate(tenant("Other")),
            ('the task\'s grant says tenant is "Acme"', 'the token\'s first holder says tenant is "Other"'),
        ),
        (
            hop(grant().attenuate(where("region", "eu")), "a", caveats=(where("region", "us"), where("zone", 1))),
            ('the token\'s first holder says region is "eu"', 'hop 1 ("a") says region is "us"'),
        ),
        (
            hop(grant(), "a", action("crm.r", id=1), caveats=(where("args.id", 2), where("zone", 1))),
            ('hop 1 ("a") says args.id is 2', 'hop 1 ("a") says zone is 1'),
        ),
        (
            hop(grant(), "a", caveats=(not_before("2h"),)),
            ("not before 2027-01-15T10:00:00Z", "until 2027-01-15T09:00:00Z"),
        ),
        (
            hop(grant(), "a", caveats=(not_before("1h"),)),
            ("not before 2027-01-15T09:00:00Z", "until 2027-01-15T09:00:00Z"),
        ),
        (
            hop(grant(), "a", caveats=(budget("calls", "0.5"), budget("eur", "0.5"), budget("calls", "1"))),
            ('hop 1 ("a") allows at most 0.5 calls',),
        ),
        (
            appended(hop(grant(), "a"), b'[["moon","full"]]'),
            ('hop 1 ("a") has a caveat that this version does not know', '["moon","full"]'),
        ),
        (grant(Holder("A" * 43)), ("the task's grant names ed25519:",)),
    ],
)
def test_a_reason_for_nothing_names_all_that_it_is_about(token: Capability, named: tuple[str, ...]) -> None:
    (why,) = effective(token, NOW).why_nothing
    end = 0
    for part in named:
        assert part in why[end:]
        end = why.index(part, end) + len(part)
    assert why.count(" says ") in (0, len(named))


def test_what_is_not_understood_is_named_with_its_hop() -> None:
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


def test_only_hops_use_up_the_hops_that_are_left() -> None:
    five = grant(max_hops(5))
    assert hops_left(five.attenuate(expires("10m"), now=NOW).caveats) == 5
    assert hops_left(hop(hop(five, "a"), "b").caveats) == 3
    assert hops_left(hop(hop(five, "a"), "b").attenuate(max_hops(9)).caveats) == 3


def test_after_a_list_too_long_to_combine_others_still_count() -> None:
    many = tuple(f"crm.a{n}" for n in range(200))
    left = effective(hop(hop(hop(grant(), "x", *many), "y", *many), "z", "crm.a7"), NOW)
    assert left.entries == (action("crm.a7"),)
    assert [words[:24] for words in left.also] == ['hop 2 ("y") allows only ']


def test_a_rule_for_arguments_stays_beside_an_open_entry() -> None:
    left = effective(grant().attenuate(where("args.id", 2)), NOW)
    assert (left.entries, left.also) == ((action("crm.*"),), ("args.id is 2",))


def test_a_first_list_that_no_call_can_satisfy_is_named_alone() -> None:
    impossible = action("crm.read", id=all_of(1, 2))
    left = effective(grant(entries=(impossible,)), NOW)
    assert left.why_nothing == (f"no action is left: the task's grant allows only {impossible.sentence()}",)


def test_what_no_service_knows_is_a_reason_and_no_condition() -> None:
    left = effective(appended(grant(), b'[["moon","full"]]'), NOW)
    assert (len(left.why_nothing), left.also) == (1, ())


@pytest.mark.parametrize(
    ("claims", "untold"),
    [
        (b'["until_completed","t1"],["acme.moon","full"]', True),
        (b'["until_completed","t1"],["allow",[["crm.read",[["x",["acme.even"]]]]]]', True),
        (b'["until_completed","t1"],["moon","full"]', False),
        (b'["until_completed","t1"]', False),
        (b'["until_completed","t1"],["allow",[["crm.read"]]],["acme.moon","full"],["task","t2"]', False),
        (b'["allow",[["crm.read"]]],["acme.moon","full"]', False),
    ],
)
def test_a_grant_is_untold_only_if_it_may_lack_its_allowlist(claims: bytes, untold: bool) -> None:
    left = effective(raw(b'[["task","t1"],["root","r1"],["expires",%d],%b]' % (NOW + 9, claims)), NOW)
    assert left.untold == untold
    assert len(left.why_nothing) == 1
    assert ("unknown here" in left.why_nothing[0]) == untold


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
