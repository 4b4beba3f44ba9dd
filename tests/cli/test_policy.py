"""`capx policy`, as it is typed."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Shell
from tests.labs.policies import POLICY, changed, intent
from tests.policy.test_cases import GOOD


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    file = tmp_path / "draft.toml"
    file.write_text(POLICY, encoding="utf-8")
    return file


def written(folder: Path, **said: Any) -> str:
    file = folder / "asked.json"
    file.write_text(json.dumps(intent("refund", **said).document()), encoding="utf-8")
    return str(file)


def test_a_good_draft_is_said_to_be_good_without_any_home(capx: Shell, draft: Path) -> None:
    said = capx("policy", "check", str(draft))
    assert said.out.startswith(f"{draft} is good: 3 principals, 3 purposes, digest ")
    assert said.err == ""
    assert capx("policy", "check", str(draft), "--json").json["good"] is True


def test_a_draft_may_be_writable_by_a_group_as_in_a_checkout(capx: Shell, draft: Path) -> None:
    draft.chmod(0o664)
    capx("policy", "check", str(draft))


def test_a_grant_without_how_is_told_wherever_it_is_read(home: Shell) -> None:
    file = home.home / "policy.toml"
    file.write_text(POLICY.replace('how = "at_open"\n', ""), encoding="utf-8")
    file.chmod(0o600)
    for command in (("policy", "check"), ("doctor",), ("principal", "add", "ana")):
        said = home(*command, code=3)
        assert 'purpose.qbr.grant[1].how: is missing: add how = "at_open", "on_request" or "ask"' in said.out + said.err


def test_every_mistake_is_a_line_and_the_exit_code_says_so(capx: Shell, draft: Path) -> None:
    draft.write_text(changed('ttl = "2h"', 'tll = "2h"').replace("[50, 500]", "[500, 50]"), encoding="utf-8")
    said = capx("policy", "check", str(draft), code=3)
    assert said.out == ""
    assert said.err.splitlines() == [
        f"{draft} cannot be used:",
        "  purpose.qbr.tll: unknown key: did you mean ttl?",
        (
            '  purpose.refund.grant[2].allow."billing.refund".amount: '
            "Range: no number is between 500 and 50: give the smaller end first"
        ),
    ]
    facts = capx("policy", "check", str(draft), "--json", code=3).json
    assert (facts["good"], len(facts["problems"])) == (False, 2)


@pytest.mark.parametrize("command", [("explain",), ("try", "asked.json"), ("test", "cases.toml")])
def test_a_draft_that_cannot_be_used_tells_every_mistake(capx: Shell, draft: Path, command: tuple[str, ...]) -> None:
    draft.write_text(changed('ttl = "2h"', 'tll = "2h"').replace("[50, 500]", "[500, 50]"), encoding="utf-8")
    said = capx("policy", *command, "--policy", str(draft), code=3)
    assert said.out == ""
    assert len(said.err.splitlines()) == 3


def test_a_draft_that_hides_something_acts_on_no_terminal(capx: Shell, draft: Path) -> None:
    draft.write_text('["\\u001b[31m[bold]\\u202e\\n  purpose"]\nx = 1', encoding="utf-8")
    said = capx("policy", "check", str(draft), code=3)
    (line,) = said.err.splitlines()[1:]
    assert line.startswith('  "\\u001b[31m[bold]\\u202e\\n  purpose": unknown key')


def test_what_cannot_have_been_meant_is_remarked_upon(capx: Shell, draft: Path) -> None:
    draft.write_text(
        f'{POLICY}[purpose.idle]\n[[purpose.idle.grant]]\nhow = "at_open"\nallow = ["crm.accounts.read"]\n', "utf-8"
    )
    said = capx("policy", "check", str(draft))
    assert said.err == "  purpose.idle: no principal may ask for it: add it to the purposes of one\n"


def test_without_a_file_it_is_the_policy_of_the_home(home: Shell) -> None:
    said = home("policy", "check", code=3)
    assert "there is no policy at" in said.err
    file = home.home / "policy.toml"
    file.write_text(POLICY, encoding="utf-8")
    file.chmod(0o600)
    assert home("policy", "check").out.startswith(f"{file} is good")
    file.chmod(0o666)
    assert "may be changed by others: chmod go-w" in home("policy", "check", code=3).err


def test_an_intent_is_tried_and_nothing_is_opened(capx: Shell, draft: Path, tmp_path: Path) -> None:
    asked = written(tmp_path, parameters={"ticket": "T-1"})
    said = capx("policy", "try", asked, "--policy", str(draft))
    lines = said.out.splitlines()
    assert lines[0] == 'refund for "ana@our.example", tenant "Acme", ends after 1h at the latest'
    assert lines[1].split() == ["WHEN", "ACTION", "AT", "LIMITS"]
    assert [line.split("  ")[0] for line in lines[2:]] == ["on request", "by asking", "never"]
    assert 'asks "finance" ("kim@our.example"), who has 30m' in lines[3]
    assert "nothing at crm, support" in lines[4]
    assert not capx.home.exists()


def test_what_an_intent_gets_is_shown_whole_at_any_length(capx: Shell, draft: Path, tmp_path: Path) -> None:
    ticket = "T-" + "1" * 150
    asked = written(tmp_path, parameters={"ticket": ticket})
    assert f'ticket is "{ticket}"' in capx("policy", "try", asked, "--policy", str(draft)).out
    offers = capx("policy", "try", asked, "--policy", str(draft), "--json").json["rules"][0]["offers"]
    assert f'ticket is "{ticket}"' in offers[0]["words"]


def test_an_intent_that_gets_nothing_is_told_why(capx: Shell, draft: Path, tmp_path: Path) -> None:
    said = capx("policy", "try", written(tmp_path), "--policy", str(draft), code=1)
    assert said.err == 'capx: refund needs "ticket", which the intent does not have\n'


def test_what_an_intent_gets_is_there_for_programs(capx: Shell, draft: Path, tmp_path: Path) -> None:
    asked = written(tmp_path, parameters={"ticket": "T-1"})
    facts = capx("policy", "try", asked, "--policy", str(draft), "--json").json
    assert (facts["tenant"], facts["ttl"], facts["never"]) == ("Acme", 3600, {"audiences": ["crm", "support"]})
    small, large = facts["rules"]
    assert (small["how"], small["budgets"], small["approvers"]) == ("on_request", {"refunds": "1"}, [])
    assert (large["how"], large["within"], large["approvers"]) == ("ask", 1800, ["finance"])
    assert large["offers"][0]["entry"][1][0] == ["ticket", ["eq", "T-1"]]


def test_a_value_that_hides_something_acts_on_no_terminal(capx: Shell, draft: Path, tmp_path: Path) -> None:
    asked = written(tmp_path, parameters={"ticket": "\x1b[31m[red]T\u202e\n1"})
    said = capx("policy", "try", asked, "--policy", str(draft))
    assert '"\\u001b[31m[red]T\\u202e\\n1"' in said.out


def test_a_policy_is_told_in_sentences(capx: Shell, draft: Path) -> None:
    said = capx("policy", "explain", "nightly", "--policy", str(draft))
    assert said.out.splitlines() == [
        "nightly",
        '  "ana@our.example" and "robot" may ask for it.',
        "  It is for no tenant, and ends after 30m at the latest.",
        "  At open: crm.export at crm without arguments.",
        "  Nothing else is given.",
    ]
    assert list(capx("policy", "explain", "--policy", str(draft), "--json").json) == ["qbr", "refund", "nightly"]
    said = capx("policy", "explain", "refnd", "--policy", str(draft), code=2)
    assert "did you mean refund?" in said.err


def test_cases_that_hold_end_well(capx: Shell, draft: Path, tmp_path: Path) -> None:
    (tmp_path / "cases.toml").write_text(GOOD, encoding="utf-8")
    said = capx("policy", "test", str(tmp_path / "cases.toml"), "--policy", str(draft))
    assert said.out == "all of 8 expectations in 3 cases hold\n"


def test_a_case_that_fails_is_a_line_and_the_exit_code_says_so(capx: Shell, draft: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases.toml"
    cases.write_text(GOOD.replace("amount = 80", "amount = 800").replace("opens = false", 'at_open = ["a.b"]'), "utf-8")
    said = capx("policy", "test", str(cases), "--policy", str(draft), code=1)
    first, second = said.out.splitlines()
    assert first.startswith("case[1].ask[1] (small refunds go through): billing.refund at billing, with")
    assert "expected ask, but the policy says never; purpose.refund.grant[1] allows" in first
    assert second.startswith("case[3]: the policy refuses the intent: ")
    assert said.err == "2 of 8 expectations in 3 cases failed\n"
    facts = capx("policy", "test", str(cases), "--policy", str(draft), "--json", code=1).json
    assert [one["path"] for one in facts["failing"]] == ["case[1].ask[1]", "case[3]"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file has no cases"),
        ("[[case]]\n", "  case[1].principal: is missing: add it\n  case[1].purpose: is missing: add it\n"),
        ("[[cases]]\n", "cases: unknown key: did you mean case?"),
    ],
)
def test_cases_that_would_test_nothing_do_not_pass(
    capx: Shell, draft: Path, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "cases.toml").write_text(text, encoding="utf-8")
    said = capx("policy", "test", str(tmp_path / "cases.toml"), "--policy", str(draft), code=3)
    assert told in said.err
    assert said.out == ""


def test_a_file_that_is_not_there_is_told_as_that(capx: Shell, draft: Path, tmp_path: Path) -> None:
    for args in (("check", "none.toml"), ("test", "none.toml", "--policy", str(draft)), ("explain", "--policy", ".")):
        assert "cannot read" in capx("policy", *args, code=3).err


def test_a_refusal_expected_of_a_mistyped_name_is_remarked_upon(capx: Shell, draft: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases.toml"
    cases.write_text(
        GOOD.replace('tenant = "Globex"', "").replace('purpose = "qbr"\n\nopens', 'purpose = "qbrr"\nopens'), "utf-8"
    )
    said = capx("policy", "test", str(cases), "--policy", str(draft))
    assert said.err == '  case[3].purpose: the policy has no purpose "qbrr": did you mean qbr?\n'
    facts = capx("policy", "test", str(cases), "--policy", str(draft), "--json").json
    assert facts["remarks"] == [said.err.strip()]


def test_a_task_that_would_never_open_is_told_by_check_and_try(capx: Shell, draft: Path, tmp_path: Path) -> None:
    draft.write_text(changed("{ refunds = 1 }", "{ " + ", ".join(f"u{n} = 1" for n in range(17)) + " }"), "utf-8")
    why = "purpose.refund.grant[1].allow: billing.refund: a token has at most 16 budgets: shorten this grant"
    assert why in capx("policy", "check", str(draft), code=3).err
    draft.write_text(POLICY, "utf-8")
    long = written(tmp_path, parameters={"ticket": "x" * 3000})
    assert "a block has at most 4096 bytes" in capx("policy", "try", long, "--policy", str(draft), code=1).err
