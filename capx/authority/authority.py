"""The authority opens tasks, mints and grants capabilities, and ends what it gave.

Laws:

- Only the authority holds root keys. The log and the store hold ids, never a token.
- The authority answers only after its work is durable and in the log.
- The end of a task and a revocation are *deaths*. A death is final, and every verifier that follows the store learns
  of it.
- No token that the authority mints outlives `expires` of its task. No task lives longer than `max_ttl`.
- What is minted rests on rows that bear its mark (capx.authority.row_guard), and only while the store continues what
  it remembers.
- What is written rests on the policy and the time as they are when nobody else can write any more. So after the policy
  was replaced and a revocation has answered, nothing is opened or granted by the old policy.
"""

import contextlib
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from capx.api.messages.outcomes import Ended, Revocation
from capx.authority import agent_keys, intent_use
from capx.authority.archiving import Archived, Archiver
from capx.authority.checkpoints import Checkpoints
from capx.authority.ending import end_overdue, end_task
from capx.authority.history import INDEXED_AT_ONCE, PATIENCE, History
from capx.authority.home import CHECKPOINT, create_home, home_folder, open_parts
from capx.authority.in_process import InProcess, present_and_judge
from capx.authority.intent_use import WithdrawnIntent
from capx.authority.opening import (
    Minting,
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
from capx.authority.proving import disclosed, parts_of_task
from capx.authority.requests import call_approvals, granting
from capx.authority.requests.consent import apply_verdict
from capx.authority.requests.inheritance import Asker, read_asker
from capx.authority.requests.offering import NotOffered
from capx.authority.requests.overdue import OverdueRequests, expire_all
from capx.authority.requests.request_state import outcome
from capx.authority.requests.verdict import Verdict
from capx.authority.revoking import (
    CLOCKS_DIFFER,
    by_instant,
    by_key,
    by_kid,
    by_name,
    by_where,
    demand_forced,
    kill_for_agent,
    last_issue,
    preview,
    preview_where,
    revoke,
    target_id,
)
from capx.authority.row_guard import KeyedRowGuard, check_marks
from capx.authority.statements import Statements
from capx.crypto.instants import ttl, when
from capx.crypto.keys import AudienceKeys, KeyRing, RootKey
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.intents.intent import Intent, SignedIntent, intent_digest
from capx.ledger.archive import Archive
from capx.policy.policy import MAX_TTL, NO_POLICY, Policy
from capx.proof.document import Disclosed, PartsOfTask
from capx.resource.replay import Replay
from capx.resource.revocations import StoreLiveness
from capx.store.check import check_store
from capx.store.continuity import StateLost
from capx.store.decision_index import check_index
from capx.store.events import By
from capx.store.log import Place
from capx.store.protocols import Store, Writing
from capx.store.records import CheckpointRecord, Head, Pruned, RequestRecord
from capx.store.row_check import check_rows
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.discharge import Discharge
from capx.tokens.grants import Grant, audience_of, demand_audience, demand_restricting
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Answer, Ask
from capx.verify.verifier import Verifier
from capx_caveats import JSON, Appendable, When

if TYPE_CHECKING:
    from capx.guard.call_facts import Costs, Derived, Tenancy

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULT_TTL = "1h"
NOW: Final = "now"
"""The text for `issued` that means: everything that was issued so far."""


class Authority(History):
    """An authority over a store and its root keys. Several threads may use it, and several may use the same store.

    KeyProblem if the keys are those of another authority than the store.

    `policy` is a policy, or a function that returns the policy and is called before each use. `clock` returns Unix
    seconds. `max_ttl`, in seconds, bounds every `expires`. `checkpoint` is the file in which the last checkpoint of the
    log stands; it belongs beside the root keys.
    """

    def __init__(
        self,
        store: Store,
        keyring: KeyRing,
        *,
        policy: Policy | Callable[[], Policy] = NO_POLICY,
        clock: Callable[[], float] = time.time,
        max_ttl: int = MAX_TTL,
        checkpoint: Path | None = None,
    ) -> None:
        super().__init__(store, clock)
        self._checkpoint = checkpoint
        self.max_ttl = ttl("max_ttl", max_ttl, ConfigurationProblem)
        self._policy = policy
        # Another authority's store does not know what was revoked under these keys.
        self._id = store.authority()
        self._keyring = keyring.of(self._id)
        # poll=0 reads the store at every check, so the verifiers made here deny a token as soon as its task has ended.
        self._liveness = StoreLiveness(store.source(), poll=0)
        # The head that this authority has left: its memory of deaths is of a look before that.
        self._reached: Head | None = None
        self._verifiers: dict[str, Verifier] = {}
        self.statements = Statements(self.store, lambda: self._keyring, lambda: self.policy, self.verifier)
        """Statements for third parties that hold no key."""
        # Weak, so that `rekey` does not keep verifiers that nobody uses any more.
        self._handed_out: weakref.WeakSet[AudienceKeys] = weakref.WeakSet()
        self._overdue = OverdueRequests()
        self._discard: Callable[[], object] | None = None

    @classmethod
    def create_home(cls, home: Path | str | None = None) -> Self:
        """Create a home with a new store and root key; ConfigurationProblem if the home exists already."""
        return cls.open_home(create_home(home))

    @classmethod
    def open_home(cls, home: Path | str | None = None, **settings: Any) -> Self:
        """Open the authority in `home`, else in `$CAPX_HOME`, else in `~/.capx`. It uses the policy of that folder."""
        from capx.policy.file import FILE, PolicyFile

        store, keyring = open_parts(home)
        settings.setdefault("policy", PolicyFile(home_folder(home) / FILE))
        settings.setdefault("checkpoint", home_folder(home) / CHECKPOINT)
        try:
            return cls(store, keyring, **settings)
        except BaseException:
            store.close()
            raise

    @classmethod
    def temporary(cls, **settings: Any) -> Self:
        """Create an authority for experiments and tests: a real one, in a private folder.

        The folder is removed when the authority is closed or the process ends.
        """
        import shutil
        import tempfile

        folder = tempfile.mkdtemp(prefix="capx-")
        store = SQLiteStore.create(Path(folder) / "capx.db")
        settings.setdefault("checkpoint", Path(folder) / CHECKPOINT)
        made = cls(store, KeyRing(RootKey.generate()), **settings)
        # Bound to the store, so the folder also goes when the program forgets the authority without closing it.
        made._discard = weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
        return made

    def __repr__(self) -> str:
        return f"Authority({self.store.place!r}, kid={self._keyring.active.kid!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the decisions that wait, and close the store."""
        # The recorder first: it still has decisions to write into the store.
        self._recorder.close()
        self._liveness.close()
        self.store.close()
        if self._discard is not None:
            self._discard()

    @property
    def policy(self) -> Policy:
        """The policy as it is now; ConfigurationProblem if the policy file cannot be used."""
        return self._policy if isinstance(self._policy, Policy) else self._policy()

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints of the log, after writing the decisions of this process that wait."""
        self.flush(PATIENCE)
        return Checkpoints(self.store, lambda: self._keyring, file=self._checkpoint, clock=self._now)

    def sign_checkpoint(self) -> CheckpointRecord:
        """Sign the log as it is now, and return the checkpoint."""
        return self.checkpoints.make()

    def sign_extract(self, message: bytes) -> bytes:
        """Sign an extract of the log, for a proof (capx.proof); `message` has 32 bytes, the signature 64."""
        return self._keyring.log_signers()[0].sign(message)

    def proof_parts(self, task: str) -> PartsOfTask:
        """What people have signed in a task, and agents asked for, for a proof; UnknownTask if there is none."""
        with self.store.read() as reading:
            return parts_of_task(reading, task)

    def disclosure(self, decision: str, args: Mapping[str, Any], *, archive: Archive | None = None) -> Disclosed:
        """The arguments of a recorded decision with their salt, for a proof.

        InvalidRequest if it did not commit to these arguments, or the key of its audience is gone.
        """
        self.flush(PATIENCE)
        with self.store.read() as reading:
            return disclosed(reading, self._keyring, decision, args, archive)

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
        agent_key: str | None = None,
        by: By | None = None,
    ) -> OpenedTask:
        """Open a task on the intent of a person, or by hand with what `allow` lists.

        With an intent, the policy decides what the task may do, for which tenant and for how long. `expires` may then
        only make it shorter. An intent without a signature needs `attested`: the name of who checked the login of the
        principal.

        Without an intent, `allow` lists what the task may do: each item is `ACTION[@AUDIENCE]`, or an entry with more
        restrictions. The task then expires in an hour, unless `expires` says otherwise.

        Every capability carries the tenant and the caveats. `agent_key` is the public key (`ed25519:` and 43
        characters) of the first agent: without its secret half nobody can use the tokens. If the intent names a key, it
        must be that one.

        InvalidRequest if the arguments contradict each other, the policy does not accept the intent, or the key was
        revoked or is that of a person in the policy. `by` is the person who has proven the request over the network.
        """
        caveats = tuple(caveats)
        demand_restricting(caveats, self._now())
        if intent is not None:
            if allow or tenant is not None or purpose is not None:
                raise InvalidRequest(
                    "the intent names purpose and tenant, and the policy says what it may do: leave out allow, tenant "
                    "and purpose"
                )
            before = self.policy
            # Outside the transaction: it needs no store, and so a bad signature never holds the write lock.
            proven = intent_use.prove(before, intent, attested)
            holder = self._agreed(proven.intent, agent_key)
            with self._minting(caveats) as minting:
                policy = self.policy
                if policy is not before:
                    proven = intent_use.prove(policy, intent, attested)
                return open_on_intent(minting, proven, policy, expires=expires, holder=holder, by=by)
        if attested is not None:
            raise InvalidRequest("`attested` goes with an intent that has no signature: pass that intent too")
        given = as_given(allow)
        demand_label("tenant", tenant)
        demand_label("purpose", purpose)
        holder = self._agreed(None, agent_key)
        with self._minting(caveats) as minting:
            ends = expiry(_DEFAULT_TTL if expires is None else expires, now=minting.now, max_ttl=self.max_ttl)
            return open_by_hand(minting, given, tenant=tenant, purpose=purpose, expires=ends, holder=holder)

    def mint(
        self,
        task_id: str,
        *,
        allow: Sequence[Grant],
        expires: When | None = None,
        caveats: Iterable[Appendable] = (),
    ) -> Bundle:
        """Mint more capabilities for the first agent of a task; InvalidRequest if the task is not active."""
        given = as_given(allow)
        with self._minting(tuple(caveats)) as minting:
            return mint_more(minting, task_id, given, expires=expires)

    def ask(
        self,
        bundle: Bundle,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        demand: str | None = None,
    ) -> Answer:
        """Answer the ask of the agent that holds this bundle, as `capx serve` would.

        Without `audience`, the audience is the first label of the action. `args` are the arguments of the call: a grant
        is pinned to them, or to those that the policy lists. `{}` means a call without arguments. With `demand`, the
        cid of a demand of the token, it asks people to approve this one call. Denied if the bundle may not ask at all.
        """
        return self.answer_holder(bundle, Ask.of(action, audience=audience, args=args, demand=demand))

    def answer_holder(self, bundle: Bundle, ask: Ask) -> Answer:
        """`ask`, for an ask that was made already."""
        authentic, _ = present_and_judge(
            self._tool_verifier(AUTHORITY), bundle, ToolCall(ask.own_action, ask.arguments()), now=self._now()
        )
        return self.answer_asker(read_asker(authentic, ask), ask)

    def answer_asker(self, asker: Asker, ask: Ask, *, waiting: granting.Waiting | None = None) -> Answer:
        """Answer an ask whose presentation was already allowed as a call at the authority: for `capx serve`.

        `waiting` is what an agent waits for that was woken: it presented its ask once, so nothing else is written.
        """
        # Agents that wait ask again and again, and others ask for what they cannot get. A read does not queue behind
        # writers, and no writer waits for it.
        guard = KeyedRowGuard(self._keyring, self._liveness)
        found: Answer | granting.Grantable | None
        room = granting if ask.demand is None else call_approvals
        try:
            with self.store.read(guard) as reading:
                guard.demand_continues(reading.head(), self._reached)
                found = room.decide(reading, self._keyring, self.policy, asker, ask, now=self._now())
        except NotOffered as refused:
            # Nothing is read here, so that nobody waits for it.
            with self.store.write(durable=False) as transaction:
                return granting.refuse(transaction, asker, ask, refused, now=self._now())
        except StateLost:
            # Another thread may have gone on since the read began. A transaction that writes knows.
            found = None
        if found is not None and not isinstance(found, granting.Grantable):
            return found
        if waiting is not None and (found is None or not waiting.is_for(found)):
            return waiting.pending
        with self._writing(guard) as (transaction, now):
            # In the transaction that mints: a revocation of the key either comes before, and is seen, or after.
            demand_live_key(transaction, self._keyring)
            if ask.demand is not None:
                return call_approvals.answer(transaction, self._keyring, self.policy, asker, ask, now=now)
            return granting.answer(
                transaction, self._keyring, self.policy, asker, ask, now=now, before=found, waiting=waiting
            )

    def statement(
        self,
        bundle: Bundle,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        request: HttpRequest | None = None,
    ) -> str:
        """State that the holder of this bundle may make one call, for a third party that holds no key: a JWT.

        Without `audience`, the audience is the first label of the action. `request` is the HTTP request that will carry
        the statement, if there is one. The call is judged, spent and recorded here. Denied if it is not allowed,
        InvalidRequest if the policy has no `[statement]` for the audience.
        """
        meant = audience_of(action) if audience is None else audience
        return self.state_for_holder(bundle, meant, ToolCall(action, args or {}), request)

    def state_for_holder(self, bundle: Bundle, audience: str, call: ToolCall, request: HttpRequest | None) -> str:
        """`statement`, for a call that was made already."""
        verifier = self.statements.verifier(audience)
        authentic = verifier.authenticate(bundle.present(audience, call, now=self._now()).text)
        return self.statements.make(authentic, call, None if request is None else request.digest())

    def approve(self, request_id: str, discharge: Discharge | str) -> RequestRecord:
        """Keep what a person has signed on a request for an approval, and return the request.

        It is `granted` when as many people have signed as the demand wants. InvalidRequest if it does not count: it is
        for another call, has expired, or is not signed with a key that the demand names and the policy knows.
        """
        text = discharge if isinstance(discharge, str) else discharge.text
        # Once before others wait for it: a file that has changed takes long to read.
        _ = self.policy
        with self._writing(KeyedRowGuard(self._keyring, self._liveness)) as (transaction, now):
            kept = call_approvals.apply_approval(transaction, self.policy, request_id, text, now=now)
        if kept.state == "expired":
            raise InvalidRequest(f"request {kept.id} can no longer be answered: {outcome(kept)}")
        return kept

    def answer(self, verdict: Verdict) -> RequestRecord:
        """Apply the answer of a person to a request, and return the request.

        InvalidRequest if the answer does not count. The person must be one of the approvers and must have signed what
        the request shows. To consent, the person must also not be the principal of the task, nor share a name with one
        of its agents; the asker must be alive; and the policy must still ask for this consent.
        """
        # Once before others wait for it: a file that has changed takes long to read.
        _ = self.policy
        with self._writing(KeyedRowGuard(self._keyring, self._liveness)) as (transaction, now):
            decided = apply_verdict(transaction, self._keyring, self.policy, verdict, now=now)
        # Raised after the transaction, which has to keep the record that the request is expired.
        if decided.state == "expired":
            raise InvalidRequest(f"request {decided.id} can no longer be answered: {outcome(decided)}")
        return decided

    def complete(self, task_id: str, *, dry_run: bool = False) -> Ended:
        """End a task because its work is done. All its tokens are dead when this returns."""
        return end_task(self.store, task_id, "complete", clock=self._now, dry_run=dry_run)

    def withdraw(self, task_id: str, *, dry_run: bool = False, by: By | None = None) -> Ended:
        """End a task because nobody wants it any more. All its tokens are dead when this returns.

        `by` is the person who has proven the request over the network.
        """
        return end_task(self.store, task_id, "withdraw", clock=self._now, dry_run=dry_run, by=by)

    def withdraw_intent(
        self, intent: str | SignedIntent | Intent, *, dry_run: bool = False, by: By | None = None
    ) -> WithdrawnIntent:
        """Withdraw an intent and its tasks. The intent never opens a task again.

        `intent` may be its digest. The authority need not have seen the intent before. `by` is the person who has
        proven the request over the network.
        """
        digest = intent_digest(intent)
        if dry_run:
            with self.store.read() as reading:
                return intent_use.preview(reading, digest, now=self._now())
        with self._writing(KeyedRowGuard(self._keyring)) as (transaction, now):
            return intent_use.withdraw(transaction, digest, now=now, by=by)

    def revoke(
        self,
        target: str | bytes | Bundle | None = None,
        *,
        kid: str | None = None,
        issued: When | None = None,
        where: Mapping[str, str] | None = None,
        key: str | None = None,
        dry_run: bool = False,
        force: bool = False,
        by: By | None = None,
    ) -> Revocation:
        """Revoke one thing, and everything below it.

        Give exactly one of these:

        - `target`: a bundle (its node is revoked), the id of a node or capability (16 bytes, or text as the graph shows
          it), a root id, or a task id (its root is revoked). The authority need not have seen the id before.
        - `kid`: everything that was minted under this root key.
        - `issued`: everything that was issued in or before that second. Returns when that second is over. It may be
          `"now"`, and then also reaches what was issued while a clock was ahead, as far as the log shows it. If that is
          more than 10 seconds ahead, `force` is needed: until that second is over, all that is issued is dead, and
          nothing can undo that.
        - `key`: everything that an agent's public key (`ed25519:` and 43 characters) holds or has delegated, in every
          task, and for ever: this authority names the key in nothing any more. It need not have seen the key before. A
          dry run shows the tasks that were opened for the key and the grants to it or below it; which agents have named
          it in a delegation, nobody but these agents knows.
        - `where`: the live tasks of a `tenant`, `purpose` and `principal`, or the nodes of an `agent` in these tasks.

        `by` is the person who has proven the request over the network. InvalidRequest for anything else.
        """
        if sum(one is not None for one in (target, kid, issued, where, key)) != 1:
            raise InvalidRequest(
                "give exactly one thing to revoke: a node, capability, root or task, a kid, an instant, a key, or where"
            )
        if dry_run or (where is not None and "agent" in where):
            # What this process has seen of agents may still wait to be written.
            self.flush(PATIENCE)
        now = self._now()
        instant = None
        with self.store.read() as reading:
            seen = reading.head().position
            if issued is not None:
                instant = last_issue(reading, now) if issued == NOW else when("issued", issued, now)
            if target is not None:
                targets = [by_name(reading, target_id(target))]
            elif kid is not None:
                targets = [by_kid(kid)]
            elif key is not None:
                targets = [by_key(key)]
            elif instant is not None:
                targets = [by_instant(instant, now if instant <= now else last_issue(reading, now))]
                if not (force or dry_run):
                    demand_forced(instant, now)
            else:
                targets = [] if dry_run else by_where(reading, where or {}, now)
        if dry_run:
            with self.store.read() as reading:
                return preview(reading, targets, now=now) if where is None else preview_where(reading, where, now=now)
        with self._writing() as (transaction, now):
            if where is not None:
                # What was opened since the look above. After the answer nothing may be left of what matches.
                targets += by_where(transaction, where, now, after=seen)
            revoked = revoke(transaction, targets, now=now, by=by)
        if instant is not None and instant <= now + CLOCKS_DIFFER:
            # A token that is minted before that second is over would be dead too: return when it is over.
            time.sleep(max(0.0, min(instant + 1 - now, instant + 1 - self._clock())))
        return revoked

    def revoke_below(self, task_id: str, path: Sequence[bytes], hops: Sequence[str]) -> Revocation:
        """Revoke, for an agent, a node below its own.

        `path` holds the nodes from the root to the agent. `hops` holds the nonces of the hops from there to the node.
        After 1 000 revocations the agent's own node is revoked instead. InvalidRequest for hops that cannot exist.
        """
        with self._writing() as (transaction, now):
            return Revocation((kill_for_agent(transaction, task_id, path, hops, now=now),))

    def end_overdue(self, limit: int = 1_000) -> list[Ended]:
        """End the tasks whose time has run out, at most `limit` of them, and return these ends.

        Requests that nobody can answer any more end too.
        """
        with self._writing() as (transaction, now):
            ended = end_overdue(transaction, now=now, limit=limit)
            # What resources have recorded.
            transaction.index_blocks(INDEXED_AT_ONCE)
        with self.store.read() as reading:
            over, head = self._overdue.find(reading, self._now())
        expire_all(over, lambda: self._writing(KeyedRowGuard(self._keyring)))
        self._overdue.seen(head)
        return ended

    def prune(self) -> Pruned:
        """Delete deaths, counters, payments and requests of tasks that expired so long ago that no token can be alive.

        It first ends all tasks whose time has run out. The store keeps everything that happened after the opening of
        the oldest task that may still have a live token. So it does not matter how long tasks last, here or at another
        authority on the same store. A clock that is wrong forgets nothing if it is set right within a day. An agent's
        key whose death would be forgotten is revoked anew.
        """
        while self.end_overdue():
            pass
        with self._writing() as (transaction, now):
            return agent_keys.forget(transaction, now=now, max_ttl=self.max_ttl)

    def archive(
        self, folder: Path, *, older_than: int = 30 * 86_400, progress: Callable[[int], object] | None = None
    ) -> Archived:
        """Move decisions older than `older_than` seconds out of the store, into files in a folder.

        The files have all events of that part of the log, and are signed as the log is. What happened since the oldest
        task was opened that may still have a live token stays. You may kill it at any time: run it again with the same
        folder. It ends overdue tasks and makes a checkpoint first. `progress` gets each position that was reached.
        InvalidRequest if the folder lacks what was archived before; StoreProblem if a file cannot be written, or does
        not fit the log.
        """
        while self.end_overdue():
            pass
        self._index_all()
        self.checkpoints.make()
        archiver = Archiver(self.store, self._keyring, folder, clock=self._now, progress=progress)
        return archiver.run(before=self._now() - ttl("older_than", older_than))

    def _index_all(self) -> None:
        """Put all full blocks of the log into the index of decisions, in transactions that nobody waits for long."""
        before = -1
        while True:
            with self.store.write(durable=False) as transaction:
                transaction.index_blocks(INDEXED_AT_ONCE)
                indexed = transaction.indexed_blocks()
            if indexed == before:
                return
            before = indexed

    def kids(self) -> dict[str, int]:
        """The ids of the live root keys, the active one first, each with the number of live tasks that use it."""
        with self.store.read() as reading:
            return live_tasks_by_kid(reading, self._keyring.kids, now=self._now())

    def check(self) -> Place:
        """Check the hash chain of the whole log, and that an event explains every death and every row that has a mark.

        It also checks these marks with the root keys. Returns the end of the log. BrokenLog names the first position
        that is wrong. StoreProblem describes any other fault.
        """
        with self.store.read() as reading:
            place = check_store(reading)
            check_index(reading)
            check_rows(reading)
            check_marks(reading, self._keyring)
            return place

    @property
    def id(self) -> str:
        """The id of this authority: 16 bytes in base64url. Its keys, its feed and its store name it."""
        return self._id

    @property
    def keyring(self) -> KeyRing:
        """The root keys."""
        return self._keyring

    def rekey(self, keyring: KeyRing) -> None:
        """Use these root keys from now on, also in the verifiers that this authority has made.

        KeyProblem if they are those of another authority.
        """
        keyring = self._keyring = keyring.of(self._id)
        # A copy of the set, because another thread may make a verifier meanwhile.
        for keys in list(self._handed_out):
            keys.become(keyring.audience_keys(keys.audience))

    def export_keys(self, audience: str, *, seal_to: str | None = None) -> AudienceKeys:
        """The keys for one audience: a secret. With them a resource can verify its own tokens and follow the feed.

        Give as `seal_to` the public key that you seal them to, if you do: InvalidRequest if it was revoked.
        InvalidRequest also for an audience of `[statement]` in the policy: its key stays here.
        """
        if audience in self.policy.statements:
            raise InvalidRequest(
                f"the policy has a [statement] for {audience}, so its key is never exported: {audience} verifies "
                "statements with public keys, which capx keys jwks prints"
            )
        keys = self._keyring.exported(demand_audience(audience))
        if seal_to is not None:
            with self.store.read() as reading:
                agent_keys.demand_living(reading, seal_to)
        return keys

    def acting_for(self, bundle: Bundle) -> InProcess:
        """This authority, for the agent that holds this bundle. It answers as it would over HTTP."""
        return InProcess(self, bundle)

    def own_verifier(self, **settings: Any) -> Verifier:
        """A verifier for calls to the authority itself; `settings` as for `Verifier`."""
        return self._make_verifier(AUTHORITY, settings)

    def verifier(self, audience: str, **settings: Any) -> Verifier:
        """A verifier for this audience that uses this store for revocations, replay, budgets and decisions.

        `settings` as for `Verifier`.
        """
        return self._make_verifier(demand_audience(audience), settings)

    def tool(
        self,
        action: str,
        *,
        tenant: "Tenancy" = None,
        attributes: "Derived" = None,
        cost: "Costs" = None,
        audience: str | None = None,
        injected: Iterable[str] = (),
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorate a function as `ToolGuard.tool` does, with a verifier of this authority."""
        from capx.guard import ToolGuard

        guard = ToolGuard(self._tool_verifier)
        return guard.tool(action, tenant=tenant, attributes=attributes, cost=cost, audience=audience, injected=injected)

    def _agreed(self, intent: Intent | None, agent_key: str | None) -> str | None:
        """The key that a task on this intent, or on none, names; InvalidRequest for the key of a person."""
        holder = agent_keys.agreed(intent, agent_key)
        if holder is not None:
            agent_keys.demand_no_persons(self.policy, holder)
        return holder

    @contextlib.contextmanager
    def _writing(self, guard: KeyedRowGuard | None = None) -> Generator[tuple[Writing, int]]:
        """A writing transaction, and the time (Unix seconds) once nobody else can write.

        Without a row guard nothing may be minted in it.
        """
        with self.store.write(guard=guard) as transaction:
            if guard is not None:
                guard.demand_continues(transaction.head(), self._reached)
            # Not before: the wait for other writers can take seconds.
            yield transaction, self._now()
            reached = transaction.head()
        self._reached = reached

    @contextlib.contextmanager
    def _minting(self, caveats: tuple[Appendable, ...]) -> Generator[Minting]:
        """A writing transaction that mints capabilities with these caveats, whose durations count from its time."""
        keyring = self._keyring
        with self._writing(KeyedRowGuard(keyring, self._liveness)) as (transaction, now):
            yield Minting(transaction, keyring, demand_restricting(caveats, now), now, self.max_ttl)

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
        # `rekey` reaches the verifiers through these keys.
        keys = self._keyring.audience_keys(audience)
        self._handed_out.add(keys)
        return Verifier(audience, keys, **(parts | settings))
