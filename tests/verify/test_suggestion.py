"""What a denial says to ask for: only what a grant could cure, and of arguments only what the bearer sent."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import UNSET

from capx import Call
from capx.agent.actor import acting
from capx.agent.next_asks import DenialSummary, next_asks
from capx.authority.authority import Authority
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.verify.ask import MAX_ARGS, Ask
from capx.verify.decision import Denied
from capx.verify.suggestion import suggested_ask
from capx_caveats import JSON, Appendable, Refusal, action, allow, budget, expires, max_hops, tenant, where
from tests.labs.lab import NOW, Lab, minted

ARGS: dict[str, JSON] = {"id": 7}


def refused(capability: Capability, asked: str = "a.read", args: Any = ARGS, **facts: Any) -> Denied:
    """The denial of a call whose arguments are the bearer's own."""
    lab = Lab()
    sent = ToolCall(asked, args)
    with pytest.raises(Denied) as denied:
        lab.verifier.admit(lab.present(capability, asked, args), sent).judge(Call(asked, args, **facts), sent=True)
    return denied.value


@pytest.mark.parametrize(
    ("caveats", "args"),
    [
        ([allow("a.write")], ARGS),
        ([allow(action("a.read", id=8))], ARGS),
        ([allow(action("a.read", id=8))], {"id": 8, "deep": True}),
        ([allow("a.write"), allow(action("a.read", id=8))], ARGS),
    ],
    ids=["action", "argument", "argument not named", "both"],
)
def test_what_a_grant_could_cure_says_what_to_ask_for(caveats: list[Appendable], args: dict[str, JSON]) -> None:
    denied = refused(minted().attenuate(*caveats), args=args)
    assert denied.ask == Ask(audience="crm", action="a.read", args=args)
    assert denied.problem()["ask"] == {"audience": "crm", "action": "a.read", "args": args}


@pytest.mark.parametrize(
    ("caveats", "facts"),
    [
        ([expires(NOW - 1)], {}),
        ([tenant("Acme")], {}),
        ([where("region", "EU")], {"attributes": {"region": "US"}}),
        ([where("region", "EU")], {}),
        ([budget("calls", "1")], {}),
        ([allow("a.write"), expires(NOW - 1)], {}),
        ([allow(action("a.read", id=7, name="x"))], {}),
    ],
    ids=["time", "tenant", "attribute", "no attribute", "no meter", "one of two", "argument not given"],
)
def test_what_no_grant_could_cure_says_nothing(caveats: list[Appendable], facts: dict[str, Any]) -> None:
    denied = refused(minted().attenuate(*caveats), **facts)
    assert denied.ask is None
    assert "ask" not in denied.problem()


def test_more_than_a_denial_tells_is_more_than_can_be_cured() -> None:
    denied = refused(minted().attenuate(*[allow("a.write")] * 40))
    assert len(denied.refusals) == 32
    assert denied.ask is None


def test_too_many_hops_say_nothing() -> None:
    above = minted(max_hops(0), allowed=allow("a.write"))
    assert refused(above.delegate(to="helper")).ask is None


@pytest.mark.parametrize("held", [{}, {"a": 1}, [], [[1]], "", [""]])
def test_arguments_are_named_whatever_they_hold(held: JSON) -> None:
    args: dict[str, JSON] = {"of": held}
    denied = refused(minted().attenuate(allow("a.write")), args=args)
    assert denied.ask == Ask(audience="crm", action="a.read", args=args)


def test_arguments_as_long_as_an_ask_may_have_are_named() -> None:
    args: dict[str, JSON] = {"of": "x" * (MAX_ARGS - len('{"of":""}'))}
    assert refused(minted().attenuate(allow("a.write")), args=args).ask == Ask(
        audience="crm", action="a.read", args=args
    )


def test_arguments_too_long_for_an_ask_are_left_out() -> None:
    denied = refused(minted().attenuate(allow("a.write")), args={"of": "x" * (MAX_ARGS - len('{"of":""}') + 1)})
    assert denied.ask == Ask(audience="crm", action="a.read")


def test_arguments_of_the_service_are_not_told() -> None:
    lab = Lab()
    capability = minted().attenuate(allow("a.write"))
    with pytest.raises(Denied) as denied:
        lab.verifier.admit(lab.present(capability, "a.read", ARGS), ToolCall("a.read", ARGS)).judge(
            Call("a.read", ARGS)
        )
    assert denied.value.ask == Ask(audience="crm", action="a.read")


def test_before_arguments_are_known_the_action_alone_is_named() -> None:
    lab = Lab()
    capability = minted().attenuate(allow("a.write"))
    admitted = lab.verifier.admit(lab.present(capability, "a.read", ARGS), ToolCall("a.read", ARGS))
    with pytest.raises(Denied) as denied:
        admitted.screen("a.read")
    assert denied.value.ask == Ask(audience="crm", action="a.read")
    with pytest.raises(Denied) as odd:
        admitted.screen("no action")
    assert odd.value.ask is None


def test_what_to_ask_for_is_not_recorded() -> None:
    lab = Lab()
    capability = minted().attenuate(allow(action("a.read", id=8)))
    with pytest.raises(Denied):
        lab.verifier.admit(lab.present(capability, "a.read", ARGS), ToolCall("a.read", ARGS)).judge(
            Call("a.read", ARGS), sent=True
        )
    (decision,) = lab.records.decisions
    assert "ask" not in decision.body()


def test_nothing_is_asked_for_at_the_authority_itself() -> None:
    refusal = Refusal("action_not_allowed", "no")
    assert suggested_ask([refusal], audience="authority", action="task.complete") is None
    assert suggested_ask([refusal], audience="crm", action="crm.read") == Ask(audience="crm", action="crm.read")


def test_where_arguments_are_not_known_the_code_alone_decides() -> None:
    refusal = Refusal("argument_refused", "no")
    assert suggested_ask([refusal], audience="crm", action="crm.read") == Ask(audience="crm", action="crm.read")
    assert suggested_ask([refusal], audience="crm", action="crm.read", args={}) is None


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as authority:
        yield authority


def test_a_budget_that_is_spent_says_what_to_ask_for(lab: Authority) -> None:
    @lab.tool("crm.read")
    def read(id_: int = 7) -> int:
        return id_

    with acting(lab.open(allow=["crm.read"], caveats=[budget("calls", "1")]).bundle):
        assert read() == 7
        with pytest.raises(Denied) as denied:
            read()
    assert denied.value.code == "budget_exhausted"
    assert denied.value.ask == Ask(audience="crm", action="crm.read", args={"id_": 7})


def test_without_a_bundle_there_is_nothing_to_ask_with(lab: Authority) -> None:
    @lab.tool("crm.read")
    def read() -> None: ...

    with pytest.raises(Denied) as denied:
        read()
    assert denied.value.ask is None


FREE = Ask(audience="crm", action="crm.read")
PINNED = Ask(audience="crm", action="crm.read", args={"id": 7})
OTHER = Ask(audience="crm", action="crm.write", args={"id": 7})
ELSEWHERE = Ask(audience="billing", action="crm.read")


@pytest.mark.parametrize(
    ("told", "asks"),
    [
        ([(FREE, "action_not_allowed")], [FREE]),
        ([(PINNED, "action_not_allowed")], [FREE, PINNED]),
        ([(PINNED, "budget_exhausted")], [FREE, PINNED]),
        ([(PINNED, "argument_refused")], [PINNED]),
        ([(PINNED, "argument_not_named")], [PINNED]),
        ([(FREE, "argument_refused")], [FREE]),
        ([(FREE, "action_not_allowed"), (PINNED, "argument_refused")], [PINNED]),
        ([(PINNED, "argument_refused"), (FREE, "action_not_allowed")], [PINNED]),
        ([(ELSEWHERE, "action_not_allowed"), (FREE, "action_not_allowed")], [FREE]),
    ],
)
def test_a_need_is_pinned_only_where_the_arguments_were_refused(told: list[tuple[Ask, str]], asks: list[Ask]) -> None:
    found = next_asks("crm", [DenialSummary(ask, (code,)) for ask, code in told])
    assert found is not None
    assert list(found.asks) == asks


@pytest.mark.parametrize(
    ("after", "told", "asks"),
    [
        (FREE, [(PINNED, "argument_refused")], [PINNED]),
        (FREE, [(FREE, "action_not_allowed"), (PINNED, "argument_refused")], [PINNED]),
        (FREE, [(PINNED, "action_not_allowed")], []),
        (FREE, [(PINNED, "budget_exhausted")], []),
        (FREE, [(FREE, "argument_refused")], []),
        (FREE, [(OTHER, "argument_refused")], []),
        (FREE, [(OTHER, "argument_refused"), (PINNED, "argument_not_named")], [PINNED]),
        (PINNED, [(PINNED, "argument_refused")], []),
        (PINNED, [(FREE, "action_not_allowed")], []),
    ],
)
def test_after_a_grant_of_the_action_the_arguments_are_needed(
    after: Ask, told: list[tuple[Ask, str]], asks: list[Ask]
) -> None:
    found = next_asks("crm", [DenialSummary(ask, (code,)) for ask, code in told], after)
    assert ([] if found is None else list(found.asks)) == asks


@pytest.mark.parametrize(
    "told", [[], [DenialSummary(None, ("expired",))], [DenialSummary(ELSEWHERE, ("action_not_allowed",))]]
)
def test_nothing_is_needed_where_this_audience_is_not_named(told: list[DenialSummary]) -> None:
    assert next_asks("crm", told) is None


def test_a_denial_with_arguments_passes_between_processes(lab: Authority) -> None:
    import pickle

    @lab.tool("crm.read")
    def read(id_: int = 7) -> int:
        return id_

    with acting(lab.open(allow=["crm.write"]).bundle), pytest.raises(Denied) as denied:
        read()
    there = pickle.loads(pickle.dumps(denied.value))
    assert isinstance(there, Denied)
    assert there.refusals[0].given is not UNSET
    assert there.ask == denied.value.ask
