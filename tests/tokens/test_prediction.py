"""What is foreseen: what every resource would refuse, and no more than that."""

import pytest

from capx.errors import InvalidRequest
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.effective.prediction import certain_refusals, forecast, predict
from capx_caveats import (
    DEFAULT,
    Budget,
    Call,
    Caveat,
    Constraint,
    Facts,
    Fresh,
    Judgement,
    Refusal,
    Value,
    action,
    allow,
    max_hops,
    tenant,
    where,
)
from tests.labs.lab import NOW, Lab, appended, minted

CALL = Call("a.read", {"x": 2}, tenant=None)


class Region(Caveat, frozen=True, tag="acme.region"):
    name: str

    def refusal(self, facts: Facts) -> Refusal | None:
        return None if facts.call.attributes.get("region") == self.name else Refusal("wrong_region", "elsewhere")

    def sentence(self) -> str:
        return f"region {self.name}"


class Even(Constraint, frozen=True, tag="acme.even"):
    def judge(self, value: Value) -> Judgement:
        return value % 2 == 0 if isinstance(value, int) else None

    def sentence(self) -> str:
        return "is even"


def states(token: Capability, call: Call = CALL) -> set[str]:
    return {each.state for each in predict(token, call, NOW)}


@pytest.mark.parametrize(
    "token",
    [
        minted(Region("eu")),
        minted().attenuate(Region("eu")),
        minted().attenuate(where("args.x", Even())),
        minted().attenuate(allow(action("a.read", x=Even()))),
        minted(allowed=allow(action("a.read", x=Even()))),
    ],
)
def test_what_its_own_service_allows_is_not_foreseen_as_refused(token: Capability) -> None:
    assert "not_understood" in states(token)
    assert not list(certain_refusals(predict(token, CALL, NOW)))
    service = Lab(vocabulary=DEFAULT.extended(Region, Even))
    assert service.codes(token, "a.read", {"x": 2}, attributes={"region": "eu"}) == ()


@pytest.mark.parametrize(
    "token",
    [
        minted(allowed=allow("a.write")),
        minted().attenuate(where("args.x", 3)),
        minted().attenuate(where("args.x", 3), Region("eu")),
        minted().attenuate(max_hops(0)).delegate(to="b", now=NOW),
        appended(minted(), b'[["task","another"]]'),
        appended(minted(), b'[["moon","full"]]'),
        minted().attenuate(tenant("Acme")),
    ],
)
def test_what_is_foreseen_as_refused_is_refused_by_every_service(token: Capability) -> None:
    assert list(certain_refusals(predict(token, CALL, NOW)))
    assert Lab(vocabulary=DEFAULT.extended(Region, Even)).codes(token, "a.read", {"x": 2}, attributes={"region": "eu"})


@pytest.mark.parametrize("demand", [Fresh(5), Budget("eur", "20"), where("region", "eu")])
def test_what_only_the_resource_can_say_is_open(demand: Caveat) -> None:
    assert states(minted().attenuate(demand)) >= {"open", "ok"}
    assert "refuses" not in states(minted().attenuate(demand))


def test_a_presentation_is_foreseen_as_its_capability() -> None:
    capability = minted().delegate(to="b", now=NOW)
    presented = capability.present(ToolCall("a.read", {"x": 2}), now=NOW)
    assert predict(presented, CALL, NOW) == predict(capability, CALL, NOW)
    assert {each.whose for each in predict(presented, CALL, NOW)} >= {"the task's grant"}


def test_a_forecast_needs_a_capability_for_the_audience() -> None:
    with pytest.raises(InvalidRequest, match="there is no capability for 'billing'"):
        forecast([minted()], CALL, "billing", NOW)
