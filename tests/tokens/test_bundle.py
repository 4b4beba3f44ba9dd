import copy
import os
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from traceback import TracebackException
from typing import Any, cast

import pytest

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.errors import ConfigurationProblem, InvalidRequest, MalformedToken
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.bundle import MAX_TOKENS, Bundle, frozen_narrowing, hops_between, permits
from capx.tokens.capability import Capability
from capx.tokens.delegation import Delegation
from capx.tokens.grants import OWN_ENTRIES, audience_meant
from capx.verify.decision import Denied
from capx_caveats import (
    Allow,
    Call,
    Entry,
    InvalidCaveat,
    Root,
    Step,
    action,
    allow,
    anything,
    each,
    encode_block,
    expires,
    one_of,
)
from tests.labs.lab import NONCES, NOW, Lab, grant, minted, raw

CRM = minted()
SLIDES = minted(audience="slides", allowed=allow("slides.write", "slides.read"))
BUNDLE = Bundle([CRM, SLIDES])
OWN = minted(audience="authority", allowed=Allow(OWN_ENTRIES))
WHOLE = Bundle([CRM, SLIDES, OWN])


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


@pytest.mark.parametrize("mask", [0, 0o077])
def test_a_saved_bundle_is_its_owners_alone(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        BUNDLE.save(tmp_path / "token")
    finally:
        os.umask(before)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "token").read_text() == f"{BUNDLE.text}\n"
    assert Bundle.load(tmp_path / "token") == Bundle.load(str(tmp_path / "token")) == BUNDLE


def test_a_bundle_is_saved_over_another_one_only_on_demand(tmp_path: Path) -> None:
    file = tmp_path / "token"
    BUNDLE.save(file)
    with pytest.raises(ConfigurationProblem, match=f"{file} is there already: choose another name"):
        WHOLE.save(file)
    assert Bundle.load(file) == BUNDLE
    WHOLE.save(file, replace=True)
    assert Bundle.load(file) == WHOLE
    with pytest.raises(ConfigurationProblem, match="/none/token: No such file"):
        BUNDLE.save(tmp_path / "none" / "token")
    assert [each.name for each in tmp_path.iterdir()] == ["token"]


def test_a_full_bundle_of_long_tokens_is_loaded(tmp_path: Path) -> None:
    longest = CRM
    while len(longest.text) < 12_000:
        longest = longest.attenuate(allow(*(f"a.{'x' * 100}{n}" for n in range(25))))
    full = Bundle([longest] * MAX_TOKENS)
    full.save(tmp_path / "token")
    assert Bundle.load(tmp_path / "token") == full


def test_a_file_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConfigurationProblem, match=f"cannot read the token file {file}: No such file"):
        Bundle.load(file)
    BUNDLE.save(file)
    file.chmod(0o640)
    with pytest.raises(ConfigurationProblem, match=f"may be read or changed by others: chmod 600 {file}$"):
        Bundle.load(file)
    with pytest.raises(ConfigurationProblem, match="is a folder: name the token file in it"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize(
    ("damaged", "error", "says"),
    [
        (b"", MalformedToken, "a token begins with capx1_"),
        (BUNDLE.text[:-9].encode(), MalformedToken, "the token is cut short"),
        (b"\xff" + BUNDLE.text.encode(), MalformedToken, "a token begins with capx1_"),
        (b"x" * 2_000_000, MalformedToken, "more than 16384 characters"),
        (f"{CRM.text},{CRM.delegate(to='a').text}".encode(), InvalidRequest, "belong to one task and one node"),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(
    tmp_path: Path, damaged: bytes, error: type[Exception], says: str
) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_bytes(damaged)
    with pytest.raises(error, match=f"{file}: .*{says}") as caught:
        Bundle.load(file)
    told = TracebackException(type(caught.value), caught.value, caught.value.__traceback__, capture_locals=True)
    inner = [frame.locals for frame in told.stack if frame.filename.endswith("capx/tokens/bundle.py")]
    assert inner
    assert "capx1_" not in str(inner).replace("begins with capx1_", "")


def test_a_damaged_file_is_refused_with_its_code(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(BUNDLE.text[:-9])
    with pytest.raises(MalformedToken) as caught:
        Bundle.load(file)
    assert caught.value.code == "truncated"


def test_a_file_longer_than_any_bundle_is_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    os.truncate(file, 1 << 26)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedToken):
            Bundle.load(file)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_white_space_around_a_bundle_is_to_be_stripped() -> None:
    for text in (f"{BUNDLE.text}\n", f" {BUNDLE.text}"):
        with pytest.raises(MalformedToken, match="white space around the text"):
            Bundle.parse(text)


def test_an_empty_bundle_cannot_be_built() -> None:
    with pytest.raises(InvalidRequest):
        Bundle([])


def numbered(number: int, **parts: Any) -> Capability:
    """One of many capabilities that differ."""
    return minted(nonce=b64u(number.to_bytes(16)), **parts)


def test_what_is_granted_is_held_behind_what_was_held() -> None:
    granted = numbered(1)
    assert list(WHOLE.holding(granted)) == [*WHOLE, granted]
    assert WHOLE.holding(granted).candidates("crm") == [granted, CRM]


def test_what_is_held_is_not_held_twice() -> None:
    assert WHOLE.holding(CRM) is WHOLE


def test_what_is_taken_out_is_not_held() -> None:
    assert list(WHOLE.without(CRM, OWN)) == [SLIDES]
    assert WHOLE.without(numbered(1)) == WHOLE.without() == WHOLE


def test_what_is_of_another_node_or_task_is_not_held() -> None:
    for other in (CRM.delegate(to="helper"), minted(task="T2"), minted(root="R2")):
        with pytest.raises(InvalidRequest, match="one task and one node"):
            WHOLE.holding(other)


def test_a_full_bundle_lets_go_of_what_has_expired() -> None:
    held = [CRM, OWN, *(numbered(count, expires=NOW + 3600 - count) for count in range(MAX_TOKENS - 2))]
    full = Bundle(held)
    granted = numbered(MAX_TOKENS)
    assert list(full.holding(granted, now=held[-1].issued_at + 3600 - 29)) == [*held[:-1], granted]
    soon = Bundle([minted(expires=NOW + 1), *held[1:]])
    assert list(soon.holding(granted, now=NOW + 1)) == [*held[1:], granted]


def test_a_full_bundle_lets_go_of_the_oldest_runtime_grant() -> None:
    held = [CRM, SLIDES, OWN, *map(numbered, range(MAX_TOKENS - 3))]
    more = [numbered(MAX_TOKENS + count) for count in range(2)]
    once = Bundle(held).holding(more[0], now=NOW)
    assert list(once) == [CRM, SLIDES, OWN, *held[4:], more[0]]
    assert list(once.holding(more[1], now=NOW)) == [CRM, SLIDES, OWN, *held[5:], *more]


def test_grants_of_one_service_drive_out_no_other_grants() -> None:
    others = [numbered(count, audience=f"a{count % 2}") for count in range(12)]
    bundle = Bundle([CRM, SLIDES, OWN, *others])
    for count in range(12, 112):
        bundle = bundle.holding(numbered(count), now=NOW)
    rest = MAX_TOKENS - 3 - len(others)
    assert list(bundle) == [CRM, SLIDES, OWN, *others, *map(numbered, range(112 - rest, 112))]


def test_the_grant_that_comes_counts_for_its_service() -> None:
    # As many for crm as for a1: with the one that comes, crm has more, so its own oldest makes room.
    others = [numbered(count, audience="a1") for count in range(15)]
    own = [*map(numbered, range(15, 29))]
    bundle = Bundle([SLIDES, OWN, *others, *own, numbered(29)])
    assert list(bundle.holding(numbered(30), now=NOW)) == [SLIDES, OWN, *others, *own[1:], numbered(29), numbered(30)]


def test_of_services_with_as_many_grants_the_oldest_goes() -> None:
    older = [numbered(count, audience="a1") for count in range(15)]
    newer = [numbered(count, audience="a2") for count in range(15, 30)]
    bundle = Bundle([SLIDES, OWN, *newer[:1], *older, *newer[1:]])
    assert list(bundle.holding(numbered(30), now=NOW)) == [SLIDES, OWN, *older, *newer[1:], numbered(30)]


def test_grants_are_counted_from_the_capability_that_asked() -> None:
    fewer = [numbered(count, audience="a1") for count in range(15)]
    more = [*map(numbered, range(15, 31))]
    coming = numbered(31, audience="a2")
    assert list(Bundle([OWN, *more, *fewer]).holding(coming, now=NOW)) == [OWN, *more[1:], *fewer, coming]
    # Without such a capability, all of them count.
    assert list(Bundle([CRM, *more, *fewer]).holding(coming, now=NOW)) == [*more, *fewer, coming]


def test_of_what_a_task_began_with_the_oldest_goes_first() -> None:
    held = [SLIDES, *map(numbered, range(MAX_TOKENS - 2)), OWN]
    coming = numbered(MAX_TOKENS)
    assert list(Bundle(held).holding(coming, now=NOW)) == [*held[1:], coming]


def test_a_full_bundle_keeps_what_is_for_the_authority() -> None:
    held = [minted(audience="authority", expires=NOW + 1), *map(numbered, range(MAX_TOKENS - 1))]
    granted = numbered(MAX_TOKENS)
    assert list(Bundle(held).holding(granted, now=NOW + 10)) == [held[0], *held[2:], granted]
    opened = [*map(numbered, range(MAX_TOKENS - 1)), OWN]
    assert list(Bundle(opened).holding(granted, now=NOW)) == [*opened[1:], granted]


def test_a_bundle_too_long_is_refused_before_its_tokens_are_read() -> None:
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


def test_the_newest_capability_that_may_pass_is_presented() -> None:
    first = minted(allowed=allow("a.read"))
    second = minted(allowed=allow(action("a.read", id=1)))
    bundle = Bundle([first, second])
    assert bundle.candidates("crm", ToolCall("a.read", {"id": 1})) == [second, first]
    assert bundle.candidates("crm", ToolCall("a.read", {"id": 2})) == [first]
    assert bundle.candidates("crm") == [second, first]
    assert bundle.candidates("crm", HttpRequest(method="GET", target="/")) == [second, first]
    presented = bundle.present("crm", ToolCall("a.read", {"id": 2}), now=NOW)
    assert presented.blocks[:-1] == first.blocks


def test_when_all_rule_the_call_out_the_newest_is_presented() -> None:
    first, second = minted(), minted(allowed=allow("a.read"))
    assert Bundle([first, second]).candidates("crm", ToolCall("a.export")) == [second]


def test_a_default_counts_when_the_call_is_known() -> None:
    first, second = minted(), minted(allowed=allow(action("a.read", id=1)))
    bundle = Bundle([first, second])
    assert bundle.candidates("crm", Call("a.read", defaults={"id": 1})) == [second, first]
    assert bundle.candidates("crm", Call("a.read", defaults={"id": 2})) == [first]


def test_a_capability_permits_what_all_its_allowlists_name() -> None:
    narrowed = minted().attenuate(allow(action("a.read", id=1), "a.list"))
    assert [permits(narrowed, name) for name in ("a.read", "a.write", "a.list")] == [True, False, False]
    assert permits(minted(), "a.write")


def test_a_guarded_tool_is_called_with_a_bundle() -> None:
    with Authority.temporary() as authority:

        @authority.tool("crm.read")
        def read(id_: int) -> int:
            return id_

        assert authority.open(allow=["crm.read"]).bundle.calling(read)(7) == 7
        with pytest.raises(Denied) as denied:
            authority.open(allow=["crm.list"]).bundle.calling(read)(7)
    assert denied.value.code == "action_not_allowed"
    with pytest.raises(InvalidRequest):
        BUNDLE.calling(len)


def test_nothing_is_presented_to_an_audience_not_in_the_bundle() -> None:
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


def test_a_bundle_lists_what_each_capability_can_still_allow() -> None:
    narrowed = WHOLE.attenuate(allow("slides.*", "task.*", "grant.request"), expires(NOW + 60))
    crm, slides, own = narrowed.can(now=NOW)
    assert [one.audience for one in (crm, slides, own)] == ["crm", "slides", "authority"]
    assert (crm.sentences(), bool(crm.why_nothing)) == ((), True)
    assert slides.sentences() == ("slides.write", "slides.read")
    assert own.sentences()[-1] == "may ask for anything that its policy offers"
    assert narrowed.can("slides", now=NOW) == (slides,)
    for no_audience in ("billing", "slides.write"):
        with pytest.raises(InvalidRequest, match=f"holds nothing for '{no_audience}', only for crm, slides, authority"):
            narrowed.can(no_audience, now=NOW)
    assert [one.why_nothing[-1][:10] for one in narrowed.can()] == ["expired at"] * 3


def test_what_is_no_caveat_and_no_call_is_refused_as_ours() -> None:
    wrong: Any
    for wrong, why in (
        (["10m"], "and not a str"),
        ([None], "and not a NoneType"),
        ("10m", r"give a list of caveats, such as \[expires"),
        (expires("10m"), r"give a list of caveats, such as \[expires"),
    ):
        with pytest.raises(InvalidCaveat, match=why):
            WHOLE.delegate(to="a", caveats=wrong)
        with pytest.raises(InvalidCaveat, match=why):
            WHOLE.delegate(to="a", **frozen_narrowing(caveats=wrong))
    with pytest.raises(InvalidCaveat, match="and not a str"):
        WHOLE.attenuate(cast("Any", WHOLE.text))
    for wrong, kind in (("slides.write", "str"), (None, "NoneType")):
        with pytest.raises(InvalidRequest, match=rf"explain a Call, such as capx\.Call.*, and not a {kind}$"):
            WHOLE.explain(wrong)


def test_a_bundle_foresees_a_call_at_the_audience_that_is_meant() -> None:
    granted = SLIDES.attenuate(allow("slides.read"), now=NOW)
    bundle = Bundle([CRM, SLIDES, granted, OWN])
    write = bundle.explain(Call("slides.write"), now=NOW)
    # The newest refuses it, and an older one does not.
    assert (write.audience, write.refused, write.refusals) == ("slides", False, ())
    assert bundle.explain(Call("slides.read"), now=NOW).restrictions[-1].sentence == "allows only slides.read"
    assert bundle.explain(Call("task.complete"), now=NOW).audience == "authority"
    away = bundle.explain(Call("slides.delete"), audience="slides", now=NOW)
    assert [one.sentence for one in away.refusals] == [
        "allows only slides.write; slides.read",
        "allows only slides.read",
    ]
    with pytest.raises(TypeError, match="read its `refused`"):
        bool(away)
    assert bundle.explain(Call("slides.write")).refused
    for call, audience in ((Call("billing.pay"), None), (Call("crm.read"), "billing")):
        with pytest.raises(InvalidRequest, match="holds nothing for 'billing', only for crm, slides, authority"):
            bundle.explain(call, audience=audience)


@pytest.mark.parametrize(
    ("held", "action", "audience"),
    [
        (("crm",), "accounts.read", "crm"),
        (("crm", "authority"), "accounts.read", "crm"),
        (("crm", "slides", "authority"), "slides.write", "slides"),
        (("crm", "slides"), "accounts.read", "accounts"),
        (("crm", "authority"), "task.complete", "authority"),
        (("task", "authority"), "task.complete", "task"),
        (("authority",), "grant.request", "authority"),
    ],
)
def test_an_action_means_one_audience(held: tuple[str, ...], action: str, audience: str) -> None:
    assert audience_meant(held, action) == audience


def test_a_call_that_no_resource_would_judge_rules_nothing_out() -> None:
    narrow = minted(allowed=allow(action("a.read", x=each(one_of(*range(1, 900))))))
    other = minted(allowed=allow("a.read"), nonce="AgICAgICAgICAgICAgICAg")
    bundle = Bundle([other, narrow])
    assert bundle.candidates("crm", ToolCall("a.read", {"x": [0]})) == [other]
    assert bundle.candidates("crm", ToolCall("a.read", {"x": [0] * 1000})) == [narrow, other]


# The capability for the authority itself


def allowed_at(bundle: Bundle, audience: str) -> list[str]:
    """What the last block of the capability for an audience allows."""
    (capability,) = (each for each in bundle if each.audience == audience)
    (found,) = (caveat for caveat in capability.caveats[-1] if isinstance(caveat, Allow))
    return [entry.sentence() for entry in found.entries]


@pytest.mark.parametrize(
    "named",
    [None, ["slides.write"], ["task.*"], ["task.*", "node.*", "slides.*"], ["task.complete.now"], ["Task.complete"]],
)
def test_the_authority_stays_behind_unless_an_action_names_it(named: list[str] | None) -> None:
    assert WHOLE.delegate(to="a", allow=named).audiences == ("crm", "slides")


def test_the_authority_goes_along_with_its_named_actions_alone() -> None:
    named: list[str | Entry] = [
        "slides.write",
        "task.complete",
        "task.*",
        action("node.revoke", hops=anything()),
        "crm.*",
    ]
    child = WHOLE.delegate(to="a", allow=named)
    assert child.audiences == ("crm", "slides", "authority")
    assert allowed_at(child, "authority") == ["task.complete", "node.revoke where hops is there"]
    everywhere = ["slides.write", "task.complete", "task.*", "node.revoke where hops is there", "crm.*"]
    assert allowed_at(child, "crm") == allowed_at(child, "slides") == everywhere
    assert len({capability.node for capability in child}) == 1
    at_the_authority = Lab("authority")
    last = list(child)[-1]
    assert at_the_authority.codes(last, "task.complete") == ()
    assert at_the_authority.codes(last, "node.revoke", {"hops": [NONCES[0]]}) == ()
    assert at_the_authority.codes(last, "task.status") == ("action_not_allowed",)


def test_a_child_of_a_child_keeps_to_the_rule() -> None:
    child = WHOLE.delegate(to="a", allow=["slides.write", "task.status", "task.complete"])
    assert child.delegate(to="b", allow=["slides.write"]).audiences == ("crm", "slides")
    assert child.delegate(to="b").audiences == ("crm", "slides")
    below = child.delegate(to="b", allow=["task.status", "node.revoke"], audiences=["authority"])
    assert below.audiences == ("authority",)
    at_the_authority = Lab("authority")
    (capability,) = below
    assert at_the_authority.codes(capability, "task.status") == ()
    assert at_the_authority.codes(capability, "task.complete") == ("action_not_allowed",)
    assert at_the_authority.codes(capability, "node.revoke", {"hops": []}) == ("action_not_allowed",)


@pytest.mark.parametrize("audiences", [["authority"], ["crm", "authority"]])
@pytest.mark.parametrize("named", [None, ["crm.*"], ["task.*"]])
def test_the_authority_as_an_audience_needs_a_named_action(audiences: list[str], named: list[str] | None) -> None:
    with pytest.raises(
        InvalidRequest,
        match=r"its actions in full in `allow` \(task\.complete, task\.status, node\.revoke\), and what it may ask",
    ):
        WHOLE.delegate(to="a", allow=named, audiences=audiences)


def test_audiences_that_are_named_leave_the_authority_behind() -> None:
    assert WHOLE.delegate(to="a", allow=["task.complete"], audiences=["crm"]).audiences == ("crm",)


def test_a_delegation_that_leaves_no_capability_says_so() -> None:
    alone = Bundle([OWN])
    acts: list[Callable[[], Bundle]] = [
        lambda: alone.delegate(to="a"),
        lambda: alone.delegate(to="a", allow=["task.*"]),
        lambda: WHOLE.delegate(to="a", audiences=[]),
    ]
    for act in acts:
        with pytest.raises(InvalidRequest, match="no capability is left for the child"):
            act()
    assert alone.delegate(to="a", allow=["task.status"]).audiences == ("authority",)


def test_several_capabilities_for_the_authority_go_along_alike() -> None:
    other = minted(audience="authority", allowed=allow("task.status"), nonce="AgICAgICAgICAgICAgICAg")
    child = Bundle([CRM, OWN, other]).delegate(to="a", allow=["task.status"])
    assert [capability.audience for capability in child] == ["crm", "authority", "authority"]


def test_the_authority_capability_is_presented_like_any() -> None:
    narrow = WHOLE.attenuate(expires("1m"), now=NOW)
    assert narrow.audiences == ("crm", "slides", "authority")
    assert [capability.blocks[-1] for capability in narrow] == [b'[["expires",%d]]' % (NOW + 60)] * 3
    assert narrow.candidates("authority", ToolCall("task.complete")) == [list(narrow)[-1]]
    presented = WHOLE.present("authority", ToolCall("task.complete"), now=NOW).text
    call = ToolCall("task.complete")
    assert Lab("authority").verifier.verify(presented, call, Call("task.complete")).task == "T1"


def test_an_opened_task_passes_its_own_capability_on_by_name(lab: Authority) -> None:
    task = lab.open(allow=["crm.read"])
    assert task.bundle.audiences == ("crm", "authority")
    child = task.bundle.delegate(to="a", allow=["crm.read", "task.status"])
    presented = child.present("authority", ToolCall("task.status")).text
    assert lab.own_verifier().verify(presented, ToolCall("task.status"), Call("task.status")).task == task.id
    presented = child.present("authority", ToolCall("task.complete")).text
    decision = lab.own_verifier().decide(presented, ToolCall("task.complete"), Call("task.complete"))
    assert [refusal.code for refusal in decision.refusals] == ["action_not_allowed"]


def test_an_entry_of_the_authority_is_passed_on_as_it_is_written() -> None:
    child = WHOLE.delegate(to="a", allow=[Entry("task.complete", ())])
    assert allowed_at(child, "authority") == ["task.complete without arguments"]


# For a block of code


@pytest.fixture
def lab() -> Iterator[Authority]:
    with Authority.temporary() as authority:
        yield authority


def left(delegation: Delegation[Bundle], act: Callable[[Bundle], None]) -> None:
    with delegation as child:
        act(child)


@pytest.mark.parametrize("wrong", [{"allowed": ["crm.read"]}, {"nonce": NONCES[0]}], ids=["misspelt", "a nonce"])
def test_a_wrong_keyword_of_a_block_is_refused_at_the_call(lab: Authority, wrong: dict[str, Any]) -> None:
    bundle = lab.open(allow=["crm.read"]).bundle
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(wrong))}'"):
        bundle.delegated(to="sub", at=lab, **wrong)


def test_a_block_reads_what_narrows_its_child_at_the_call(lab: Authority) -> None:
    bundle = lab.open(allow=["crm.read", "slides.write"]).bundle
    audiences, wishes = ["crm", "authority"], ["crm.write"]
    narrowed = bundle.delegated(
        to="a",
        allow=["crm.read"],
        may_ask=iter(wishes),
        caveats=iter([expires("1m")]),
        audiences=iter(audiences),
        at=lab,
    )
    audiences.clear()
    wishes.clear()
    with narrowed as child:
        assert child.audiences == ("crm", "authority")


def test_what_narrows_is_frozen_as_it_was_named() -> None:
    limit = expires("1m")
    frozen = frozen_narrowing(
        allow=["crm.read"], may_ask=iter(["crm.write"]), caveats=iter([limit]), audiences=iter("ab")
    )
    assert frozen == {
        "to_key": None,
        "allow": ("crm.read",),
        "may_ask": ("crm.write",),
        "caveats": (limit,),
        "audiences": ("a", "b"),
        "approval": None,
    }


def test_what_narrows_nothing_is_frozen_as_nothing() -> None:
    nothing = {"to_key": None, "allow": None, "may_ask": (), "caveats": (), "audiences": None, "approval": None}
    assert frozen_narrowing() == nothing


def test_a_text_of_what_may_be_asked_is_kept_whole() -> None:
    text: Any = "crm.write"
    assert frozen_narrowing(may_ask=text).get("may_ask") == "crm.write"


def test_a_block_narrows_its_child_like_a_delegation(lab: Authority) -> None:
    bundle = lab.open(allow=["crm.read", "slides.write"]).bundle
    with bundle.delegated(to="a", allow=["crm.read"], audiences=["crm"], at=lab) as child:
        assert (child.hops, child.audiences, allowed_at(child, "crm")) == (("a",), ("crm",), ["crm.read"])


def test_a_failure_of_a_block_names_its_child(lab: Authority) -> None:
    error = ValueError("no")

    def act(child: Bundle) -> None:
        lab.close()
        raise error

    with pytest.raises(ValueError, match="no"):
        left(lab.open(allow=["crm.read"]).bundle.delegated(to="some child", at=lab), act)
    assert "some child" in error.__notes__[0]


def test_a_delegation_appends_its_caveats_for_each_audience() -> None:
    child = BUNDLE.delegate(to="a", caveats=iter([expires(NOW + 60)]), now=NOW)
    assert [capability.caveats[-1][-1] for capability in child] == [expires(NOW + 60)] * 2


def test_a_delegation_counts_from_the_time_it_is_given() -> None:
    child = BUNDLE.delegate(to="a", caveats=[expires("1m")], now=NOW)
    assert [capability.caveats[-1][-1] for capability in child] == [expires(NOW + 60)] * 2


def test_a_bundle_is_no_other_thing_of_its_capabilities() -> None:
    assert tuple(BUNDLE) != BUNDLE


def test_another_bundle_is_not_the_same() -> None:
    assert Bundle([SLIDES, CRM]) != BUNDLE


def test_bundles_that_are_the_same_are_one_in_a_set() -> None:
    assert len({BUNDLE, Bundle.parse(BUNDLE.text), WHOLE}) == 2


def test_other_bundles_have_other_hashes() -> None:
    assert hash(BUNDLE) != hash(WHOLE)


def test_an_empty_bundle_is_explained() -> None:
    with pytest.raises(InvalidRequest, match="capability"):
        Bundle([])


def test_a_bundle_too_long_says_how_many_it_may_hold() -> None:
    with pytest.raises(MalformedToken, match=str(MAX_TOKENS)):
        Bundle([CRM] * (MAX_TOKENS + 1))


@pytest.mark.parametrize("more", [1, 2])
def test_a_text_of_too_many_tokens_says_how_many_it_may_hold(more: int) -> None:
    with pytest.raises(MalformedToken, match=str(MAX_TOKENS)):
        Bundle.parse(",".join([CRM.text] * (MAX_TOKENS + more)))


def test_a_text_of_as_many_tokens_as_may_be_is_read() -> None:
    assert len(Bundle.parse(",".join([CRM.text] * MAX_TOKENS))) == MAX_TOKENS


def test_an_audience_not_held_is_told_with_those_that_are() -> None:
    with pytest.raises(InvalidRequest, match=r"'warehouse'.* crm, slides"):
        BUNDLE.candidates("warehouse")


@pytest.mark.parametrize("named", ["grant.request", Entry("grant.request")])
def test_asking_is_not_allowed_by_an_allowlist(named: str | Entry) -> None:
    with pytest.raises(InvalidRequest, match=r"grant\.request.*may_ask"):
        WHOLE.delegate(to="a", allow=["crm.read", named])


def test_a_full_bundle_without_the_authority_drops_the_oldest() -> None:
    held = [*map(numbered, range(1, MAX_TOKENS + 1))]
    granted = numbered(MAX_TOKENS + 1)
    assert list(Bundle(held).holding(granted, now=NOW)) == [*held[1:], granted]


def test_a_full_bundle_of_today_goes_by_the_clock() -> None:
    held = [*map(numbered, range(1, MAX_TOKENS)), minted(expires=2**40)]
    past = [minted(expires=2**40, nonce=b64u(bytes(16))), *held[:-1]]
    granted = numbered(MAX_TOKENS + 1)
    assert list(Bundle(past).holding(granted)) == [past[0], *past[2:], granted]


def test_an_expiry_that_has_just_come_is_one() -> None:
    held = [*(numbered(count) for count in range(1, MAX_TOKENS)), minted(expires=NOW + 5)]
    granted = numbered(MAX_TOKENS + 1)
    assert list(Bundle(held).holding(granted, now=NOW + 5)) == [*held[:-1], granted]


# What an agent may revoke


def test_the_hops_between_a_bundle_and_its_grandchild() -> None:
    child = BUNDLE.delegate(to="a", nonce=NONCES[0])
    grandchild = child.delegate(to="b", nonce=NONCES[1])
    assert [hops_between(BUNDLE, child), hops_between(BUNDLE, grandchild), hops_between(child, grandchild)] == [
        [NONCES[0]],
        [NONCES[0], NONCES[1]],
        [NONCES[1]],
    ]


def test_the_hops_that_a_grant_repeats_count() -> None:
    root = Root("R1", (Step("a", NONCES[0]),))
    granted = Bundle([raw(encode_block((root, *grant()[:1], *grant()[2:])))])
    below = granted.delegate(to="b", nonce=NONCES[1])
    assert hops_between(BUNDLE, below) == [NONCES[0], NONCES[1]]
    assert hops_between(granted, below) == [NONCES[1]]


def test_no_block_without_a_hop_is_a_hop() -> None:
    child = BUNDLE.attenuate(expires("1m"), now=NOW).delegate(to="a", nonce=NONCES[0])
    assert hops_between(BUNDLE, child.attenuate(expires("1m"), now=NOW)) == [NONCES[0]]


@pytest.mark.parametrize(
    ("above", "below"),
    [
        pytest.param(BUNDLE, BUNDLE, id="the same node"),
        pytest.param(BUNDLE.delegate(to="a"), BUNDLE, id="the node above"),
        pytest.param(BUNDLE.delegate(to="a"), BUNDLE.delegate(to="b"), id="a node beside"),
        pytest.param(BUNDLE.delegate(to="a"), BUNDLE.delegate(to="b").delegate(to="c"), id="a node below that"),
        pytest.param(BUNDLE, Bundle([minted(root="R2")]).delegate(to="a"), id="another root"),
        pytest.param(Bundle([raw(b"[]")]), BUNDLE.delegate(to="a"), id="no node above"),
    ],
)
def test_no_hops_lead_to_what_is_not_below(above: Bundle, below: Bundle) -> None:
    with pytest.raises(InvalidRequest, match="below"):
        hops_between(above, below)
