"""A mark stands where its place is, once in a block."""

from itertools import product

import pytest

from capx.crypto.base64url import b64u
from capx_caveats import DEFAULT, Caveat, NotUnderstood, misplaced


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
