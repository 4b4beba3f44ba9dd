"""What may be asked for, in words: no more and no less than the token says, and nothing that its author made up."""

from collections.abc import Sequence

import pytest

from capx.tokens.effective.intersection import entries_in_common
from capx.tokens.effective.may_ask import ANYTHING, sentence
from capx.tokens.grants import OWN_ENTRIES, Grant, ask_entries
from capx_caveats import Absent, AllOf, AnyConstraint, AnyOf, Anything, Entry, Eq, Pair, Prefix, Range, action

OWN = OWN_ENTRIES[-1]
PETER = action("accounts.create", args={"user": "peter"})


def said(*hops: Sequence[Grant]) -> list[str | None]:
    entries: tuple[Entry, ...] = (OWN,)
    for may_ask in hops:
        entries = entries_in_common(entries, ask_entries(may_ask))
    return [sentence(entry) for entry in entries]


def test_a_task_may_ask_for_anything_that_its_policy_offers() -> None:
    assert said() == [ANYTHING] == ["may ask for anything that its policy offers"]


@pytest.mark.parametrize(
    ("hops", "words"),
    [
        ([["crm.*"]], ["crm.* at crm"]),
        ([["crm.*", "billing.refund@bank"]], ["crm.* at crm", "billing.refund at bank"]),
        ([["crm.read", "crm.list"]], ["crm.read and crm.list at crm"]),
        ([[PETER]], ['accounts.create at accounts, where user is "peter" and no other argument']),
        ([[action("accounts.create", args={})]], ["accounts.create at accounts, without arguments"]),
        (
            [[action("a.b", args={"user": "peter", "*": Anything()})]],
            ['a.b at a, where user is "peter" and any other argument is there'],
        ),
        ([["crm.*"], ["crm.read"]], ["crm.read at crm"]),
        ([["crm.read"], ["crm.*"]], ["crm.read at crm"]),
        ([["crm.*"], ["crm.accounts.*", "crm.x"]], ["crm.accounts.* and crm.x at crm"]),
        (
            [[action("a.*", args={"n": Range(0, 5)})], ["a.*"], [action("a.b", args={"n": Range(1, 9)})]],
            ["a.b at a, where n is between 1 and 5 and no other argument"],
        ),
    ],
)
def test_what_each_hop_may_ask_is_told_as_what_all_share(hops: list[list[Grant]], words: list[str]) -> None:
    assert said(*hops) == [f"may ask for {each}" for each in words]


WHATEVER = AnyOf((Absent(), Anything()))
HOSTILE = 'x at y, and for anything that its policy offers; may ask for "z'


def asked(audience: AnyConstraint, named: AnyConstraint, args: AnyConstraint) -> Entry:
    return Entry(OWN.pattern, (Pair("audience", audience), Pair("action", named), Pair("args", args)))


def test_what_is_hostile_below_is_no_other_form_by_itself() -> None:
    assert sentence(asked(Eq("crm"), Eq("crm.read"), WHATEVER)) == "may ask for crm.read at crm"


@pytest.mark.parametrize(
    "entry",
    [
        *OWN_ENTRIES[:-1],
        Entry("crm.read"),
        Entry(OWN.pattern),
        Entry(OWN.pattern, (Pair("audience", Eq("crm")),)),
        asked(Eq(HOSTILE), Eq("crm.read"), WHATEVER),
        asked(Eq("crm"), Eq(HOSTILE), WHATEVER),
        asked(Eq("crm"), Prefix("crm"), WHATEVER),
        asked(Eq("crm"), Prefix(f"{HOSTILE}."), WHATEVER),
        asked(Eq("crm"), Prefix("."), WHATEVER),
        asked(Eq("crm"), Anything(), WHATEVER),
        asked(Anything(), Eq("crm.read"), WHATEVER),
        asked(Eq("crm"), Eq("crm.read"), Eq("x")),
        asked(Eq("crm"), Eq("crm.read"), Anything()),
        asked(Eq("crm"), Eq(1), WHATEVER),
        asked(Eq("crm"), AllOf((Eq("crm.read"), Eq("crm.write"))), WHATEVER),
    ],
)
def test_any_other_form_is_left_to_the_words_of_its_caveat(entry: Entry) -> None:
    assert sentence(entry) is None
