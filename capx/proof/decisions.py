"""The decisions in a proof: which chain each was about, who has signed it, and what of it does not fit.

Laws:

- A resource writes its own decisions, and may write anything. What contradicts public bytes is told, and not believed.
- A part that is refused makes the proof broken only if a signature or a digest is wrong that the proof itself carries.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from capx.crypto.base64url import b64u, unb64u
from capx.crypto.canonical_json import canonical
from capx.crypto.ed25519 import public_text
from capx.errors import InvalidRequest, MalformedToken
from capx.proof.chains import BadChain, ProvenChain, ProvenPresentation
from capx.proof.document import Disclosed, Proof, ProofBroken
from capx.proof.report import CallApproved, Decided
from capx.proof.sources import CheckedSource
from capx.proof.trust import Trust
from capx.store.events import CapabilityMinted
from capx.store.log import Event
from capx.tokens.approval import Approval, read_approval
from capx.tokens.approval_caveat import read_approval_caveat
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.binding import ToolCall
from capx.tokens.chain_text import BlockText, ChainText, read_block
from capx.tokens.grants import ASK, ASK_APPROVAL
from capx.tokens.lineage import AUTHORITY
from capx.verify.evidence import ApprovalText, args_commitment
from capx_caveats import CALLS, DEFAULT, Allow, Call, Facts, InvalidCaveat

DECISION: Final = "decision"


class Recorded(Struct, frozen=True, kw_only=True):
    """A decision as a resource has recorded it."""

    id: str
    at: int
    outcome: str
    audience: str
    action: str | None = None
    task: str | None = None
    tenant: str | None = None
    intent: str | None = None
    root: str | None = None
    hops: tuple[str, ...] = ()
    nonces: tuple[str, ...] = ()
    key: str | None = None
    ids: tuple[str, ...] = ()
    presentation: str | None = None
    args: str | None = None
    shown_args: dict[str, Any] | None = None
    digest: str | None = None
    chain: ChainText | None = None
    presented: BlockText | None = None
    approvals: tuple[ApprovalText, ...] = ()
    reasons: tuple[dict[str, Any], ...] = ()


class InLog(Struct, frozen=True):
    """A decision in one log; `recorded` is None if nobody can read it."""

    origin: str
    is_authority: bool
    event: Event
    recorded: Recorded | None


class Chains:
    """All chains and approvals in the sources, by their digests."""

    def __init__(self, sources: Sequence[CheckedSource]) -> None:
        self.minted: dict[str, CapabilityMinted] = {}
        self.chains: dict[str, ProvenChain] = {}
        self.approvals: dict[str, ApprovalText] = {}
        self.problems: list[str] = []
        for source in sources:
            for event in source.events:
                if event.kind == CapabilityMinted.kind and source.is_authority:
                    minted = event.read(CapabilityMinted)
                    self._take(minted.chain, minted.digest, f"event {event.position} of {source.origin}")
                    if minted.digest is not None:
                        self.minted[minted.digest] = minted
                elif event.kind == DECISION and (read := event.read_if(Recorded)) is not None:
                    self._take(read.chain, read.digest, f"decision {read.id} of {read.audience}")
                    for one in read.approvals:
                        if one.cid is not None:
                            self.approvals.setdefault(one.digest, one)

    def _take(self, text: ChainText | None, stated: str | None, where: str) -> None:
        if text is None:
            return
        try:
            chain = ProvenChain.read(text)
        except BadChain as why:
            self.problems.append(f"{where} has a chain that is none: {why}")
            return
        digest = b64u(chain.digest)
        if digest != stated:
            self.problems.append(f"{where} has a chain whose digest is another one than it says")
            return
        self.chains.setdefault(digest, chain)

    def minted_in(self, chain: ProvenChain) -> CapabilityMinted | None:
        """The minting that a chain goes on from; None if the authority's log has none."""
        return next((self.minted[text] for each in chain.digests if (text := b64u(each)) in self.minted), None)


def decisions_in(sources: Sequence[CheckedSource]) -> Iterator[InLog]:
    """Every decision in the sources."""
    for source in sources:
        for event in source.events:
            if event.kind == DECISION:
                yield InLog(source.origin, source.is_authority, event, event.read_if(Recorded))


class DecisionReader:
    """Reads the decisions of a proof one after the other, and collects what does not fit."""

    def __init__(self, proof: Proof, chains: Chains, trust: Trust, claims: Mapping[str, str | None]) -> None:
        self._chains = chains
        self._trust = trust
        # What the event that opened the task says: task, root, tenant, intent, holder.
        self._claims = claims
        self._documents = _documents(proof)
        self._disclosed = _by_decision(proof)
        self.used_documents: set[str] = set()
        self.used_disclosures: set[str] = set()
        self.contradictions: list[str] = []
        self.unshown = 0

    def read(self, found: Sequence[InLog]) -> Decided:
        """Read one decision, which all these logs have; ProofBroken for a disclosure that is not its own."""
        first, recorded = found[0], found[0].recorded
        if recorded is None:
            raise ValueError("this decision cannot be read")
        chain = None if recorded.digest is None else self._chains.chains.get(recorded.digest)
        signed = False
        approvals: tuple[CallApproved, ...] = ()
        if chain is not None:
            for why in self._misfits(recorded, chain):
                self._tell(recorded, why)
            presentation = self._presentation(recorded, chain)
            signed = presentation is not None and presentation.is_signed and not chain.unsigned
            approvals = tuple(self._approvals(recorded, chain))
            self.unshown += sum(not one.is_shown for one in approvals)
        else:
            presentation = None
            if recorded.digest is not None:
                self._tell(recorded, "is about a chain that no log here shows")
        args = self._args(recorded, presentation)
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
            logs=tuple([one.origin for one in found]),
            position=first.event.position,
            agent_signed=signed,
            approvals=approvals,
            args=args,
            shown_args=recorded.shown_args,
        )

    def _tell(self, recorded: Recorded, why: str) -> None:
        self.contradictions.append(f"decision {recorded.id} of {recorded.audience} {why}")

    def _misfits(self, recorded: Recorded, chain: ProvenChain) -> Iterator[str]:
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
            if getattr(lineage, name) != self._claims[name]:
                yield f"is about a chain that claims another {name} than the task was opened with"
        if self._chains.minted_in(chain) is None:
            yield "is about a chain that does not go on from anything that the authority's log has minted"
        if recorded.outcome == "allowed":
            yield from self._unlawful(recorded, chain)

    def _unlawful(self, recorded: Recorded, chain: ProvenChain) -> Iterator[str]:
        for why in chain.unsigned:
            yield f"was allowed, and its chain is not signed as it must be: {why}"
        if recorded.action is not None and not chain.permits(recorded.action):
            yield f"was allowed, and its chain has no entry for {recorded.action}"
        if recorded.at >= chain.lineage.expires:
            yield "was allowed after its chain had expired"
        for refusal in chain.lineage.standing:
            yield f"was allowed, and its chain {refusal.sentence}"
        if chain.is_keyed and recorded.key != chain.keys[-1]:
            yield "was allowed, and does not name the key of its holder"
        asks = recorded.audience == AUTHORITY and recorded.action in {ASK, ASK_APPROVAL}
        if not asks and len(recorded.approvals) < len(chain.lineage.undischarged):
            yield "was allowed without the approvals that its chain demands"

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
        if not found.is_signed and recorded.outcome == "allowed":
            self._tell(recorded, "was allowed, and its presentation is not signed with the key of its holder")
        return found

    def _approvals(self, recorded: Recorded, chain: ProvenChain) -> Iterator[CallApproved]:
        demanded = [one.cid for one in chain.lineage.undischarged]
        for one in recorded.approvals:
            text = self._chains.approvals.get(one.digest)
            approval = None if text is None else _approval(text)
            if approval is None:
                self._tell(recorded, "names an approval that no log here shows, or that is none")
                continue
            if approval.caveat.cid not in demanded:
                self._tell(recorded, "has an approval that its chain does not demand")
            for why in (*approval.misfits(chain.lineage, recorded.audience, recorded.at), *approval.bad_signatures()):
                self._tell(recorded, f"has an approval that does not count: it {why}")
            if recorded.outcome == "allowed" and recorded.at >= approval.ends:
                self._tell(recorded, "was allowed after its approval had expired")
            yield self._approved(recorded, one.digest, approval)

    def _approved(self, recorded: Recorded, digest: str, approval: Approval) -> CallApproved:
        document = self._documents.get(approval.stated.shown)
        if document is not None:
            self.used_documents.add(approval.stated.shown)
            if (document.action, document.task) != (recorded.action, recorded.task):
                self._tell(recorded, "has an approval of another call than the one that was decided")
        names = tuple([self._trust.person_with(key) or public_text(key) for key in approval.signers])
        calls = [one.budget.limit for one in approval.allotments if one.budget.unit == CALLS]
        return CallApproved(digest, names, min(calls, key=Decimal, default=None), document is not None)

    def _args(self, recorded: Recorded, presentation: ProvenPresentation | None) -> dict[str, Any] | None:
        """The arguments of a decision, if they are disclosed; ProofBroken if they are others."""
        disclosed = self._disclosed.get(recorded.id)
        if disclosed is None:
            return None
        self.used_disclosures.add(recorded.id)
        if recorded.args != args_commitment(unb64u(disclosed.salt), canonical(disclosed.args)):
            raise ProofBroken(f"the arguments that are disclosed for decision {recorded.id} are not those of its call")
        if presentation is not None and presentation.profile == "tool" and recorded.action is not None:
            call = ToolCall(recorded.action, disclosed.args)
            if presentation.request != call.digest():
                self._tell(recorded, "was presented for other arguments than those that were decided")
        for one in recorded.approvals:
            text = self._chains.approvals.get(one.digest)
            approval = None if text is None else _approval(text)
            if approval is not None and recorded.outcome == "allowed" and not _allows(approval, recorded, disclosed):
                self._tell(recorded, "was allowed with an approval of other arguments")
        return disclosed.args


def _documents(proof: Proof) -> dict[str, ApprovalRequest]:
    """The documents that approvers were shown, by the digest in their statements; ProofBroken for another document."""
    found: dict[str, ApprovalRequest] = {}
    for nth, document in enumerate(proof.approvals, 1):
        try:
            read = ApprovalRequest.parse(msgspec.json.encode(document))
        except InvalidRequest as error:
            raise ProofBroken(f"approval {nth} is no request for one: {error}") from None
        if read.shown in found:
            raise ProofBroken(f"approval {nth} stands in the proof twice")
        found[read.shown] = read
    return found


def _by_decision(proof: Proof) -> dict[str, Disclosed]:
    found = {one.decision: one for one in proof.disclosed}
    if len(found) < len(proof.disclosed):
        raise ProofBroken("the arguments of one decision are disclosed twice")
    return found


def _approval(text: ApprovalText) -> Approval | None:
    caveat = None if text.cid is None else read_approval_caveat(text.cid)
    try:
        blocks = [block for block in map(read_block, text.blocks) if isinstance(block, bytes)]
    except MalformedToken:
        return None
    found = None if caveat is None or len(blocks) < len(text.blocks) else read_approval(caveat, blocks, DEFAULT)
    return found if found is not None and b64u(found.last) == text.digest else None


def _allows(approval: Approval, recorded: Recorded, disclosed: Disclosed) -> bool:
    """Whether the statement of an approval permits the arguments of a call."""
    try:
        facts = Facts(Call(recorded.action or "", disclosed.args), recorded.at, 0.0)
    except InvalidCaveat:
        return False
    caveats = (one for section in approval.sections for one in section.caveats)
    return all(one.refusal(facts) is None for one in caveats if isinstance(one, Allow))
