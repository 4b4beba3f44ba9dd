"""The reference says what is so: it is what the classes give, and its schema refuses nothing that they read."""

import json
from collections.abc import Iterable, Iterator
from inspect import getmembers, isfunction
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from capx.verify.decision import STATUS
from capx_caveats import (
    DEFAULT,
    AnyConstraint,
    Caveat,
    Constraint,
    Eq,
    InvalidCaveat,
    Judgement,
    NotUnderstood,
    Number,
    Range,
    Value,
    builders,
    encode_block,
    where,
)
from capx_caveats.schema import BEYOND, block_schema
from capx_cli.main import run
from capx_cli.name_value import _PREFIXES  # has no other list
from tests.caveats.test_vocabulary import EVERYTHING, NOT_UNDERSTOOD
from tests.labs import strategies
from tests.labs.own_constraints import Region
from tests.reference import page
from tests.reference.__main__ import FOLDER, files
from tests.reference.examples import CAVEATS, CONSTRAINTS, REFUSED, Example

SCHEMA = Draft202012Validator(block_schema())


@pytest.mark.parametrize("name", files())
def test_a_file_is_what_its_generator_writes(name: str) -> None:
    """To write them anew: python -m tests.reference."""
    assert (FOLDER / name).read_text(encoding="utf-8") == files()[name]


def test_a_shell_gets_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(files()["block.schema.json"])


# The page


def examples() -> Iterator[Example]:
    for of_caveat in CAVEATS.values():
        yield from of_caveat
    for of_constraint in CONSTRAINTS.values():
        yield from of_constraint.examples


def test_every_class_of_the_vocabulary_has_an_example() -> None:
    assert set(CAVEATS) == set(REFUSED) == set(DEFAULT.caveats)
    assert set(CONSTRAINTS) == set(get_args(AnyConstraint))


def test_every_example_makes_what_it_is_an_example_of() -> None:
    for kind, of_caveat in CAVEATS.items():
        assert {type(page.built(example)) for example in of_caveat} == {kind}
    for constraint, judged in CONSTRAINTS.items():
        assert {type(page.constrained(example).constraint) for example in judged.examples} == {constraint}


def test_every_builder_and_typed_caveat_has_an_example() -> None:
    calls = " ".join(example.python for example in examples())
    typed = " ".join(example.shell for example in examples() if example.shell)
    here = {name for name, each in getmembers(builders, isfunction) if each.__module__ == builders.__name__}
    inner = {"as_entry", "resolved"}
    assert {name for name in here - inner if not name.startswith("_") and f"{name}(" not in calls} == set()
    assert {each.opts[0] for each in page.options.params if each.opts[0] not in f"{typed} --with"} == set()
    assert {prefix for prefix in _PREFIXES if f"{prefix}:" not in typed} == set()


def test_an_option_that_means_another_thing_is_no_example() -> None:
    with pytest.raises(ValueError, match="is not"):
        page.built(Example('tenant("Acme")', "--tenant Globex"))
    with pytest.raises(ValueError, match="is not"):
        page.constrained(Example("between(0, 50)", "x=range:0..51"))


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_a_refusal_is_told_for_one_reason_that_there_is(kind: type[Caveat]) -> None:
    for refused in REFUSED[kind]:
        (code,) = refused()
        assert code in STATUS


def test_every_verdict_that_a_constraint_can_give_is_shown() -> None:
    lacking = {
        (kind.__name__, said)
        for kind, judged in CONSTRAINTS.items()
        for said, values in (("yes", judged.yes), ("no", judged.no), ("cannot", judged.cannot))
        if not values
    }
    assert lacking == {("Absent", "cannot"), ("Anything", "no"), ("AnyOf", "cannot")}


# The schema


def passes(block: Any, schema: Draft202012Validator = SCHEMA) -> bool:
    return schema.is_valid(block)


def why_not(block: Any) -> str | None:
    """What the decoder says of a block that it does not understand."""
    for caveat in DEFAULT.decode(json.dumps(block).encode()):
        if isinstance(caveat, NotUnderstood):
            return caveat.why
    return None


EVERY_EXAMPLE: list[Caveat] = [
    *EVERYTHING,
    *(page.built(example) for of_caveat in CAVEATS.values() for example in of_caveat),
    *(page.constrained(example) for judged in CONSTRAINTS.values() for example in judged.examples),
]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(block_schema())


def test_no_field_of_a_block_is_any_text_at_all() -> None:
    assert [name for name, form in block_schema()["$defs"].items() if "{'type': 'string'}" in str(form)] == []
    assert [name for name, form in block_schema()["$defs"].items() if ", 'type': 'string'}" in str(form)] == []


@pytest.mark.parametrize("caveat", EVERY_EXAMPLE, ids=lambda caveat: repr(caveat)[:50])
def test_what_can_be_written_passes(caveat: Caveat) -> None:
    assert passes(json.loads(encode_block((caveat,))))


def test_a_block_passes_up_to_its_limits() -> None:
    one = ["expires", 5]
    assert [passes([one] * many) for many in (0, 1, 64, 65)] == [False, True, True, False]


FARTHEST = 2**53 - 1
LONG_HOST = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
EDGES: list[Any] = [
    [["task", "a" * 64]],
    [["hop", "e\u0301" * 64, "AgICAgICAgI"]],
    [["tenant", "\U0001f98a" * 128]],
    [["expires", FARTHEST]],
    [["budget", "a" + "_" * 31, "9" * 15 + ".000009", "-" * 64]],
    [["allow", [["a" * 126 + ".*"], ["a." * 63 + "aa", []], ["a", [["x" * 128, ["anything"]]]]]]],
    [["where", "a" + "9" * 31, ["range", -FARTHEST, FARTHEST]]],
    [["where", "args." + "." * 128, ["length", 0, FARTHEST]]],
    [["where", "args.x", ["in", [None, False, -FARTHEST, -0.5, "a", [None, True, FARTHEST, 1e-7, "b"]]]]],
    [["where", "args.x", ["path", "/"]]],
    [["where", "args.x", ["path", "/" + "a" * 4095]]],
    [["where", "args.x", ["host", [LONG_HOST, f"*.{LONG_HOST}", "a"]]]],
    [["where", "args.x", ["url", ["ab", "a" * 32], [LONG_HOST], [1, 65535], "/" + "a" * 4095]]],
    [["where", "args.x", ["url", ["https"], ["x.example"], [], "/A-z0._~!$&'()*+,=:@%20"]]],
    [["where", "args.x", ["cidr", [":".join(["ffff"] * 8) + "/128", "0.0.0.0/0", "::1/128"]]]],
    [["approved", "a" * 63, "A" * 21 + "w", "A" * 42 + "8", FARTHEST]],
    [["signed", FARTHEST, "A" * 85 + "w"]],
]
"""The longest and the largest that is read."""


@pytest.mark.parametrize("block", EDGES, ids=lambda block: json.dumps(block)[:50])
def test_the_most_that_is_read_passes(block: Any) -> None:
    assert why_not(block) is None
    assert passes(block)


LAXER = {
    "got `float`": [["expires", 5.0]],
    "is not an agent's name": [["hop", "a\u202e", "AgICAgICAgI"]],
    "is not a tenant": [["tenant", "a\n"]],
    "is not an argument name": [["where", "args.a\u200b", ["eq", 1]]],
    "named twice": [["allow", [["a", [["x", ["eq", 1]], ["x", ["eq", 2]]]]]]],
    "`absent` cannot be used here": [["where", "region", ["not", ["absent"]]]],
    "at least one end": [["where", "args.x", ["range", None, None]]],
    "is between": [["where", "args.x", ["length", 2, 1]]],
    "RE2 refuses": [["where", "args.x", ["regex", "("]]],
    "is not an absolute path": [["where", "args.x", ["path", "/a/../b"]]],
    "is not a scheme": [["where", "args.x", ["url", ["file"], ["x.example"], [1]]]],
    "no known port": [["where", "args.x", ["url", ["ftp"], ["x.example"], []]]],
    "is not a host elsewhere": [["where", "args.x", ["url", ["https"], ["localhost"], []]]],
    "is not a host,": [["where", "args.x", ["host", ["10.0.0.1"]]]],
    "is not the path of a URL": [["where", "args.x", ["url", ["https"], ["x.example"], [], "/a/"]]],
    "is not a network": [["where", "args.x", ["cidr", ["10.0.0.1/8"]]]],
}
"""All that the decoder refuses and the schema does not, by what the decoder says."""


def is_laxer_than(said: str) -> bool:
    return any(words in said for words in LAXER)


@pytest.mark.parametrize(("said", "block"), LAXER.items(), ids=list(LAXER))
def test_the_schema_cannot_say(said: str, block: Any) -> None:
    assert passes(block)
    assert said in (why_not(block) or "")


def read_as_json(blocks: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """What these blocks hold, without those that are no JSON in Unicode: no schema sees them."""
    found: dict[str, Any] = {}
    for name, block in blocks:
        try:
            found[name] = json.loads(block.decode())
            json.dumps(found[name], ensure_ascii=False).encode()
        except ValueError:
            found.pop(name, None)
    return found


MISREAD = read_as_json(NOT_UNDERSTOOD.items())


@pytest.mark.parametrize("block", MISREAD.values(), ids=list(MISREAD))
def test_what_is_not_understood_is_refused_by_a_schema_that_can(block: Any) -> None:
    assert not passes(block) or is_laxer_than(why_not(block) or "")


MALFORMED: list[Any] = [
    [],
    {},
    [[]],
    ["expires", 5],
    [["expires"]],
    [["expires", 5, 6]],
    [["expires", "5"]],
    [["expires", -1]],
    [["expires", 2**53]],
    [["Expires", 5]],
    [["acme.region", "eu"]],
    [["hop", "a", "AgICAgICAgI", None]],
    [["hop", "a", "AgICAgICAgJ"]],
    [["approved", "a" * 64, "A" * 22, "A" * 43, 5]],
    [["approved", "Billing", "A" * 22, "A" * 43, 5]],
    [["approved", "billing", "A" * 21 + "B", "A" * 43, 5]],
    [["approved", "billing", "A" * 22, "A" * 43]],
    [["signed", -1, "A" * 86]],
    [["signed", 0, "A" * 85 + "B"]],
    [["task", "a b"]],
    [["tenant", "a" * 129]],
    [["root", "R1", []]],
    [["allow", []]],
    [["allow", [["*"]]]],
    [["allow", [["a" * 129]]]],
    [["allow", [["a", {"x": ["eq", 1]}]]]],
    [["where", "Region", ["eq", 1]]],
    [["where", "args.", ["eq", 1]]],
    [["where", "region", ["eq"]]],
    [["where", "region", ["newer", 1]]],
    [["where", "region", ["eq", ""]]],
    [["where", "region", ["eq", [[1]]]]],
    [["where", "region", ["eq", 2**53]]],
    [["where", "region", ["in", []]]],
    [["where", "region", ["any", [["eq", 1], ["newer"]]]]],
    [["where", "region", ["each", ["eq", 1], -1]]],
    [["where", "region", ["glob", "a***"]]],
    [["where", "region", ["path", "a"]]],
    [["where", "region", ["host", ["X.example"]]]],
    [["where", "region", ["url", ["https"], ["x.example"], [0]]]],
    [["where", "region", ["cidr", ["10.0.0.1"]]]],
    [["budget", "calls", 20]],
    [["budget", "calls", "01"]],
    [["call", "grpc", "A" * 43, 5, "A" * 16]],
]


@pytest.mark.parametrize("block", MALFORMED, ids=lambda block: json.dumps(block)[:50])
def test_what_is_malformed_does_not_pass(block: Any) -> None:
    assert not passes(block)
    assert why_not(block)


def nodes(form: Any) -> Iterator[tuple[list[Any], int]]:
    """Each place within nested arrays."""
    if isinstance(form, list):
        for at, part in enumerate(form):
            yield form, at
            yield from nodes(part)


@st.composite
def touched(draw: st.DrawFn) -> Any:
    """What can be written, with one part left out, doubled or replaced."""
    block = json.loads(encode_block((draw(st.sampled_from(EVERY_EXAMPLE)),)))
    within, at = draw(st.sampled_from(list(nodes(block))))
    replaced = draw(
        st.one_of(strategies.scalars, strategies.JUNK, st.text(max_size=3), st.integers(), st.floats(-2, 2))
    )
    within[at : at + 1] = draw(st.sampled_from([[], [within[at], within[at]], [replaced]]))
    return block


@given(st.one_of(touched(), st.lists(strategies.caveats, min_size=1, max_size=2)))
def test_the_schema_refuses_only_what_is_not_understood(block: Any) -> None:
    parsed = json.loads(json.dumps(block))
    said = why_not(parsed)
    if passes(parsed):
        assert said is None or is_laxer_than(said)
    else:
        assert said is not None


# A service's own


class Near(Constraint, frozen=True, tag="acme.near"):
    center: Number
    others: AnyConstraint

    def judge(self, value: Value) -> Judgement:
        return None

    def sentence(self) -> str:
        return "is near"


def test_the_schema_of_a_larger_vocabulary_knows_what_is_its_own() -> None:
    own = Draft202012Validator(block_schema(DEFAULT.extended(Region, Near)))
    near = where("args.x", Near(1.5, Eq(1)))
    block = json.loads(encode_block((Region("eu"), near)))
    assert passes(block, own)
    assert not passes(block)
    assert not passes([["acme.region", 5]], own)
    assert not passes([["where", "args.x", ["acme.near", 1.5, ["newer"]]]], own)


def test_what_a_schema_cannot_say_its_class_says() -> None:
    told = block_schema()["$defs"]
    for kind, said in BEYOND.items():
        assert said in told[kind.__name__]["description"]
    with pytest.raises(InvalidCaveat):
        Range(None, None)
