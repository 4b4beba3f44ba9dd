"""What is foreseen: what every resource would refuse, and no more than that."""

import pytest

from capx.errors import InvalidRequest
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.effective.prediction import Forecast, certain_refusals, forecast, predict
from capx_caveats import (
    DEFAULT,
    Budget,
    Call,
    Caveat,
    Constraint,
    Expires,
    Fresh,
    Judgement,
    Value,
    action,
    allow,
    max_hops,
    tenant,
    where,
)
from tests.labs.lab import NOW, Lab, appended, minted
from tests.labs.own_constraints import Region

CALL = Call("a.read", {"x": 2}, tenant=None)


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


GRANT, HOP = "the task's grant", 'hop 1 ("b")'
LIFE = Expires(NOW + 3600).sentence()
MAY = "allows only a.read; a.write"
GRANTED = [(0, GRANT, LIFE, "ok", ""), (0, GRANT, MAY, "ok", "")]


@pytest.mark.parametrize(
    ("token", "call", "walk"),
    [
        (
            minted(tenant("Acme")).delegate(to="b", allow=["a.*"], caveats=[where("region", "eu")], now=NOW),
            CALL,
            [
                *GRANTED,
                (0, GRANT, 'tenant is "Acme"', "open", "the resource"),
                (1, HOP, "allows only a.*", "ok", ""),
                (1, HOP, 'region is "eu"', "open", "the resource"),
            ],
        ),
        (
            minted(tenant("Acme")).delegate(to="b", allow=["a.*"], caveats=[Expires(NOW)], now=NOW),
            Call("b.read", tenant="Other"),
            [
                GRANTED[0],
                (0, GRANT, MAY, "refuses", "allows only a.read"),
                (0, GRANT, 'tenant is "Acme"', "refuses", "not for this call's"),
                (1, HOP, "allows only a.*", "refuses", "allows only a.*"),
                (1, HOP, Expires(NOW).sentence(), "refuses", "expired"),
            ],
        ),
        (
            minted(tenant("Acme")),
            Call("a.read", tenant="Acme"),
            [*GRANTED, (0, GRANT, 'tenant is "Acme"', "ok", "")],
        ),
        (
            minted(),
            Call("a.read", tenant="Acme"),
            [*GRANTED, (0, GRANT, "names no tenant", "refuses", "made for one")],
        ),
        (
            minted().delegate(to="b", caveats=[tenant("Acme")], now=NOW),
            CALL,
            [*GRANTED, (1, HOP, 'tenant is "Acme"', "refuses", "grant names no tenant")],
        ),
        (
            minted().delegate(to="b", caveats=[max_hops(0)], now=NOW).delegate(to="c", now=NOW),
            CALL,
            [*GRANTED, (1, HOP, "allows at most 0 more delegations, but 1 followed", "refuses", "")],
        ),
        (
            minted(max_hops(0)).delegate(to="c", now=NOW),
            CALL,
            [*GRANTED, (0, GRANT, "allows at most 0 more delegations, but 1 followed", "refuses", "")],
        ),
        (
            minted().delegate(to="b", caveats=[Region("eu")], now=NOW),
            CALL,
            [*GRANTED, (1, HOP, 'not understood: ["acme.region","eu"]', "not_understood", "the service that defines")],
        ),
        (
            minted(Region("eu"), allowed=allow(action("a.read", x=Even()))),
            CALL,
            [
                (0, GRANT, 'not understood: ["allow",[["a.read",[["x",["acme.even"]]]]]]', "not_understood", "service"),
                (0, GRANT, 'not understood: ["acme.region","eu"]', "not_understood", "service"),
            ],
        ),
        (
            appended(minted().delegate(to="b", now=NOW), b'[["moon","full"]]'),
            CALL,
            [*GRANTED, (1, HOP, 'not understood: ["moon","full"]', "refuses", "this version of capx")],
        ),
        (
            appended(minted(), b'[["task","another"]]'),
            CALL,
            [(0, GRANT, "`for task another` is not allowed at its place in this token", "refuses", "")],
        ),
    ],
    ids=[
        "open",
        "refused",
        "of the tenant",
        "for a tenant",
        "no tenant in the grant",
        "hops of a hop",
        "hops of the grant",
        "a service's own",
        "a service's own in the grant",
        "of a newer version",
        "misplaced",
    ],
)
def test_each_restriction_is_told_with_its_owner_and_outlook(
    token: Capability, call: Call, walk: list[tuple[int, str, str, str, str]]
) -> None:
    found = predict(token, call, NOW)
    assert [(one.hop, one.whose, one.sentence, one.state) for one in found] == [told[:4] for told in walk]
    for one, (*_, why) in zip(found, walk, strict=True):
        assert (one.why is None) == (not why)
        assert why in (one.why or "")


def test_a_forecast_is_of_the_newest_token_that_does_not_refuse() -> None:
    read, write, both = (minted(allowed=allow(*names)) for names in (["a.read"], ["a.write"], ["a.*"]))
    other = minted(audience="slides")
    found = forecast([both, read, write, other], CALL, "crm", NOW)
    assert found == Forecast("crm", predict(read, CALL, NOW))
    assert (found.refused, found.refusals) == (False, ())
    refused = forecast([read, write, other], Call("a.list"), "crm", NOW)
    assert refused == Forecast("crm", predict(write, Call("a.list"), NOW))
    assert (refused.refused, refused.refusals) == (True, refused.restrictions[1:])
    assert forecast([read], CALL, "crm", NOW + 3600).refusals[0].sentence == LIFE


def test_a_forecast_is_not_true_or_false() -> None:
    with pytest.raises(TypeError, match="read its `refused`"):
        bool(forecast([minted()], CALL, "crm", NOW))
