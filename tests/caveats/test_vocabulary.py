"""One strict decoder: what it does not understand stands as such, and refuses."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx_caveats import (
    DEFAULT,
    Call,
    Caveat,
    Expires,
    Facts,
    Hop,
    MaxHops,
    NotUnderstood,
    Presented,
    Root,
    Step,
    Task,
    Tenant,
    TooLarge,
    absent,
    action,
    all_of,
    allow,
    any_of,
    anything,
    between,
    each,
    encode_block,
    not_,
    one_of,
    prefix,
    tenant,
    until_completed,
    where,
    within,
)
from tests.labs.enumerations import each_case
from tests.labs.own_constraints import Near, Odd

FACTS = Facts(Call("a.read", {"x": 1}, tenant="Acme"), now=1000, age=0.0)
GOOD = b'[["expires",5]]'
EVERYTHING: list[Caveat] = [
    Task("T1"),
    Root("R1"),
    Root("R1", (Step("a", "AgICAgICAgI"),)),
    Hop("a", "AgICAgICAgI"),
    Hop("a", "AgICAgICAgI", "A" * 43),
    MaxHops(0),
    Presented("http", "A" * 43, 5, "A" * 16),
    until_completed("T1"),
    Expires(2**53 - 1),
    tenant('Acme "&" Söhne'),
    allow("a.read", "a.*", action("a.write", args={}), action("a.write", args={"x-y": 1, "*": anything()})),
    allow(
        action("a", x=all_of(between(0, 1.5), not_(one_of(1, None, True, [1, "a"]))), y=any_of(absent(), prefix("p")))
    ),
    allow(action("a", x=each(within("/a"), min=0), y=each(1, min=3), z=each(1))),
    where("region", "eu"),
    where("args.x", absent()),
]


@pytest.mark.parametrize("caveat", EVERYTHING, ids=lambda caveat: repr(caveat)[:50])
def test_each_caveat_reads_back_as_it_was_written(caveat: Caveat) -> None:
    block = encode_block((caveat,))
    assert DEFAULT.decode(block) == (caveat,)
    assert encode_block(DEFAULT.decode(block)) == block
    assert caveat.sentence()


def test_optional_fields_are_left_out_not_null() -> None:
    assert encode_block((Hop("a", "AgICAgICAgI"), allow("a"), allow(action("a", args={})))) == (
        b'[["hop","a","AgICAgICAgI"],["allow",[["a"]]],["allow",[["a",[]]]]]'
    )


NOT_UNDERSTOOD = {
    "nothing": b"",
    "no json": b"junk",
    "null": b"null",
    "text": b'"expires"',
    "an object": b'{"expires":5}',
    "an empty block": b"[]",
    "an empty caveat": b"[[]]",
    "two blocks": b'[["expires",5]][["expires",6]]',
    "a comma at the end": b'[["expires",5],]',
    "a comma within": b'[["expires",5,]]',
    "a comment": b'[["expires",5]]//',
    "a byte-order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "NUL after the end": GOOD + b"\0",
    "text where caveats stand": b'["expires"]',
    "single quotes": b"[['expires',5]]",
    "an unknown tag": b'[["unheard_of",5]]',
    "an unknown dotted tag": b'[["acme.region","eu"]]',
    "a tag in upper case": b'[["Expires",5]]',
    "a tag that is a number": b"[[1,5]]",
    "a tag that is null": b"[[null,5]]",
    "a caveat of a newer version": b'[["newer",5]]',
    "a budget of a number": b'[["budget","calls",20]]',
    "a budget with a sign": b'[["budget","calls","+20"]]',
    "a budget without end": b'[["budget","calls","1000000000000000"]]',
    "a budget in millionths": b'[["budget","calls","0.0000001"]]',
    "a budget of a unit that is no name": b'[["budget","Calls","20"]]',
    "a counter that is no id": b'[["budget","calls","20","a b"]]',
    "a signature cut short": b'[["sig","AAAA"]]',
    "a key that is none": b'[["holder","AAAA"]]',
    "freshness in fractions": b'[["fresh",0.5]]',
    "an extra field": b'[["expires",5,6]]',
    "an extra null": b'[["expires",5,null]]',
    "a missing field": b'[["expires"]]',
    "a fraction": b'[["expires",5.0]]',
    "an exponent": b'[["expires",1e3]]',
    "an exponent in upper case": b'[["expires",1E3]]',
    "true": b'[["expires",true]]',
    "null for a number": b'[["expires",null]]',
    "text for a number": b'[["expires","5"]]',
    "a leading zero": b'[["expires",05]]',
    "a plus sign": b'[["expires",+5]]',
    "hexadecimal": b'[["expires",0x5]]',
    "a negative time": b'[["expires",-5]]',
    "NaN": b'[["expires",NaN]]',
    "Infinity": b'[["expires",Infinity]]',
    "2**53": b'[["expires",9007199254740992]]',
    "a number of a thousand digits": b'[["expires",%s]]' % (b"9" * 1000),
    "an array for a number": b'[["expires",[5]]]',
    "an object for a number": b'[["expires",{}]]',
    "text for a list": b'[["allow","a.read"]]',
    "text for an entry": b'[["allow",["a.read"]]]',
    "an empty list": b'[["allow",[]]]',
    "an empty entry": b'[["allow",[[]]]]',
    "an object for a map": b'[["allow",[["a.read",{"x":["eq",1]}]]]]',
    "null for absent pairs": b'[["allow",[["a.read",null]]]]',
    "a pair of one": b'[["allow",[["a.read",[["x"]]]]]]',
    "a pair of three": b'[["allow",[["a.read",[["x",["eq",1],1]]]]]]',
    "an argument named twice": b'[["allow",[["a.read",[["x",["eq",1]],["x",["eq",2]]]]]]]',
    "an argument named twice by an escape": b'[["allow",[["a.read",[["x",["eq",1]],["\\u0078",["eq",2]]]]]]]',
    "a lone star": b'[["allow",[["*"]]]]',
    "a star within": b'[["allow",[["a.*.b"]]]]',
    "a star that follows no dot": b'[["allow",[["a*"]]]]',
    "an unknown constraint": b'[["allow",[["a.read",[["x",["newer","a*"]]]]]]]',
    "an unknown constraint deep inside": b'[["where","args.x",["not",["any",[["eq",1],["newer","*"]]]]]]',
    "a literal for a constraint": b'[["where","args.x",1]]',
    "an object for a literal": b'[["where","args.x",["eq",{}]]]',
    "an object within a literal": b'[["where","args.x",["eq",[{}]]]]',
    "a nested literal": b'[["where","args.x",["eq",[[1]]]]]',
    "an empty literal": b'[["where","args.x",["eq",""]]]',
    "an empty list of literals": b'[["where","args.x",["in",[]]]]',
    "1e999": b'[["where","args.x",["eq",1e999]]]',
    "-1e999": b'[["where","args.x",["range",-1e999,1]]]',
    "a literal beyond 2**53": b'[["where","args.x",["eq",9007199254740993]]]',
    "a literal beyond 2**53 with an exponent": b'[["where","args.x",["eq",1e16]]]',
    "a literal of a thousand digits": b'[["where","args.x",["eq",%s]]]' % (b"9" * 1000),
    "a fraction for a count": b'[["where","args.x",["each",["eq",1],1.0]]]',
    "true for a count": b'[["where","args.x",["each",["eq",1],true]]]',
    "null for a count": b'[["where","args.x",["each",["eq",1],null]]]',
    "a range without an end": b'[["where","args.x",["range",1]]]',
    "a range open at both ends": b'[["where","args.x",["range",null,null]]]',
    "a range of texts": b'[["where","args.x",["range","1","2"]]]',
    "a range of true": b'[["where","args.x",["range",true,true]]]',
    "absent with a field": b'[["where","args.x",["absent",1]]]',
    "absent as text": b'[["where","args.x","absent"]]',
    "absent of an attribute": b'[["where","region",["absent"]]]',
    "absent of an attribute, negated": b'[["where","region",["not",["absent"]]]]',
    "absent of every other argument": b'[["allow",[["a.read",[["*",["absent"]]]]]]]',
    "absent of an element": b'[["where","args.x",["each",["absent"]]]]',
    "absent of an element, within any": b'[["where","args.x",["each",["any",[["absent"],["eq",1]]]]]]',
    "an attribute in upper case": b'[["where","Region",["eq","eu"]]]',
    "an argument without a name": b'[["where","args.",["eq","eu"]]]',
    "a lone surrogate": b'[["tenant","\\ud800"]]',
    "a lone surrogate in a literal": b'[["where","args.x",["eq","\\udfff"]]]',
    "a lone surrogate in bytes": b'[["tenant","\xed\xa0\x80"]]',
    "overlong UTF-8": b'[["tenant","\xc0\xaf"]]',
    "invalid UTF-8": b'[["tenant","\xff"]]',
    "invalid UTF-8 in an unknown tag": b'[["unheard_of","\xff"]]',
    "an unescaped control character": b'[["where","args.x",["eq","a\nb"]]]',
    "an empty tenant": b'[["tenant",""]]',
    "a tenant with a newline": b'[["tenant","a\\nb"]]',
    "a tenant with NUL": b'[["tenant","Acme\\u0000"]]',
    "a tenant with a zero-width space": b'[["tenant","Acme\\u200b"]]',
    "a tenant with a bidi override": b'[["tenant","\\u202eemcA"]]',
    "null for a tenant": b'[["tenant",null]]',
    "a tenant of 129": b'[["tenant","%s"]]' % (b"a" * 129),
    "a task with a slash": b'[["until_completed","../T1"]]',
    "an empty task": b'[["task",""]]',
    "null for a path": b'[["root","R1",null]]',
    "an empty path": b'[["root","R1",[]]]',
    "a step of one": b'[["root","R1",[["a"]]]]',
    "null for a key": b'[["hop","a","AgICAgICAgI",null]]',
    "a short nonce": b'[["hop","a","AgICAgICAg"]]',
    "a nonce whose final bits are not zero": b'[["hop","a","AgICAgICAgJ"]]',
    "an intent that is no digest": b'[["intent","x"]]',
    "an unknown profile": b'[["call","grpc","%s",5,"%s"]]' % (b"A" * 43, b"A" * 16),
    "nine hundred objects": b'[["unheard_of",%s1%s]]' % (b'{"a":' * 600, b"}" * 600),
}


@each_case("block", NOT_UNDERSTOOD.values())
def test_what_is_not_understood_stands_and_refuses(block: bytes) -> None:
    assert len(block) <= 4096
    (caveat,) = DEFAULT.decode(block)
    assert type(caveat) is NotUnderstood
    refusal = caveat.refusal(FACTS)
    assert refusal is not None
    assert refusal.code == "not_understood"


@each_case("block", NOT_UNDERSTOOD.values())
def test_what_is_not_understood_among_others_is_refused(block: bytes) -> None:
    among = b'[["tenant","Acme"],' + block[1:] if block.startswith(b"[[") else block
    assert any(type(caveat) is NotUnderstood for caveat in DEFAULT.decode(among))


def test_neighbours_of_what_is_not_understood_keep_their_meaning() -> None:
    assert DEFAULT.decode(b'[["tenant","Acme"],["unheard_of",[1]],["expires",5]]')[::2] == (tenant("Acme"), Expires(5))


SPELLINGS = {
    "white space": b' [ [ "expires" ,\n\t5 ] ]\r\n',
    "escapes": b'[["\\u0065xpires",5]]',
}


@pytest.mark.parametrize("block", SPELLINGS.values(), ids=list(SPELLINGS))
def test_white_space_and_escapes_are_the_writers(block: bytes) -> None:
    assert DEFAULT.decode(block) == (Expires(5),)


def test_an_escaped_pair_of_surrogates_is_one_character() -> None:
    assert DEFAULT.decode(b'[["tenant","\\ud83e\\udd8a"]]') == (Tenant("🦊"),)


@pytest.mark.parametrize(
    "block", [b"[" * 3000, b"[" * 3000 + b"]" * 3000, b'[["unheard_of",%s%s]]' % (b"[" * 1500, b"]" * 1500)]
)
def test_thousands_of_brackets_are_too_large(block: bytes) -> None:
    with pytest.raises(TooLarge):
        DEFAULT.decode(block)


def test_the_limits_of_a_block() -> None:
    assert len(DEFAULT.decode(b"[" + b",".join([b'["expires",5]'] * 64) + b"]")) == 64
    with pytest.raises(TooLarge):
        DEFAULT.decode(b"[" + b",".join([b'["expires",5]'] * 65) + b"]")
    assert DEFAULT.decode(b'[["tenant","%s"]]' % (b"[" * 254))[0] is not None
    with pytest.raises(TooLarge):
        DEFAULT.decode(b'[["tenant","%s"]]' % (b"[" * 255))
    with pytest.raises(TooLarge):
        encode_block((Expires(5),) * 65)


@given(st.binary(max_size=100))
def test_any_bytes_give_caveats(block: bytes) -> None:
    caveats = DEFAULT.decode(block)
    assert caveats
    for caveat in caveats:
        assert caveat.sentence()
        caveat.refusal(FACTS)


fragments = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5),
        st.sampled_from(["a.read", "args.x", "*", "eq", "in", "each", "any", "all", "not", "absent", "range", "/a"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    max_leaves=12,
)  # fmt: skip


tags = st.sampled_from(
    ["task", "root", "hop", "max_hops", "call", "until_completed", "expires", "tenant", "allow", "where"]
)


blocks = st.lists(st.tuples(tags, st.lists(fragments, max_size=4)), min_size=1, max_size=3)


@given(blocks)
def test_any_json_gives_caveats_that_are_written_alike(parts: list[tuple[str, list[Any]]]) -> None:
    caveats = DEFAULT.decode(json.dumps([[tag, *rest] for tag, rest in parts]).encode())
    assert len(caveats) == len(parts)
    for caveat in caveats:
        caveat.refusal(FACTS)
        if not isinstance(caveat, NotUnderstood):
            assert DEFAULT.decode(encode_block((caveat,))) == (caveat,)


OWN = DEFAULT.extended(Odd, Near)


def _one_caveat(block: bytes) -> bool:
    if block[:1] != b"[" or block[-1:] != b"]":
        return False
    try:
        parsed: list[Any] = json.loads(block, parse_constant=lambda _: 1 / 0)
        json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, ZeroDivisionError, RecursionError):
        return False
    return len(parsed) == 1


ALONE = [block for block in (*NOT_UNDERSTOOD.values(), GOOD, b'[["tenant","A"]]') if _one_caveat(block)]


@given(st.lists(st.sampled_from(ALONE), min_size=1, max_size=6))
def test_a_caveat_is_read_alike_alone_and_among_others(blocks: list[bytes]) -> None:
    together = b"[" + b",".join(block[1:-1] for block in blocks) + b"]"
    assert DEFAULT.decode(together) == tuple(caveat for block in blocks for caveat in DEFAULT.decode(block))
    assert OWN.decode(together) == tuple(caveat for block in blocks for caveat in OWN.decode(block))
