"""The message of an answer binds what was shown, who answered, yes or no, and when."""

from capx.intents.verdict_message import verdict_message


def test_each_part_makes_another_message() -> None:
    shown = bytes(32)
    messages = [
        verdict_message(shown, "ana", yes=True, at=1),
        verdict_message(bytes([1, *shown[1:]]), "ana", yes=True, at=1),
        verdict_message(shown, "anay", yes=True, at=1),
        verdict_message(shown, "ana", yes=False, at=1),
        verdict_message(shown, "ana", yes=True, at=11),
    ]
    assert len(set(messages)) == len(messages)
    assert {len(each) for each in messages} == {32}
