"""News of deaths are what is not known."""

from msgspec import structs

from capx.resource.revocations import StoreLiveness, View
from capx.store.protocols import Store
from capx.tokens.revocation_key import of_kid
from tests.labs.store_writes import head_of, kill, note

NOW = 1_800_000_000


def test_news_are_what_is_not_known(store: Store) -> None:
    kill(store, "a", b"b" * 16)
    source = store.source()
    first = source.news(None)
    assert (first.anew, first.lasting, list(first.deaths)) == (True, 0, ["a", b"b" * 16])
    assert first.head == head_of(store)
    assert first.deaths["a"] == "revoked"
    again = source.news(first.head)
    assert (again.head, again.deaths, again.anew) == (first.head, {}, False)
    note(store)
    kill(store, "c")
    later = source.news(again.head)
    assert (later.head.position, list(later.deaths), later.anew) == (3, ["c"], False)
    source.close()
    assert list(source.news(None).deaths) == ["a", b"b" * 16, "c"]
    source.close()


def test_news_after_forgetting_keep_what_lasts(store: Store) -> None:
    kill(store, of_kid("k1"), "a", at=NOW)
    kill(store, "b", at=NOW + 9)
    source = store.source()
    known = source.news(None).head
    with store.write() as transaction:
        transaction.forget(NOW + 5)
    view, follower = View(), View()
    view.learn(source.news(None))
    assert list(view.deaths) == ["kid:k1", "b"]
    assert source.news(None).lasting == 1
    # Who knew all that is forgotten goes on; who had not seen it begins anew.
    assert not source.news(known).anew
    follower.learn(source.news(structs.replace(known, position=0, deaths=1)))
    assert follower.deaths == view.deaths
    source.close()


def test_a_death_is_known_to_the_next_question(store: Store) -> None:
    liveness = StoreLiveness(store.source(), poll=0)
    assert liveness.age() < 10
    kill(store, "task-1")
    assert liveness.age() < 10
    assert dict(liveness.deaths) == {"task-1": "revoked"}
    liveness.close()
