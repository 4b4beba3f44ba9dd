"""The request for an approval: one document, all of it checked, none of it believed."""

import hashlib
import json
from typing import Any

import pytest
import rfc8785

from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest
from capx.tokens.approval_request import MAX_ARGS, MAX_FILE, ApprovalRequest, CallToApprove, approvable
from tests.labs.approving import LEA, demanding, request
from tests.labs.lab import NOW

TOKEN = demanding()
ONE = request(TOKEN)
DOCUMENT: dict[str, Any] = json.loads(ONE.text())


def parsed(**changed: Any) -> ApprovalRequest:
    given = {**DOCUMENT, **changed}
    return ApprovalRequest.parse(json.dumps({name: value for name, value in given.items() if value != "GONE"}).encode())


def test_a_request_is_a_document_of_its_own() -> None:
    assert list(DOCUMENT) == ["approve", "cid", "audience", "node", "action", "args", "task", "asked", "nonce"]
    assert DOCUMENT["args"] == {"amount": 40}
    assert ApprovalRequest.parse(ONE.text()) == ONE == ApprovalRequest.parse(ONE.text().decode())
    assert (ONE.asked, ONE.task, ONE.audience, ONE.node) == (NOW, "T1", "crm", b64u(TOKEN.node or b""))
    assert ONE.caveat.approvers == (LEA.public,)
    assert ONE.text().endswith(b"}\n")


def test_what_was_shown_is_its_canonical_json() -> None:
    assert ONE.shown == b64u(hashlib.sha256(rfc8785.dumps(DOCUMENT)).digest())


def test_an_intent_is_there_or_absent() -> None:
    digest = "A" * 43
    assert parsed(intent=digest).document()["intent"] == digest
    assert "intent" not in ONE.document()
    with pytest.raises(InvalidRequest):
        parsed(intent=None)


def test_two_requests_for_one_call_are_two() -> None:
    assert request(TOKEN).nonce != request(TOKEN).nonce


def test_it_pins_all_arguments() -> None:
    assert ONE.entry.sentence() == "a.write where amount is 40"
    assert request(TOKEN, args={}).entry.sentence() == "a.write without arguments"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a later kind": ({"approve": 2}, "approve"),
    "no kind": ({"approve": "GONE"}, "approve"),
    "no demand": ({"cid": "approve, please"}, "its cid is no demand that capx writes"),
    "a demand in other letters": ({"cid": "\u0100"}, "its cid is no demand"),
    "no audience": ({"audience": "No Audience"}, "it names no audience"),
    "a short node": ({"node": "AAAA"}, "its node is not 16 bytes"),
    "a pattern": ({"action": "a.*"}, "it names no action"),
    "no task": ({"task": ""}, "it names no task"),
    "a short intent": ({"intent": "A" * 42}, "its intent is not a digest"),
    "a short nonce": ({"nonce": "A"}, "its nonce is not 16 bytes"),
    "a time before 1970": ({"asked": -1}, "asked"),
    "a member more": ({"please": "trust me"}, "please"),
    "arguments that are a list": ({"args": []}, "args"),
    "an argument without a name": ({"args": {"": 1}}, "no call of a.write can have these arguments"),
    "the argument of all others": ({"args": {"*": 1}}, "nobody can approve such a call of a.write"),
    "a nested list": ({"args": {"rows": [[1]]}}, "nobody can approve such a call of a.write"),
    "a number that is too large": ({"args": {"n": 2**60}}, "no call of a.write can have these arguments"),
    "too much": ({"args": {"note": "x" * MAX_ARGS}}, f"more than {MAX_ARGS} bytes"),
}


@pytest.mark.parametrize(("changed", "told"), WRONG.values(), ids=WRONG.keys())
def test_any_other_document_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parsed(**changed)
    assert told in str(error.value)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff", b'{"approve":1,"approve":1}', b" " * 70_000])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        ApprovalRequest.parse(data)


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="duplicate key"):
        ApprovalRequest.parse(ONE.text().replace(b'"approve": 1,', b'"approve": 1,"approve": 1,'))


def test_the_reason_says_nothing_of_policies() -> None:
    with pytest.raises(InvalidRequest) as error:
        approvable("a.write", {"rows": [[1]]})
    assert "policy" not in str(error.value)
    assert "rows" in str(error.value)


def test_arguments_fit_to_the_byte() -> None:
    room = MAX_ARGS - len('{"note":""}')
    assert approvable("a.write", {"note": "x" * room})
    with pytest.raises(InvalidRequest, match="nobody can approve such a call"):
        approvable("a.write", {"note": "x" * (room + 1)})
    with pytest.raises(InvalidRequest, match="more than"):
        approvable("a.write", {f"a{one}": one for one in range(5_000)})


@pytest.mark.parametrize("note", ["x" * 5_000, '"' * 1_500], ids=["long", "long once it is written"])
def test_too_long_arguments_are_told_with_their_action(note: str) -> None:
    with pytest.raises(InvalidRequest, match=f"the arguments of a.write are more than {MAX_ARGS} bytes"):
        approvable("a.write", {"note": note})


def test_a_new_request_says_what_it_was_made_of() -> None:
    # Made anew: what this module holds was made before.
    asked = request(TOKEN, intent="A" * 43)
    assert asked.document() == {**DOCUMENT, "intent": "A" * 43, "nonce": asked.nonce}
    assert asked.text().startswith(b'{\n  "approve": 1,\n  "cid": ')


def test_a_request_keeps_its_arguments() -> None:
    given: dict[str, Any] = {"amount": 40}
    asked: Any = request(TOKEN, args=given)
    given["amount"] = 400
    assert asked.args == {"amount": 40}
    with pytest.raises(TypeError):
        asked.args["amount"] = 400


def test_a_file_fits_to_the_byte() -> None:
    text = ONE.text()
    assert ApprovalRequest.parse(text.ljust(MAX_FILE)) == ONE
    with pytest.raises(InvalidRequest, match="a file with a request has at most 64 KiB"):
        ApprovalRequest.parse(text.ljust(MAX_FILE + 1))


def test_arguments_are_a_copy_that_cannot_change() -> None:
    given: dict[str, Any] = {"amount": 40}
    found: Any = approvable("a.write", given)
    given["amount"] = 400
    assert found == {"amount": 40}
    with pytest.raises(TypeError):
        found["amount"] = 400


@pytest.mark.parametrize("args", [None, [], "x", {1: 2}])
def test_what_is_no_object_is_refused(args: Any) -> None:
    with pytest.raises(InvalidRequest):
        approvable("a.write", args)


def test_a_denial_names_the_call_in_the_same_form() -> None:
    needed = CallToApprove("crm", "a.write", {"amount": 40})
    assert needed.arguments() == {"audience": "crm", "action": "a.write", "args": {"amount": 40}}


@pytest.mark.parametrize(
    "args", [{f"a{n}": n for n in range(130)}, {f"a{n}": "" for n in range(60)}], ids=["many", "many empty"]
)
def test_what_no_statement_can_hold_is_not_asked_for(args: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"nobody can approve such a call .* a block has more than 256"):
        approvable("a.write", args)


def test_half_a_character_is_told_as_any_other_text() -> None:
    with pytest.raises(InvalidRequest, match="half a character"):
        ApprovalRequest.parse("\ud800")
