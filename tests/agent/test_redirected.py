"""The error for a redirect: it holds the whole URL, and shows the beginning."""

import pickle

from capx.agent.httpx_client import Redirected as OfClient
from capx.agent.redirected import Redirected


def test_it_holds_the_url_and_shows_the_beginning() -> None:
    error = Redirected("https://evil.example/" + "a" * 60_000)
    assert len(error.url) > 60_000
    assert "https://evil.example/" in str(error)
    assert len(str(error)) < 500


def test_it_comes_out_of_another_process() -> None:
    error = pickle.loads(pickle.dumps(Redirected("https://crm.internal/x")))
    assert (type(error), error.url) == (OfClient, "https://crm.internal/x")
