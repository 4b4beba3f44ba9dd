"""A history that went back, or is another, is refused."""

import pytest
from msgspec import structs

from capx.errors import StoreProblem
from capx.intents.epoch import new_epoch
from capx.store.protocols import Store
from tests.labs.store_writes import head_of, kill
from tests.store.conftest import Places

NOW = 1_800_000_000


def test_a_store_that_went_back_is_refused(store: Store) -> None:
    kill(store, "a")
    known = head_of(store)
    source = store.source()
    for ahead in (
        structs.replace(known, position=known.position + 1),
        structs.replace(known, deaths=known.deaths + 1),
        structs.replace(known, forgotten=known.forgotten + 1),
    ):
        with pytest.raises(StoreProblem, match="went back"):
            source.news(ahead)
    source.close()


def test_another_history_is_refused(store: Store) -> None:
    kill(store, "a")
    source = store.source()
    with pytest.raises(StoreProblem, match="is not the one that was there before"):
        source.news(structs.replace(head_of(store), hash=bytes(32)))
    source.close()


def test_an_earlier_or_other_epoch_is_refused_a_later_told_anew(store: Store) -> None:
    kill(store, "a")
    known = head_of(store)
    origin, _, began = known.epoch.partition(".")
    with store.write() as transaction:
        transaction.begin_epoch(new_epoch(origin, int(began) + 1))
    source = store.source()
    news = source.news(known)
    assert news.anew
    assert list(news.deaths) == ["a"]
    with pytest.raises(StoreProblem, match="epoch that ended"):
        source.news(structs.replace(known, epoch=new_epoch(origin, int(began) + 2)))
    with pytest.raises(StoreProblem, match="another one"):
        source.news(structs.replace(known, epoch=new_epoch("elsewhere", int(began))))
    source.close()


@pytest.mark.parametrize("known", [False, True])
def test_a_missing_death_is_found(store: Store, places: Places, known: bool) -> None:
    before = head_of(store)
    kill(store, "a", "b", "c")
    places.tamper(store, "DELETE FROM deaths WHERE seq = 2")
    source = store.source()
    with pytest.raises(StoreProblem, match="damaged"):
        source.news(before if known else None)
    source.close()
