"""Marks: how their bytes are spelled, and where each may stand."""

# pyright: reportPrivateUsage=false
# How bytes are spelled is told nowhere else but in the marks themselves.

from base64 import urlsafe_b64decode
from itertools import product

import pytest

from capx.crypto.base64url import b64u
from capx_caveats import DEFAULT, Caveat, Hop, Intent, NotUnderstood, Presented, chain_caveats, misplaced

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def read(text: str) -> Caveat:
    (caveat,) = DEFAULT.decode(f"[{text}]".encode())
    assert not isinstance(caveat, NotUnderstood)
    return caveat


BYTES = {size: b64u(bytes(size)) for size in (8, 12, 32, 64)}
MARKS: dict[str, Caveat] = {
    "task": read('["task","T1"]'),
    "intent": read(f'["intent","{BYTES[32]}"]'),
    "root": read('["root","R1"]'),
    "holder": read(f'["holder","{BYTES[32]}"]'),
    "hop": read(f'["hop","a","{BYTES[8]}"]'),
    "max_hops": read('["max_hops",1]'),
    "sig": read(f'["sig","{BYTES[64]}"]'),
    "call": read(f'["call","tool","{BYTES[32]}",1,"{BYTES[12]}"]'),
    "expires": read('["expires",1]'),
    "budget": read('["budget","calls","1"]'),
    "shared budget": read('["budget","calls","1","all"]'),
}


def first_misplaced(tags: tuple[str, ...], authority: bool) -> int | None:
    """The places of the format's words, told again."""
    marked: set[str] = set()
    counters: list[int] = []
    for at, tag in enumerate(tags):
        wrong = (
            tag == "call"
            or (tag in {"task", "intent", "root", "holder"} and not authority)
            or (tag == "hop" and (authority or at != 0))
            or (tag == "sig" and (authority or at != len(tags) - 1))
        )
        if wrong or tag in marked:
            return at
        if tag == "shared budget" and not authority:
            counters.append(at)
        elif tag not in {"expires", "budget", "shared budget"}:
            marked.add(tag)
    return counters[0] if counters else None


@pytest.mark.parametrize("authority", [True, False])
@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_mark_stands_where_its_place_is_once_in_a_block(length: int, *, authority: bool) -> None:
    for tags in product(MARKS, repeat=length):
        at = first_misplaced(tags, authority)
        found = misplaced([MARKS[tag] for tag in tags], authority=authority)
        assert found is (None if at is None else MARKS[tags[at]]), tags


@pytest.mark.parametrize("count", [1, 2, 3, 8, 12, 16, 32, 64])
def test_so_many_bytes_have_one_spelling(count: int) -> None:
    whole = chain_caveats._spelled(count)
    text = b64u(bytes(range(count)))
    assert whole(text)
    for last in ALPHABET:
        other = text[:-1] + last
        canonical = b64u(urlsafe_b64decode(other + "=" * (-len(other) % 4))) == other
        assert bool(whole(other)) == canonical
    for wrong in (text[:-1], text + "A", text + "=", f"{text}\n", text[:-1] + "+", "é" + text[1:], ""):
        assert not whole(wrong)


def test_the_profiles_are_two() -> None:
    for profile in ("tool", "http"):
        assert Presented(profile, BYTES[32], 1, BYTES[12]).profile == profile


def test_fields_of_bytes_keep_their_text() -> None:
    text = b64u(bytes(range(32)))
    assert Intent(text).digest == Hop("a", BYTES[8], text).key == text
