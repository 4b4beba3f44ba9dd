"""The authority: where intent becomes authority, and where authority ends.

Laws: it alone holds root keys; the log and the store hold ids, never a token. What it does is durable, and in the log,
before it answers. A task's end and a revocation are deaths: final, known to every verifier that follows the store.
Nothing it mints outlives its task's `expires`, nor that `max_ttl`.
"""

import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from capx.api.messages.outcomes import Ended, Revocation
from capx.authority import intent_use
from capx.authority.ending import end_overdue, end_task, forget_ended
from capx.authority.history import History
from capx.authority.home import create_home, home_folder, open_parts
from capx.authority.in_process import InProcess, present_and_judge
from capx.authority.intent_use import WithdrawnIntent
from capx.authority.opening import (
    OpenedTask,
    as_given,
    demand_label,
    demand_live_key,
    expiry,
    live_tasks_by_kid,
    mint_more,
    open_by_hand,
    open_on_intent,
)
from capx.authority.requests import granting
from capx.authority.requests.consent import apply_verdict
from capx.authority.requests.inheritance import Asker, read_asker
from capx.authority.requests.request_state import expire_requests, outcome
from capx.authority.requests.verdict import Verdict
from capx.authority.revoking import by_instant, by_kid, by_name, by_where, kill_for_agent, revoke, target_id
from capx.crypto.keys import AudienceKeys, KeyRing, RootKey
from capx.errors import InvalidRequest
from capx.intents.intent import Intent, SignedIntent, intent_digest
from capx.policy.policy import MAX_TTL, NO_POLICY, Policy
from capx.resource.replay import Replay
from capx.resource.revocations import StoreLiveness
from capx.store.protocols import Store
from capx.store.records import Pruned, RequestRecord
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.grants import ASK, Grant, demand_audience, demand_restricting
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Answer, Ask
from capx.verify.verifier import Verifier
from capx_caveats import JSON, Appendable, When, parse_instant

if TYPE_CHECKING:
    from capx.guard.call_facts import Costs, Derived, Tenancy

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULT_TTL = "1h"


class Authority(History):
    """The authority over a store and its root keys; safe with several threads, and beside others on the same store.

    `policy` is what it goes by, or gives it whenever it is asked for; `clock` gives Unix seconds; `max_ttl`, in
    seconds, bounds every `expires`.
    """

    def __init__(
        self,
        store: Store,
        keyring: KeyRing,
        *,
        policy: Policy | Callable[[], Policy] = NO_POLICY,
        clock: Callable[[], float] = time.time,
        max_ttl: int = MAX_TTL,
    ) -> None:
        super().__init__(store, clock)
        self.max_ttl = max_ttl
        self._policy = policy
        self._keyring = keyring
        # Without a poll: what ended here is refused here from then on, not a moment later.
        self._liveness = StoreLiveness(store.source(), poll=0)
        self._verifiers: dict[str, Verifier] = {}
        self._handed_out: weakref.WeakSet[AudienceKeys] = weakref.WeakSet()
        self._discard: Callable[[], object] | None = None

    @classmethod
    def create_home(cls, home: Path | str | None = None) -> Self:
        """The authority of a home made now, with a new store and root key; ConfigurationProblem if there is one."""
        return cls.open_home(create_home(home))

    @classmethod
    def open_home(cls, home: Path | str | None = None, **settings: Any) -> Self:
        """The authority that lives in `home`, else in `$CAPX_HOME`, else in `~/.capx`; it goes by the policy there."""
        from capx.policy.file import FILE, PolicyFile

        store, keyring = open_parts(home)
        settings.setdefault("policy", PolicyFile(home_folder(home) / FILE))
        return cls(store, keyring, **settings)

    @classmethod
    def temporary(cls, **settings: Any) -> Self:
        """An authority to try things with: real, in a private folder that goes when it or the process does."""
        import shutil
        import tempfile

        folder = tempfile.mkdtemp(prefix="capx-")
        store = SQLiteStore.create(Path(folder) / "capx.db")
        made = cls(store, KeyRing(RootKey.generate()), **settings)
        made._discard = weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
        return made

    def __repr__(self) -> str:
        return f"Authority({self.store.place!r}, kid={self._keyring.active.kid!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the decisions that wait, and let go of the store."""
        self._recorder.close()
        self._liveness.close()
        self.store.close()
        if self._discard is not None:
            self._discard()

    @property
    def policy(self) -> Policy:
        """What it goes by now; ConfigurationProblem if that cannot be read."""
        return self._policy if isinstance(self._policy, Policy) else self._policy()

    def open(
        self,
        intent: SignedIntent | Intent | None = None,
        *,
        allow: Sequence[Grant] = (),
        tenant: str | None = None,
        expires: When | None = None,
        purpose: str | None = None,
        caveats: Iterable[Appendable] = (),
        attested: str | None = None,
    ) -> OpenedTask:
        """Open a task on what a person asked for, or one that may do what `allow` says.

        What an intent gets, and for how long and for which tenant, its policy says; then `expires` may only be earlier.
        One that is not signed needs `attested`: who checked the principal's login. Without an intent, `allow` names
        each `ACTION[@AUDIENCE]`, or an entry that says more, and the task expires in an hour unless `expires` says
        otherwise. Every capability carries the tenant and the caveats. InvalidRequest for what cannot be meant.
        """
        now = self._now()
        added = demand_restricting(caveats, now)
        if intent is not None:
            if allow or tenant is not None or purpose is not None:
                raise InvalidRequest("an intent says the purpose and the tenant, and its policy what it may do")
            policy = self.policy
            proven = intent_use.prove(policy, intent, attested)
            with self.store.write() as transaction:
                return open_on_intent(
                    transaction,
                    self._keyring,
                    proven,
                    policy,
                    expires=expires,
                    added=added,
                    now=now,
                    max_ttl=self.max_ttl,
                )
        if attested is not None:
            raise InvalidRequest("there is nothing to attest: give the intent too")
        given = as_given(allow)
        demand_label("tenant", tenant)
        demand_label("purpose", purpose)
        ends = expiry(_DEFAULT_TTL if expires is None else expires, now=now, max_ttl=self.max_ttl)
        with self.store.write() as transaction:
            return open_by_hand(
                transaction,
                self._keyring,
                given,
                tenant=tenant,
                purpose=purpose,
                expires=ends,
                added=added,
                now=now,
            )

    def mint(
        self,
        task_id: str,
        *,
        allow: Sequence[Grant],
        expires: When | None = None,
        caveats: Iterable[Appendable] = (),
    ) -> Bundle:
        """More for a task that is active, at its root; InvalidRequest for one that is not."""
        now = self._now()
        given = as_given(allow)
        added = demand_restricting(caveats, now)
        with self.store.write() as transaction:
            return mint_more(
                transaction,
                self._keyring,
                task_id,
                given,
                expires=expires,
                added=added,
                now=now,
                max_ttl=self.max_ttl,
            )

    def ask(
        self, bundle: Bundle, action: str, *, audience: str | None = None, args: Mapping[str, JSON] | None = None
    ) -> Answer:
        """What becomes of an ask of the agent that holds this bundle, as `capx serve` would answer it.

        The audience is the action's first label unless another is named; with `args`, even none, the ask is for these
        alone. Denied if the bundle may not ask for it.
        """
        ask = Ask.of(action, audience=audience, args=args)
        authentic, _ = present_and_judge(
            self._tool_verifier(AUTHORITY), bundle, ToolCall(ASK, ask.arguments()), now=self._now()
        )
        return self.answer_asker(read_asker(authentic), ask)

    def answer_asker(self, asker: Asker, ask: Ask) -> Answer:
        """What becomes of an ask that was presented, and allowed as a call at the authority: for `capx serve`."""
        keyring, policy, now = self._keyring, self.policy, self._now()
        with self.store.read() as reading:
            standing = granting.standing_answer(reading, keyring, policy, asker, ask, now=now)
        if standing is not None:
            return standing
        with self.store.write() as transaction:
            demand_live_key(transaction, keyring)
            return granting.answer(transaction, keyring, policy, asker, ask, now=now)

    def answer(self, verdict: Verdict) -> RequestRecord:
        """The request as a person has answered it; InvalidRequest says why it may not be so.

        They must be one of its approvers, have signed what they were shown, and neither be the principal of the task
        nor one of its agents; the asker must be alive, and the policy still ask for consent.
        """
        policy, now = self.policy, self._now()
        with self.store.write() as transaction:
            decided = apply_verdict(transaction, self._keyring, policy, verdict, now=now)
        if decided.state == "expired":
            raise InvalidRequest(f"request {decided.id} can be answered no more: {outcome(decided)}")
        return decided

    def complete(self, task_id: str, *, dry_run: bool = False) -> Ended:
        """End a task because its work is done; every token of it is dead once this returns."""
        return end_task(self.store, task_id, "complete", now=self._now(), dry_run=dry_run)

    def withdraw(self, task_id: str, *, dry_run: bool = False) -> Ended:
        """End a task because it is no longer wanted; every token of it is dead once this returns."""
        return end_task(self.store, task_id, "withdraw", now=self._now(), dry_run=dry_run)

    def withdraw_intent(self, intent: str | SignedIntent | Intent, *, dry_run: bool = False) -> WithdrawnIntent:
        """Let an intent open nothing any more, known or not, and withdraw its tasks; `intent` may be its digest."""
        digest, now = intent_digest(intent), self._now()
        if dry_run:
            with self.store.read() as reading:
                return intent_use.preview(reading, digest, now=now)
        with self.store.write() as transaction:
            return intent_use.withdraw(transaction, digest, now=now)

    def revoke(
        self,
        target: str | bytes | Bundle | None = None,
        *,
        kid: str | None = None,
        issued: When | None = None,
        where: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Revocation:
        """Kill what is named, and everything below it; exactly one thing is named.

        `target` is a bundle, which stands for its node, the id of a node or capability, as its 16 bytes or as the graph
        shows it, a root id, or a task id, which stands for its root; an id need not have been seen before. `kid` kills
        all that was minted under a root key, `issued` all that was issued in or before that second (an instant; answers
        when the second is over), `where` the live tasks of a `tenant`, `purpose` and `principal`, or in them the nodes
        of an `agent`. InvalidRequest for any other.
        """
        if sum(one is not None for one in (target, kid, issued, where)) != 1:
            raise InvalidRequest(
                "name one thing to revoke: a node, capability, root or task, a kid, an instant, or where"
            )
        now = self._now()
        instant = None if issued is None else parse_instant(issued, now)
        with self.store.read() as reading:
            if target is not None:
                targets = [by_name(reading, target_id(target))]
            elif kid is not None:
                targets = [by_kid(kid)]
            elif instant is not None:
                targets = [by_instant(instant, now)]
            else:
                targets = by_where(reading, where or {}, now)
        revoked = revoke(self.store, targets, now=now, dry_run=dry_run)
        if instant is not None and not dry_run:
            # What is issued from here on is not of that second.
            time.sleep(min(1.0, max(0.0, instant + 1 - self._clock())))
        return revoked

    def revoke_below(self, task_id: str, path: Sequence[bytes], hops: Sequence[str]) -> Revocation:
        """Kill, for an agent, the node that the hop nonces lead to from its own, the end of its path of nodes.

        After 1 000 times its own node dies instead. InvalidRequest for hops that lead nowhere.
        """
        with self.store.write() as transaction:
            return Revocation((kill_for_agent(transaction, task_id, path, hops, now=self._now()),))

    def end_overdue(self, limit: int = 1_000) -> list[Ended]:
        """The ends of tasks whose time ran out and that nobody ended, at most `limit` of them.

        Requests that nobody can answer any more end too, as many at most.
        """
        now = self._now()
        with self.store.write() as transaction:
            ended = end_overdue(transaction, now=now, limit=limit)
            expire_requests(transaction, now=now, limit=limit)
            return ended

    def prune(self) -> Pruned:
        """Forget what protects nothing any more: deaths of what has expired long since, and counters of such tasks.

        What happened while a task may still have a live token is kept, however long tasks live here or elsewhere.
        """
        self.end_overdue()
        with self.store.write() as transaction:
            return forget_ended(transaction, now=self._now(), max_ttl=self.max_ttl)

    def kids(self) -> dict[str, int]:
        """The ids of the live root keys, the one that mints first; each with the live tasks that hold tokens of it."""
        with self.store.read() as reading:
            return live_tasks_by_kid(reading, self._keyring.kids, now=self._now())

    @property
    def keyring(self) -> KeyRing:
        """The root keys."""
        return self._keyring

    def rekey(self, keyring: KeyRing) -> None:
        """Mint and verify with these root keys from now on; the verifiers made here follow."""
        self._keyring = keyring
        for keys in list(self._handed_out):
            keys.become(keyring.audience_keys(keys.audience))

    def export_keys(self, audience: str) -> AudienceKeys:
        """What a resource needs to verify for its own audience and to follow the feed, and nothing else: a secret."""
        return self._keyring.exported(demand_audience(audience))

    def acting_for(self, bundle: Bundle) -> InProcess:
        """This authority, for whoever holds this bundle; it answers as it would over HTTP."""
        return InProcess(self, bundle)

    def own_verifier(self, **settings: Any) -> Verifier:
        """A verifier of the authority itself, for what agents ask of it; `settings` as for `Verifier`."""
        return self._make_verifier(AUTHORITY, settings)

    def verifier(self, audience: str, **settings: Any) -> Verifier:
        """A verifier that follows this store, burns in it and records in it; `settings` as for `Verifier`."""
        return self._make_verifier(demand_audience(audience), settings)

    def tool(
        self,
        action: str,
        *,
        tenant: "Tenancy" = None,
        attributes: "Derived" = None,
        cost: "Costs" = None,
        audience: str | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """A guard for a function of this process, as of `ToolGuard.tool`, with a verifier of this authority."""
        from capx.guard import ToolGuard

        guard = ToolGuard(self._tool_verifier)
        return guard.tool(action, tenant=tenant, attributes=attributes, cost=cost, audience=audience)

    def _tool_verifier(self, audience: str) -> Verifier:
        if audience not in self._verifiers:
            self._verifiers[audience] = self._make_verifier(audience, {})
        return self._verifiers[audience]

    def _make_verifier(self, audience: str, settings: dict[str, Any]) -> Verifier:
        parts: dict[str, Any] = {
            "liveness": self._liveness,
            "replay": Replay.store(self.store),
            "recorder": self._recorder,
            "meter": self.store,
            "clock": self._clock,
        }
        keys = self._keyring.audience_keys(audience)
        self._handed_out.add(keys)
        return Verifier(audience, keys, **(parts | settings))
