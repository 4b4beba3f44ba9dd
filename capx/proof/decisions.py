"""What each decision in a proof says: which chain it was about, who has signed it, and what of it does not fit.

Laws:

- A resource writes its own decisions, and may write anything. What contradicts public bytes is named, and not believed.
- A disclosure that is of no decision makes the proof broken: the proof itself carries it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any, Final

from msgspec import Struct

from capx.crypto.base64url import unb64u
from capx.crypto.canonical_json import canonical
from capx.proof.approvals import call_approved, caveats_in, documents_in, permits_action
from capx.proof.calls import of_other_arguments, unlawful
from capx.proof.chains import BadChain, Chains, ProvenChain, ProvenPresentation
from capx.proof.document import Disclosed, Proof, ProofBroken
from capx.proof.recorded import LoggedDecision, Recorded
from capx.proof.report import CallApproved, Decided
from capx.proof.trust import Trust
from capx.store.events import TaskOpened
from capx.tokens.approval import Approval
from capx.tokens.binding import WINDOW_AFTER, WINDOW_BEFORE, ToolCall
from capx.tokens.grants import ASK, ASK_APPROVAL
from capx.tokens.lineage import AUTHORITY
from capx.verify.evidence import MAX_ARGS, args_commitment
from capx_caveats import InvalidCaveat, is_action

_MOST_FILLED: Final = 8
"""The most arguments of which the reader tries which of them the agent sent: 256 digests."""


class _Disclosure(Struct, frozen=True):
    """The arguments of a decision, and whether they were compared with what the agent's key has signed.

    `filled` are those that the agent has not sent: the service has filled them in, as defaults.
    """

    args: dict[str, Any] | None = None
    compared: bool = False
    filled: tuple[str, ...] = ()


class DecisionReader:
    """Reads the decisions of a proof one after the other, and collects what does not fit."""

    def __init__(self, proof: Proof, chains: Chains, trust: Trust, opened: TaskOpened, tolerance: int) -> None:
        self._chains = chains
        self._trust = trust
        self._opened = opened
        self._tolerance = tolerance
        self._documents = documents_in(proof.approvals)
        self._disclosed = _by_decision(proof.disclosed)
        self._used_disclosures: set[str] = set()
        self.contradictions: list[str] = []
        self.gaps: list[str] = []
        self.unshown = 0
        """How many approvals came with calls, and what their signers were shown is not in the proof."""

    def read(self, logged: LoggedDecision) -> Decided:
        """Read one decision."""
        recorded = logged.recorded
        chain = self._chains.get(recorded.digest)
        presentation: ProvenPresentation | None = None
        approvals: tuple[CallApproved, ...] = ()
        if chain is not None:
            for why in self._faults(recorded, chain):
                self._tell(recorded, why)
            presentation = self._presentation(recorded, chain)
            approvals = tuple(self._approvals(recorded, chain))
            self.unshown += sum(not one.is_shown for one in approvals)
        elif recorded.digest is not None:
            self._tell(recorded, "is about a chain that no log here shows")
        elif recorded.is_allowed:
            for why in self._bare_faults(recorded):
                self._tell(recorded, why)
        if recorded.action is not None and not is_action(recorded.action):
            self._tell(recorded, "names an action that is none")
        disclosed = self._disclosure(recorded, presentation)
        shows_nobody = presentation is None and (recorded.is_allowed or chain is not None)
        if self._opened.holder is not None and shows_nobody:
            self.gaps.append(f"who made the call of {recorded.name}: somebody else's could stand there")
        return Decided(
            id=recorded.id,
            at=recorded.at,
            outcome=recorded.outcome,
            audience=recorded.audience,
            action=recorded.action,
            agents=recorded.hops if chain is None else chain.lineage.hops,
            node=None if chain is None else chain.path[-1],
            key=None if chain is None or not chain.keys else chain.keys[-1],
            reasons=tuple([str(reason.get("sentence", reason.get("code"))) for reason in recorded.reasons]),
            logs=tuple([one.origin for one in logged.logs]),
            position=logged.logs[0].event.position,
            agent_signed=presentation is not None
            and presentation.is_signed
            and chain is not None
            and not chain.unsigned,
            compared=disclosed.compared,
            stated=recorded.stated,
            approvals=approvals,
            args=disclosed.args,
            filled=disclosed.filled,
            shown_args=recorded.shown_args,
        )

    def demand_all_used(self) -> None:
        """Raise ProofBroken for a document or a disclosure that no decision is about."""
        if self._documents.keys() - {one.stated.shown for one in self._chains.approvals.values()}:
            raise ProofBroken("the proof has what approvers were shown of a call that no decision is about")
        if len(self._used_disclosures) < len(self._disclosed):
            unused = next(one for one in self._disclosed if one not in self._used_disclosures)
            raise ProofBroken(
                f"the arguments that are disclosed for decision {unused!a:.80} are not those of a call here"
            )

    def _tell(self, recorded: Recorded, why: str) -> None:
        self.contradictions.append(f"{recorded.name} {why}")

    def _faults(self, recorded: Recorded, chain: ProvenChain) -> Iterator[str]:
        """What of a decision is not what its chain says: a sentence for each."""
        lineage = chain.lineage
        said = {
            "task": (recorded.task, lineage.task),
            "root": (recorded.root, lineage.root),
            "tenant": (recorded.tenant, lineage.tenant),
            "intent": (recorded.intent, lineage.intent),
            "hops": (recorded.hops, lineage.hops),
            "nonces": (recorded.nonces, lineage.nonces),
            "ids": (recorded.ids, chain.ids),
            "audience": (recorded.audience, chain.identifier.audience),
        }
        for name, (stated, true) in said.items():
            if stated != true:
                yield f"says another {name} than its chain"
        for name in ("task", "root", "tenant", "intent"):
            if getattr(lineage, name) != getattr(self._opened, name):
                yield f"is about a chain that claims another {name} than the task was opened with"
        if self._chains.minted_in(chain) is None:
            yield "is about a chain that does not go on from anything that the authority's log has minted"
        # Of a denied call, too: who is no delegate of anybody is no agent of the task. An honest service that denies
        # such a chain shows none of it.
        for why in chain.unsigned:
            yield f"is about a chain that is not signed as it must be: {why}"
        if recorded.is_allowed:
            yield from unlawful(recorded, chain, self._tolerance)
        elif recorded.key not in {None, *chain.keys[-1:]}:
            yield "names another key than that of its holder"

    def _bare_faults(self, recorded: Recorded) -> Iterator[str]:
        """What of an allowed call without a chain is not what the task was opened with."""
        opened = self._opened
        for name in ("root", "tenant", "intent"):
            if getattr(recorded, name) != getattr(opened, name):
                yield f"was allowed, and says another {name} than the task was opened with"
        if recorded.at >= opened.expires:
            yield "was allowed after the task had expired"

    def _presentation(self, recorded: Recorded, chain: ProvenChain) -> ProvenPresentation | None:
        if recorded.presented is None:
            return None
        try:
            found = ProvenPresentation.read(chain, recorded.presented)
        except BadChain as why:
            self._tell(recorded, f"has a presentation that does not count: {why}")
            return None
        if found.id != recorded.presentation:
            self._tell(recorded, "says another presentation than the one that it shows")
        if not found.is_signed and (recorded.is_allowed or chain.is_keyed):
            self._tell(recorded, "has a presentation that is not signed with the key of its holder")
        away = max(found.at - WINDOW_BEFORE - recorded.at, recorded.at - found.at - WINDOW_AFTER)
        if recorded.is_allowed and away > self._tolerance:
            self._tell(recorded, f"is dated {away} s outside the window of its presentation")
        return found

    def _approvals(self, recorded: Recorded, chain: ProvenChain) -> Iterator[CallApproved]:
        lacking = Counter(one.cid for one in chain.lineage.undischarged)
        for approval in self._read_approvals(recorded):
            if approval is None:
                self._tell(recorded, "names an approval that no log here shows, or that is none")
                continue
            faults = list(self._approval_faults(approval, recorded, chain))
            if lacking[approval.caveat.cid] > 0:
                lacking[approval.caveat.cid] -= not faults
            else:
                faults.append("answers no demand of the chain, or one that another approval answers")
            for why in faults if recorded.is_allowed else ():
                self._tell(recorded, f"was allowed with an approval that does not count: it {why}")
            is_shown = approval.stated.shown in self._documents
            yield call_approved(approval, self._trust, is_shown=is_shown, faults=tuple(faults))
        # Whoever asks for an approval does not have it yet.
        asks = recorded.audience == AUTHORITY and recorded.action in {ASK, ASK_APPROVAL}
        if recorded.is_allowed and not asks and lacking.total() > 0:
            self._tell(recorded, "was allowed without the approvals that its chain demands")

    def _approval_faults(self, approval: Approval, recorded: Recorded, chain: ProvenChain) -> Iterator[str]:
        """Why an approval is none of this call."""
        yield from approval.misfits(chain.lineage, recorded.audience, recorded.at)
        yield from approval.bad_signatures()
        if recorded.action is None or not permits_action(approval, recorded.action):
            yield f"is not for {recorded.action}"
        if recorded.at >= approval.ends:
            yield "had expired"
        document = self._documents.get(approval.stated.shown)
        if document is not None and document.task != recorded.task:
            yield "was asked for in another task"

    def _read_approvals(self, recorded: Recorded) -> Iterable[Approval | None]:
        return (self._chains.approvals.get(one.digest) for one in recorded.approvals)

    def _disclosure(self, recorded: Recorded, presentation: ProvenPresentation | None) -> _Disclosure:
        """The arguments of a decision, if they are disclosed."""
        disclosed = self._disclosed.get(recorded.id)
        # Another resource may have written a decision with the same id.
        if disclosed is None or recorded.args != args_commitment(unb64u(disclosed.salt), canonical(disclosed.args)):
            return _Disclosure()
        self._used_disclosures.add(recorded.id)
        found = self._compared(recorded, disclosed.args, presentation)
        if recorded.is_allowed:
            for why in self._argument_faults(recorded, found):
                self._tell(recorded, why)
        clear = recorded.shown_args or {}
        if not all(name in disclosed.args and _is_same(clear[name], disclosed.args[name]) for name in clear):
            self._tell(recorded, "shows other arguments in the clear than those that it commits to")
        return found

    def _compared(
        self, recorded: Recorded, args: dict[str, Any], presentation: ProvenPresentation | None
    ) -> _Disclosure:
        action = recorded.action
        if presentation is None or presentation.profile != "tool" or action is None or not is_action(action):
            return _Disclosure(args)
        filled = _filled(action, args, presentation.request)
        if filled is not None:
            return _Disclosure(args, compared=True, filled=filled)
        if _may_be_filled(args):
            self._tell(recorded, "was presented for other arguments than those that were decided")
        return _Disclosure(args)

    def _argument_faults(self, recorded: Recorded, disclosed: _Disclosure) -> Iterator[str]:
        """Why a call must not have been allowed with the arguments that are disclosed."""
        args, filled = disclosed.args or {}, disclosed.filled if disclosed.compared else None
        chain = self._chains.get(recorded.digest)
        if chain is not None and of_other_arguments(recorded, chain.lineage.caveats, args, filled):
            yield "was allowed, and its chain does not allow these arguments"
        for approval in self._read_approvals(recorded):
            if approval is not None and of_other_arguments(recorded, caveats_in(approval), args, filled):
                yield "was allowed with an approval of other arguments"


def _filled(action: str, args: dict[str, Any], request: str) -> tuple[str, ...] | None:
    """The arguments that the agent has not sent, if it has sent all others; None if it has signed another call.

    A service judges the arguments with its defaults. The agent signs those that it sends.
    """
    most = len(args) if _may_be_filled(args) else 0
    for count in range(most + 1):
        for left_out in combinations(args, count):
            sent = {name: value for name, value in args.items() if name not in left_out}
            if ToolCall(action, sent).digest() == request:
                return left_out
    return None


def _is_same(stated: Any, true: Any) -> bool:
    """Whether a resource shows this value; what it shows may be no value that JSON between systems can hold."""
    try:
        return canonical(stated) == canonical(true)
    except InvalidCaveat:
        return False


def _may_be_filled(args: dict[str, Any]) -> bool:
    """Whether it is tried which arguments a service has filled in: of few and short ones, so that it takes no time."""
    return len(args) <= _MOST_FILLED and len(canonical(args)) <= MAX_ARGS


def _by_decision(disclosed: Sequence[Disclosed]) -> dict[str, Disclosed]:
    found = {one.decision: one for one in disclosed}
    if len(found) < len(disclosed):
        raise ProofBroken("the arguments of one decision are disclosed twice")
    return found
