"""What a server over HTTP has asked its clients: each answer once, in its session, and within bounds."""

from capx.guard.mcp.server_requests import MOST_OF_SESSION, MOST_SESSIONS, ServerRequests


def requests(*callers: str) -> ServerRequests:
    return ServerRequests(callers.__contains__)


def test_each_question_has_one_answer_in_its_session() -> None:
    asked = requests()
    assert asked.note("a", 1)
    assert not any([asked.take("a", "1"), asked.take("b", 1), asked.take(None, 1), asked.take("a", None)])
    assert (asked.take("a", 1), asked.take("a", 1)) == (True, False)


def test_what_is_asked_outside_a_session_nobody_answers() -> None:
    asked = requests()
    assert not asked.note(None, 1)
    assert not asked.take(None, 1)
    asked.forget(None)


def test_many_questions_of_one_session_cost_no_other_one() -> None:
    asked = requests()
    asked.note("a", 0)
    for id in range(MOST_OF_SESSION + 1):
        asked.note("b", id)
    assert asked.take("a", 0)
    assert [asked.take("b", id) for id in (0, 1, MOST_OF_SESSION)] == [False, True, True]


def test_the_session_that_was_asked_longest_ago_is_forgotten() -> None:
    asked = requests()
    asked.note("old", 1)
    asked.note("kept", 1)
    for nth in range(MOST_SESSIONS - 2):
        asked.note(str(nth), 1)
    asked.note("kept", 2)
    asked.note("new", 1)
    assert (asked.take("old", 1), asked.take("kept", 1), asked.take("0", 1)) == (False, True, True)


def test_sessions_of_strangers_are_forgotten_before_a_callers() -> None:
    asked = requests("caller", "later")
    asked.note("caller", 1)
    for nth in range(MOST_SESSIONS):
        asked.note(str(nth), 1)
    assert (asked.take("caller", 1), asked.take("0", 1), asked.take("1", 1)) == (True, False, True)
    only = ServerRequests(lambda _: True)
    for nth in range(MOST_SESSIONS + 1):
        only.note(str(nth), 1)
    assert (only.take("0", 1), only.take("1", 1)) == (False, True)


def test_a_session_that_has_ended_is_forgotten() -> None:
    asked = requests()
    asked.note("a", 1)
    asked.forget("a")
    asked.forget("b")
    assert not asked.take("a", 1)
