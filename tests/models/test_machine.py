"""Whatever happens, in whatever order: the verifier's answer for every token is that of a model of a page.

The store, the authority, the follower, the meter and the verifier are real; only the clock is the test's own.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from os import urandom
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize, invariant, precondition, rule

from capx.authority.ending import NOTICED_WITHIN
from capx.authority.restore import restore
from capx.crypto.base64url import b64u
from capx.crypto.keys import AudienceKeys, KeyRing, RootKey
from capx.errors import ConfigurationProblem, StoreProblem, Unavailable
from capx.policy.policy import MAX_TTL
from capx.resource.recorder import StoreRecorder
from capx.resource.spool import Spool
from capx.store.backup import backup
from capx.store.factory import create_store
from capx.store.records import KEPT_BEYOND_TTL, DecisionRecord
from capx.tokens.binding import WINDOW_BEFORE, ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.decision import Decision
from capx.verify.verifier import Verifier
from capx_caveats import Call, Hop, budget, expires
from tests.labs.counts import repeated
from tests.labs.hostile_reports import claimed, decided, recordable
from tests.labs.lab import Clock
from tests.labs.postgres import shared_server
from tests.labs.waiting import until
from tests.models.minting import AGENTS, Minting, untouched
from tests.models.world import ACTION, World

if TYPE_CHECKING:
    from capx.tokens.capability import Capability

DEAD = frozenset({"revoked", "task_completed", "task_withdrawn", "task_expired", "expired"})


class Away:
    """An authority that is away."""

    is_over = False

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        if not self.is_over:
            raise Unavailable("it is away")


class Machine(Minting):
    """Everybody who acts upon one store."""

    def place(self, folder: Path) -> str:
        """Where a new store can be made."""
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        self.clock = Clock(int(time.time()) + 10)
        self.where = self.place(Path(self.folder.name))
        self.store = create_store(self.where)
        self.ring = KeyRing(RootKey.generate(), [RootKey.generate()])
        self.start()
        self.world = World()
        self.begin_minting()
        self.latest = self.pruned = self.now
        self.held: list[Bundle] = []
        self.used: list[Capability] = []
        """The tokens of sub-agents of which an honest verifier has recorded a decision."""
        self.late: list[Capability] = []
        """Those whose decisions are only in a spool."""
        self.unheard: list[str] = []
        """The ids of all decisions that are."""
        self.spool = Path(self.folder.name) / "spool"
        self.spool.mkdir(mode=0o700)
        self.saved: tuple[Path, World] | None = None
        self.backups = 0
        self.open_on(fresh=True)

    def some_bundle(self, data: st.DataObject) -> Bundle:
        return data.draw(st.sampled_from(self.held))

    @rule(
        limit=st.sampled_from([None, 1, 3]),
        ttl=st.sampled_from([30, 600]),
        tenant=st.sampled_from(["A", "B"]),
        key=st.sampled_from([None, *AGENTS]),
    )
    def open(self, limit: int | None, ttl: int, tenant: str, key: str | None) -> None:
        budgets = [] if limit is None else [budget("calls", str(limit))]
        task = self.may(
            self.mints and self.names(key),
            lambda: self.authority.open(
                allow=[ACTION], tenant=tenant, expires=f"{ttl}s", caveats=budgets, agent_key=key
            ),
        )
        if task is not None:
            assert (task.expires, task.holder) == (self.now + ttl, key)
            self.keep(task)

    @untouched
    @precondition(lambda self: self.held)
    @rule(data=st.data(), limit=st.sampled_from([None, 1, 2]), short=st.booleans(), acts=st.booleans())
    def delegate(self, data: st.DataObject, limit: int | None, short: bool, acts: bool) -> None:
        parent = self.some_bundle(data)
        if len(parent.hops) < 3:
            caveats = [*([] if limit is None else [budget("calls", str(limit))]), *([expires("20s")] if short else [])]
            # An agent may name a key that is dead. Nobody but a verifier sees it.
            key = None if parent.holder is None else AGENTS[data.draw(st.sampled_from(list(AGENTS)))]
            self.held.append(parent.delegate(to="sub", to_key=key, allow=[ACTION], caveats=caveats, now=self.now))
            if acts:
                self.spend_with(self.held[-1])

    @precondition(lambda self: self.held)
    @rule(data=st.data(), end=st.sampled_from(["completed", "withdrawn"]))
    def end(self, data: st.DataObject, end: str) -> None:
        task = self.some_bundle(data).task
        assert task is not None
        if task not in self.world.expiry:
            return
        move = self.authority.complete if end == "completed" else self.authority.withdraw
        ended = self.may(True, lambda: move(task))
        if ended is not None and self.changed is None:
            overdue = self.now >= self.world.expiry[task]
            assert ended.end == self.world.ended.setdefault(task, "expired" if overdue else end)
        elif ended is not None and not ended.again:
            self.world.ended.setdefault(task, ended.end)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), what=st.sampled_from(["node", "id", "ancestor", "minted", "task"]))
    def revoke(self, data: st.DataObject, what: str) -> None:
        bundle = self.some_bundle(data)
        token = next(iter(bundle))
        key = {
            "node": token.path[-1],
            "id": token.ids[-1],
            "ancestor": data.draw(st.sampled_from(token.path)),
            "minted": token.ids[0],
            "task": token.path[0],
        }[what]
        named = token.task if what == "task" and token.task in self.world.expiry else b64u(key)
        killed = self.kill(lambda: self.authority.revoke(named))
        assert killed[:1] == [b64u(key)] or self.changed is not None

    @rule(key=st.sampled_from(list(AGENTS)))
    def revoke_key(self, key: str) -> None:
        killed = self.kill(lambda: self.authority.revoke(key=key))
        assert killed[:1] == [key] or self.changed is not None

    @untouched
    @rule(where=st.sampled_from(["A", "B"]))
    def revoke_tenant(self, where: str) -> None:
        revoked = self.authority.revoke(where={"tenant": where})
        self.world = replace(self.world, dead=self.world.dead | {one.key for one in revoked.killed})
        for token in (token for bundle in self.held for token in bundle if token.audience == "crm"):
            task = token.task
            if task in self.world.expiry and self.authority.task(task).tenant == where:
                assert self.world.kills(token, self.now)

    @untouched
    @precondition(lambda self: self.used)
    @rule()
    def revoke_agent(self) -> None:
        revoked = {one.key for one in self.authority.revoke(where={"agent": "sub"}).killed}
        assert revoked.isdisjoint(b64u(token.path[0]) for bundle in self.held for token in bundle)
        self.world = replace(self.world, dead=self.world.dead | revoked)
        # Whatever was reported besides.
        assert all(self.world.kills(token, self.now) for token in self.used)

    @untouched
    @precondition(lambda self: self.held)
    @rule(data=st.data(), label=st.sampled_from(["sub", "other"]), outcome=st.sampled_from(["allowed", "denied"]))
    def report_what_is_not_so(self, data: st.DataObject, label: str, outcome: str) -> None:
        """A resource that was taken over reports about a task that it has seen."""
        task = self.tasks[data.draw(st.sampled_from(sorted(self.tasks)))]
        known = sorted({b64u(node) for bundle in self.held for token in bundle for node in token.path})
        hops = (block[0] for bundle in self.held for token in bundle for block in token.caveats)
        nonces = sorted({hop.nonce for hop in hops if isinstance(hop, Hop)})
        an_id, a_nonce = (st.binary(min_size=size, max_size=size).map(b64u) for size in (16, 8))
        facts = {"id": data.draw(st.sampled_from([*known, task.id]) | an_id.map("d.{}".format)), "outcome": outcome}
        if data.draw(st.booleans()):
            taken = data.draw(st.lists(st.sampled_from(nonces) | a_nonce if nonces else a_nonce, max_size=4))
            body = decided(task, taken, [label] * len(taken), **facts)
        else:
            below = data.draw(st.lists(st.sampled_from(known) | an_id, max_size=4))
            body = claimed(task, below, hops=[label] * len(below), **facts)
        self.store.record([recordable(body, at=self.now)])

    @rule()
    def mint_with_the_other_key(self) -> None:
        self.ring = self.ring.activated(self.ring.kids[1])
        self.authority.rekey(self.ring)

    @untouched
    @precondition(lambda self: self.backups == 2)
    @rule(data=st.data())
    def revoke_kid(self, data: st.DataObject) -> None:
        kid = data.draw(st.sampled_from(self.ring.kids))
        self.authority.revoke(kid=kid)
        self.world = replace(self.world, dead=self.world.dead | {kid})

    @rule(back=st.sampled_from([1, 5, 50]))
    def revoke_instant(self, back: int) -> None:
        if self.may(True, lambda: self.authority.revoke(issued=self.now - back)) is not None:
            self.world = replace(self.world, revoked_until=max(self.world.revoked_until, self.now - back))

    @untouched
    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def spend(self, data: st.DataObject) -> None:
        self.spend_with(self.some_bundle(data))

    @untouched
    @precondition(lambda self: self.held)
    @rule(data=st.data(), calls=st.integers(1, 3))
    def a_service_ends_while_the_authority_is_away(self, data: st.DataObject, calls: int) -> None:
        bundle, away = self.some_bundle(data), Away()
        recorder = StoreRecorder(away, together=0, spool=Spool(str(self.spool), self.crm_keys))
        service, used = self.authority.verifier("crm", liveness=self.liveness, recorder=recorder), len(self.used)
        for _ in range(calls):
            decision = self.spend_with(bundle, service)
            self.unheard += [decision.id] if decision.allowed else []
        recorder.close(timeout=0.01)
        # Its thread ends, as with the process. What it does not report is for its successor.
        away.is_over = True
        self.late += self.used[used:]
        del self.used[used:]

    @untouched
    @precondition(lambda self: self.unheard)
    @rule()
    def its_successor_starts(self) -> None:
        spool = Spool(str(self.spool), self.crm_keys)
        spool.take_over(self.store.record)
        until(lambda: len(list(self.spool.glob("*.spool"))) == 1)
        spool.settle()
        with self.store.read() as reading:
            logged = Counter(event.facts()["id"] for event in reading.events(kind="decision"))
        assert [logged[one] for one in self.unheard] == [1] * len(self.unheard)
        self.unheard.clear()
        self.used += self.late
        self.late.clear()

    @property
    def crm_keys(self) -> AudienceKeys:
        return self.authority.keyring.exported("crm")

    def spend_with(self, bundle: Bundle, service: Verifier | None = None) -> Decision:
        token, verifier = next(iter(bundle)), service or self.verifier
        call = ToolCall(ACTION, {})
        presented = token.present(call, now=self.now).text
        tenant = verifier.explain(token.text, Call(ACTION)).lineage
        decision = verifier.decide(presented, call, Call(ACTION, tenant=tenant.tenant if tenant else None))
        may = not self.world.kills(token, self.now) and self.world.affords(token)
        if may and self.now < self.latest and not decision.allowed:
            # What was presented before the clock was set back may have been cleared away.
            assert [refusal.code for refusal in decision.refusals] == ["replayed"]
            return decision
        assert decision.allowed == may, decision.refusals
        if may:
            self.world.spend(token)
            self.used += [token] if len(token.path) > 1 else []
        return decision

    @rule(seconds=st.sampled_from([1, 5, 25, 700]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @untouched
    @rule(hours=st.sampled_from([-26, 26]))
    def set_the_clock(self, hours: int) -> None:
        # A clock that was wrong for longer than a day has forgotten too much.
        if self.now + hours * 3_600 < self.pruned - 26 * 3_600:
            return
        self.latest = max(self.latest, self.now)
        self.clock.now += hours * 3_600
        # A verifier never goes back in time. So a service notices a clock that was set back when it starts again.
        self.verifier = self.authority.verifier("crm", liveness=self.liveness)

    @untouched
    @rule()
    def prune(self) -> None:
        self.authority.prune()
        self.pruned = max(self.pruned, self.now)
        self.expire()

    @untouched
    @rule()
    def wait_until_all_is_forgotten(self) -> None:
        self.clock.now += MAX_TTL + KEPT_BEYOND_TTL + 1
        self.authority.prune()
        self.pruned = max(self.pruned, self.now)
        self.expire()
        self.clock.now += MAX_TTL + KEPT_BEYOND_TTL + 1
        # Forgetting goes by an event that is a day old.
        self.authority.revoke(urandom(16))
        self.clock.now += NOTICED_WITHIN
        self.authority.prune()
        self.pruned = max(self.pruned, self.now)
        self.expire()
        self.world.spent.clear()

    @rule()
    def end_overdue(self) -> None:
        self.may(True, self.authority.end_overdue)
        self.expire()

    @untouched
    @precondition(lambda self: self.backups < 3)
    @rule()
    def back_up(self) -> None:
        self.backups += 1
        path = Path(self.folder.name) / f"backup-{self.backups}.db"
        backup(self.store, path)
        self.saved = path, self.world.copy()

    @untouched
    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        assert self.saved is not None
        path, world = self.saved
        known, keys = world.copy(), {key for key in (*self.ring.kids, *AGENTS) if key in self.world.dead}
        try:
            restored = restore(path, self.where, clock=self.tick)
        except (ConfigurationProblem, StoreProblem) as error:
            problem, restored = str(error), None
        else:
            problem = ""
        if restored is None:
            assert "behind" in problem
            assert self.now < self.latest
            return
        assert restored.issued is not None
        for task in known.expiry:
            known.ended.setdefault(task, "expired" if restored.issued >= known.expiry[task] else "withdrawn")
        self.used.clear()
        self.late.clear()
        self.intents.clear()
        # A key that was revoked stays so; all else that happened since the backup is not known any more.
        self.world = replace(known, revoked_until=max(known.revoked_until, restored.issued), dead=known.dead | keys)
        assert self.now > restored.issued
        # The next burn shows that the store has lost what was presented, and a few seconds later that does not matter.
        for bundle in self.held[:1]:
            presented = next(iter(bundle)).present(ToolCall(ACTION, {}), now=self.now).text
            assert not self.verifier.decide(presented, ToolCall(ACTION, {}), Call(ACTION)).allowed
        self.clock.now += WINDOW_BEFORE + 2
        self.saved = None

    def tick(self) -> float:
        """The time, which goes on a little with each look."""
        self.clock.now += 0.25
        return self.clock.now

    @invariant()
    def every_token_is_answered_as_the_model_says(self) -> None:
        for bundle in getattr(self, "held", []):
            token = next(iter(bundle))
            tenant = next(one.name for one in token.caveats[0] if type(one).__name__ == "Tenant")
            explained = self.verifier.explain(token.text, Call(ACTION, tenant=tenant))
            codes = {refusal.code for refusal in explained.refusals}
            if self.changed is not None:
                # A service may not learn what is new. It forgets nothing.
                assert codes & DEAD or not self.before.kills(token, self.now)
                continue
            assert codes <= DEAD | {"budget_exhausted"}
            assert bool(codes & DEAD) == self.world.kills(token, self.now), (codes, token)
            # A token that has ended is told nothing else.
            exhausted = not codes & DEAD and not self.world.affords(token)
            assert ("budget_exhausted" in codes) == exhausted, (codes, token)

    def teardown(self) -> None:
        if hasattr(self, "authority"):
            try:
                if self.changed is not None:
                    self.put_the_row_back()
                self.authority.check()
            finally:
                self.stop()
                self.folder.cleanup()


class SQLiteMachine(Machine):
    """A file."""

    def place(self, folder: Path) -> str:
        return str(folder / "capx.db")


class PostgresMachine(Machine):
    """A database."""

    def place(self, folder: Path) -> str:
        return shared_server().url(shared_server().database())


SQLiteMachine.TestCase.settings = settings(
    max_examples=repeated(60),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
PostgresMachine.TestCase.settings = settings(SQLiteMachine.TestCase.settings, max_examples=repeated(30))
# In full they take some minutes.
TestSQLite = pytest.mark.timeout(1_800)(SQLiteMachine.TestCase)
TestPostgres = pytest.mark.timeout(1_800)(PostgresMachine.TestCase)
