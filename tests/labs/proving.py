"""A task with everything that a proof can show: people, keys, consents, approvals, a ledger, a witness."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from capx.authority.checkpoints import log_signers
from capx.authority.opening import OpenedTask
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.ledger.checkpoint import Checkpoint, signed
from capx.ledger.ledger_file import LedgerFile, ledger_files
from capx.ledger.note_keys import LedgerKey, WitnessKey
from capx.ledger.tree import RunsInMemory, inclusion_path, root
from capx.proof import Proof, Report, Trust, export, extract_ledger, verify
from capx.proof.document import ProofEvent, Source, extract_message
from capx.resource.recorder import StoreRecorder
from capx.store.log import GENESIS, digest
from capx.store.records import DecisionRecord
from capx.tokens.approval_caveat import approval
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.ask import Granted
from capx.verify.decision import Decision
from capx_caveats import JSON, Call
from tests.labs.granting_lab import ANA, BOB, CARA, PEOPLE, GrantingLab, rule
from tests.labs.lab import NOW

PLANNER, READER = AgentKey.generate("planner"), AgentKey.generate("reader")


Told = tuple[int, str, dict[str, Any]]
"""An event as a lying authority may write it: time, kind and body."""


class ProofLab(GrantingLab):
    """An authority whose tasks are done by agents with keys, and what its readers trust."""

    def __init__(self, folder: Path, *, uses: int | None = None, **kept: Any) -> None:
        consent = rule("ask", "billing.*") if uses is None else rule("ask", "billing.*", uses=uses)
        super().__init__(rule("at_open", "crm.*", "slides.*"), consent, **kept)
        self.folder = folder
        self.ledger_key = LedgerKey.generate("capx-ledger/slides")
        self.witness = WitnessKey.generate("witness.example")
        self.decisions: list[Decision] = []

    def started(self, **said: Any) -> tuple[OpenedTask, Bundle]:
        """A task, and the bundle of its first agent."""
        task = self.open(**({"agent_key": PLANNER.public} | said))
        return task, task.bundle.with_key(PLANNER) if task.bundle.holder else task.bundle

    def call(
        self, bundle: Bundle, action: str, args: Mapping[str, JSON] | None = None, *, verifier: Any = None
    ) -> Decision:
        """Make one call with a bundle, and record its decision."""
        args = args or {}
        audience = action.split(".", maxsplit=1)[0]
        received, now = ToolCall(action, args), int(self.clock.now)
        text = bundle.present(audience, received, now=now).text
        verifier = verifier or self.authority.verifier(audience, record=["id"])
        decision: Decision = verifier.decide(text, received, Call(action, args, tenant="Acme"))
        self.decisions.append(decision)
        return decision

    def trust(self, *more: str) -> Trust:
        """What a reader trusts: public keys alone."""
        origin = f"capx/{self.authority.epoch()}"
        lines = [
            f"authority {origin}",
            *(f"log {key.text()}" for key in self.authority.checkpoints.public_keys()),
            *(f"principal {one.name} {one.public}" for one in PEOPLE),
            *more,
        ]
        return Trust.parse("\n".join(lines))

    def whole(self) -> tuple[OpenedTask, Proof]:
        """The proof of a task in which everything has happened."""
        task, planner = self.started()
        self.call(planner, "crm.read", {"id": 1})
        reader = planner.delegate(
            to="reader", to_key=READER, allow=["crm.read"], approval=approval(by=[CARA.public]), now=int(self.clock.now)
        ).with_key(READER)
        self.call(reader, "crm.read", {"id": 2})
        reader = reader.holding(self.approved(reader, "crm.read", {"id": 2}), now=int(self.clock.now))
        self.call(reader, "crm.read", {"id": 2})
        self.call(planner, "crm.export")
        request = self.pending(planner, "billing.refund", {"amount": 40})
        self.decide(request.request)
        answer = self.ask(planner, "billing.refund", {"amount": 40})
        assert isinstance(answer, Granted)
        richer = planner.holding(answer.capability.with_key(PLANNER), now=int(self.clock.now))
        self.call(richer, "billing.refund", {"amount": 40})
        self.slide(planner)
        self.authority.revoke(reader.node)
        self.clock.now += 100
        self.call(planner, "crm.read", {"id": 3})
        self.authority.complete(task.id)
        self.authority.flush()
        record = self.authority.checkpoints.make()
        line = self.witness.cosigner.line(record.note.split("\n\n")[0] + "\n", int(self.clock.now))
        self.authority.checkpoints.add([line], [self.witness.note_key])
        part = self.ledger_part(task.id)
        disclosed = {self.decisions[0].id: {"id": 1}}
        return task, export(self.authority, task.id, parts=[part], disclose=disclosed, now=int(self.clock.now))

    def approved(self, bundle: Bundle, action: str, args: Mapping[str, JSON]) -> Any:
        """Cara's approval of a call, by file, with what she was shown kept by the authority."""
        cid = next(one for one in bundle if one.audience == "crm").demands[0].decode()
        answer = self.authority.ask(bundle, action, args=args, demand=cid)
        document = ApprovalRequest.parse(self.authority.request(answer.request).to_approve or "")  # type: ignore[union-attr]
        discharge = CARA.approve(document, now=int(self.clock.now))
        self.authority.approve(answer.request, discharge)  # type: ignore[union-attr]
        return discharge

    def slide(self, bundle: Bundle) -> None:
        """One call at `slides`, which has a ledger of its own."""
        ledger = LedgerFile(self.folder / "slides.jsonl", self.ledger_key, clock=self.clock)
        recorder = StoreRecorder(ledger)
        verifier = self.authority.verifier("slides", recorder=recorder)
        self.call(bundle, "slides.write", {"deck": "d-1"}, verifier=verifier)
        recorder.close()
        ledger.close()

    def ledger_part(self, task: str, *bodies: Mapping[str, Any], key: LedgerKey | None = None) -> Proof:
        """What `slides`, or the resource with this key, says about a task: its ledger, or whatever it makes up."""
        path, key = self.folder / "slides.jsonl", key or self.ledger_key
        if bodies:
            path = self.folder / f"{len(list(self.folder.iterdir()))}.jsonl"
            ledger = LedgerFile(path, key, clock=self.clock)
            ledger.record([DecisionRecord(one["id"], one["at"], msgspec.json.encode(one)) for one in bodies])
            ledger.close()
        at = max([int(self.clock.now), *(one["at"] for one in bodies)])
        return extract_ledger(ledger_files(path), key, task, at=at)

    def short(self, **said: Any) -> tuple[OpenedTask, dict[str, Any]]:
        """A task with one call at `slides`, and what its ledger says of it."""
        task, planner = self.started(**said)
        self.slide(planner)
        (event,) = self.ledger_part(task.id).sources[0].events
        return task, msgspec.json.decode(event.body)

    def contradictions(self, task: OpenedTask, *bodies: Mapping[str, Any], **settings: Any) -> list[str]:
        """What contradicts in a proof whose resource has made up these decisions."""
        self.authority.flush()
        made = export(self.authority, task.id, parts=[self.ledger_part(task.id, *bodies)], now=int(self.clock.now))
        return list(read(made, full_trust(self), **settings).contradictions)

    def rewritten(self, proof: Proof, *events: Told, at: int | None = None) -> Proof:
        """The proof with these events in the place of the authority's, signed by an authority that lies.

        Without `at`, the log says that this is all at the time of the last event.
        """
        epoch, keyring = self.authority.epoch(), self.authority.keyring
        hashes: list[bytes] = []
        shown: list[tuple[int, Told, str, bytes]] = []
        for position, event in enumerate(events, 1):
            body, before = msgspec.json.encode(event[2]).decode(), hashes[-1] if hashes else GENESIS
            hashes.append(digest(before, position, event[0], event[1], body.encode()))
            shown.append((position, event, body, before))
        runs, signers = RunsInMemory(hashes), log_signers(keyring, epoch)
        note = signed(Checkpoint(f"capx/{epoch}", len(hashes), root(len(hashes), runs.run)), signers)
        at = max(event[0] for event in events) if at is None else at
        signature = keyring.log_signers()[0].sign(extract_message(proof.task, at, note.text, hashes))
        parts = tuple(
            [
                ProofEvent(
                    position,
                    event[0],
                    event[1],
                    body,
                    b64u(before),
                    tuple(map(b64u, inclusion_path(position - 1, len(hashes), runs.run))),
                )
                for position, event, body, before in shown
            ]
        )
        source = Source(proof.task, at, note.dump(), parts, b64u(signature))
        return msgspec.structs.replace(proof, sources=(source, *proof.sources[1:]))

    def close(self) -> None:
        self.authority.close()


def told(proof: Proof) -> list[Told]:
    """The events of the authority in a proof, for whoever changes them."""
    return [(event.at, event.kind, msgspec.json.decode(event.body)) for event in proof.sources[0].events]


def full_trust(lab: ProofLab) -> Trust:
    """Trust in all logs and the witness."""
    return lab.trust(f"log {lab.ledger_key.note_key.text()}", f"witness {lab.witness.note_key.text()}", "quorum 0")


def read(proof: Proof, trust: Trust, **settings: Any) -> Report:
    """The report of a proof, as it comes out of a file."""
    return verify(proof.dump(), trust, **settings)


def as_values(proof: Proof) -> dict[str, Any]:
    """The proof as JSON values, for whoever changes it."""
    values: dict[str, Any] = msgspec.json.decode(proof.dump())
    return values


__all__ = [
    "ANA",
    "BOB",
    "CARA",
    "NOW",
    "PLANNER",
    "READER",
    "ProofLab",
    "as_values",
    "full_trust",
    "read",
    "told",
]
