"""Whatever happens, in whatever order: the verifier's answer for every token is that of a model of a page.

The store, the authority, the follower, the meter and the verifier are real; only the clock is the test's own.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from os import urandom
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import UNSET

from capx.authority.authority import Authority
from capx.authority.ending import NOTICED_WITHIN
from capx.authority.restore import restore
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import ConfigurationProblem, InvalidRequest, StoreProblem
from capx.policy.policy import MAX_TTL
from capx.resource.revocations import StoreLiveness
from capx.store.backup import backup
from capx.store.factory import create_store
from capx.store.records import KEPT_BEYOND_TTL
from capx.tokens.binding import WINDOW_BEFORE, ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx_caveats import Budget, Call, Expires, Hop, budget, expires
from tests.labs.counts import repeated
from tests.labs.hostile_reports import claimed, decided, recordable
from tests.labs.lab import Clock
from tests.labs.postgres import shared_server

if TYPE_CHECKING:
    from capx.authority.opening import OpenedTask

ACTION = "crm.read"
DEAD = frozenset({"revoked", "task_completed", "task_withdrawn", "task_expired", "expired"})


@dataclass(frozen=True)
class World:
    """All that the model knows; copied to make a backup of it."""

    ended: dict[str, str] = field(default_factory=dict[str, str])
    """How each task ended that somebody ended."""
    expiry: dict[str, int] = field(default_factory=dict[str, int])
    """When each task runs out."""
    dead: frozenset[str] = frozenset()
    """Nodes, ids and kids that were revoked, as people write them."""
    revoked_until: int = -1
    """All that was issued up to here is dead."""
    spent: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    """What each counter holds."""

    def copy(self) -> "World":
        return replace(self, ended=dict(self.ended), expiry=dict(self.expiry), spent=dict(self.spent))

    def kills(self, token: Capability, now: int) -> bool:
        """Whether it is dead, by its task, what it descends from, or the clock."""
        named = {token.task, token.kid, *map(b64u, token.path), *map(b64u, token.ids)}
        ends = [one.at for block in token.caveats for one in block if isinstance(one, Expires)]
        return (
            token.task in self.ended
            or not self.dead.isdisjoint(named)
            or token.issued_at <= self.revoked_until
            or now >= min(ends)
        )

    def budgets(self, token: Capability) -> Iterator[tuple[str, Decimal]]:
        """The counter and the limit of each budget."""
        hops = 0
        for at, block in enumerate(token.caveats):
            hop = at > 0 and isinstance(block[0], Hop)
            hops += hop
            own = b64u(token.path[hops] if hop else token.ids[at + 1])
            for one in block:
                if isinstance(one, Budget):
                    yield own if one.counter is UNSET else one.counter, Decimal(one.limit)

    def affords(self, token: Capability) -> bool:
        """Whether every budget has room for one call more."""
        return all(self.spent.get(counter, Decimal(0)) + 1 <= limit for counter, limit in self.budgets(token))

    def spend(self, token: Capability) -> None:
        for counter in {counter for counter, _ in self.budgets(token)}:
            self.spent[counter] = self.spent.get(counter, Decimal(0)) + 1


class Machine(RuleBasedStateMachine):
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
        self.authority = Authority(self.store, self.ring, clock=self.clock)
        self.liveness = StoreLiveness(self.store.source(), poll=0)
        self.verifier = self.authority.verifier("crm", liveness=self.liveness)
        self.world = World()
        self.latest = self.now
        self.held: list[Bundle] = []
        self.tasks: dict[str, OpenedTask] = {}
        self.used: list[Capability] = []
        """The tokens of sub-agents of which an honest verifier has recorded a decision."""
        self.saved: tuple[Path, World] | None = None
        self.backups = 0

    @property
    def now(self) -> int:
        return int(self.clock.now)

    def some_bundle(self, data: st.DataObject) -> Bundle:
        return data.draw(st.sampled_from(self.held))

    @rule(limit=st.sampled_from([None, 1, 3]), ttl=st.sampled_from([30, 600]), tenant=st.sampled_from(["A", "B"]))
    def open(self, limit: int | None, ttl: int, tenant: str) -> None:
        budgets = [] if limit is None else [budget("calls", str(limit))]
        if self.ring.active.kid in self.world.dead:
            with pytest.raises(InvalidRequest, match="was revoked"):
                self.authority.open(allow=[ACTION])
            return
        task = self.authority.open(allow=[ACTION], tenant=tenant, expires=f"{ttl}s", caveats=budgets)
        # Opening ends tasks that are overdue.
        self.expire()
        self.world.expiry[task.id] = self.now + ttl
        self.tasks[task.id] = task
        self.held.append(task.bundle)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), limit=st.sampled_from([None, 1, 2]), short=st.booleans(), acts=st.booleans())
    def delegate(self, data: st.DataObject, limit: int | None, short: bool, acts: bool) -> None:
        parent = self.some_bundle(data)
        if len(parent.hops) < 3:
            caveats = [*([] if limit is None else [budget("calls", str(limit))]), *([expires("20s")] if short else [])]
            self.held.append(parent.delegate(to="sub", allow=[ACTION], caveats=caveats, now=self.now))
            if acts:
                self.spend_with(self.held[-1])

    @precondition(lambda self: self.held)
    @rule(data=st.data(), end=st.sampled_from(["completed", "withdrawn"]))
    def end(self, data: st.DataObject, end: str) -> None:
        task = self.some_bundle(data).task
        assert task is not None
        if task not in self.world.expiry:
            return
        ended = self.authority.complete(task) if end == "completed" else self.authority.withdraw(task)
        overdue = self.now >= self.world.expiry[task]
        assert ended.end == self.world.ended.setdefault(task, "expired" if overdue else end)

    def expire(self) -> None:
        for task, ends in self.world.expiry.items():
            if self.now >= ends:
                self.world.ended.setdefault(task, "expired")

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
        revoked = self.authority.revoke(named)
        assert [one.key for one in revoked.killed] == [b64u(key)]
        self.world = replace(self.world, dead=self.world.dead | {b64u(key)})

    @rule(where=st.sampled_from(["A", "B"]))
    def revoke_tenant(self, where: str) -> None:
        revoked = self.authority.revoke(where={"tenant": where})
        self.world = replace(self.world, dead=self.world.dead | {one.key for one in revoked.killed})
        for token in (token for bundle in self.held for token in bundle if token.audience == "crm"):
            task = token.task
            if task in self.world.expiry and self.authority.task(task).tenant == where:
                assert self.world.kills(token, self.now)

    @precondition(lambda self: self.used)
    @rule()
    def revoke_agent(self) -> None:
        revoked = {one.key for one in self.authority.revoke(where={"agent": "sub"}).killed}
        assert revoked.isdisjoint(b64u(token.path[0]) for bundle in self.held for token in bundle)
        self.world = replace(self.world, dead=self.world.dead | revoked)
        # Whatever was reported besides.
        assert all(self.world.kills(token, self.now) for token in self.used)

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

    @precondition(lambda self: self.backups == 2)
    @rule(data=st.data())
    def revoke_kid(self, data: st.DataObject) -> None:
        kid = data.draw(st.sampled_from(self.ring.kids))
        self.authority.revoke(kid=kid)
        self.world = replace(self.world, dead=self.world.dead | {kid})

    @rule(back=st.sampled_from([1, 5, 50]))
    def revoke_instant(self, back: int) -> None:
        self.authority.revoke(issued=self.now - back)
        self.world = replace(self.world, revoked_until=max(self.world.revoked_until, self.now - back))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def spend(self, data: st.DataObject) -> None:
        self.spend_with(self.some_bundle(data))

    def spend_with(self, bundle: Bundle) -> None:
        token = next(iter(bundle))
        call = ToolCall(ACTION, {})
        presented = token.present(call, now=self.now).text
        tenant = self.verifier.explain(token.text, Call(ACTION)).lineage
        decision = self.verifier.decide(presented, call, Call(ACTION, tenant=tenant.tenant if tenant else None))
        may = not self.world.kills(token, self.now) and self.world.affords(token)
        if may and self.now < self.latest and not decision.allowed:
            # What was presented before the clock was set back may have been cleared away.
            assert [refusal.code for refusal in decision.refusals] == ["replayed"]
            return
        assert decision.allowed == may, decision.refusals
        if may:
            self.world.spend(token)
            self.used += [token] if len(token.path) > 1 else []

    @rule(seconds=st.sampled_from([1, 5, 25, 700]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule(hours=st.sampled_from([-26, 26]))
    def set_the_clock(self, hours: int) -> None:
        self.latest = max(self.latest, self.now)
        self.clock.now += hours * 3_600
        # A verifier never goes back in time. So a service notices a clock that was set back when it starts again.
        self.verifier = self.authority.verifier("crm", liveness=self.liveness)

    @rule()
    def prune(self) -> None:
        self.authority.prune()
        self.expire()

    @rule()
    def wait_until_all_is_forgotten(self) -> None:
        self.clock.now += MAX_TTL + KEPT_BEYOND_TTL + 1
        self.authority.prune()
        self.expire()
        self.clock.now += MAX_TTL + KEPT_BEYOND_TTL + 1
        # Forgetting goes by an event that is a day old.
        self.authority.revoke(urandom(16))
        self.clock.now += NOTICED_WITHIN
        self.authority.prune()
        self.world.spent.clear()

    @rule()
    def end_overdue(self) -> None:
        self.authority.end_overdue()
        self.expire()

    @precondition(lambda self: self.backups < 3)
    @rule()
    def back_up(self) -> None:
        self.backups += 1
        path = Path(self.folder.name) / f"backup-{self.backups}.db"
        backup(self.store, path)
        self.saved = path, self.world.copy()

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        assert self.saved is not None
        path, world = self.saved
        known, kids = world.copy(), {kid for kid in self.ring.kids if kid in self.world.dead}
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
        # A key that was revoked stays so; all else that happened since the backup is not known any more.
        self.world = replace(known, revoked_until=max(known.revoked_until, restored.issued), dead=known.dead | kids)
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
            assert codes <= DEAD | {"budget_exhausted"}
            assert bool(codes & DEAD) == self.world.kills(token, self.now), (codes, token)
            # A token that has ended is told nothing else.
            exhausted = not codes & DEAD and not self.world.affords(token)
            assert ("budget_exhausted" in codes) == exhausted, (codes, token)

    def teardown(self) -> None:
        if hasattr(self, "authority"):
            self.authority.check()
            self.liveness.close()
            self.authority.close()
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
