import hashlib
import json
from typing import Any

import msgspec
import pytest
import rfc8785

from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import Signer, is_signed_by, parse_public
from capx.crypto.hashing import digest
from capx.errors import InvalidRequest
from capx.intents.intent import LONGEST_STATEMENT, MOST_PARAMETERS, Intent, SignedIntent, demand_agent_key, parse_intent
from capx.intents.principal_key import PrincipalKey
from tests.labs.intents import DOCUMENT

KEY = PrincipalKey("ana@our.example", Signer(bytes(range(32))))
OPTIONAL = ("tenant", "parameters", "agent", "agent_key")
LEAST = {name: DOCUMENT[name] for name in DOCUMENT if name not in OPTIONAL}


def written(document: object) -> bytes:
    return json.dumps(document).encode()


def refused(document: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        parse_intent(written(document))
    return str(caught.value)


def test_the_digest_is_that_of_the_canonical_document() -> None:
    for document in (DOCUMENT, LEAST):
        intent = parse_intent(written(document))
        assert json.loads(json.dumps(intent.document())) == document
        assert intent.digest == b64u(hashlib.sha256(rfc8785.dumps(document)).digest())
        assert intent.message() == digest(b"capx/1/intent", intent.digest.encode())


def test_the_order_of_members_and_the_layout_change_nothing() -> None:
    intent = parse_intent(written(DOCUMENT))
    turned = json.dumps(dict(reversed(DOCUMENT.items())), indent=7).encode()
    assert parse_intent(turned) == intent
    assert parse_intent(turned).digest == intent.digest


def test_every_member_changes_the_digest() -> None:
    others = {
        "principal": "bo",
        "authority": "X.1",
        "purpose": "qbr",
        "statement": "x",
        "tenant": "Umbrella",
        "parameters": {"ticket": "T-2"},
        "agent": "other",
        "agent_key": AgentKey.generate("other").public,
        "max_tasks": 3,
        "issued": 1,
        "not_after": 1_795_628_801,
        "nonce": b64u(bytes(16)),
    }
    assert others.keys() == DOCUMENT.keys()
    digests = {parse_intent(written({**DOCUMENT, name: value})).digest for name, value in others.items()}
    digests |= {
        parse_intent(written({each: DOCUMENT[each] for each in DOCUMENT if each != absent})).digest
        for absent in OPTIONAL
    }
    digests.add(parse_intent(written(DOCUMENT)).digest)
    assert len(digests) == len(others) + len(OPTIONAL) + 1


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, "1"), ("a", ["a"]), (None, "null"), (0, False), ("", None), (["a", "b"], ["b", "a"])],
)
def test_parameters_of_another_type_are_another_intent(one: object, other: object) -> None:
    found: list[str] = []
    for value in (one, other):
        try:
            found.append(parse_intent(written({**DOCUMENT, "parameters": {"x": value}})).digest)
        except InvalidRequest:
            assert value == ""
    assert len(set(found)) == len(found)


def test_an_unknown_member_is_refused() -> None:
    assert "unknown field `cc`" in refused({**DOCUMENT, "cc": "x"})
    signed = json.loads(KEY.sign_intent(parse_intent(written(DOCUMENT))).text())
    for extra in (
        {**signed, "by": "ana"},
        {"intent": {**signed["intent"], "by": "x"}, "signature": signed["signature"]},
    ):
        with pytest.raises(InvalidRequest, match="unknown field `by`"):
            SignedIntent.parse(written(extra))


@pytest.mark.parametrize("name", DOCUMENT)
def test_a_null_member_is_refused(name: str) -> None:
    assert "got `null`" in refused({**DOCUMENT, name: None})


@pytest.mark.parametrize("name", LEAST)
def test_a_missing_member_is_refused(name: str) -> None:
    assert f"missing required field `{name}`" in refused({each: DOCUMENT[each] for each in DOCUMENT if each != name})


@pytest.mark.parametrize("name", DOCUMENT)
def test_a_duplicate_member_is_refused(name: str) -> None:
    text = json.dumps(DOCUMENT)
    twice = f'{text[:-1]}, "{name}": {json.dumps(DOCUMENT[name])}}}'.encode()
    assert json.loads(twice) == DOCUMENT
    with pytest.raises(InvalidRequest, match="duplicate key"):
        parse_intent(twice)


def test_a_duplicate_parameter_signature_or_intent_is_refused() -> None:
    signed = KEY.sign_intent(parse_intent(written(DOCUMENT))).text()
    for once, twice in (
        (b'"ticket": "T-1"', b'"ticket": "T-9", "ticket": "T-1"'),
        (b'"ticket": "T-1"', b'"ticket": "T-9", "tick\\u0065t": "T-1"'),
        (b'"signature":', b'"signature": "x", "signature":'),
        (b'"intent":', b'"intent": {}, "intent":'),
    ):
        assert signed.count(once) == 1
        with pytest.raises(InvalidRequest, match=r"duplicate key|Expected|missing"):
            SignedIntent.parse(signed.replace(once, twice))


UNMEANT: dict[str, list[Any]] = {
    "principal": ["", "x" * 129, "a\nb", "a\u202eb", "a\u200bb", "a\x1b[1mb", 7],
    "authority": ["", "a b", "x" * 65, "é", 7],
    "purpose": ["", "a b", "a-b", "1a", "Q\u2003", 7],
    "statement": ["", " \n ", "x" * (LONGEST_STATEMENT + 1), "a\rb", "a\tb", "\x1b[2Jx", "a\u2066b", "a\u2028b", 7],
    "tenant": ["", "x" * 129, "a\nb", "a\u061cb", 7],
    "agent": ["", "x" * 129, "a\nb", 7],
    "agent_key": ["", "planner", KEY.public[8:], f"{KEY.public}=", f"ed25519:{b64u(bytes(32))}", KEY.public.upper(), 7],
    "max_tasks": [0, -1, 1_000_001, 1.0, "1", True],
    "issued": [-1, 2**53, 1.5, "now", True],
    "not_after": [0, 1_795_600_000, 2**53, 1e300, "8h"],
    "nonce": ["", "A" * 21, "A" * 23, "A" * 21 + "B", "!" * 22, 7],
    "parameters": [{}, [], {"x": ""}, {"x": []}, {"x": {}}, {"x": [[]]}, {"x": 2**53}, {"x": 1e16}, {"x y": 1}],
}


@pytest.mark.parametrize(("name", "values"), UNMEANT.items(), ids=str)
def test_what_cannot_be_meant_is_refused(name: str, values: list[object]) -> None:
    for value in values:
        assert refused({**DOCUMENT, name: value}), value


def test_an_agents_key_itself_is_told_from_its_public_half() -> None:
    with pytest.raises(InvalidRequest, match=r"must be text: pass its public half, key\.public"):
        demand_agent_key(AgentKey.generate("other"))
    with pytest.raises(InvalidRequest, match="must be text: ed25519: and 43 characters"):
        demand_agent_key(7)


@pytest.mark.parametrize("name", ["principal", "purpose", "tenant", "agent", "agent_key", "statement"])
def test_no_parameter_is_called_like_what_an_intent_has_itself(name: str) -> None:
    assert "not a member's name" in refused({**DOCUMENT, "parameters": {name: "x"}})


@pytest.mark.parametrize(
    "values",
    [
        {"max_tasks": 0},
        {"max_tasks": True},
        {"max_tasks": 1.0},
        {"issued": -1},
        {"issued": 1.5},
        {"issued": "1"},
        {"not_after": None},
        {"principal": None},
        {"principal": "\ud800"},
        {"statement": b"x"},
        {"nonce": None},
        {"parameters": {"x": "\ud800"}},
        {"parameters": {"x": b"x"}},
        {"parameters": {7: 7}},
        {"tenant": None},
    ],
    ids=str,
)
def test_no_intent_is_built_that_could_not_be_read(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        Intent(**{**DOCUMENT, **values})


def test_an_intent_is_bounded() -> None:
    many = {f"p{number}": 1 for number in range(MOST_PARAMETERS + 1)}
    assert "at most 32 parameters" in refused({**DOCUMENT, "parameters": many})
    assert "at most 16 KiB" in refused({**DOCUMENT, "parameters": {"x": "y" * 16_384}})
    for size in (40_000, 10_000_000):
        with pytest.raises(InvalidRequest, match="at most"):
            parse_intent(b" " * size)
        with pytest.raises(InvalidRequest, match="at most"):
            SignedIntent.parse(b" " * size)


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"7", b"{}", b"\xff", b"\xef\xbb\xbf{}", b"[" * 3_000, b'{"intent":{}}', b"{}{}"]
)
def test_bytes_that_are_no_intent_are_refused(data: bytes) -> None:
    for parse in (parse_intent, SignedIntent.parse):
        with pytest.raises(InvalidRequest):
            parse(data)


def test_a_byte_changed_anywhere_in_the_file_is_refused() -> None:
    signed = KEY.sign_intent(parse_intent(written(DOCUMENT)))
    public, data = parse_public(KEY.public), signed.text()
    same = 0
    for at in range(len(data)):
        for changed in {data[at] ^ 1, data[at] ^ 0x20, data[at] ^ 0x80, 0x20, 0x30} - {data[at]}:
            try:
                read = SignedIntent.parse(data[:at] + bytes([changed]) + data[at + 1 :])
            except InvalidRequest:
                continue
            if is_signed_by(public, read.intent.message(), read.signature):
                # Only the layout, or how a character is spelt, can have changed.
                assert read == signed
                assert read.intent.digest == signed.intent.digest
                same += 1
    assert same < 200


def test_a_byte_removed_or_inserted_in_the_file_is_refused() -> None:
    signed = KEY.sign_intent(parse_intent(written(DOCUMENT)))
    public, data = parse_public(KEY.public), signed.text()
    for at in range(len(data)):
        for changed in (
            data[:at] + data[at + 1 :],
            data[:at],
            data[:at] + b"0" + data[at:],
            data[:at] + b"," + data[at:],
        ):
            try:
                read = SignedIntent.parse(changed)
            except InvalidRequest:
                continue
            if is_signed_by(public, read.intent.message(), read.signature):
                assert read == signed


def test_an_intent_is_not_changed_through_what_it_was_made_of() -> None:
    parameters: Any = {"ticket": "T-1", "lines": [1, 2]}
    intent = Intent(**{**DOCUMENT, "parameters": parameters})
    before = intent.digest
    parameters["ticket"] = "T-2"
    parameters["lines"].append(3)
    document: Any = intent.document()
    document["tenant"] = "Umbrella"
    document["parameters"]["ticket"] = "T-3"
    assert intent.digest == before
    for change in (lambda: setattr(intent, "tenant", "x"), lambda: intent.parameters.update({"ticket": "x"})):  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            change()


def test_a_signed_intent_comes_back_from_its_file() -> None:
    signed = KEY.sign_intent(parse_intent(written(DOCUMENT)))
    assert SignedIntent.parse(signed.text()) == signed
    assert msgspec.json.decode(signed.text())["intent"] == DOCUMENT


def test_two_spellings_of_one_number_are_one_value() -> None:
    def spelt(number: str) -> Intent:
        said = {**DOCUMENT, "parameters": {"n": "N", "several": ["N", 0.5]}}
        return parse_intent(json.dumps(said).replace('"N"', number).encode())

    for one, other in (("100", "1e2"), ("100", "100.0"), ("0", "-0.0"), ("9007199254740991", "9007199254740991.0")):
        assert spelt(one).digest == spelt(other).digest
        for intent in (spelt(one), spelt(other)):
            assert repr(intent.parameters["n"]) == one
            assert repr(intent.parameters["several"]) == f"({one}, 0.5)"


def test_an_intent_that_is_written_is_unique_and_counts_from_now() -> None:
    said: dict[str, Any] = {
        "principal": "ana",
        "authority": "X.1",
        "purpose": "qbr",
        "statement": "Do it.",
        "now": 1_000,
    }
    one, other = (Intent.written(**said) for _ in range(2))
    assert one.digest != other.digest
    assert (one.issued, one.not_after, one.max_tasks) == (1_000, 1_000 + 8 * 3600, 1)
    assert one.document().keys().isdisjoint(OPTIONAL)
    assert Intent.written(**said, not_after="90s").not_after == 1_090
