"""Two verifiers that share no code give the same reasons, whatever the chain, the call and the state."""

import re
from typing import Any, get_args

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from capx.tokens.binding import Received, ToolCall
from capx.tokens.capability import Capability
from capx.tokens.chain import Block
from capx.tokens.revocation_key import of_instant, of_kid
from capx_caveats import DEFAULT, AnyConstraint, Presented, encode_block, network
from capx_caveats import Call as Stated
from tests.labs import strategies
from tests.labs.counts import repeated
from tests.labs.lab import KEY, NOW, ROOT_KEY, Lab, appended, codes, minted, raw
from tests.labs.received_calls import as_received
from tests.labs.strategies import Call, State
from tests.models import naive

READ = ToolCall("a.read")
CALL = Call("a.read", {}, None, {})
ALIVE = State(NOW, (), 0.0)


def told_twice(
    token: str,
    received: dict[str, Any],
    call: Call,
    deaths: Any = None,
    state: State = ALIVE,
    *,
    audience: str = "crm",
) -> list[Any]:
    """What the library and the naive verifier say of one presentation."""
    lab = Lab(audience)
    lab.clock.now = state.now
    lab.deaths.deaths.update(deaths or {})
    lab.deaths.years = state.age
    stated = Stated(call.action, call.args, call.tenant, call.attributes, defaults=call.untouched)
    said = list(codes(lab.verifier.decide(token, as_received(received), stated)))
    keys = {KEY.kid: ROOT_KEY.audience_key(audience)._secret}
    world: dict[str, Any] = {"now": state.now, "deaths": deaths or {}, "age": state.age}
    return [said, naive.codes(token, audience, keys, received, call.facts(), **world)]


def as_sent(call: Call) -> dict[str, Any]:
    return {"profile": "tool", "action": call.action, "args": call.args}


def shown(capability: Capability, received: Received) -> str:
    """A presentation; not signed, even if the chain is bound to a key: nobody has those of generated chains."""
    mark = Presented(received.profile, received.digest(), NOW, "A" * 16)
    return appended(capability, encode_block((mark,))).text


@given(strategies.chains, strategies.calls, strategies.states)
@settings(max_examples=repeated(300), deadline=None)
def test_any_chain_is_judged_alike(blocks: tuple[Block, ...], call: Call, state: State) -> None:
    capability = strategies.token(blocks)
    assume(capability is not None)
    assert capability is not None
    token = shown(capability, as_received(as_sent(call)))
    said, naively = told_twice(token, as_sent(call), call, state.deaths(capability), state)
    assert said == naively


MORTAL = st.dictionaries(
    st.sampled_from([of_kid(KEY.kid), of_kid("AAAAAAAAAAA"), *(of_instant(NOW + at) for at in (-9, -1, 0, 1, 9))]),
    st.just("revoked"),
    max_size=3,
)


@given(strategies.chains, strategies.calls, strategies.states, MORTAL)
@settings(max_examples=repeated(100), deadline=None)
def test_kids_and_instants_kill_alike(
    blocks: tuple[Block, ...], call: Call, state: State, dead: dict[bytes | str, str]
) -> None:
    capability = strategies.token(blocks)
    assume(capability is not None)
    assert capability is not None
    token = shown(capability, as_received(as_sent(call)))
    said, naively = told_twice(token, as_sent(call), call, {**dead, **state.deaths(capability)}, state)
    assert said == naively


OWN: list[Any] = [
    ["acme.region", "eu"],
    ["acme.region"],
    [".x"],
    ["acme."],
    ["a.b", [["c.d"]]],
    ["near", 5],
    ["where", 1],
]
OWN_SPELT = [b'[["a\\u002eb"]]', b'[[ "a.b"]]', b'["a.b"]', b'["a.b",', b'[["a.b",{}]]', b'[["a.b" ], ["a.b",1e999]]']
about_itself = st.one_of(
    strategies.blocks,
    st.lists(st.sampled_from([*OWN, *strategies.GOOD]), min_size=1, max_size=3).map(strategies.spelled),
    st.sampled_from(OWN_SPELT),
)


@given(
    st.builds(strategies.spelled, strategies.first_blocks),
    st.lists(about_itself, max_size=3),
    strategies.calls,
    strategies.states,
)
@settings(max_examples=repeated(300), deadline=None)
def test_at_the_authority_any_chain_is_judged_alike(
    first: bytes, blocks: list[Block], call: Call, state: State
) -> None:
    capability = raw(first, *blocks, audience="authority")
    token = shown(capability, as_received(as_sent(call)))
    dead = state.deaths(capability)
    said, naively = told_twice(token, as_sent(call), call, dead, state, audience="authority")
    assert said == naively


@given(strategies.judgements, st.booleans())
@settings(max_examples=repeated(500), deadline=None)
def test_any_constraint_judges_any_value_alike(judgement: tuple[Any, Any], negated: bool) -> None:
    rule, value = judgement
    block = strategies.spelled([["where", "args.id", ["not", rule] if negated else rule]])
    capability = strategies.token((strategies.spelled(strategies.WHOLE), block))
    assert capability is not None
    call = Call("a.read", {"id": value}, None, {})
    said, naively = told_twice(capability.present(ToolCall(call.action, call.args), now=NOW).text, as_sent(call), call)
    assert said == naively


@given(st.data())
@settings(max_examples=repeated(300), deadline=None)
def test_a_token_that_was_touched_is_refused_alike(data: st.DataObject) -> None:
    whole = minted().present(READ, now=NOW).text
    said, naively = told_twice(data.draw(strategies.touched(whole)), as_sent(CALL), CALL)
    assert said == naively


@given(st.one_of(strategies.requests, strategies.tool_calls), st.one_of(strategies.requests, strategies.tool_calls))
@settings(max_examples=repeated(200), deadline=None)
def test_what_is_received_is_what_was_presented_or_is_not_alike(made: dict[str, Any], came: dict[str, Any]) -> None:
    for received in (made, came):
        token = minted().present(as_received(made), now=NOW).text
        said, naively = told_twice(token, received, CALL)
        assert said == naively
        assert (said == []) == (naive.rfc8785(received) == naive.rfc8785(made))


def test_the_lists_of_the_specification_are_those_in_use() -> None:
    hosts = naive.HOSTS
    assert names("here") == network._HERE
    assert names("metadata") == network._METADATA
    assert names("hostless") == network._HOSTLESS
    assert hosts["own_ports"] == network._OWN_PORTS
    assert hosts["ipv4_in_ipv6"] == list(network._V4_IN_V6)
    disguised = {chr(code) for low, high in hosts["disguised"] for code in range(int(low, 16), int(high, 16) + 1)}
    assert disguised == {one for one in map(chr, range(0x110000)) if re.match(network._DISGUISED, one)}


def names(listed: str) -> set[str]:
    """The names that a pattern of the specification is about."""
    return set(naive.TEXTS[listed].replace("\\", "").split("|"))


def test_the_specification_has_every_tag_and_no_other() -> None:
    constraints = {kind.__struct_config__.tag for kind in get_args(AnyConstraint)}
    assert set(naive.SPEC["constraints"]) == constraints
    assert set(naive.SPEC["caveats"]) == {kind.__struct_config__.tag for kind in DEFAULT.caveats}
