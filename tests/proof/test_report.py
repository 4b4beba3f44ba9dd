"""A report is JSON for programs."""

import json

from tests.proof.conftest import Told


def test_a_report_is_json_without_the_events(told: Told) -> None:
    facts = json.loads(json.dumps(told.report.as_json()))
    assert facts["result"] == "consistent"
    assert facts["task"] == told.task.id
    assert [one["role"] for one in facts["sources"]] == ["authority", "resource"]
    assert facts["sources"][0]["witnesses"][0]["name"] == "witness.example"
    assert facts["sources"][0]["events"] == len(told.proof.sources[0].events)
    assert len(facts["not_shown"]) == 7
    assert all(text in facts["signed"] for text in told.report.signed)
