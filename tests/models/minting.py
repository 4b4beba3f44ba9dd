"""Whatever somebody changes in the store who has no root key: nothing is minted that the model would not give.

One row is another at a time. Meanwhile the store may refuse whatever it likes. Once the row is back, all is as before.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import product
from random import Random
from typing import TYPE_CHECKING, TypeVar

import hypothesis.strategies as st
from hypothesis import note
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from msgspec import UNSET
from msgspec.structs import replace as changed

from capx.api.messages.outcomes import Revocation
from capx.authority.history import PATIENCE
from capx.authority.intent_use import AHEAD
from capx.authority.opening import OpenedTask
from capx.authority.people import own_tasks
from capx.authority.people.messages import OwnTasksQuery
from capx.authority.people.person import Person
from capx.authority.requests.inheritance import Asker, read_asker
from capx.authority.row_guard import check_marks
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest, StoreProblem, UnknownTask
from capx.intents.principal_key import PrincipalKey
from capx.resource.revocations import StoreLiveness
from capx.store.factory import open_store
from capx.store.protocols import Store
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.chain import root_node
from capx.tokens.grants import ASK
from capx.verify.ask import Answer, Ask, Granted, Pending, Refused
from capx.verify.decision import Denied
from capx_caveats import Tenant, action, anything
from tests.labs.granting_lab import GrantingLab, people, policy
from tests.labs.granting_lab import rule as policy_rule
from tests.labs.lab import Clock
from tests.labs.tampering import Behind, Change, Rows
from tests.models.world import ACTION, ANSWERS, PAY, QUERY, World, expiry

if TYPE_CHECKING:
    from capx.authority.authority import Authority
    from capx.intents.intent import Intent

T = TypeVar("T")

RULES = (
    policy_rule("at_open", ACTION),
    policy_rule("on_request", QUERY),
    policy_rule("ask", action(PAY, to=anything()), uses=1, pinned=True),
)
MOST_TASKS, MOST_WAITING, TTL, MOST_COPIES, MOMENTS = 2, 2, 600, 2, 4

PERSON = PrincipalKey.generate("who").public
AGENTS = {key.public: key for key in (AgentKey.generate(f"agent {nth}") for nth in range(4))}
"""The keys of all agents, by their public halves."""

untouched = precondition(lambda self: self.changed is None)


class Minting(RuleBasedStateMachine):
    """Everybody for whom something is minted, and somebody who can write the database and has no root key."""

    where: str
    clock: Clock
    store: Store
    ring: KeyRing
    world: World
    held: list[Bundle]

    def start(self) -> None:
        """Start the authority and a service on the store."""
        self.lab = GrantingLab(*RULES, clock=self.clock, store=self.store, keyring=self.ring)
        self.lab.policy = policy(*RULES, principals=people(ana=changed(people()["ana"], max_waiting=MOST_WAITING)))
        self.authority: Authority = self.lab.authority
        self.liveness = StoreLiveness(self.store.source(), poll=0)
        self.verifier = self.authority.verifier("crm", liveness=self.liveness)

    def stop(self) -> None:
        self.liveness.close()
        self.authority.close()

    def begin_minting(self) -> None:
        self.tasks: dict[str, OpenedTask] = {}
        self.intents: list[Intent] = []
        self.askers: list[Capability] = []
        self.admitted: dict[tuple[str | None, str], tuple[Asker, Ask]] = {}
        """What they ask for."""
        self.changed: Change | None = None
        self.before = self.world
        """What the model knew when the row was changed."""
        self.earlier: list[dict[str, Rows]] = []

    @property
    def now(self) -> int:
        return int(self.clock.now)

    @property
    def mints(self) -> bool:
        """Whether the root key that mints is alive."""
        return self.ring.active.kid not in self.world.dead

    def may(self, allowed: bool, act: Callable[[], T]) -> T | None:
        """What somebody gets, exactly if it is allowed; while a row is changed, at most then."""
        try:
            got = act()
        except StoreProblem:
            if self.changed is None:
                raise
        except InvalidRequest:
            assert not allowed or self.changed is not None
        else:
            assert allowed
            return got
        return None

    def keep(self, task: OpenedTask) -> None:
        """Keep a task that was just opened. Opening ends tasks that are overdue."""
        self.expire()
        self.world.expiry[task.id] = task.expires
        self.tasks[task.id] = task
        self.held.append(with_key(task.bundle))

    def names(self, key: str | None) -> bool:
        """Whether the authority still names this key in anything."""
        return key not in self.world.dead

    def expire(self) -> None:
        # By a row that is changed, something else may be overdue.
        for task, ends in self.world.expiry.items() if self.changed is None else ():
            if self.now >= ends:
                self.world.ended.setdefault(task, "expired")

    def kill(self, revoke: Callable[[], Revocation]) -> list[str]:
        """What is dead after a revocation."""
        revoked = self.may(True, revoke)
        # By a row that is changed, something may have been dead before.
        killed = [one.key for one in revoked.killed if self.changed is None or not one.again] if revoked else []
        self.world = replace(self.world, dead=self.world.dead.union(killed))
        return killed

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def mint(self, data: st.DataObject) -> None:
        self.held += [Bundle([token]) for token in self.minted(data.draw(st.sampled_from(list(self.tasks.values()))))]

    def minted(self, task: OpenedTask) -> Iterable[Capability]:
        """What is minted for a task now."""
        ends = self.world.expiry.get(task.id, 0)
        ended = task.id in self.world.ended or b64u(root_node(task.root)) in self.world.dead
        allowed = self.mints and self.names(task.holder) and not ended and self.now < ends
        bundle = self.may(allowed, lambda: self.authority.mint(task.id, allow=[ACTION]))
        minted = () if bundle is None else with_key(bundle)
        for token in minted:
            assert (token.task, token.path[0], tenants(token)) == (task.id, root_node(task.root), [task.tenant])
            assert expiry(token) <= ends
            assert token.keys == (() if task.holder is None else (task.holder,))
        return minted

    @rule(fresh=st.booleans())
    def open_on_an_intent(self, fresh: bool) -> None:
        self.open_on(fresh=fresh)

    def open_on(self, *, fresh: bool) -> None:
        if self.changed is None and (fresh or not self.intents):
            # The first names no key: whoever opens it gives none.
            key = (None, *AGENTS)[len(self.intents) % 3]
            self.intents.append(self.lab.intent(max_tasks=MOST_TASKS, agent_key=key))
        if not self.intents:
            return
        intent = self.intents[-1]
        opened = self.world.opened.get(intent.digest, 0)
        timely = intent.issued - AHEAD <= self.now <= intent.not_after - TTL
        key = None if intent.agent_key is UNSET else intent.agent_key
        allowed = self.mints and timely and opened < MOST_TASKS and intent.digest not in self.world.withdrawn
        allowed = allowed and self.names(key)
        task = self.may(allowed, lambda: self.authority.open(intent, attested="the login", expires=f"{TTL}s"))
        if task is not None:
            assert task.holder == key
            self.world.opened[intent.digest] = opened + 1
            self.keep(task)
            self.askers += [token for token in with_key(task.bundle) if token.audience == "authority"]
            for what in (QUERY, PAY):
                self.admit(self.askers[-1], what)

    def admit(self, asker: Capability, what: str) -> None:
        """Admit an ask. Whatever dies later is for the authority to see."""
        ask = Ask.of(what, args={"to": "a"} if what == PAY else None)
        presented = asker.present(ToolCall(ASK, ask.arguments()), now=self.now).text
        with suppress(Denied):
            admitted = read_asker(self.authority.own_verifier().authenticate(presented), ask)
            self.admitted[asker.task, what] = admitted, ask

    # A wrong row of the intent stays as it is, and so does one that a wrong log contradicts.
    @precondition(lambda self: self.changed is None or self.changed.table not in {"intents", "events"})
    @precondition(lambda self: self.intents)
    @rule()
    def withdraw_intent(self) -> None:
        digest = self.intents[-1].digest
        withdrawn = self.may(True, lambda: self.authority.withdraw_intent(digest))
        if withdrawn is None:
            return
        self.world = replace(self.world, withdrawn=self.world.withdrawn | {digest})
        for one in withdrawn.tasks:
            self.world.ended.setdefault(one.task, one.end)
        if self.changed is None:
            opened = {task.id for task in self.tasks.values() if task.intent == digest}
            assert opened & self.world.expiry.keys() <= self.world.ended.keys()

    @untouched
    @precondition(lambda self: self.intents)
    @rule(data=st.data(), end=st.sampled_from(["withdraw", "revoke"]))
    def a_person_ends_their_own_task(self, data: st.DataObject, end: str) -> None:
        """Whoever signed the intent ends the task from elsewhere. For anybody else it does not exist."""
        owner, other = (Person(name, PERSON) for name in (self.intents[-1].principal, "mallory"))
        owned = [task.id for task in self.tasks.values() if task.principal and task.id in self.world.expiry]
        asked = OwnTasksQuery(limit=200)
        pages = (own_tasks.task_page(self.authority, one, asked, now=self.now) for one in (owner, other))
        assert [{task.id for task in page.items} for page in pages] == [set(owned), set()]
        for task in self.tasks.values():
            if task.principal is None or task.id not in owned:
                with suppress(UnknownTask):
                    own_tasks.withdraw(self.authority, owner, task.id, dry_run=False)
                    raise AssertionError(task)
        if not owned:
            return
        chosen = self.tasks[data.draw(st.sampled_from(owned))]
        with suppress(UnknownTask):
            own_tasks.withdraw(self.authority, other, chosen.id, dry_run=False)
            raise AssertionError(chosen)
        if end == "revoke":
            self.kill(lambda: own_tasks.revoke(self.authority, owner, chosen.id, chosen.root, dry_run=False))
            return
        ended = own_tasks.withdraw(self.authority, owner, chosen.id, dry_run=False)
        overdue = self.now >= self.world.expiry[chosen.id]
        assert ended.end == self.world.ended.setdefault(chosen.id, "expired" if overdue else "withdrawn")

    @precondition(lambda self: self.askers)
    @rule(data=st.data(), what=st.sampled_from([QUERY, PAY]))
    def ask(self, data: st.DataObject, what: str) -> None:
        self.answered(data.draw(st.sampled_from(self.askers)), what)

    def answered(self, asker: Capability, what: str) -> Answer | None:
        """The answer to an ask, which gives exactly what the model gives; while a row is changed, at most that."""
        request, expected = (asker.task, what), self.world.answer(asker, what, self.now)
        if request not in self.admitted:
            return None
        if expected is Pending and self.has_no_room(asker):
            expected = Refused
        try:
            answer = self.authority.answer_asker(*self.admitted[request])
            if self.changed is None and expected is Pending and isinstance(answer, Refused):
                # It counts requests that nobody can answer any more, until it has looked.
                self.authority.end_overdue()
                self.expire()
                answer = self.authority.answer_asker(*self.admitted[request])
        except StoreProblem:
            if self.changed is None:
                raise
            return None
        except InvalidRequest:
            assert not self.mints or self.changed is not None
            return None
        assert ANSWERS.index(type(answer)) <= ANSWERS.index(expected)
        assert type(answer) is expected or self.changed is not None, (answer, expected)
        if isinstance(answer, Pending):
            self.world.requests[request] = "pending"
        elif isinstance(answer, Granted):
            token = answer.capability
            assert (token.task, token.path, tenants(token)) == (asker.task, asker.path, tenants(asker))
            assert expiry(token) <= expiry(asker)
            assert token.keys == asker.keys[-1:]
            self.world.requests[request] = "granted"
            self.world.granted[request] = self.world.granted.get(request, frozenset()) | {b64u(token.ids[0])}
        return answer

    def has_no_room(self, asker: Capability) -> bool:
        """Whether the person has as many requests that wait as may, in all their tasks. A wrong row may hide some."""
        others = [one for one in self.askers if one.task != asker.task and self.world.waits(one, PAY, self.now)]
        return self.changed is None and len(others) >= MOST_WAITING and not self.world.waits(asker, PAY, self.now)

    @precondition(lambda self: self.askers)
    @rule(data=st.data(), yes=st.booleans())
    def consent(self, data: st.DataObject, yes: bool) -> None:
        asker = data.draw(st.sampled_from(self.askers))
        pending = self.answered(asker, PAY)
        if isinstance(pending, Pending):
            decided = self.may(True, lambda: self.lab.decide(pending.request, yes=yes))
            if decided is not None:
                self.world.requests[asker.task, PAY] = "approved" if yes else "denied"

    @precondition(lambda self: self.world.granted)
    @rule(data=st.data())
    def revoke_a_grant(self, data: st.DataObject) -> None:
        granted = data.draw(st.sampled_from(list(self.world.granted.values())))
        self.kill(lambda: self.authority.revoke(min(granted)))

    def behind(self) -> Behind:
        """The store as it is when no decision waits to be written."""
        self.authority.flush(PATIENCE)
        return Behind(self.where)

    @precondition(lambda self: len(self.earlier) < MOST_COPIES)
    @rule()
    def copy_the_rows(self) -> None:
        with self.behind() as behind:
            self.earlier.append(behind.save())

    @untouched
    @precondition(lambda self: self.tasks)
    @rule(seed=st.binary(min_size=8, max_size=8))
    def change_a_row(self, seed: bytes) -> None:
        """Change one row after another, each for a moment, and the last one until it is put back."""
        dice = Random(seed)
        for _ in range(MOMENTS):
            self.change(dice)
            self.put_back()
        self.change(dice)
        if self.changed is not None:
            try:
                self.authority.check()
            except StoreProblem:
                return
            with self.store.read() as reading:
                assert self.changed.is_overlooked or check_marks(reading, self.ring)

    def change(self, dice: Random) -> None:
        """Change one row, and let everybody try to get more by it."""
        # Who has seen a death remembers it.
        self.liveness.age()
        self.authority._liveness.age()
        with self.behind() as behind:
            self.changed = behind.change(dice, self.earlier)
        if self.changed is not None:
            note(f"{self.changed.table}: {self.changed.old} -> {self.changed.new}")
            self.before = self.world.copy()
            self.everybody_tries()

    @precondition(lambda self: self.changed is not None)
    @rule()
    def put_the_row_back(self) -> None:
        self.put_back()
        self.authority.check()
        self.everybody_tries()

    def put_back(self) -> None:
        if (changed := self.changed) is None:
            return
        with Behind(self.where) as behind:
            # What is written after a wrong head goes on from a wrong place.
            undone = changed.table != "head" and self.undo(behind, changed)
            if not undone:
                behind.put_back(changed.whole)
        self.changed = None
        if not undone:
            self.restart()

    def everybody_tries(self) -> None:
        """Everybody tries to get whatever there is to get."""
        for task in self.tasks.values():
            self.minted(task)
        for asker, what in product(self.askers, (QUERY, PAY)):
            self.answered(asker, what)
        self.open_on(fresh=False)

    def restart(self) -> None:
        """Start everything again on a store in which nothing has happened since the change."""
        self.stop()
        self.store = open_store(self.where)
        self.start()
        self.world = self.before
        self.intents.clear()
        self.everybody_tries()

    def undo(self, behind: Behind, changed: Change) -> bool:
        """Put back the row alone, and learn which tasks were ended by it."""
        with self.store.read() as reading:
            undone = behind.undo(changed, reading)
        with self.store.read() as reading:
            ended = reading.deaths_of(self.world.expiry)
        for task in self.world.expiry:
            if task in ended and undone:
                self.world.ended[task] = self.authority.task(task).state
        return undone


def with_key(bundle: Bundle) -> Bundle:
    """The bundle, with the key of its holder."""
    return bundle if bundle.holder is None else bundle.with_key(AGENTS[bundle.holder])


def tenants(token: Capability) -> list[str | None]:
    return [one.name for one in token.caveats[0] if isinstance(one, Tenant)]
