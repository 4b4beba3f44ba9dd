"""What a proof shows to people at a shell: the story first, then the verdict."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from capx.proof import Report
from capx_cli import proof_view
from tests.labs.proving import ProofLab, full_trust, read


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    lab = ProofLab(tmp_path_factory.mktemp("proof"))
    _, proof = lab.whole()
    yield read(proof, full_trust(lab))
    lab.close()


def test_the_story_names_who_did_what(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    proof_view.say_story(report)
    said = capsys.readouterr().out
    for each in (
        "of ana, signed by 'ana': Do the work.",
        "reader",
        "crm: crm.read",
        "crm.read at crm  task > reader",
        "approved by cara",
        'arguments: {"id": 1}, signed by the agent',
        'arguments, as the resource shows them: {"id": 2}',
        "bob said yes to billing.refund",
        "the task is completed",
    ):
        assert each in said, each


def test_a_contradiction_is_the_last_word(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    proof_view.say_findings(replace(report, contradictions=("this cannot be\x1b[2J",)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "CONTRADICTION: this cannot be\\x1b[2J"
    assert lines[-1] == f"task {report.task}: contradicted, 1 contradiction"


def test_what_was_claimed_is_said_to_be(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    decisions = tuple([replace(one, agent_signed=False) for one in report.decisions])
    proof_view.say_story(replace(report, decisions=decisions, intent=None, intent_digest=None))
    said = capsys.readouterr().out
    assert "task > reader, as was claimed" in said
    assert f"first agent  {report.nodes[0].id}" in said
    assert [line.split()[0] for line in said.splitlines() if "root" in line] == ["root"]
    assert "nobody's: an operator opened the task by hand" in said


def test_who_has_proven_nothing_has_claimed_nothing(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = replace(report.decisions[0], node=None, agent_signed=False)
    proof_view.say_story(replace(report, decisions=(nobody,)))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if nobody.id in line)
    assert line.endswith("  a caller who has proven nothing")
