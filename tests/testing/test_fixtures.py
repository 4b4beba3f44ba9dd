"""The fixtures, in runs of pytest of their own, as in a project that uses capx."""

import time

import pytest

import capx
from capx.authority.authority import Authority
from capx.crypto.instants import now_or
from capx.errors import InvalidRequest
from capx.testing import Clock, OpensByHand, denied
from capx_caveats import action, between

CONFTEST = """
from capx.testing import Person    # as a conftest does that makes people for its tests

pytest_plugins = ["capx.testing"]
ANA = Person("ana")
"""
POLICY = """
[principal.ana]
tenants = ["Acme"]
purposes = ["work"]
[purpose.work]
[[purpose.work.grant]]
how = "at_open"
allow = ["crm.read"]
"""


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs have no plugin but those that they name, whatever is installed beside pytest."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def outcomes(pytester: pytest.Pytester, test: str, *options: str) -> tuple[dict[str, int], str]:
    """How a run of pytest ends with these tests, and what it says. Each warning is an error in it."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test)
    done = pytester.runpytest_subprocess("-W", "error", "--strict-markers", *options)
    return done.parseoutcomes(), "\n".join([*done.outlines, *done.errlines])


def test_a_project_asks_for_the_fixtures_in_a_conftest(pytester: pytest.Pytester) -> None:
    counts, said = outcomes(
        pytester,
        """
        import capx
        import pytest
        from capx.testing import denied

        def test_bundle(capx_authority, capx_bundle):
            with capx.acting(capx_bundle("crm.read", tenant="Acme")), denied("action_not_allowed", hop=0):
                capx_authority.tool("crm.export", tenant="Acme")(lambda: None)()

        def test_says_what_else(capx_authority, capx_bundle):
            with capx.acting(capx_bundle("crm.read", tenant="Acme")), denied("expired"):
                capx_authority.tool("crm.export", tenant="Acme")(lambda: None)()
        """,
    )
    assert counts == {"passed": 1, "failed": 1}
    assert "AssertionError: the call must be denied for expired, but it was denied for action_not_allowed by" in said
    # pytest shows the line of the test, and none of this room.
    assert "test_a_project_asks_for_the_fixtures_in_a_conftest.py:10: AssertionError" in said
    assert "denials.py" not in said


def test_the_mark_gives_an_authority_its_policy(pytester: pytest.Pytester) -> None:
    counts, _ = outcomes(
        pytester,
        f"""
        import pytest

        @pytest.mark.capx_policy({POLICY!r})
        def test_marked(capx_authority):
            assert list(capx_authority.policy.purposes) == ["work"]

        def test_unmarked(capx_authority):
            assert not capx_authority.policy.purposes
        """,
    )
    assert counts == {"passed": 2}


def test_a_mark_or_policy_that_is_wrong_is_an_error(pytester: pytest.Pytester) -> None:
    counts, said = outcomes(
        pytester,
        """
        import pytest

        @pytest.mark.capx_policy("purpose = 1")
        def test_policy(capx_authority): ...

        @pytest.mark.capx_policy
        def test_no_text(capx_authority): ...

        @pytest.mark.capx_policy("", "")
        def test_two_texts(capx_authority): ...
        """,
    )
    assert counts == {"errors": 3}
    assert "InvalidFile: the policy of test_policy" in said
    assert said.count('write @pytest.mark.capx_policy("…") with the text of one policy') >= 2


def test_without_the_plugin_nothing_is_registered(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_not_imported():
            assert "capx" not in sys.modules
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_conformance_is_a_test_in_a_project(pytester: pytest.Pytester) -> None:
    counts, said = outcomes(
        pytester,
        """
        import inspect

        from capx import Denied, Pending
        from capx.testing import conformance

        async def call(function, args):
            try:
                result = function(**args)
                return str(await result if inspect.isawaitable(result) else result)
            except (Denied, Pending) as refusal:
                return str(refusal)

        async def run(tools, turns):
            known = {tool.name: tool.guarded for tool in tools}
            return [await call(known[name], args) for turn in turns for name, args in turn]

        test_adapter = conformance(run)
        """,
        "-k",
        "denied or nobody_acts",
    )
    assert counts == {"passed": 2, "failed": 2, "deselected": 28}
    assert "NotConformant: nobody acted, and the model read ['no token was presented" in said
    assert "FAILED test_conformance_is_a_test_in_a_project.py::test_adapter[nobody_acts-sync]" in said


@pytest.mark.capx_policy(POLICY)
class TestMarks:
    def test_a_mark_of_a_class_counts(self, capx_authority: Authority) -> None:
        assert [*capx_authority.policy.purposes] == ["work"]

    @pytest.mark.capx_policy(POLICY.replace("purpose.work", "purpose.rest").replace('"work"', '"rest"'))
    def test_the_nearest_mark_counts(self, capx_authority: Authority) -> None:
        assert [*capx_authority.policy.purposes] == ["rest"]


def test_an_authority_is_closed_after_its_test(pytester: pytest.Pytester) -> None:
    counts, _ = outcomes(
        pytester,
        """
        from pathlib import Path

        places = []

        def test_first(capx_authority):
            places.append(Path(capx_authority.store.place))
            assert places[0].exists()

        def test_second():
            assert not places[0].parent.exists()
        """,
    )
    assert counts == {"passed": 2}


def test_without_the_clock_the_time_is_real(capx_authority: Authority, capx_bundle: OpensByHand) -> None:
    capx_bundle("crm.read")
    (task,) = capx_authority.tasks()
    assert abs(task.opened - time.time()) < 30
    assert abs(now_or(None) - time.time()) < 5


def test_authority_verifier_and_holder_share_a_clock(
    capx_bundle: OpensByHand, capx_clock: Clock, capx_authority: Authority
) -> None:
    read = capx_authority.tool("crm.read")(lambda: "read")
    capx_clock.move(7 * 86_400)
    bundle = capx_bundle("crm.read")
    (task,) = capx_authority.tasks()
    assert (task.opened, task.expires) == (capx_clock.now, capx_clock.now + 3600)
    with capx.acting(bundle):
        assert read() == "read"
        capx_clock.move(3600)
        with denied("expired", hop=0):
            read()


def test_a_bundle_has_what_it_was_opened_with(capx_authority: Authority, capx_bundle: OpensByHand) -> None:
    bundle = capx_bundle("crm.read", action("billing.refund", amount=between(1, 5)), tenant="Acme")
    assert bundle.audiences == ("crm", "billing", "authority")
    (task,) = capx_authority.tasks()
    assert (task.id, task.tenant) == (bundle.task, "Acme")
    with pytest.raises(InvalidRequest):
        capx_bundle("crm read")
