"""Two verifiers that share no code give the same reasons, whatever the chain, the call and the state."""

# An audience key is read out of the library here, for the other verifier.
# pyright: reportPrivateUsage=false

from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from capx.chain import Block
from capx.present import ToolCall
from capx_caveats import Call as Stated
from tests import naive, strategies
from tests.lab import KEY, NOW, Lab, codes
from tests.strategies import Call, State


def told_twice(token: str, call: Call, deaths: dict[bytes | str, str], state: State, **more: Any) -> tuple[Any, Any]:
    """What the library and the naive verifier say of one presentation."""
    lab = Lab(**more)
    lab.clock.now = state.now
    lab.deaths.deaths.update(deaths)
    lab.deaths.years = state.age
    stated = Stated(call.action, call.args, call.tenant, call.attributes)
    said = codes(lab.verifier.decide(token, ToolCall(call.action, call.args), stated))
    received = {"profile": "tool", "action": call.action, "args": call.args}
    keys = {KEY.kid: KEY._secret}
    return list(said), naive.codes(
        token, "crm", keys, received, call.facts(), now=state.now, deaths=deaths, age=state.age, **more
    )


@given(strategies.chains, strategies.calls, strategies.states)
@settings(max_examples=300, deadline=None)
def test_any_chain_is_judged_alike(blocks: tuple[Block, ...], call: Call, state: State) -> None:
    capability = strategies.token(blocks)
    assume(capability is not None)
    assert capability is not None
    token = capability.present(ToolCall(call.action, call.args), now=NOW).text
    said, naively = told_twice(token, call, state.deaths(capability), state)
    assert said == naively


@given(strategies.judgements, st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_constraint_judges_any_value_alike(judgement: tuple[Any, Any], negated: bool) -> None:
    rule, value = judgement
    block = strategies.spelled([["where", "args.id", ["not", rule] if negated else rule]])
    capability = strategies.token((strategies.spelled(strategies.WHOLE), block))
    assert capability is not None
    call = Call("a.read", {"id": value}, None, {})
    token = capability.present(ToolCall(call.action, call.args), now=NOW).text
    said, naively = told_twice(token, call, {}, State(NOW, (), 0.0))
    assert said == naively
