"""The events of the log: read as they were written, and as older ones were."""

import pytest

from capx.crypto.base64url import b64u
from capx.crypto.keys import RootKey
from capx.store.events import (
    TASK_ENDS,
    BudgetLimit,
    CapabilityMinted,
    RequestApproved,
    RequestDenied,
    Revoked,
    TaskEnded,
    TaskOpened,
)
from capx.store.log import START, following
from capx.tokens.capability import mint
from capx.tokens.revocation_key import RevocationKey
from capx_caveats import allow, budget

NOW = 1_800_000_000
ID = b"i" * 16


def test_a_task_that_names_only_its_root_is_read() -> None:
    event = following(START, at=NOW, kind="task_opened", body=b'{"task":"t","root":"r","expires":10}')
    assert event.read(TaskOpened) == TaskOpened(task="t", root="r", expires=10)


def test_a_mint_says_what_its_capability_says() -> None:
    root = RootKey.generate()
    key = root.audience_key("crm")
    capability = mint(key, (allow("crm.read"), budget("calls", 3, counter="c")), now=NOW)
    minted = CapabilityMinted.of("task-1", capability, allow=("crm.read",), expires=NOW + 60)
    assert (minted.task, minted.audience, minted.kid, minted.expires) == ("task-1", "crm", root.kid, NOW + 60)
    assert minted.ids == tuple(map(b64u, capability.ids))
    assert minted.budgets == (BudgetLimit("c", "calls", "3"),)
    assert (minted.request, minted.path, minted.asker) == (None, (), ())


def test_the_kinds_of_answers_and_of_ends_stay_apart() -> None:
    assert [RequestApproved.kind, RequestDenied.kind] == ["request_approved", "request_denied"]
    ends: list[type[TaskEnded]] = list(TASK_ENDS.values())
    assert [end.kind for end in ends] == ["task_completed", "task_withdrawn", "task_expired"]


@pytest.mark.parametrize(
    ("revoked", "key"),
    [
        (Revoked(id=b64u(ID)), ID),
        (Revoked(kid="k1"), "kid:k1"),
        (Revoked(issued=5), "issued:5"),
        (Revoked(id="no id"), None),
        (Revoked(), None),
    ],
)
def test_a_revocation_names_the_key_that_it_killed(revoked: Revoked, key: RevocationKey | None) -> None:
    assert revoked.key == key
