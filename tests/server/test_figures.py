"""Figures tell what became of the notices of each hook, from the start on."""

from pathlib import Path

from tests.labs.hooks import Receiver, write_file
from tests.labs.inbox import asks, opened
from tests.labs.office import Office
from tests.labs.serving_process import figure, figure_now
from tests.labs.waiting import until
from tests.server.conftest import serving


def test_figures_tell_what_became_of_notices(tmp_path: Path) -> None:
    office = Office(tmp_path)
    with Receiver() as receiver:
        file = write_file(tmp_path, receiver.table())
        with serving(office.home, "--notify", str(file)) as served:
            named = 'capx_notices_total{hook="pager",outcome="%s"}'
            assert figure(served, named % "delivered") == 0
            asks(office, opened(office))
            until(lambda: figure_now(served, named % "delivered") == 1)
            assert [figure(served, named % outcome) for outcome in ("failed", "passed_over")] == [0, 0]
            assert figure(served, 'capx_hook_lag_seconds{hook="pager"}') == 0
