"""Figures are labelled by nothing that a client wrote."""

from tests.server.conftest import Served


def test_figures_are_labelled_by_nothing_that_a_client_wrote(shared: Served) -> None:
    with shared.everybody() as client:
        client.request("BREW", "/tea-teapot")
        client.get("/feed-teapot")
        text = client.get("/metrics").text
    assert "teapot" not in text
    assert "BREW" not in text
    assert 'route="other"' in text
    names = ("capx_http_requests_total", "capx_http_request_seconds_bucket", "capx_log_position", "capx_deaths")
    assert all(name in text for name in (*names, "capx_tasks_active", "capx_followers_unaware"))
