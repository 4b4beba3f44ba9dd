"""A policy under which agents ask, one task of it, and two guarded services over real HTTP."""

from collections.abc import Iterator

import pytest
from starlette.middleware.gzip import GZipMiddleware

from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.guard.asgi.guard import ASGIGuard
from capx.policy.file import read_policy
from capx.tokens.bundle import Bundle
from tests.labs.asking_agent import POLICY, Liar, Tools, billing
from tests.labs.asking_agent import crm as asked_crm
from tests.labs.noting_services import echo, received, unguarded
from tests.labs.refunds import refund
from tests.labs.serving import served


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary(policy=read_policy(POLICY)) as authority:
        yield authority


@pytest.fixture
def task(lab: Authority) -> OpenedTask:
    return refund(lab)


@pytest.fixture
def agent(lab: Authority, task: OpenedTask) -> Agent:
    """One that does not wait for people."""
    return Agent(task.bundle, authority=lab, wait=0)


@pytest.fixture(scope="module")
def guarded(lab: Authority) -> Tools:
    return Tools(lab)


@pytest.fixture
def tools(guarded: Tools) -> Tools:
    guarded.ran.clear()
    return guarded


@pytest.fixture(scope="module")
def refunds(lab: Authority) -> Iterator[str]:
    with served(ASGIGuard(billing, lab.verifier("billing")), lifespan="off") as found:
        yield f"{found}/billing.refund"


@pytest.fixture(scope="module")
def origin(lab: Authority) -> Iterator[str]:
    with served(GZipMiddleware(ASGIGuard(asked_crm, lab.verifier("crm")), minimum_size=1), lifespan="off") as found:
        yield found


@pytest.fixture(scope="module")
def liars() -> Iterator[tuple[Liar, str]]:
    liar = Liar()
    with served(liar, lifespan="off") as found:
        yield liar, found


@pytest.fixture(autouse=True)
def nothing_received() -> None:
    """The services that note requests have none at the beginning of a test."""
    received.clear()


@pytest.fixture(scope="module")
def bundle(lab: Authority) -> Bundle:
    """It may do what the guarded service that notes requests does."""
    return lab.open(allow=["crm.echo", "slides.write"]).bundle


@pytest.fixture(scope="module")
def crm(lab: Authority) -> Iterator[str]:
    """The guarded service that notes requests."""
    with served(ASGIGuard(echo, lab.verifier("crm")), lifespan="off") as found:
        yield found


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The service that notes requests and has no guard."""
    with served(unguarded, lifespan="off") as found:
        yield found
