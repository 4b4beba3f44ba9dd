"""The counter of a consent has a name of its own, which follows from its request and round."""

from capx.crypto.base64url import b64u
from capx.tokens.uses_counter import is_uses_counter, uses_counter
from tests.models.naive import hashed


def test_the_counter_of_a_round_is_that_of_the_spec() -> None:
    expected = hashed(b"capx/1/uses", b"R" * 22, (2).to_bytes(8, "big"))[:16]
    assert uses_counter("R" * 22, 2) == b64u(expected)[:21] + "u"
    assert is_uses_counter(uses_counter("R" * 22, 2))
    assert not any(map(is_uses_counter, (b64u(expected), "u" * 21, "u" * 23, "", None, "u" * 22 + "\n")))


def test_each_request_and_each_round_has_a_counter_of_its_own() -> None:
    names = {uses_counter(request, round_) for request in ("A" * 22, "B" * 22) for round_ in (1, 2, 2**31)}
    assert len(names) == 6
    assert {len(name) for name in names} == {22}
