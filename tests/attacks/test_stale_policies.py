"""What attackers tried with a policy or a time that was right when they began to wait, and wrong when they wrote."""

import contextlib
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.intents.intent import SignedIntent
from capx.policy.file import PolicyFile
from capx.policy.policy import Policy
from capx.store.protocols import Store
from capx.tokens.bundle import Bundle
from capx.tokens.chain import root_node
from capx.verify.ask import Ask, Refused
from tests.labs.granting_asks import admitted_asker
from tests.labs.granting_lab import ANA, BOB, CARA, GrantingLab, people, policy, rule
from tests.labs.lab import NOW, Clock
from tests.labs.lock_holder import locked_elsewhere
from tests.labs.waiting import until
from tests.store.conftest import Places

QUERY, SEND, READ = "warehouse.query", "mail.send", "crm.read"

POLICY = f"""
[principal.ana]
key = "{ANA.public}"
tenants = ["Acme"]
purposes = ["work"]
[principal.bob]
key = "{BOB.public}"
groups = ["finance"]
[principal.cara]
key = "{CARA.public}"
groups = ["finance", "legal"]
[purpose.work]
[[purpose.work.grant]]
how = "at_open"
allow = ["{READ}"]
[[purpose.work.grant]]
how = "on_request"
allow = ["{QUERY}"]
[[purpose.work.grant]]
how = "ask"
approvers = ["finance"]
pinned = false
allow = ["{SEND}"]
"""
WITHOUT_ANA = POLICY.replace("[principal.ana]", "[principal.zoe]")
WITHOUT_BOB = POLICY.replace('groups = ["finance"]\n', 'groups = ["legal"]\n')


class Call:
    """A call in a thread of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._answer: Any = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._work()
        except Exception as problem:  # noqa: BLE001 - the test judges it
            self._answer = problem

    def result(self) -> Any:
        """The answer or the error of the call, when it has ended."""
        self._thread.join(30)
        return self._answer


def writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each writing transaction that somebody in this process has begun, or waits to begin."""
    begun, write = list[None](), store.write

    def counted(**settings: Any) -> Any:
        begun.append(None)
        return write(**settings)

    monkeypatch.setattr(store, "write", counted)
    return begun


class FileLab(GrantingLab):
    """An authority whose policy is in a file."""

    def __init__(self, store: Store, file: Path) -> None:
        super().__init__(store=store)
        self._file = file
        self.replace(POLICY)
        self.authority = Authority(store, self.authority.keyring, policy=PolicyFile(file), clock=self.clock)

    def replace(self, text: str) -> None:
        """Replace the file, as an editor does."""
        draft = self._file.with_suffix(".new")
        draft.write_text(text)
        draft.chmod(0o600)
        draft.rename(self._file)

    def signed(self, **said: Any) -> SignedIntent:
        """An intent of Ana's."""
        return ANA.sign_intent(self.intent(**said))

    def asking(self, bundle: Bundle, what: str) -> Callable[[], Any]:
        """An ask whose presentation was received already."""
        asker = admitted_asker(self, bundle)
        return lambda: self.authority.answer_asker(asker, Ask.of(what))


@pytest.fixture
def lab(store: Store, tmp_path: Path) -> FileLab:
    """One over each kind of store."""
    return FileLab(store, tmp_path / "policy.toml")


@contextlib.contextmanager
def waiting(lab: GrantingLab, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> Generator[Call]:
    """A block in which a call waits for the write lock, which another process holds. After the block it goes on."""
    store = lab.authority.store
    begun = writes(store, monkeypatch)
    with locked_elsewhere(store.place) as let_go:
        call = Call(work)
        until(lambda: begun)
        yield call
        let_go()
        call.result()


@pytest.mark.parametrize("attested", [None, "the portal"])
def test_no_task_opens_by_a_policy_that_was_replaced(
    lab: FileLab, monkeypatch: pytest.MonkeyPatch, attested: str | None
) -> None:
    signed = lab.signed()
    intent = signed if attested is None else signed.intent
    with waiting(lab, monkeypatch, lambda: lab.authority.open(intent, attested=attested)) as call:
        lab.replace(WITHOUT_ANA)
    assert isinstance(call.result(), InvalidRequest)
    assert lab.authority.tasks() == []


def test_no_ask_is_granted_by_a_policy_that_was_replaced(lab: FileLab, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = lab.open().bundle
    with waiting(lab, monkeypatch, lab.asking(bundle, QUERY)) as call:
        lab.replace(POLICY.replace(QUERY, "warehouse.count"))
    answer = call.result()
    assert isinstance(answer, Refused)
    assert [reason.code for reason in answer.reasons] == ["not_offered"]
    assert lab.authority.requests() == []
    assert lab.kinds()[-1] == "ask_refused"


def test_no_consent_counts_by_a_policy_that_was_replaced(lab: FileLab, monkeypatch: pytest.MonkeyPatch) -> None:
    request = lab.pending(lab.open().bundle, SEND).request
    verdict = lab.verdict(request)
    with waiting(lab, monkeypatch, lambda: lab.authority.answer(verdict)) as call:
        lab.replace(WITHOUT_BOB)
    assert isinstance(call.result(), InvalidRequest)
    assert lab.authority.request(request).state == "pending"


def test_a_policy_that_became_unreadable_opens_nothing(lab: FileLab, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = lab.signed()
    with waiting(lab, monkeypatch, lambda: lab.authority.open(signed)) as call:
        lab.replace("[purpose")
    assert isinstance(call.result(), ConfigurationProblem)
    assert lab.authority.tasks() == []


def test_no_task_opens_after_the_end_of_its_intent(lab: FileLab, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = lab.signed(not_after="5m")
    with waiting(lab, monkeypatch, lambda: lab.authority.open(signed)) as call:
        lab.clock.now = NOW + 300
    assert isinstance(call.result(), InvalidRequest)
    assert lab.authority.tasks() == []


def test_what_waited_to_be_opened_is_dated_when_it_opens(lab: FileLab, monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting(lab, monkeypatch, lambda: lab.authority.open(allow=[READ])) as call:
        lab.clock.now = NOW + 300
    opened = call.result()
    assert isinstance(opened, OpenedTask)
    assert {capability.issued_at for capability in opened.bundle} == {NOW + 300}
    assert (lab.authority.tasks()[0].opened, opened.expires) == (NOW + 300, NOW + 3_900)


def test_no_consent_counts_after_the_end_of_its_request(lab: FileLab, monkeypatch: pytest.MonkeyPatch) -> None:
    pending = lab.pending(lab.open().bundle, SEND)
    verdict = lab.verdict(pending.request)
    with waiting(lab, monkeypatch, lambda: lab.authority.answer(verdict)) as call:
        lab.clock.now = pending.until
    assert isinstance(call.result(), InvalidRequest)
    assert lab.authority.request(pending.request).state == "expired"


@pytest.mark.parametrize("what", [QUERY, SEND])
def test_no_ask_is_granted_after_the_end_of_its_task(lab: FileLab, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    opened = lab.open()
    with waiting(lab, monkeypatch, lab.asking(opened.bundle, what)) as call:
        lab.clock.now = opened.expires
    answer = call.result()
    assert isinstance(answer, Refused)
    assert [reason.code for reason in answer.reasons] == ["asker_dead"]


class Stepping(GrantingLab):
    """An authority whose second look at the policy, which it makes as the only writer, takes until it may go on."""

    def __init__(self, store: Store) -> None:
        super().__init__(rule("at_open", READ), store=store)
        self.looking, self.go_on, self._looks = threading.Event(), threading.Event(), 0
        self.authority = Authority(store, self.authority.keyring, policy=self._look, clock=self.clock)

    def _look(self) -> Policy:
        self._looks += 1
        if self._looks == 2:
            self.looking.set()
            assert self.go_on.wait(30)
        return self.policy


def test_nothing_opens_by_the_old_policy_once_all_is_revoked(
    store: Store, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Stepping(store)
    signed = ANA.sign_intent(lab.intent())
    opening = Call(lambda: lab.authority.open(signed))
    assert lab.looking.wait(30)
    # Now the policy is replaced, and an operator revokes what Ana has. What is being opened is not in the store yet.
    without = policy(rule("at_open", READ), principals=people(ana=None))
    operator = Authority(places.again(store), lab.authority.keyring, policy=without, clock=lab.clock)
    begun = writes(operator.store, monkeypatch)
    revoking = Call(lambda: operator.revoke(where={"principal": "ana"}))
    until(lambda: begun)
    lab.go_on.set()
    opened, revoked = opening.result(), revoking.result()
    assert isinstance(opened, OpenedTask)
    assert [killed.is_root for killed in revoked.killed] == [True]
    with store.read() as reading:
        assert reading.death(root_node(opened.root)) is not None


@pytest.mark.parametrize(("tenant", "dies"), [("Acme", True), ("Globex", False)])
def test_a_selection_finds_what_was_opened_meanwhile(
    store: Store, places: Places, monkeypatch: pytest.MonkeyPatch, tenant: str, dies: bool
) -> None:
    clock, keyring = Clock(), KeyRing(RootKey.generate())
    opener, operator = (Authority(one, keyring, clock=clock) for one in (store, places.again(store)))
    write, opened = operator.store.write, list[OpenedTask]()

    def meanwhile(**settings: Any) -> Any:
        opened.append(opener.open(allow=[READ], tenant="Acme"))
        return write(**settings)

    monkeypatch.setattr(operator.store, "write", meanwhile)
    assert len(operator.revoke(where={"tenant": tenant}).killed) == dies
    with store.read() as reading:
        assert (reading.death(root_node(opened[0].root)) is not None) == dies
