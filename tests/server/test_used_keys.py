"""A new key of a person is told only where it can be proven: by the signature itself, or by what the event says."""

from collections.abc import Iterator

import msgspec
import pytest

from capx.crypto.ed25519 import parse_public
from capx.errors import ConfigurationProblem
from capx.intents.principal_key import PrincipalKey
from capx.policy.policy import Policy
from capx.server.notify.used_keys import UsedKeys
from tests.labs.granting_lab import ANA, GrantingLab, people, policy, rule
from tests.labs.lab import NOW

RULE = rule("at_open", "crm.read")


class Watch:
    """What is told of the log of a lab."""

    def __init__(self) -> None:
        self.lab = GrantingLab(RULE)
        self.key = ANA
        self.position = 0
        self.keys = UsedKeys(self.policy)
        self.broken = False

    def policy(self) -> Policy:
        if self.broken:
            raise ConfigurationProblem("it cannot be used")
        return self.lab.policy

    def give(self, key: PrincipalKey | None) -> None:
        """The policy gives Ana this key."""
        mine = people()["ana"]
        changed = msgspec.structs.replace(mine, key=None if key is None else parse_public(key.public))
        self.lab.policy = policy(RULE, principals=people(ana=changed))
        self.key = key or self.key

    def open(self) -> None:
        self.lab.authority.open(self.key.sign_intent(self.lab.intent()))

    def write(self, **facts: object) -> None:
        """An event as another version may write it."""
        with self.lab.authority.store.write() as transaction:
            body = {"task": "t", "root": "r", "expires": NOW, **facts}
            transaction.append("task_opened", msgspec.json.encode(body), at=NOW)

    def restart(self) -> None:
        self.keys = UsedKeys(self.policy)
        with self.lab.authority.store.read() as reading:
            self.keys.learn(reading, self.position)

    def told(self) -> list[tuple[str, str]]:
        return list(self._told())

    def _told(self) -> Iterator[tuple[str, str]]:
        with self.lab.authority.store.read() as reading:
            for event in reading.events(after=self.position):
                yield from self.keys.used(reading, event)
                self.position = event.position


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def other() -> PrincipalKey:
    return PrincipalKey.generate("ana")


@pytest.mark.parametrize("restarts", [False, True])
def test_another_key_than_the_last_time_is_told_once(watch: Watch, other: PrincipalKey, restarts: bool) -> None:
    watch.open()
    watch.open()
    assert watch.told() == []
    watch.give(other)
    if restarts:
        watch.restart()
    watch.open()
    assert watch.told() == [("ana", other.public)]
    if restarts:
        watch.restart()
    watch.open()
    assert watch.told() == []
    watch.give(ANA)
    watch.open()
    assert watch.told() == [("ana", ANA.public)]


def test_the_first_key_of_a_person_is_not_new(watch: Watch) -> None:
    watch.open()
    assert watch.told() == []


def test_nothing_is_said_while_the_policy_cannot_tell(watch: Watch, other: PrincipalKey) -> None:
    watch.open()
    assert watch.told() == []
    watch.give(other)
    watch.open()
    # By now the policy has another key again, or none, or cannot be used: nobody can say which key has signed.
    watch.give(ANA)
    assert watch.told() == []
    watch.open()
    # The one before was not signed with this key.
    assert watch.told() == [("ana", ANA.public)]
    watch.broken = True
    watch.open()
    assert watch.told() == []
    watch.broken = False
    watch.open()
    watch.lab.policy = policy(RULE, principals=people(ana=None))
    assert watch.told() == []


def test_an_attested_intent_and_a_task_opened_by_hand_use_no_key(watch: Watch, other: PrincipalKey) -> None:
    watch.open()
    watch.give(other)
    watch.lab.authority.open(watch.lab.intent(), attested="login")
    watch.lab.authority.open(allow=["crm.read"])
    assert watch.told() == []
    watch.restart()
    watch.open()
    assert watch.told() == [("ana", other.public)]


def test_an_event_that_names_the_key_is_believed(watch: Watch, other: PrincipalKey) -> None:
    watch.write(by={"principal": "ana", "key": ANA.public})
    watch.write(by={"principal": "ana", "key": ANA.public})
    watch.write(by={"principal": "bob", "key": other.public})
    assert watch.told() == []
    watch.write(by={"principal": "ana", "key": other.public})
    assert watch.told() == [("ana", other.public)]
    watch.restart()
    watch.write(by={"principal": "ana", "key": other.public})
    assert watch.told() == []


@pytest.mark.parametrize("by", ["a node", 7, {"principal": "ana"}, None])
def test_another_form_of_it_says_nothing(watch: Watch, by: object) -> None:
    watch.open()
    watch.write(by=by)
    assert watch.told() == []


def test_a_row_without_a_signature_says_nothing(watch: Watch, other: PrincipalKey) -> None:
    watch.write(principal="ana", intent="A" * 43)
    watch.give(other)
    watch.open()
    assert watch.told() == []
