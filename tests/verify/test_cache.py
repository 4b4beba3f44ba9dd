from capx.verify.cache import Cache


def test_what_was_asked_for_stays_and_what_was_not_goes() -> None:
    cache: Cache[int] = Cache(2)
    cache.put(b"a", 1)
    for at in range(10):
        cache.put(b"%d" % at, at)
        assert cache.get(b"a") == 1
    assert cache.get(b"0") is None
    assert cache.get(b"9") == 9


def test_a_cache_holds_two_generations_of_its_size_at_most() -> None:
    cache: Cache[int] = Cache(100)
    for at in range(1000):
        cache.put(b"%d" % at, at)
    assert 100 <= sum(cache.get(b"%d" % at) is not None for at in range(799, 1000)) <= 200
    assert not any(cache.get(b"%d" % at) for at in range(1, 800))


def test_long_entries_take_the_room_of_many() -> None:
    cache: Cache[int] = Cache(100)
    for at in range(1000):
        cache.put(b"%d" % at * 12_000, at)
    assert sum(cache.get(b"%d" % at * 12_000) is not None for at in range(1000)) < 20


def test_an_entry_put_again_is_the_new_one() -> None:
    cache: Cache[int] = Cache(2)
    cache.put(b"a", 1)
    cache.put(b"a", 2)
    assert cache.get(b"a") == 2


def test_a_cache_without_size_holds_nothing() -> None:
    cache: Cache[int] = Cache(0)
    cache.put(b"a", 1)
    assert cache.get(b"a") is None
