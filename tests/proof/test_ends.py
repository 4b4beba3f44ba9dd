"""Whatever ended authority in a task is in its proof, in words."""

import pytest

from capx.proof import export
from tests.labs.proving import NOW, PLANNER, ProofLab, read


def ends(lab: ProofLab, task: str) -> list[str]:
    return [one.what for one in read(export(lab.authority, task, now=int(lab.clock.now)), lab.trust()).ended]


def test_a_task_ends_as_its_log_says(lab: ProofLab) -> None:
    task, _ = lab.started()
    lab.authority.complete(task.id)
    assert ends(lab, task.id) == ["the task is completed", "the task expires at the latest"]
    other, _ = lab.started()
    lab.clock.now += 3_601
    lab.authority.end_overdue()
    assert ends(lab, other.id)[0] == "the task is expired"


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"key": PLANNER.public}, "the agent's key ed25519:"),
        ({"issued": NOW - 10}, "all that was issued up to 2026-11-25T09:46:30Z is dead"),
    ],
)
def test_what_names_no_task_is_told_too(lab: ProofLab, what: dict[str, object], says: str) -> None:
    task, _ = lab.started()
    lab.authority.revoke(**what)  # type: ignore[arg-type] # each row is one way to name what dies
    assert ends(lab, task.id)[0].startswith(says)


def test_a_dead_root_and_root_key_are_told(lab: ProofLab) -> None:
    task, planner = lab.started()
    capability = next(iter(planner))
    lab.authority.revoke(task.id)
    lab.authority.revoke(kid=capability.kid, force=True)
    said = ends(lab, task.id)
    assert said[0].startswith("the root of the task ")
    assert said[1] == f"all that was minted under the root key {capability.kid} is dead"
