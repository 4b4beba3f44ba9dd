"""The inbox is watched, and keeps in a narrow place what one chooses by."""

import re

import pytest

from capx.authority.authority import Authority
from capx.verify.ask import Granted
from tests.cli.conftest import Shell
from tests.labs.following_log import Following
from tests.labs.inbox import as_, asks, opened, told
from tests.labs.office import Office
from tests.labs.terminal import on_terminal
from tests.server.conftest import serving


@pytest.mark.parametrize("place", ["home", "served"])
@pytest.mark.parametrize("shape", ["text", "json"])
def test_the_inbox_is_watched(capx: Shell, office: Office, place: str, shape: str) -> None:
    bundle = opened(office)
    before = asks(office, bundle)
    options = ("--json",) if shape == "json" else ()
    with serving(office.home) as served:
        at = ("--authority", served.place) if place == "served" else ()
        watching = Following(capx, "requests", "watch", *options, *at)
        watching.until(lambda out, _: before.request in out)
        after = asks(office, bundle, amount=30)
        watching.until(lambda out, _: after.request in out)
        with Authority.open_home(office.home) as authority:
            # What the policy gives by itself asks nobody.
            assert isinstance(authority.ask(bundle, "warehouse.read"), Granted)
        capx("requests", "deny", before.request, *as_(office, "ben"), "--yes")
        watching.until(told(before.request, "denied", "was denied by ben"))
        capx("requests", "approve", after.request, *as_(office, "ben"), "--yes")
        watching.until(told(after.request, "approved", "was approved by ben"))
        with Authority.open_home(office.home) as authority:
            assert isinstance(authority.ask(bundle, "billing.refund", args={"amount": 30}), Granted)
        watching.until(told(after.request, "granted", "and granted"))
        assert watching.end() == 0
    assert watching.said[watching.err] == ""
    assert "warehouse" not in watching.said[watching.master]


def test_a_narrow_inbox_keeps_what_its_reader_chooses_by(capx: Shell, office: Office) -> None:
    pending = asks(office, opened(office).delegate(to="refund-agent", may_ask=["billing.*"]))
    drawn = on_terminal(capx, "", "requests", "list", width=80).decode().replace("\r\n", "\n")
    heading, row, left_out = re.sub(r"\x1b\[[0-9;]*m", "", drawn).rstrip("\n").split("\n")
    assert heading.split() == ["REQUEST", "ACTION", "WHO", "LEFT", "APPROVERS"]
    assert re.fullmatch(rf"{pending.request}  billing.refund@billing  refund-agent  \d+ min  finance *", row)
    assert left_out == "too narrow for TASK: use a wider terminal, or --json"
