import copy
import pickle
from collections.abc import Callable

import pytest

from capx.bundle import MAX_TOKENS, Bundle
from capx.errors import InvalidRequest, MalformedToken
from capx.present import HttpRequest, ToolCall
from capx_caveats import InvalidCaveat, action, allow, each, expires, one_of
from tests.lab import NONCES, NOW, Lab, minted, raw

CRM = minted()
SLIDES = minted(audience="slides", allowed=allow("slides.write", "slides.read"))
BUNDLE = Bundle([CRM, SLIDES])


def test_a_bundle_is_its_tokens_joined_by_commas() -> None:
    assert BUNDLE.text == f"{CRM.text},{SLIDES.text}"
    assert Bundle.parse(BUNDLE.text) == BUNDLE
    assert list(BUNDLE) == [CRM, SLIDES]
    assert len(BUNDLE) == 2
    assert BUNDLE.audiences == ("crm", "slides")


@pytest.mark.parametrize(
    "text", ["", ",", f"{CRM.text},", f",{CRM.text}", f"{CRM.text}, {CRM.text}", f"{CRM.text}\n", "é"]
)
def test_any_other_text_is_malformed(text: str) -> None:
    with pytest.raises(MalformedToken):
        Bundle.parse(text)


def test_a_presentation_within_a_bundle_is_malformed() -> None:
    with pytest.raises(MalformedToken):
        Bundle.parse(f"{CRM.text},{SLIDES.present(ToolCall('slides.read')).text}")


def test_an_empty_bundle_cannot_be_built() -> None:
    with pytest.raises(InvalidRequest):
        Bundle([])


def test_a_bundle_has_a_limit_that_is_checked_before_its_tokens_are_read() -> None:
    assert len(Bundle([CRM] * MAX_TOKENS)) == MAX_TOKENS
    with pytest.raises(MalformedToken) as caught:
        Bundle([CRM] * (MAX_TOKENS + 1))
    assert caught.value.code == "too_large"
    with pytest.raises(MalformedToken) as caught:
        Bundle.parse("," * 1_000_000)
    assert caught.value.code == "too_large"


def test_capabilities_of_two_tasks_are_no_bundle() -> None:
    with pytest.raises(InvalidRequest):
        Bundle([CRM, minted(task="T2")])


def test_capabilities_of_two_nodes_are_no_bundle() -> None:
    with pytest.raises(InvalidRequest):
        Bundle([CRM, SLIDES.delegate(to="a", nonce=NONCES[0])])
    with pytest.raises(InvalidRequest):
        Bundle([CRM, minted(root="R2")])


def test_a_sub_agent_is_one_node_at_all_audiences() -> None:
    child = BUNDLE.delegate(to="slides-agent", allow=["slides.write"])
    assert len({capability.node for capability in child}) == 1
    assert child.node != BUNDLE.node
    assert child.path == (*BUNDLE.path, child.node)
    assert child.hops == ("slides-agent",)
    assert child.task == "T1"
    assert all(capability.blocks[-1] == next(iter(child)).blocks[-1] for capability in child)


def test_what_is_narrowed_to_nothing_stays_and_explains_itself() -> None:
    child = BUNDLE.delegate(to="slides-agent", allow=["slides.write"])
    assert child.audiences == ("crm", "slides")
    assert Lab().codes(next(iter(child))) == ("action_not_allowed",)


def test_a_child_may_get_the_named_audiences_alone() -> None:
    assert BUNDLE.delegate(to="a", audiences=["slides"]).audiences == ("slides",)
    with pytest.raises(InvalidRequest, match="warehouse"):
        BUNDLE.delegate(to="a", audiences=["slides", "warehouse"])
    with pytest.raises(InvalidRequest):
        BUNDLE.delegate(to="a", audiences=[])


def test_attenuating_narrows_every_capability_by_the_same_block() -> None:
    child = BUNDLE.attenuate(expires("1m"), now=NOW)
    assert [capability.blocks[-1] for capability in child] == [b'[["expires",%d]]' % (NOW + 60)] * 2
    assert child.node == BUNDLE.node


def test_delegating_to_nobody_is_refused() -> None:
    with pytest.raises(InvalidCaveat):
        BUNDLE.delegate(to="")


def test_the_newest_capability_that_does_not_rule_the_call_out_is_presented() -> None:
    first = minted(allowed=allow("a.read"))
    second = minted(allowed=allow(action("a.read", id=1)))
    bundle = Bundle([first, second])
    assert bundle.candidates("crm", ToolCall("a.read", {"id": 1})) == [second, first]
    assert bundle.candidates("crm", ToolCall("a.read", {"id": 2})) == [first]
    assert bundle.candidates("crm") == [second, first]
    assert bundle.candidates("crm", HttpRequest(method="GET", target="/")) == [second, first]
    presented = bundle.present("crm", ToolCall("a.read", {"id": 2}), now=NOW)
    assert presented.blocks[:-1] == first.blocks


def test_when_all_rule_the_call_out_the_newest_is_presented_all_the_same() -> None:
    first, second = minted(), minted(allowed=allow("a.read"))
    assert Bundle([first, second]).candidates("crm", ToolCall("a.export")) == [second]


def test_nothing_is_presented_to_an_audience_the_bundle_does_not_name() -> None:
    for audience in ("warehouse", "", "CRM", "crm.evil.example"):
        with pytest.raises(InvalidRequest):
            BUNDLE.present(audience, ToolCall("a.read"))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_bundle_is_not_pickled_or_copied(copied: Callable[[object], object]) -> None:
    with pytest.raises(InvalidRequest, match="secret"):
        copied(BUNDLE)


def test_a_bundle_shows_no_token() -> None:
    assert "capx1_" not in f"{BUNDLE!r} {BUNDLE}"


def test_a_bundle_of_foreign_tokens_claims_nothing() -> None:
    bundle = Bundle([raw(b"[]")])
    assert (bundle.task, bundle.node, bundle.hops) == (None, None, ())


def test_a_call_that_no_resource_would_judge_rules_nothing_out() -> None:
    narrow = minted(allowed=allow(action("a.read", x=each(one_of(*range(1, 900))))))
    other = minted(allowed=allow("a.read"), nonce="AgICAgICAgICAgICAgICAg")
    bundle = Bundle([other, narrow])
    assert bundle.candidates("crm", ToolCall("a.read", {"x": [0]})) == [other]
    assert bundle.candidates("crm", ToolCall("a.read", {"x": [0] * 1000})) == [narrow, other]
