"""What can be asked for at run time, which asks are one, and how they are put into words."""

import pickle
from types import MappingProxyType
from typing import Any

import pytest
from starlette.datastructures import QueryParams

from capx.authority.requests.offering import REASONS
from capx.crypto import hashing
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest
from capx.tokens.pins import pinned_entry
from capx.tokens.wire import MAX_BLOCK
from capx.verify.ask import MAX_ARGS, Ask, Pending, Refused
from capx_caveats import Entry, Eq, Pair, Refusal

TOKEN = bytes(16)


@pytest.mark.parametrize("action", ["warehouse.*", "*", "", "ware house", "warehouse.", "a" * 129, "crm.read\n"])
def test_an_ask_names_one_action_and_no_pattern(action: str) -> None:
    with pytest.raises(InvalidRequest, match="is not an action"):
        Ask(audience="warehouse", action=action)


@pytest.mark.parametrize("audience", ["authority", "", "Warehouse", "ware house", "warehouse\n"])
def test_nothing_is_asked_for_at_the_authority_itself_or_nowhere(audience: str) -> None:
    with pytest.raises(InvalidRequest, match=r"reserved|not an audience"):
        Ask(audience=audience, action="grant.request")


@pytest.mark.parametrize("value", [float("nan"), 2**53, "\ud800", {1: 2}, {1, 2}, b"x"])
def test_arguments_that_are_no_json_are_not_asked_for(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"no call of crm\.read can have these arguments"):
        Ask(audience="crm", action="crm.read", args={"id": value})


def test_arguments_nested_too_deeply_are_not_asked_for() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(InvalidRequest, match=r"no call of crm\.read can have these arguments"):
        Ask(audience="crm", action="crm.read", args={"id": deep})


def test_no_arguments_are_another_thing_than_any() -> None:
    free, none = Ask(audience="crm", action="crm.read"), Ask(audience="crm", action="crm.read", args={})
    assert (free.canonical_args, none.canonical_args) == (None, b"{}")
    assert free.arguments() == {"audience": "crm", "action": "crm.read"}
    assert none.arguments() == {"audience": "crm", "action": "crm.read", "args": {}}
    assert free.request(TOKEN) != none.request(TOKEN)


def test_the_same_ask_of_the_same_token_is_one_request() -> None:
    one = Ask(audience="crm", action="crm.read", args={"id": 1, "to": "a"})
    assert one.request(TOKEN) == Ask(audience="crm", action="crm.read", args={"to": "a", "id": 1.0}).request(TOKEN)
    others = [
        Ask(audience="crm", action="crm.read", args={"id": True, "to": "a"}),
        Ask(audience="crm", action="crm.read", args={"id": 1}),
        Ask(audience="crm", action="crm.write", args={"id": 1, "to": "a"}),
        Ask(audience="crmcrm", action="read", args={"id": 1, "to": "a"}),
        Ask(audience="crm", action="crm.read"),
    ]
    assert len({one.request(TOKEN), one.request(bytes(15) + b"\1"), *(other.request(TOKEN) for other in others)}) == 7


def test_whoever_changes_the_arguments_later_changes_nothing() -> None:
    args: dict[str, Any] = {"id": 1}
    ask = Ask(audience="crm", action="crm.read", args=args)
    args["id"] = 2
    assert ask.canonical_args == b'{"id":1}'
    with pytest.raises(TypeError):
        ask.args["id"] = 3  # type: ignore[index] # that is what is tried


def test_an_ask_is_a_sentence_in_which_nothing_is_hidden() -> None:
    asked: list[Any] = [None, {}, {"amount": 20, "ticket": "T-1"}, {"a\u3164": "b\n\x1b[0m"}]
    assert [Ask(audience="billing", action="billing.refund", args=args).sentence() for args in asked] == [
        "billing.refund at billing",
        "billing.refund at billing, without arguments",
        'billing.refund at billing, with amount 20 and ticket "T-1"',
        'billing.refund at billing, with "a\\u3164" "b\\n\\u001b[0m"',
    ]


def test_what_waits_tells_a_model_what_to_do() -> None:
    ask = Ask(audience="billing", action="billing.refund", args={"amount": 20})
    pending = Pending(ask, request="R", until=1_800_000_000, approvers=("finance", "a\nb"))
    assert str(pending) == (
        'billing.refund at billing, with amount 20 needs the consent of a person ("finance" or "a\\nb"), who was '
        "asked: request R. Nothing was done. Go on with other work, and try the very same call again later; nobody can "
        "answer after 2027-01-15T08:00:00Z."
    )


def test_a_refusal_tells_every_reason() -> None:
    refused = Refused((Refusal("not_offered", REASONS["not_offered"]), Refusal("too_many", REASONS["too_many"])))
    assert str(refused) == f"{REASONS['not_offered']}; {REASONS['too_many']}"


def test_the_audience_is_the_one_that_the_action_names() -> None:
    assert Ask.of("crm.read", args={"id": 1}) == Ask(audience="crm", action="crm.read", args={"id": 1})


def test_a_named_audience_comes_before_the_actions_own() -> None:
    assert Ask.of("crm.read", "archive") == Ask(audience="archive", action="crm.read")


@pytest.mark.parametrize("args", [None, {}, {"id": 1}])
def test_an_ask_is_the_same_in_another_process(args: dict[str, Any] | None) -> None:
    ask = Ask(audience="archive", action="crm.read", args=args)
    assert pickle.loads(pickle.dumps(ask)) == ask


def test_what_waits_is_the_same_in_another_process() -> None:
    pending = Pending(Ask.of("crm.read"), request="R", until=1_800_000_000, approvers=("finance",))
    read = pickle.loads(pickle.dumps(pending))
    assert (read.ask, read.request, read.until, read.approvers) == (
        Ask.of("crm.read"),
        "R",
        1_800_000_000,
        ("finance",),
    )
    assert read.args == ("R",)


def test_what_waits_carries_its_request_as_evidence() -> None:
    assert Pending(Ask.of("crm.read"), request="R", until=1, approvers=()).args == ("R",)


def test_a_request_is_16_bytes_of_a_labelled_digest() -> None:
    digest = hashing.digest(b"capx/1/request", TOKEN, b"crm", b"crm.read", b"E", b'{"id":1}')
    assert Ask.of("crm.read", args={"id": 1}).request(TOKEN, "E") == b64u(digest[:16])


def test_asks_on_two_offers_are_two_requests() -> None:
    for args in ({"id": 1}, {}, None):
        ask = Ask.of("crm.read", args=args)
        assert len({ask.request(TOKEN), ask.request(TOKEN, "one"), ask.request(TOKEN, "two")}) == 3


def test_an_ask_for_any_arguments_is_an_entry_of_its_action() -> None:
    assert Ask.of("crm.read").entry() == Entry("crm.read")


def test_an_ask_without_arguments_is_an_entry_for_none() -> None:
    assert Ask.of("crm.read", args={}).entry() == Entry("crm.read", ())


def test_pinned_arguments_are_an_entry_in_canonical_order() -> None:
    entry = Ask.of("crm.read", args={"to": "a", "id": 1.0}).entry()
    assert entry == Entry("crm.read", (Pair("id", Eq(1)), Pair("to", Eq("a"))))


def test_arguments_as_long_as_a_block_are_an_entry() -> None:
    text = "x" * (MAX_BLOCK - len(b'{"a":""}'))
    assert Ask.of("crm.read", args={"a": text}).entry() == Entry("crm.read", (Pair("a", Eq(text)),))


def test_arguments_longer_than_an_ask_may_have_are_not_asked_for() -> None:
    fits = "x" * (MAX_ARGS - len(b'{"a":""}'))
    assert Ask.of("crm.read", args={"a": fits}).args == {"a": fits}
    with pytest.raises(InvalidRequest, match="more than 16 KiB"):
        Ask.of("crm.read", args={"a": fits + "x"})


@pytest.mark.parametrize("odd", ["\ud800", object(), float("inf"), 2**60], ids=["surrogate", "object", "inf", "large"])
def test_large_arguments_that_are_no_json_are_not_looked_at(odd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # At its end, behind 200 000 values that would be looked at one by one.
    large = {"a": [{"b": "é"}] * 100_000, "z": odd}

    def never(*_: object) -> None:
        pytest.fail("it was looked at")

    monkeypatch.setattr("capx.verify.ask.Call", never)
    with pytest.raises(InvalidRequest, match="more than 16 KiB"):
        Ask.of("crm.read", args=large)


def test_an_argument_named_as_all_others_are_is_no_entry() -> None:
    with pytest.raises(InvalidRequest, match=r"no argument can be called \*"):
        Ask.of("crm.read", args={"*": 1}).entry()


@pytest.mark.parametrize(
    "args", [{"": 1}, {"x\n": 1}, {"x": float("inf")}, {"x": 2**60}, {"x": {1: 2}}, {"x": "\ud800"}]
)
def test_arguments_that_no_call_can_have_are_not_asked_for(args: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"no call of crm\.read can have these arguments"):
        Ask.of("crm.read", args=args)


def test_a_query_with_a_parameter_twice_is_not_asked_for() -> None:
    for args in (QueryParams("x=1&x=2"), MappingProxyType(QueryParams("x=1&x=2"))):
        with pytest.raises(InvalidRequest, match="pass a plain dict, in which a name that is repeated has a list"):
            Ask.of("crm.read", args=args)


def test_an_ask_has_only_the_arguments_that_are_listed() -> None:
    ask = Ask.of("mail.send", args={"to": "a", "body": "b"})
    assert ask.only(("to", "subject")) == Ask.of("mail.send", args={"to": "a"})
    assert ask.entry(("to", "subject")) == pinned_entry("mail.send", {"to": "a", "body": "b"}, ("to", "subject"))
