"""What was spent, and what of a token is dead."""

from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from tests.cli.conftest import Shell
from tests.labs.spent_tokens import flat


def test_what_was_spent_stands_in_every_view(home: Shell, spending: Bundle) -> None:
    assert "calls: 2 of 3 spent, 1 left" in home("graph", "last").out
    for shape in ("mermaid", "dot"):
        assert "calls: 2 of 3 spent, 1 left" in home("graph", "--format", shape).out
    (tree,) = home("graph", "--json").json["trees"]
    assert [(one["unit"], one["spent"], one["limit"], one["left"]) for one in tree["budgets"]] == [
        ("calls", "2", "3", "1")
    ]
    assert home("graph", "--format", "json").json == home("graph", "--json").json
    _, second, _ = home("find", "--json").json
    assert "  spent   1 of calls, 2 of 3 spent so far" in home("why", second["id"]).out
    seen = flat(home("inspect", "--store", token=spending.text).out)
    assert "spent 2 of 3 calls, 1 left (the task's grant)" in seen
    assert "alive as far as this store knows" in seen
    view = home("inspect", "--store", "--json", token=spending.text).json["tokens"][0]["store"]
    assert (view["budgets"][0]["left"], view["dead"]) == ("1", [])


def test_a_token_that_cannot_be_read_is_told_as_such(home: Shell, spending: Bundle) -> None:
    bare = Capability.parse(next(iter(spending)).text)
    assert "the home" not in home("inspect", token=bare.text).out
    assert (
        "create one with capx init"
        in home("inspect", "--store", token=bare.text, code=3, CAPX_HOME=str(home.home / "none")).err
    )


def test_a_token_that_can_allow_nothing_says_why(home: Shell) -> None:
    without_tenant = home("task", "open", "--allow", "crm.read").token
    narrowed = home("attenuate", "--tenant", "Acme", token=without_tenant)
    holder = 'the token\'s first holder says tenant is "Acme"'
    why = f"no call can have a tenant, because the task's grant names none: {holder}"
    assert f"  at crm: nothing ({why})\nthis token allows nothing any more\n" in narrowed.err
    assert f"  allows nothing  {why}\n" in home("inspect", token=narrowed.token).out
    crm, _ = home("inspect", "--json", token=narrowed.token).json["tokens"]
    assert (crm["effective"]["may"], crm["effective"]["why_nothing"]) == ([], [why])
    said = home("explain", "--action", "crm.read", token=narrowed.token, code=1).out
    assert "the task's grant names no tenant, so no call can have one" in said
    assert home("can", token=narrowed.token).out == ""
