"""A feed over a real store, what follows it, and an authority that serves it."""

import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from capx.resource.feed.follower import Follower
from tests.labs.feeding import Feed, FeedApp, Polled
from tests.labs.following import Crowded, Line
from tests.labs.serving import served
from tests.server.conftest import remote

__all__ = ["remote"]  # of whatever authority a test serves


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    made = Feed(tmp_path / "capx.db")
    yield made
    made.close()


@pytest.fixture
def follower(feed: Feed) -> Iterator[Follower]:
    with closing(Follower(Polled(feed))) as made:
        yield made


@pytest.fixture
def line(feed: Feed) -> Iterator[Line]:
    app = FeedApp(feed)
    with served(app) as url:
        made = Line(feed, url, app)
        yield made
        made.follower.close()
        app.cut.set()


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate with its key, and whoever believes it."""
    issuer, certificate = trustme.CA(), tmp_path / "certificate.pem"
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    return certificate, ssl.create_default_context(cadata=issuer.cert_pem.bytes().decode())


@pytest.fixture
def crowded(feed: Feed) -> Iterator[tuple[Line, Crowded]]:
    app = FeedApp(feed)
    crowd = Crowded(app)
    with served(crowd) as url:
        made = Line(feed, url, app)
        yield made, crowd
        made.follower.close()
        app.cut.set()
