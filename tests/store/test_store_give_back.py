"""What was paid comes back once, to nobody else's cost: by a naive model, by races, in both kinds of store."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial

import pytest

from capx.errors import StoreProblem
from capx.store.events import GivenBack
from capx.store.log import check
from capx.store.protocols import Store
from capx.store.records import Unwritable
from capx.verify.meter import Paid, Payer, Spend, Tally
from tests.labs.counts import repeated
from tests.labs.payers import payer
from tests.store.conftest import Places
from tests.store.test_store_races import RACERS, patiently, race

NOW = 1_800_000_000
ONE = [Spend("a", "calls", Decimal(1), Decimal(5))]


def given_back(store: Store) -> list[GivenBack]:
    with store.read() as reading:
        check(reading.events(), head=reading.head().place)
        return [event.read(GivenBack) for event in reading.events(kind="given_back")]


def give_back(store: Store, by: Payer, *, now: int = NOW, reason: str = "x") -> tuple[Paid, ...]:
    return store.give_back(by, decision="d", reason=reason, now=now)


def total(store: Store, counter: str = "a") -> Decimal:
    return store.spent([(counter, "calls")])[0]


@dataclass
class Account:
    """What one presentation has paid, and what it gave back."""

    payer: Payer
    costs: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    returned: tuple[Paid, ...] = ()


@dataclass
class Naive:
    """The law, in the simplest words: a counter holds the sum of what is paid and not given back."""

    accounts: dict[bytes, Account] = field(default_factory=dict[bytes, Account])

    def total(self, counter: str, *, without: bytes = b"") -> Decimal:
        paid = (one.costs.get(counter, Decimal(0)) for id_, one in self.accounts.items() if id_ != without)
        return sum(paid, Decimal(0))

    def spend(self, by: Payer, costs: dict[str, Decimal], limit: Decimal) -> object:
        account = self.accounts.get(by.presentation, Account(by))
        if account.payer.admission != by.admission or account.returned:
            return Unwritable
        others = [self.total(counter, without=by.presentation) for counter in costs]
        new = {counter: max(cost, account.costs.get(counter, Decimal(0))) for counter, cost in costs.items()}
        totals = [other + cost for other, cost in zip(others, new.values(), strict=True)]
        raised = [new[counter] != account.costs.get(counter) for counter in costs]
        if exhausted := [nth for nth, total in enumerate(totals) if raised[nth] and total > limit]:
            return Tally(tuple(others), tuple(exhausted))
        account.costs |= new
        self.accounts[by.presentation] = account
        return Tally(tuple(totals))

    def give_back(self, by: Payer) -> object:
        account = self.accounts.get(by.presentation)
        if account is None or (account.payer.admission, account.payer.audience) != (by.admission, by.audience):
            return Unwritable
        if not account.returned:
            account.returned = tuple([Paid(name, "calls", cost) for name, cost in sorted(account.costs.items())])
            account.costs = {}
        return account.returned


def answer(act: Callable[[], object]) -> object:
    try:
        return act()
    except Unwritable:
        return Unwritable


@pytest.mark.parametrize("seed", range(repeated(60)))
def test_every_order_of_spending_and_giving_back_is_the_models(store: Store, seed: int) -> None:
    chance, naive = random.Random(seed), Naive()
    honest = [payer(audience) for audience in ("crm", "crm", "slides")]
    # The same presentations by another admission, and at another audience.
    others = [Payer(one.presentation, b"o" * 16, one.capability, one.audience, "") for one in honest]
    elsewhere = [Payer(one.presentation, one.admission, one.capability, "mail", "") for one in honest]
    for step in range(40):
        if chance.random() < 0.6:
            (by,) = chance.choices([*honest, *others], [4] * 3 + [1] * 3)
            names = chance.sample("abc", chance.randrange(1, 4))
            costs = {name: Decimal(chance.choice(["0", "0.5", "1", "2", "3"])) for name in names}
            limit = Decimal(chance.choice(["1", "3", "4"]))
            spends = [Spend(name, "calls", cost, limit) for name, cost in costs.items()]
            expected = naive.spend(by, costs, limit)
            found = answer(partial(store.spend, by, spends, now=NOW + step))
        else:
            (by,) = chance.choices([*honest, *others, *elsewhere], [3] * 3 + [1] * 6)
            expected = naive.give_back(by)
            found = answer(partial(give_back, store, by, now=NOW + step))
        assert found == expected, step
        held = store.spent([(name, "calls") for name in "abc"])
        assert held == tuple([naive.total(name) for name in "abc"]), step
    assert len(given_back(store)) == sum(bool(one.returned) for one in naive.accounts.values())


def test_nobody_else_gives_back_what_was_paid(store: Store) -> None:
    by = payer()
    store.spend(by, ONE, now=NOW)
    strangers = [
        payer(),
        Payer(by.presentation, b"o" * 16, by.capability, by.audience, by.text),
        Payer(by.presentation, by.admission, by.capability, "slides", by.text),
    ]
    for stranger in strangers:
        with pytest.raises(Unwritable, match="has paid nothing here"):
            give_back(store, stranger)
    assert total(store) == 1
    assert given_back(store) == []


def test_a_payment_that_was_forgotten_is_not_given_back(store: Store) -> None:
    by, other = payer(), payer()
    store.spend(by, [Spend("n" * 22, "calls", Decimal(1), Decimal(5))], now=NOW)
    store.spend(by, ONE, now=NOW)
    store.spend(other, ONE, now=NOW + 9)
    with store.write() as transaction:
        transaction.forget(NOW + 1)
    with pytest.raises(Unwritable, match="has paid nothing here"):
        give_back(store, by)
    assert total(store) == 2


def test_what_gave_back_is_remembered_as_long_as_what_paid(store: Store) -> None:
    by = payer()
    store.spend(by, ONE, now=NOW)
    give_back(store, by, now=NOW + 50)
    with store.write() as transaction:
        transaction.forget(NOW + 50)
    with pytest.raises(Unwritable, match="gave back what it had paid"):
        store.spend(by, ONE, now=NOW + 50)


def test_a_counter_never_goes_below_nothing(store: Store, places: Places) -> None:
    by = payer()
    store.spend(by, [Spend("a", "calls", Decimal(3), Decimal(5))], now=NOW)
    places.tamper(store, "UPDATE counters SET spent = '2'")
    assert give_back(store, by) == (Paid("a", "calls", Decimal(3)),)
    assert total(store) == 0


def test_a_counter_that_is_gone_does_not_come_back(store: Store, places: Places) -> None:
    by = payer()
    store.spend(by, ONE, now=NOW)
    places.tamper(store, "DELETE FROM counters")
    give_back(store, by)
    assert total(store) == 0


def test_both_kinds_of_store_write_the_same_event(of_kind: Callable[[str], Store]) -> None:
    by, bodies = payer(), list[bytes]()
    for store in (of_kind("sqlite"), of_kind("postgres")):
        spends = [Spend(name, unit, Decimal("2.50"), Decimal(9)) for name, unit in (("b", "eur"), ("a", "calls"))]
        store.spend(by, spends, now=NOW)
        give_back(store, by, reason='the "bank" was \\closed, é')
        with store.read() as reading:
            bodies += [event.body for event in reading.events()]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]


# Races


def test_sixteen_who_give_one_payment_back_lower_it_once(store: Store) -> None:
    by = payer()
    store.spend(by, ONE, now=NOW)
    store.spend(payer(), [Spend("a", "calls", Decimal(2), Decimal(5))], now=NOW)

    def back(mine: Store, _: int) -> int:
        return len(patiently(partial(give_back, mine, by)))

    assert race(store.place, back) == [1] * RACERS
    assert total(store) == 2
    assert len(given_back(store)) == 1


def test_sixteen_who_spend_and_give_back_never_pass_the_limit(store: Store) -> None:
    spends = [Spend(name, "calls", Decimal(1), Decimal(3)) for name in "ab"]

    def work(mine: Store, number: int) -> list[int]:
        chance, kept, returned = random.Random(number), 0, 0
        for _ in range(12):
            by = payer()
            tally = patiently(partial(mine.spend, by, spends[:: chance.choice([1, -1])], now=NOW))
            assert all(0 <= held <= 3 for held in tally.totals)
            if tally.exhausted:
                continue
            if chance.random() < 0.9:
                patiently(partial(give_back, mine, by))
                returned += 1
            else:
                kept += 1
        return [kept, returned]

    kept, returned = (sum(each) for each in zip(*race(store.place, work), strict=True))
    assert (total(store), total(store, "b")) == (kept, kept)
    assert kept <= 3
    assert len(given_back(store)) == returned > 3


def test_paying_more_while_giving_back_keeps_the_books(store: Store, places: Places) -> None:
    payers = [payer() for _ in range(6)]
    # One has paid before the race: whatever the order is, somebody gives something back.
    store.spend(payers[-1], ONE, now=NOW)

    def work(mine: Store, number: int) -> list[str]:
        problems = list[str]()
        for by in payers:
            # Counters that only some pay into, so that rows appear while others are given back.
            spends = [Spend(name, "calls", Decimal(number + 1), Decimal(99)) for name in ("a", f"b{number % 3}")]
            try:
                if number % 4 == 0:
                    patiently(partial(give_back, mine, by))
                else:
                    patiently(partial(mine.spend, by, spends, now=NOW))
            except StoreProblem as problem:
                problems.append(str(problem))
        return problems

    known = re.compile(r"gave back|paid nothing|by others at the same time")
    assert [one for problems in race(store.place, work) for one in problems if not known.search(one)] == []
    books = "SELECT counter, cast(sum(cast(cost AS numeric)) AS int) FROM paid WHERE given IS NULL GROUP BY counter"
    paid = dict(places.rows(store, books))
    with store.read() as reading:
        assert {one.counter: int(one.spent) for one in reading.counters() if one.spent} == paid
    assert given_back(store)
