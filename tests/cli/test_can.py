"""What a token can, a line for each action."""

from typing import Any


def test_what_a_token_can_is_a_line_for_each_action(home: Any, task: str, slides: str) -> None:
    said = home("can", token=task)
    assert said.out.splitlines()[:3] == ["crm crm.read", "slides slides.write", "slides slides.list"]
    assert {line.split()[0] for line in said.out.splitlines()[3:]} == {"authority"}
    assert "Nothing was verified" in said.err
    assert home("can", token=slides).out == 'slides slides.write where deck is "deck-42"\n'
    demanding = home("attenuate", "--where", "region=eu", token=task).token
    assert home("can", token=demanding).out.splitlines()[0] == "crm crm.read; and only where all of --also hold"
    assert home("can", "--also", token=demanding).out.splitlines() == [
        f'{audience} region is "eu"' for audience in ("crm", "slides")
    ]
    assert home("can", "--also", token=slides).out == ""
    assert home("can", "--json", token=demanding).json[0]["also"] == ['region is "eu"']
    home("can", "--json", "--also", token=demanding, code=2)
    view = home("can", "--json", token=slides).json
    assert view[0]["args"] == {"deck": ["eq", "deck-42"]}
    assert (view[0]["audience"], view[0]["action"], view[0]["tenant"]) == ("slides", "slides.write", "Acme")
    nothing = home("attenuate", "--allow", "hr.read", token=slides).token
    said = home("can", token=nothing)
    assert said.out == ""
    assert "at slides: nothing (no action is left" in said.err
    assert home("can", "--json", token=nothing).out == "[]\n"


def test_a_reason_that_audiences_share_is_told_once(home: Any, task: str) -> None:
    dead = home("attenuate", "--tenant", "Other", token=task)
    why = "no call has two tenants: "
    assert dead.err.count(why) == 1
    assert f"  at crm, slides: nothing ({why}" in dead.err
    said = home("can", token=dead.token)
    assert (said.out, said.err.count(why)) == ("", 1)
    assert f"at crm, slides, authority: nothing ({why}" in said.err
