"""A time that is no number, or that nothing can hold, is refused with a sentence, wherever somebody gives one."""

import math
import pickle
from collections.abc import Callable
from datetime import datetime, tzinfo
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

import capx
from capx.authority.requests.verdict import Verdict
from capx.crypto.instants import LONGEST, instant, now_or, seconds, ttl
from capx.errors import CapxError, ConfigurationProblem, InvalidCaveat, InvalidRequest
from capx.guard.asgi.guard import ASGIGuard
from capx.guard.fastapi.guard import FastAPIGuard
from capx.tokens.capability import mint
from tests.labs.enumerations import each_case

CALL = capx.ToolCall("crm.read")
NO_TIME: list[Any] = [
    math.nan, math.inf, -math.inf, Decimal("NaN"), "soon", b"1", [], {}, True, -1, 10**5000, 2**63, object(),
]  # fmt: skip
Lab = capx.Authority


@pytest.fixture(scope="module")
def lab() -> Any:
    with capx.Authority.temporary() as lab:
        yield lab


@pytest.fixture(scope="module")
def bundle(lab: Lab) -> capx.Bundle:
    return lab.open(allow=["crm.read"]).bundle


def crm(bundle: capx.Bundle) -> capx.Capability:
    return next(iter(bundle))


def intent(lab: Lab, **times: Any) -> capx.Intent:
    said: dict[str, Any] = {"principal": "ana", "purpose": "qbr", "statement": "Do it.", "now": 0, **times}
    return capx.Intent.written(authority=lab.epoch(), **said)


INSTANTS: dict[str, Callable[[Lab, capx.Bundle, Any], object]] = {
    "Bundle.attenuate": lambda _, bundle, now: bundle.attenuate(capx.tenant("Acme"), now=now),
    "Bundle.delegate": lambda _, bundle, now: bundle.delegate(to="reader", now=now),
    "Bundle.delegate with a duration": lambda _, bundle, now: bundle.delegate(
        to="reader", caveats=[capx.expires("5m")], now=now
    ),
    "Bundle.holding": lambda _, bundle, now: bundle.holding(crm(bundle), now=now),
    "Bundle.can": lambda _, bundle, now: bundle.can(now=now),
    "Bundle.explain": lambda _, bundle, now: bundle.explain(capx.Call("crm.read"), now=now),
    "Bundle.present": lambda _, bundle, now: bundle.present("crm", CALL, now=now),
    "Capability.attenuate": lambda _, bundle, now: crm(bundle).attenuate(capx.expires("5m"), now=now),
    "Capability.delegate": lambda _, bundle, now: crm(bundle).delegate(to="reader", now=now),
    "Capability.present": lambda _, bundle, now: crm(bundle).present(CALL, now=now),
    "mint": lambda lab, _, now: mint(lab.keyring.active.audience_key("crm"), [capx.tenant("A")], now=now),
    "Authority.find": lambda lab, _, since: list(lab.find(since=since)),
    "Authority.revoke": lambda lab, _, issued: lab.revoke(issued=issued, dry_run=True),
    "Intent.written": lambda lab, _, now: intent(lab, now=now),
    "Intent.written until": lambda lab, _, until: intent(lab, not_after=until),
    "Verdict": lambda _, __, at: Verdict(request="r", yes=True, approver="kim", at=at, signature="s"),
}
SECONDS: dict[str, Callable[[Lab, capx.Bundle, Any], object]] = {
    "Authority.unaware": lambda lab, _, within: lab.unaware(within=within),
    "Authority.flush": lambda lab, _, timeout: lab.flush(timeout),
    "StoreRecorder.close": lambda lab, _, timeout: capx.StoreRecorder(lab.store).close(timeout),
    "Authority.acting_for.ask": lambda lab, bundle, wait: lab.acting_for(bundle).ask("crm.write", wait=wait),
    "AuthorityClient.ask": lambda _, bundle, wait: capx.AuthorityClient("http://127.0.0.1:1", bundle).ask(
        "crm.write", wait=wait
    ),
    "Agent": lambda _, bundle, wait: capx.Agent(bundle, wait=wait),
    "Agent.ask": lambda lab, bundle, wait: capx.Agent(bundle, authority=lab).ask("crm.write", wait=wait),
}
SETTINGS: dict[str, Callable[[Lab, capx.Bundle, Any], object]] = {
    "Authority": lambda lab, _, max_ttl: capx.Authority(lab.store, lab.keyring, max_ttl=max_ttl),
    "Verifier": lambda lab, _, staleness: lab.verifier("crm", max_staleness=staleness),
    "StoreLiveness": lambda lab, _, poll: capx.StoreLiveness(lab.store.source(), poll=poll),
    "Follower": lambda _, __, patience: capx.Follower(
        capx.FeedSource("http://127.0.0.1:1", {"A" * 11: bytes(32)}), patience=patience
    ),
    "ASGIGuard": lambda lab, _, within: ASGIGuard(Nothing(), lab.verifier("crm"), body_seconds=within),
    "FastAPIGuard": lambda lab, _, within: FastAPIGuard(lab.verifier("crm"), body_seconds=within),
}


class Nothing:
    """An application that is never called."""

    async def __call__(self, *_: object) -> None: ...


def refusal(give: Callable[[], object], *kinds: type[CapxError]) -> str:
    with pytest.raises(kinds) as caught:
        give()
    assert type(caught.value) in kinds
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 200
    return said


@each_case(("place", "given"), product(INSTANTS, NO_TIME))
def test_no_instant_that_is_no_time_is_taken(lab: Lab, bundle: capx.Bundle, place: str, given: Any) -> None:
    refusal(lambda: INSTANTS[place](lab, bundle, given), InvalidRequest)


@each_case(("place", "given"), product(SECONDS, NO_TIME))
def test_no_length_that_is_no_time_is_taken(lab: Lab, bundle: capx.Bundle, place: str, given: Any) -> None:
    said = refusal(lambda: SECONDS[place](lab, bundle, given), InvalidRequest)
    assert "must be a number of seconds from 0, such as 30, not " in said


@each_case(("place", "given"), product(SETTINGS, NO_TIME))
def test_no_setting_that_is_no_time_is_taken(lab: Lab, bundle: capx.Bundle, place: str, given: Any) -> None:
    refusal(lambda: SETTINGS[place](lab, bundle, given), ConfigurationProblem)


@pytest.mark.parametrize("given", NO_TIME, ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("of", [capx.expires, capx.not_before, capx.fresh])
def test_no_caveat_has_a_time_that_is_no_time(of: Callable[[Any], object], given: Any) -> None:
    refusal(lambda: of(given), InvalidCaveat)


@pytest.mark.parametrize("given", NO_TIME, ids=lambda given: type(given).__name__)
def test_no_task_expires_at_what_is_no_time(lab: Lab, given: Any) -> None:
    refusal(lambda: lab.open(allow=["crm.read"], expires=given), InvalidRequest, InvalidCaveat)
    refusal(lambda: lab.mint(lab.tasks()[0].id, allow=["crm.read"], expires=given), InvalidRequest, InvalidCaveat)


def test_news_that_are_never_too_old_are_no_setting(lab: Lab) -> None:
    # No age is above NaN: with it, a service would work forever without news of revocations.
    said = refusal(lambda: lab.verifier("crm", max_staleness=math.nan), ConfigurationProblem)
    assert said == "`max_staleness` must be a number of seconds from 0, such as 30, not nan"


class Zoneless(tzinfo):
    """A time zone that does not say how far it is from UTC."""

    def utcoffset(self, _: datetime | None, /) -> None: ...

    def dst(self, _: datetime | None, /) -> None: ...

    def tzname(self, _: datetime | None, /) -> None: ...


def test_a_time_zone_without_an_offset_is_no_time_zone(lab: Lab) -> None:
    given = datetime(2026, 1, 1, tzinfo=Zoneless())
    assert "without a time zone" in refusal(lambda: lab.revoke(issued=given), InvalidRequest)


def test_what_is_said_of_a_wrong_time_shows_no_secret() -> None:
    assert instant("now", 5) == now_or(5) == ttl("ttl", 5) == seconds("wait", 5) == 5
    assert seconds("wait", LONGEST) == LONGEST
    for given, shown in (
        ("capx1_secret", "a value of type str"),
        (10**5000, "a longer number"),
        (1.5, "1.5"),
        (math.nan, "nan"),
        (True, "True"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            now_or(given)
        assert str(caught.value) == f"`now` must be whole Unix seconds, such as 1795600000, not {shown}"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
