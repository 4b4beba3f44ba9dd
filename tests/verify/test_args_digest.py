"""The digest of arguments: equal for one call, and of no use to a reader of the log who tries values."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from capx.crypto.keys import AudienceKey, AudienceKeys, RootKey
from capx.tokens.binding import ToolCall
from capx.verify.args_digest import args_digest
from capx.verify.decision import Decision, Denied
from capx_caveats import JSON, Call, allow
from tests.labs.lab import KEY, NOW, ROOT_KEY, Lab, minted

NODE = bytes(16)
ARGS: dict[str, JSON] = {"to": "Ana", "amount": 40}
NODE_OF_ROOT = minted().path[-1]
OTHER = RootKey(bytes(range(1, 33)))


def digest(
    args: Mapping[str, JSON] = ARGS, *, key: AudienceKey = KEY, node: bytes = NODE, action: str = "crm.pay"
) -> str | None:
    return args_digest(key, node, action, args)


def test_the_same_arguments_have_the_same_short_digest() -> None:
    found = digest()
    assert found == digest({"amount": 40, "to": "Ana"})
    assert found is not None
    assert re.fullmatch(r"[A-Za-z0-9_-]{16}", found)
    assert digest({}) == digest({})


@pytest.mark.parametrize(
    "other",
    [
        {"args": {"to": "Ana", "amount": 41}},
        {"args": {"to": "Ana"}},
        {"args": {**ARGS, "note": None}},
        {"action": "crm.pays"},
        {"node": bytes(15) + b"\x01"},
        {"key": OTHER.audience_key("crm")},
        {"key": ROOT_KEY.audience_key("billing")},
    ],
    ids=["value", "fewer", "more", "action", "node", "key", "audience"],
)
def test_anything_else_has_another_digest(other: dict[str, Any]) -> None:
    assert digest(**other) != digest()


@pytest.mark.parametrize("bad", [object(), "\ud800"], ids=["type", "text"])
def test_what_cannot_be_written_has_no_digest(bad: Any) -> None:
    assert digest({"to": bad}) is None


def test_what_nests_without_end_has_no_digest() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert digest({"to": endless}) is None


def decided(lab: Lab, **args: JSON) -> Decision:
    return lab.decide(lab.present(minted(), args=args), args=args)


def test_a_decision_has_the_digest_of_the_judged_arguments() -> None:
    lab = Lab()
    received = ToolCall("a.read", {"id": 7})
    judged = Call("a.read", {"id": 7, "page": 1})
    decision = lab.verifier.decide(minted().present(received, now=NOW).text, received, judged)
    assert decision.args_digest == args_digest(KEY, NODE_OF_ROOT, "a.read", {"id": 7, "page": 1})
    assert decision.body()["args_digest"] == decision.args_digest
    assert decided(lab, id=7).args_digest != decision.args_digest


def test_a_denial_and_a_later_yes_have_the_same_digest() -> None:
    lab = Lab()
    call = Call("a.read", {"id": 7})
    with pytest.raises(Denied) as denied:
        lab.verifier.admit(
            lab.present(minted().attenuate(allow("a.other")), args=call.args), ToolCall("a.read", {"id": 7})
        ).judge(call)
    # Under an older key, which the service still has.
    keys = AudienceKeys("crm", [ROOT_KEY.audience_key("crm"), OTHER.audience_key("crm")])
    assert (
        Lab(keys=keys).decide(lab.present(minted(), args=call.args), args=call.args).args_digest
        == denied.value.decision.args_digest
    )
    assert denied.value.decision.args_digest == decided(lab, id=7).args_digest


def test_a_screened_call_has_the_digest_of_what_was_sent() -> None:
    lab = Lab()
    admitted = lab.verifier.admit(lab.present(minted(), "a.export", {"id": 7}), ToolCall("a.export", {"id": 7}))
    found: list[str | None] = []
    for sent in ({"id": 7}, None):
        with pytest.raises(Denied) as denied:
            admitted.screen("a.export", sent)
        found.append(denied.value.decision.args_digest)
    assert found == [args_digest(KEY, NODE_OF_ROOT, "a.export", {"id": 7}), None]
    assert admitted.ruled_out("a.read") == ()


def test_a_denial_before_the_call_is_known_has_no_digest() -> None:
    lab = Lab()
    lab.deaths.deaths["T1"] = "task_completed"
    with pytest.raises(Denied) as denied:
        lab.verifier.admit(lab.present(minted(), args={"id": 7}), ToolCall("a.read", {"id": 7}))
    assert denied.value.decision.args_digest is None
    assert "args_digest" not in denied.value.decision.body()
    assert lab.records.decisions == [denied.value.decision]


def test_a_full_recorder_does_not_hide_the_digest() -> None:
    lab = Lab()
    lab.records.full = True
    decision = decided(lab, id=7)
    assert (decision.allowed, decision.args_digest is None) == (False, False)
