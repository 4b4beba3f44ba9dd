"""Any bytes of a block are caveats that say what they mean, alone and of any call, or are not understood and refuse.

What is understood, and what is refused, is what the naive verifier understands and refuses. An input is a block, and
after a NUL, which no JSON holds, the arguments of a call as JSON.
"""

import json
from collections.abc import Iterable
from typing import Any, NoReturn
from unicodedata import category

from capx_caveats import (
    DEFAULT,
    JSON,
    SAFE_INTEGER,
    Call,
    Caveat,
    ChainCaveat,
    Constraint,
    Facts,
    Judgement,
    NotUnderstood,
    Refusal,
    TooLarge,
    Value,
    Vocabulary,
    encode_block,
)
from capx_caveats.values import Natural
from tests.fuzz import words
from tests.labs.lab import NOW
from tests.models import naive

CODES = {
    "not_understood", "expired", "not_yet", "wrong_tenant", "action_not_allowed", "argument_refused",
    "argument_not_named", "attribute_missing", "stale_liveness", "unknown_liveness", "no_meter", "budget_exhausted",
    "hop_unsigned", "hop_signature", "needs_discharge", "bad_discharge",
}  # fmt: skip
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
BARE = Call("a.read", {"x": "/data/acme/1", "y": [1, 2]}, "Acme", {"region": "eu"})


class Region(Caveat, frozen=True, tag="acme.region"):
    """A service's own caveat."""

    name: str

    def refusal(self, facts: Facts) -> Refusal | None:
        return None

    def sentence(self) -> str:
        return f"region {self.name}"


class Multiple(Constraint, frozen=True, tag="acme.multiple"):
    """A service's own constraint."""

    of: Natural

    def judge(self, value: Value) -> Judgement:
        return value % self.of == 0 if type(value) is int and self.of else None

    def sentence(self) -> str:
        return f"is a multiple of {self.of}"


EXTENDED = DEFAULT.extended(Region, Multiple)


def seeds() -> Iterable[bytes]:
    for block in words.BLOCKS:
        yield block
        for args in words.ARGUMENTS:
            yield block + b"\0" + args


def check(data: bytes) -> None:
    block, _, args = data.partition(b"\0")
    facts = [Facts(BARE, NOW, 0.0), Facts(call_of(args), NOW + 7200, 100.0)]
    for vocabulary in (DEFAULT, EXTENDED):
        decoded(block, vocabulary, facts)
    if b"acme." not in block and b"\\" not in block:
        assert meant(block, EXTENDED) == meant(block, DEFAULT), "a service's own words change the others"


def meant(block: bytes, vocabulary: Vocabulary) -> list[object]:
    """What a block means, less the words for what is not understood."""
    try:
        caveats = vocabulary.decode(block)
    except TooLarge:
        return []
    return [caveat.what if isinstance(caveat, NotUnderstood) else caveat for caveat in caveats]


def call_of(args: bytes) -> Call:
    """A call with these arguments; with none where they are not such."""
    try:
        values = json.loads(args)
        return Call("a.read", values)
    except (ValueError, RecursionError, AttributeError, TypeError):
        return Call("a.write")


def decoded(block: bytes, vocabulary: Vocabulary, facts: list[Facts]) -> None:
    try:
        caveats = vocabulary.decode(block)
    except TooLarge:
        assert block.count(b"[") > 256 or block.count(b",") >= 64, "a small block is too large"
        return
    assert caveats, "a block without a caveat"
    assert vocabulary.decode(block) == caveats
    for caveat in caveats:
        asked(caveat, facts)
        if not isinstance(caveat, NotUnderstood):
            read_back(caveat, vocabulary)
    if not any(isinstance(caveat, NotUnderstood) for caveat in caveats):
        as_json(block, caveats)
    if vocabulary is DEFAULT and b"regex" not in block:
        as_naively(naive.read(block), caveats, facts)


def as_naively(said: list[Any], caveats: tuple[Caveat, ...], facts: list[Facts]) -> None:
    """A block that cannot be read is one thing not understood there, but for a text that is none in one caveat."""
    if said == [naive.UNKNOWN]:
        assert any(isinstance(caveat, NotUnderstood) for caveat in caveats), "more is understood than the format has"
        return
    assert len(said) == len(caveats)
    for told, caveat in zip(said, caveats, strict=True):
        strange = told is naive.UNKNOWN or "." in told[0]
        assert isinstance(caveat, NotUnderstood) == strange, "only one of both understands a caveat"
        for fact in facts:
            call = {field: getattr(fact.call, field) for field in fact.call.__struct_fields__}
            refusal = caveat.refusal(fact)
            code = None if refusal is None else refusal.code
            assert code == naive.refusal(told, call, fact.now, fact.age), "only one of both refuses a call"


def asked(caveat: Caveat, facts: list[Facts]) -> None:
    """What a caveat answers is an answer; what is not understood refuses; a mark does not."""
    sentence = caveat.sentence()
    assert isinstance(sentence, str), "no sentence"
    assert sentence, "no sentence"
    sentence.encode()
    for fact in facts:
        refusal = caveat.refusal(fact)
        if isinstance(caveat, NotUnderstood):
            assert refusal is not None, "what is not understood allows"
            assert refusal.code == "not_understood"
        if isinstance(caveat, ChainCaveat):
            assert refusal is None, "a mark refuses"
        if refusal is not None:
            assert isinstance(refusal, Refusal), "an odd answer"
            assert refusal.code in CODES, refusal.code
            assert HIDDEN.isdisjoint(map(category, refusal.sentence)), "a sentence that acts on a terminal"


def read_back(caveat: Caveat, vocabulary: Vocabulary) -> None:
    try:
        again = encode_block((caveat,))
    except TooLarge:  # a bracket that was spelled as an escape
        return
    assert vocabulary.decode(again) == (caveat,), "a caveat that reads back as another"
    assert encode_block(vocabulary.decode(again)) == again, "a caveat has two compact spellings"


def as_json(block: bytes, caveats: tuple[Caveat, ...]) -> None:
    """Read by the standard library, a block that is understood says the same."""
    parsed = json.loads(block.decode(), object_pairs_hook=refuse, parse_constant=refuse)
    assert len(parsed) == len(caveats)
    for said, caveat in zip(parsed, caveats, strict=True):
        demand_safe(said)
        assert equal(said, json.loads(json.dumps(caveat.wire()))), "a caveat that was misread"


def refuse(_: object) -> NoReturn:
    raise AssertionError("an object or a constant that is no JSON was understood")


def demand_safe(value: Any) -> None:
    if isinstance(value, list):
        for element in value:
            demand_safe(element)
    elif isinstance(value, str):
        value.encode()
    elif value is not None:
        assert -SAFE_INTEGER <= value <= SAFE_INTEGER, "a number beyond the safe ones"


def equal(said: JSON, wire: JSON) -> bool:
    """Equal by type, but for an optional field that was written out though it is the default, and fractions of 0."""
    if isinstance(said, list) and isinstance(wire, list):
        rest = said[len(wire) :]
        return (not rest or (said[0] == "each" and rest == [1])) and all(map(equal, said, wire))
    if isinstance(said, bool) or isinstance(wire, bool):
        return said is wire
    return said == wire
