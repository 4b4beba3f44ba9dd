"""Which events a proof has: those that name the task and no other, and what may end any task."""

import pytest

from capx.proof.extent import belongs, task_of
from capx.store.log import Event


def event(body: bytes, kind: str = "decision", position: int = 5) -> Event:
    return Event(position, 1, kind, body, bytes(32))


@pytest.mark.parametrize(
    ("body", "task"),
    [
        (b'{"task":"T"}', "T"),
        (b'{"task":"T","reasons":[{"task":"U"}]}', "T"),
        (b'{"task":null}', None),
        (b"{}", None),
        (b'{"task":"T","task":"U"}', None),
        (b'{"task":"U","task":"T"}', None),
        (b'{"task":"T","task":5}', None),
        (b'{"task":5}', None),
        (b"[]", None),
        (b'{"task":"T","x":"\\ud800"}', None),
    ],
)
def test_an_event_names_one_task_or_none(body: bytes, task: str | None) -> None:
    assert task_of(event(body)) == task


def test_a_revocation_of_any_task_belongs_behind_the_opening() -> None:
    for kind in ("revoked", "restored"):
        assert belongs(event(b"{}", kind), "T", 4)
        assert not belongs(event(b"{}", kind), "T", 5)
        assert not belongs(event(b'{"task":"U"}', kind), "T", 4)
        assert belongs(event(b'{"task":"T"}', kind), "T", 9)
        # A resource ends nothing.
        assert not belongs(event(b"{}", kind), "T", None)
    assert not belongs(event(b"{}"), "T", 1)
