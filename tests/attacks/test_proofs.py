"""Proofs under attack: by who has no key, by a dishonest resource, by a dishonest authority."""

import copy
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from capx.authority.authority import Authority
from capx.authority.checkpoints import log_signers
from capx.authority.opening import OpenedTask
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import Signer
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest
from capx.ledger.checkpoint import Checkpoint, signed
from capx.ledger.note import Note
from capx.ledger.note_keys import LedgerKey, WitnessKey
from capx.ledger.tree import RunsInMemory, inclusion_path, root
from capx.proof import Proof, ProofBroken, Receipt, Trust, export, receipt, verify
from capx.proof.document import ProofEvent, extract_message
from capx.store.log import digest
from capx.store.records import DecisionRecord
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.approval_caveat import approval
from capx.tokens.bundle import Bundle
from capx.tokens.chain_text import ChainText
from capx_caveats import JSON
from tests.labs.lab import NOW
from tests.labs.proving import BOB, CARA, PLANNER, READER, ProofLab, as_values, full_trust, read, told

Path_ = tuple[str | int, ...]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ProofLab, OpenedTask, dict[str, Any]]]:
    """A proof in which everything happened, as JSON."""
    lab = ProofLab(tmp_path_factory.mktemp("proof"))
    task, proof = lab.whole()
    yield lab, task, as_values(proof)
    lab.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProofLab]:
    made = ProofLab(tmp_path)
    yield made
    made.close()


# Who has no key


def places(value: JSON, above: Path_ = ()) -> Iterator[Path_]:
    """The path of each value in a JSON value."""
    if above:
        yield above
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*above, name))
    elif isinstance(value, list):
        for nth, inner in enumerate(value):
            yield from places(inner, (*above, nth))


def other(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            middle = len(value) // 2
            return f"{value[:middle]}{'B' if value[middle : middle + 1] == 'A' else 'A'}{value[middle + 1 :]}"
        case None:
            return 0
        case _:
            return None


def changes(values: dict[str, Any], path: Path_) -> Iterator[tuple[str, dict[str, Any]]]:
    """The proof with the value there changed, left out, or doubled; each with what was done."""

    def fresh() -> tuple[dict[str, Any], Any]:
        made = copy.deepcopy(values)
        holder: Any = made
        for step in path[:-1]:
            holder = holder[step]
        return made, holder

    made, holder = fresh()
    if not isinstance(holder[path[-1]], dict | list):
        holder[path[-1]] = other(holder[path[-1]])
        yield "changed", made
    made, holder = fresh()
    del holder[path[-1]]
    yield "left out", made
    made, holder = fresh()
    if isinstance(path[-1], int):
        holder.insert(path[-1], holder[path[-1]])
    else:
        holder[f"{path[-1]}_"] = holder[path[-1]]
    yield "doubled", made


SHOWS_LESS = {
    # Who has the proof can leave these out. The rest then says that they are missing.
    *((part, None) for part in ("intent", "requests", "approvals", "asked", "disclosed")),
}


def is_less(path: Path_, how: str) -> bool:
    """Whether the change only takes away what the proof need not have."""
    depth = 1 if how == "left out" and len(path) == 1 else 2
    return how == "left out" and len(path) == depth and (path[0], None) in SHOWS_LESS


def test_each_field_changed_dropped_or_doubled_is_refused(whole: tuple[ProofLab, OpenedTask, dict[str, Any]]) -> None:
    lab, _, values = whole
    trust = full_trust(lab)
    honest = verify(msgspec.json.encode(values), trust)
    accepted: list[tuple[Path_, str]] = []
    tried = 0
    for path in places(values):
        for how, made in changes(values, path):
            tried += 1
            try:
                report = verify(msgspec.json.encode(made), trust)
            except (ProofBroken, InvalidRequest):
                continue
            if is_less(path, how):
                missing = path[0] == "approvals" and report.would_show_more != honest.would_show_more
                assert missing or path[0] == "disclosed" or report.result == "incomplete", path
            elif not report.contradictions:
                accepted.append((path, how))
    assert tried > 800
    assert accepted == []


def test_each_character_of_a_note_counts(whole: tuple[ProofLab, OpenedTask, dict[str, Any]]) -> None:
    lab, _, values = whole
    trust = full_trust(lab)
    note = values["sources"][0]["note"]
    for at in range(len(note)):
        for text in (note[:at] + note[at + 1 :], note[:at] + note[at] + note[at:], note[:at] + "~" + note[at + 1 :]):
            made = copy.deepcopy(values)
            made["sources"][0]["note"] = text
            try:
                report = verify(msgspec.json.encode(made), trust)
            except ProofBroken:
                continue
            # Only the line of the witness can be made one of an unknown witness. It counts for nothing then.
            assert len(report.sources[0].witnesses) == 0, at
            with pytest.raises(ProofBroken, match="0 witnesses have cosigned"):
                verify(msgspec.json.encode(made), msgspec.structs.replace(trust, quorum=1))


def test_a_denial_left_out_is_seen_at_the_signature(whole: tuple[ProofLab, OpenedTask, dict[str, Any]]) -> None:
    lab, _, values = whole
    made = copy.deepcopy(values)
    events = made["sources"][0]["events"]
    denial = next(one for one in events if '"outcome":"denied"' in one["body"])
    events.remove(denial)
    with pytest.raises(ProofBroken, match="the signature over all its events is not good"):
        verify(msgspec.json.encode(made), full_trust(lab))


def test_a_path_leads_one_event_to_one_root(whole: tuple[ProofLab, OpenedTask, dict[str, Any]]) -> None:
    lab, _, values = whole
    event = values["sources"][0]["events"][3]
    first, *rest = event["path"]
    for change in (
        {"position": event["position"] + 1},
        {"path": rest},
        {"path": [first, *rest, first]},
        {"before": first},
    ):
        made = copy.deepcopy(values)
        made["sources"][0]["events"][3].update(change)
        with pytest.raises(ProofBroken, match="is not in the log that was signed"):
            verify(msgspec.json.encode(made), full_trust(lab))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"capx_proof":1,"capx_proof":1,"task":"t","sources":[]}', "named twice"),
        (
            b'{"capx_proof":1,"task":"t","sources":[{"of":"t","at":1,"note":"","events":[{"position":1,"at":1,"kind":"",'
            b'"body":"","before":"%s","path":[]}],"sig":"%s"}],"disclosed":[{"decision":"d","salt":"%s","args":{"n":%d}}]}',
            "a number is beyond",
        ),
        (
            b'{"capx_proof":1,"task":"t","sources":[],"disclosed":[{"decision":"d","salt":"%s","args":{"n":NaN}}]}',
            "JSON",
        ),
        (b"[" * 2**20, "JSON"),
        (b'{"capx_proof":2,"task":"t","sources":[]}', "upgrade"),
        (b'{"capx_proof":1,"task":"t","sources":[],"more":1}', "more"),
        (b'{"capx_proof":1,"task":"\xff","sources":[]}', "JSON"),
        (b" " * (65 << 20), "64 MiB"),
    ],
)
def test_no_file_that_is_no_proof_does_harm(text: bytes, says: str) -> None:
    salt = b64u(bytes(32)).encode()
    if b"%d" in text:
        text %= (salt, b64u(bytes(64)).encode(), salt, 2**53)
    elif b"%s" in text:
        text %= salt
    with pytest.raises(InvalidRequest, match=says):
        Proof.parse(text)
    # The logs are checked before the rest is read.
    with pytest.raises((InvalidRequest, ProofBroken)):
        verify(text, Trust())


def test_trust_in_nobody_trusts_no_proof(whole: tuple[ProofLab, OpenedTask, dict[str, Any]]) -> None:
    lab, _, values = whole
    data = msgspec.json.encode(values)
    with pytest.raises(ProofBroken, match="no key that the trust file names"):
        verify(data, Trust())
    stranger = LedgerKey.generate(f"capx/{lab.authority.epoch()}").note_key
    with pytest.raises(ProofBroken, match="no key that the trust file names"):
        verify(data, Trust(frozenset({stranger.name}), (stranger,)))


# Who has the key of an authority's log


def test_an_omitted_denial_is_refuted_by_its_receipt(lab: ProofLab) -> None:
    task, planner = lab.started()
    lab.call(planner, "slides.write")
    reader = planner.delegate(to="reader", to_key=READER, allow=["slides.read"], now=NOW).with_key(READER)
    denied = lab.call(reader, "slides.write")
    assert not denied.allowed
    lab.authority.flush()
    kept = receipt(lab.authority, denied.id)
    honest = export(lab.authority, task.id, now=int(lab.clock.now))
    # A dishonest authority signs an extract without it.
    (source,) = honest.sources
    events = tuple([one for one in source.events if denied.id not in one.body])
    hidden = resigned(lab, honest, events)
    trust = lab.trust()
    assert read(hidden, trust).contradictions == ()
    (why,) = read(hidden, trust, receipts=[Receipt.parse(kept.dump())]).contradictions
    assert f"event {kept.event.position} of " in why
    assert "was left out" in why
    assert read(honest, trust, receipts=[kept]).contradictions == ()


def resigned(lab: ProofLab, proof: Proof, events: tuple[Any, ...]) -> Proof:
    """The proof with other events, signed anew by the authority."""
    (source,) = proof.sources
    hashes = [digest(unb64u(one.before), one.position, one.at, one.kind, one.body.encode()) for one in events]
    message = extract_message(source.of, source.at, Note.parse(source.note).text, hashes)
    made = msgspec.structs.replace(source, events=events, sig=b64u(lab.authority.sign_extract(message)))
    return msgspec.structs.replace(proof, sources=(made,))


def test_a_receipt_of_another_root_is_equivocation(lab: ProofLab, tmp_path: Path) -> None:
    # A store that was put back by hand and grown anew, and whose keeper removed checkpoint.note: a second history.
    task, planner = lab.started()
    lab.authority.checkpoints.make()
    copied = tmp_path / "copy.db"
    with closing(sqlite3.connect(lab.authority.store.place)) as store, closing(sqlite3.connect(copied)) as copy_of_it:
        store.backup(copy_of_it)
    copied.chmod(0o600)
    first = lab.call(planner, "crm.read")
    lab.authority.flush()
    kept = receipt(lab.authority, first.id)
    keyring = lab.authority._keyring  # a thief of the store has the keys, too
    other_history = Authority(SQLiteStore(copied), keyring, policy=lambda: lab.policy, clock=lab.clock)
    try:
        other_history.complete(task.id)
        made = export(other_history, task.id, now=int(lab.clock.now))
        (why,) = read(made, lab.trust(), receipts=[kept]).contradictions
    finally:
        other_history.close()
    assert "has signed two roots for" in why


def test_an_event_of_another_task_is_refused(lab: ProofLab) -> None:
    task, _ = lab.started()
    strange, _ = lab.started()
    one, two = (export(lab.authority, each.id, now=int(lab.clock.now)) for each in (task, strange))
    events = {each.position: each for each in (*one.sources[0].events, *two.sources[0].events)}
    mixed = resigned(lab, two, tuple([events[position] for position in sorted(events)]))
    with pytest.raises(ProofBroken, match="opens 2 tasks here"):
        read(mixed, lab.trust())
    without = tuple([events[position] for position in sorted(events) if events[position].kind != "task_opened"])
    with pytest.raises(ProofBroken, match="opens 0 tasks here"):
        read(resigned(lab, two, without), lab.trust())


# A dishonest resource


def test_allowed_after_the_end_is_told(lab: ProofLab) -> None:
    task, body = lab.short()
    lab.authority.complete(task.id)
    lab.clock.now += 61
    late = body | {"at": NOW + 60}
    assert lab.contradictions(task, late) == []
    (why,) = lab.contradictions(task, body | {"at": NOW + 61})
    assert why.endswith("was allowed 61 s after its authority had ended")
    assert lab.contradictions(task, body | {"at": NOW + 61}, max_staleness=31) == []
    assert lab.contradictions(task, body | {"at": NOW + 61}, clock_tolerance=31) == []
    assert lab.contradictions(task, body | {"at": NOW + 1}, max_staleness=0, clock_tolerance=0) != []
    report = read(export(lab.authority, task.id, parts=[lab.ledger_part(task.id, late)]), full_trust(lab))
    assert any("that they had not heard yet of the end, when they allowed 1 calls" in one for one in report.words)


def test_allowed_after_a_revocation_is_told(lab: ProofLab) -> None:
    task, body = lab.short()
    lab.authority.revoke(b64u(next(iter(task.bundle)).node or b""))
    lab.clock.now += 100
    found = lab.contradictions(task, body | {"at": NOW + 90})
    assert found[-1].endswith("was allowed 90 s after its authority had ended")


def test_allowed_after_its_expiry_is_told(lab: ProofLab) -> None:
    task, body = lab.short()
    bearer, bare = lab.short(agent_key=None)
    assert lab.contradictions(bearer, bare | {"at": NOW + 3_599}) == []
    (why,) = lab.contradictions(bearer, bare | {"at": NOW + 3_600})
    assert why.endswith("was allowed after its chain had expired")
    # Under a key, the time of the presentation is signed, too.
    (why,) = lab.contradictions(task, body | {"at": NOW + 200})
    assert why.endswith("is dated 140 s outside the window of its presentation")
    assert lab.contradictions(task, body | {"at": NOW + 90}) == []


def test_an_action_that_the_chain_lacks_is_told(lab: ProofLab) -> None:
    task, body = lab.short()
    (why,) = lab.contradictions(task, body | {"action": "crm.read"})
    assert why.endswith("was allowed, and its chain has no entry for crm.read")
    assert lab.contradictions(task, body | {"action": "crm.read", "outcome": "denied"}) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tenant": "Globex"}, "says another tenant than its chain"),
        ({"intent": None}, "says another intent than its chain"),
        ({"root": "A" * 22}, "says another root than its chain"),
        ({"hops": ["reader"]}, "says another hops than its chain"),
        ({"nonces": ["A" * 16]}, "says another nonces than its chain"),
        ({"ids": ["A" * 22]}, "says another ids than its chain"),
        ({"key": None}, "does not name the key of its holder"),
        ({"presentation": "A" * 22}, "says another presentation than the one that it shows"),
        ({"audience": "crm"}, "says another audience than its chain"),
        ({"digest": "A" * 43}, "has a chain whose digest is another one than it says"),
    ],
)
def test_what_differs_from_the_chain_is_told(lab: ProofLab, change: dict[str, Any], says: str) -> None:
    task, body = lab.short()
    found = lab.contradictions(task, {name: value for name, value in (body | change).items() if value is not None})
    assert any(says in why for why in found), found


def slide_of_a_reader(lab: ProofLab) -> tuple[OpenedTask, dict[str, Any]]:
    """A task, and the only decision in the ledger, which is about a reader below its planner."""
    task, planner = lab.started()
    lab.slide(planner.delegate(to="reader", to_key=READER, now=NOW).with_key(READER))
    (event,) = lab.ledger_part(task.id).sources[0].events
    body = msgspec.json.decode(event.body)
    return task, body


def test_a_chain_that_no_log_shows_is_told(lab: ProofLab) -> None:
    task, body = slide_of_a_reader(lab)
    del body["chain"]
    (why,) = lab.contradictions(task, body)
    assert why.endswith("is about a chain that no log here shows")


def test_a_chain_that_nobody_minted_is_told(lab: ProofLab) -> None:
    task, body = lab.short()
    chain = body["chain"] | {"identifier": body["chain"]["identifier"].replace("1795600000]", "1795600001]")}
    digests = ChainText(chain["identifier"], tuple(chain["blocks"])).digests()
    made = body | {"chain": chain, "digest": b64u(digests[-1]), "ids": [b64u(one[:16]) for one in digests]}
    found = lab.contradictions(task, made)
    assert any("does not go on from anything that the authority's log has minted" in why for why in found)
    # The agent has signed the presentation of its own chain, and of no other one.
    assert any("a presentation that is not signed with the key of its holder" in why for why in found)


def test_a_hop_that_its_delegator_did_not_sign_is_told(lab: ProofLab) -> None:
    task, body = slide_of_a_reader(lab)
    assert lab.contradictions(task, body) == []
    block = body["chain"]["blocks"][-1]
    at = block.index('["sig","') + 8
    forged = f"{block[:at]}{'B' if block[at] == 'A' else 'A'}{block[at + 1 :]}"
    chain: dict[str, Any] = {**body["chain"], "blocks": [*body["chain"]["blocks"][:-1], forged]}
    digests = ChainText(chain["identifier"], tuple(chain["blocks"])).digests()
    made = body | {"chain": chain, "digest": b64u(digests[-1]), "ids": [b64u(one[:16]) for one in digests]}
    assert any("is about a chain that is not signed as it must be" in why for why in lab.contradictions(task, made))


def test_a_bearer_call_is_never_shown_as_signed(lab: ProofLab) -> None:
    task, body = lab.short(agent_key=None)
    _, keyed = lab.short()
    made = body | {"key": PLANNER.public, "presented": keyed["presented"], "presentation": keyed["presentation"]}
    part = lab.ledger_part(task.id, made)
    report = read(export(lab.authority, task.id, parts=[part], now=NOW), full_trust(lab))
    assert not report.decisions[0].agent_signed
    assert report.decisions[0].key is None
    assert any("a presentation that is not signed" in why for why in report.contradictions)
    assert any("who they were" in word for word in report.words)


def test_one_decision_told_two_ways_is_told(lab: ProofLab) -> None:
    task, planner = lab.started()
    decided = lab.call(planner, "slides.write")
    lab.authority.flush()
    honest = next(one for one in lab.authority.log() if one.kind == "decision")
    body = msgspec.json.decode(honest.body)
    assert body["id"] == decided.id
    assert lab.contradictions(task, body | {"outcome": "allowed"}) == []
    (why,) = lab.contradictions(task, body | {"outcome": "denied"})
    assert why.endswith("is told differently in its logs")
    # The other way round: the authority has invented what the resource's own ledger does not have.


def test_what_the_authority_invents_its_resource_lacks(lab: ProofLab) -> None:
    task, planner = lab.started()
    lab.slide(planner)
    lab.call(planner, "slides.write", {"deck": "d-2"})
    lab.authority.flush()
    part = lab.ledger_part(task.id)
    report = read(export(lab.authority, task.id, parts=[part], now=NOW), full_trust(lab))
    # It may have begun to keep a ledger in the middle of the task.
    assert report.contradictions == ()
    assert any("1 decisions of slides in its ledger: they are in the authority's log" in one for one in report.gaps)
    assert report.result == "incomplete"


@pytest.mark.parametrize("outcome", ["Allowed", "ALLOWED", "", 7])
def test_another_outcome_cannot_be_read(lab: ProofLab, outcome: object) -> None:
    task, body = lab.short()
    strange = body | {"outcome": outcome, "at": NOW + 9_000}
    part = lab.ledger_part(task.id, strange)
    with pytest.raises(ProofBroken, match="its owner wrote it"):
        read(export(lab.authority, task.id, parts=[part], now=NOW), full_trust(lab))
    lab.authority.store.record([DecisionRecord(body["id"], NOW, msgspec.json.encode(strange))])
    report = read(export(lab.authority, task.id, now=NOW), lab.trust())
    assert report.decisions == ()
    assert any("'slides' has reported 1 decision that nobody can read" in why for why in report.contradictions)


def test_evidence_that_is_left_out_hides_nothing(lab: ProofLab) -> None:
    task, body = lab.short()
    kept = {"id", "at", "outcome", "audience", "action", "task", "tenant", "intent", "root"}
    bare = {name: value for name, value in body.items() if name in kept}
    lab.authority.flush()
    made = export(lab.authority, task.id, parts=[lab.ledger_part(task.id, bare)], now=NOW)
    report = read(made, full_trust(lab))
    assert (report.contradictions, report.result) == ((), "incomplete")
    assert report.gaps == (f"who made the call of decision {body['id']} of slides: somebody else's could stand there",)
    bearer, other = lab.short(agent_key=None)
    bare |= {name: other[name] for name in ("task", "intent", "root")}
    assert lab.contradictions(bearer, bare) == []
    assert lab.contradictions(bearer, bare | {"tenant": "Globex", "at": NOW + 9_999}) == [
        f"decision {body['id']} of slides was allowed, and says another tenant than the task was opened with",
        f"decision {body['id']} of slides was allowed after the task had expired",
    ]


def test_a_call_that_was_not_compared_is_not_shown_as_signed(lab: ProofLab) -> None:
    task, body = lab.short()
    # The agent has signed slides.write. The resource writes down another action, which the chain allows, too.
    part = lab.ledger_part(task.id, {**body, "action": "slides.delete"})
    report = read(export(lab.authority, task.id, parts=[part], now=NOW), full_trust(lab))
    assert [one.compared for one in report.decisions] == [False]
    assert any("of 0, action and arguments were compared" in one for one in report.signed)
    assert any("the action and the arguments that the agent signed" in one for one in report.not_shown)


def test_one_approval_is_for_one_action_and_one_demand(lab: ProofLab) -> None:
    task, planner = lab.started()
    twice = planner
    for person in (CARA, BOB):
        twice = twice.delegate(
            to="reader", to_key=READER, allow=["crm.*"], approval=approval(by=[person.public]), now=NOW
        ).with_key(READER)
    one = planner.delegate(to="r", to_key=READER, allow=["crm.*"], approval=approval(by=[CARA.public]), now=NOW)
    one = one.with_key(READER)
    held = one.holding(lab.approved(one, "crm.read", {"id": 2}), now=NOW)
    lab.call(held, "crm.read", {"id": 2})
    lab.authority.flush()
    honest = export(lab.authority, task.id, now=NOW)
    assert read(honest, lab.trust()).contradictions == ()
    body = next(
        body
        for event in lab.authority.log()
        if event.kind == "decision" and "approvals" in (body := event.facts()) and body["audience"] == "crm"
    )
    key = LedgerKey("capx-ledger/crm", Signer(bytes(range(32))))
    part = lab.ledger_part(task.id, body | {"action": "crm.export", "id": "d.AGsGroDsiCyyJPwyOg2dnA"}, key=key)
    trust = lab.trust(f"log {key.note_key.text()}")
    found = read(export(lab.authority, task.id, parts=[part], now=NOW), trust).contradictions
    assert any("with an approval that does not count: it is not for crm.export" in why for why in found), found
    denied = lab.call(twice, "crm.read", {"id": 2})
    lab.authority.flush()
    other = next(event.facts() for event in lab.authority.log() if denied.id.encode() in event.body)
    assert not denied.allowed
    forged = other | {"outcome": "allowed", "id": "d.AGsGroDsiCyyJPwyOg2dnB", "approvals": body["approvals"] * 2}
    part = lab.ledger_part(task.id, forged, key=key)
    found = read(export(lab.authority, task.id, parts=[part], now=NOW), trust).contradictions
    assert any("was allowed without the approvals that its chain demands" in why for why in found), found


def approved_read(lab: ProofLab, planner: Bundle) -> None:
    """A call of a reader below the planner, which Cara approved."""
    reader = planner.delegate(to="r", to_key=READER, allow=["crm.*"], approval=approval(by=[CARA.public]), now=NOW)
    reader = reader.with_key(READER)
    held = reader.holding(lab.approved(reader, "crm.read", {"id": 2}), now=NOW)
    lab.call(held, "crm.read", {"id": 2})
    lab.authority.flush()


def test_a_call_after_the_end_of_its_approval_is_told(lab: ProofLab) -> None:
    task, planner = lab.started()
    approved_read(lab, planner)
    lab.authority.revoke(key=CARA.public)
    body = next(
        event.facts() for event in lab.authority.log() if event.kind == "decision" and b'"approvals"' in event.body
    )
    key = LedgerKey("capx-ledger/crm", Signer(bytes(range(32))))
    part = lab.ledger_part(task.id, body | {"at": NOW + 55, "id": "d.AGsGroDsiCyyJPwyOg2dnA"}, key=key)
    made = export(lab.authority, task.id, parts=[part], now=NOW)
    found = read(made, lab.trust(f"log {key.note_key.text()}"), max_staleness=0, clock_tolerance=0).contradictions
    assert any("was allowed 55 s after its authority had ended" in why for why in found), found


def test_nonsense_of_one_resource_breaks_no_proof(lab: ProofLab) -> None:
    task, planner = lab.started()
    decided = lab.call(planner, "crm.read", {"id": 1})
    approved_read(lab, planner)
    honest = [event.facts() for event in lab.authority.log() if event.kind == "decision"]
    used = next(one["approvals"][0] for one in honest if "approvals" in one)
    shown = next(iter(lab.authority.proof_parts(task.id).approvals))
    common = {"task": task.id, "audience": "slides", "outcome": "denied", "at": NOW}
    hostile: list[bytes] = [
        msgspec.json.encode(common | {"id": decided.id}),
        msgspec.json.encode(common | {"id": "d.1", "approvals": [{"digest": used["digest"], "cid": "x"}]}),
        msgspec.json.encode(common | {"id": "d.2", "reasons": [{"sentence": str(shown)}]}),
        b'{"id":"d.3","task":"%b","task":"other","audience":"slides","outcome":"denied","at":1}' % task.id.encode(),
        b'{"id":"d.4","task":"other","task":"%b","audience":"slides","outcome":"denied","at":1}' % task.id.encode(),
        b'{"id":"d.5","task":"%b","task":5,"audience":"slides","outcome":"denied","at":1}' % task.id.encode(),
        b'{"id":"d.6","task":"%b","audience":"\\ud800","outcome":"denied","at":1}' % task.id.encode(),
    ]
    with lab.authority.store.write() as transaction:
        transaction.append_all("decision", hostile, at=NOW)
    made = export(lab.authority, task.id, disclose={decided.id: {"id": 1}}, now=NOW)
    report = read(made, lab.trust())
    assert report.contradictions == ()
    assert [one.args for one in report.decisions if one.id == decided.id and one.audience == "crm"] == [{"id": 1}]
    assert any(one.approvals and one.outcome == "allowed" for one in report.decisions)


def test_a_receipt_of_another_event_there_is_a_fork(lab: ProofLab) -> None:
    task, planner = lab.started()
    for _ in range(3):
        lab.call(planner, "crm.read")
    lab.authority.flush()
    first = next(event for event in lab.authority.log() if event.kind == "decision")
    honest = receipt(lab.authority, first.facts()["id"])
    made = export(lab.authority, task.id, now=NOW)
    keyring = lab.authority.keyring
    epoch = lab.authority.epoch()
    for change in ({"kind": "revoked", "body": '{"id":"x","task":"another"}'}, {"before": b64u(bytes(32))}):
        event = msgspec.structs.replace(honest.event, path=(), **change)
        forged = a_log_with(event, first.position, keyring, epoch)
        found = read(made, lab.trust(), receipts=[forged]).contradictions
        assert any("has two histories" in why for why in found), (change, found)


def a_log_with(event: ProofEvent, position: int, keyring: KeyRing, epoch: str) -> Receipt:
    """The receipt of an event in another log of this authority, of another size."""
    hashes = [bytes([nth]) * 32 for nth in range(position - 1)]
    hashes.append(digest(unb64u(event.before), position, event.at, event.kind, event.body.encode()))
    runs = RunsInMemory(hashes)
    note = signed(Checkpoint(f"capx/{epoch}", position, root(position, runs.run)), log_signers(keyring, epoch))
    path = tuple(map(b64u, inclusion_path(position - 1, position, runs.run)))
    return Receipt(msgspec.structs.replace(event, path=path), note.dump())


def test_a_decision_in_the_ledger_of_another_is_told(lab: ProofLab) -> None:
    task, body = lab.short()
    key = LedgerKey("capx-ledger/crm", Signer(bytes(range(32))))
    part = lab.ledger_part(task.id, body, key=key)
    trust = lab.trust(f"log {key.note_key.text()}")
    (why,) = read(export(lab.authority, task.id, parts=[part], now=NOW), trust).contradictions
    assert "is in the log of another resource, capx-ledger/crm/" in why


def test_one_presentation_at_two_places_or_times_is_told(lab: ProofLab) -> None:
    task, body = lab.short(agent_key=None)
    again = body | {"id": "d.AGsGroDsiCyyJPwyOg2dnA"}
    # A guard may judge one presentation several times within its window.
    assert lab.contradictions(task, body, again | {"at": NOW + 5}) == []
    (why,) = lab.contradictions(task, body, again | {"at": NOW + 400})
    assert why == f"presentation {body['presentation']} was allowed twice"
    found = lab.contradictions(task, body, again | {"audience": "crm"})
    assert f"presentation {body['presentation']} was allowed twice" in found


def test_a_log_that_is_trusted_and_missing_is_told(lab: ProofLab) -> None:
    task, _ = lab.short()
    (why,) = read(export(lab.authority, task.id, now=NOW), full_trust(lab)).contradictions
    assert why.startswith("the trust file names the log capx-ledger/slides, and the proof has no source of it")


def test_a_log_stands_in_a_proof_once(lab: ProofLab) -> None:
    task, _ = lab.short()
    part = lab.ledger_part(task.id)
    with pytest.raises(InvalidRequest, match="already"):
        export(lab.authority, task.id, parts=[part, part], now=NOW)
    whole = export(lab.authority, task.id, parts=[part], now=NOW)
    doubled = msgspec.structs.replace(whole, sources=(*whole.sources, whole.sources[1]))
    with pytest.raises(ProofBroken, match="two sources are of"):
        read(doubled, full_trust(lab))


def test_what_cannot_be_read_is_told_and_hides_nothing(lab: ProofLab) -> None:
    task, _ = lab.short()
    hostile = {"id": "d.x", "at": NOW, "task": task.id, "outcome": 7, "audience": "crm", "hops": "\ud800"[:0]}
    lab.authority.store.record([DecisionRecord("d.x", NOW, msgspec.json.encode(hostile))])
    part = lab.ledger_part(task.id)
    report = read(export(lab.authority, task.id, parts=[part], now=NOW), full_trust(lab))
    assert len(report.decisions) == 1
    (why,) = report.contradictions
    assert why.startswith("the resource 'crm' has reported 1 decision that nobody can read, the first in event ")


# Times


def test_an_event_dated_back_or_ahead_is_told(lab: ProofLab) -> None:
    task, _ = lab.started()
    lab.clock.now += 3_000
    lab.authority.complete(task.id)
    lab.clock.now -= 2_000
    strange, _ = lab.started()
    lab.authority.complete(strange.id)
    lab.authority.revoke(key=PLANNER.public)
    found = read(export(lab.authority, task.id, now=int(lab.clock.now)), lab.trust()).contradictions
    assert any(why.endswith("is dated 2000 s before an event that stands before it") for why in found), found
    assert any(why.endswith("is dated 2000 s after its log says that this is all") for why in found), found
    witness = WitnessKey.generate("witness.example")
    record = lab.authority.checkpoints.make()
    line = witness.cosigner.line(Note.parse(record.note).text, NOW + 1_000)
    lab.authority.checkpoints.add([line], [witness.note_key])
    trust = lab.trust(f"witness {witness.note_key.text()}", "quorum 1")
    found = read(export(lab.authority, task.id, now=int(lab.clock.now)), trust).contradictions
    assert any("is dated 2000 s after a witness had seen it" in why for why in found), found


# Intents, answers, approvals, disclosures


def test_an_attested_intent_is_never_shown_as_signed(lab: ProofLab) -> None:
    task = lab.authority.open(lab.intent(), attested="the login of ana")
    made = as_values(export(lab.authority, task.id, now=NOW))
    report = verify(msgspec.json.encode(made), lab.trust())
    assert report.intent is not None
    assert not report.intent.is_signed
    assert any("attested by" in word for word in report.words)
    assert any("a signature of the principal" in one for one in report.would_show_more)
    for name in ("the login of bob", "the CEO"):
        made["intent"]["attested"] = name
        with pytest.raises(ProofBroken, match="the authority's log says otherwise"):
            verify(msgspec.json.encode(made), lab.trust())
    del made["intent"]["attested"]
    made["intent"]["signature"] = BOB.sign(b"anything")
    with pytest.raises(ProofBroken, match="the authority's log says otherwise"):
        verify(msgspec.json.encode(made), lab.trust())
    signed = as_values(export(lab.authority, lab.started()[0].id, now=NOW))
    del signed["intent"]["signature"]
    signed["intent"]["attested"] = "the CEO"
    with pytest.raises(ProofBroken, match="the authority's log says otherwise"):
        verify(msgspec.json.encode(signed), lab.trust())


def test_another_intent_or_holder_is_refused(lab: ProofLab) -> None:
    task, _ = lab.started()
    made = as_values(export(lab.authority, task.id, now=NOW))
    other_task = lab.open(statement="Do other work.", agent_key=READER.public)
    strange = as_values(export(lab.authority, other_task.id, now=NOW))
    made["intent"] = strange["intent"]
    with pytest.raises(ProofBroken, match="is not the one that the task was opened on"):
        verify(msgspec.json.encode(made), lab.trust())
    del made["intent"]
    report = verify(msgspec.json.encode(made), lab.trust())
    assert (report.result, report.intent) == ("incomplete", None)
    assert report.gaps == ("the intent that the task was opened on: another one could stand behind its digest",)


def test_who_is_no_principal_has_signed_no_intent(lab: ProofLab) -> None:
    task, _ = lab.started()
    made = export(lab.authority, task.id, now=NOW)
    trust = lab.trust()
    without = msgspec.structs.replace(trust, principals=tuple([one for one in trust.principals if one[0] != "ana"]))
    with pytest.raises(ProofBroken, match="names no key of 'ana', whose intent this is"):
        read(made, without)
    wrong = msgspec.structs.replace(without, principals=(*without.principals, ("ana", trust.keys_of_person("bob")[0])))
    with pytest.raises(ProofBroken, match="is not signed with a key of 'ana'"):
        read(made, wrong)


@pytest.mark.parametrize("change", [{"shown": {"id": "A" * 22}}, {"yes": False}, {"approver": "cara"}, {"at": NOW + 1}])
def test_a_verdict_is_over_what_was_shown(
    whole: tuple[ProofLab, OpenedTask, dict[str, Any]], change: dict[str, Any]
) -> None:
    lab, _, values = whole
    made = copy.deepcopy(values)
    made["requests"][0] |= change
    with pytest.raises(ProofBroken, match=r"answer|answered"):
        verify(msgspec.json.encode(made), full_trust(lab))
    made = copy.deepcopy(values)
    made["requests"][0]["shown"]["action"] = "billing.drain"
    with pytest.raises(ProofBroken, match="has not signed this answer to what is shown"):
        verify(msgspec.json.encode(made), full_trust(lab))


def test_an_approval_over_another_document_does_not_count(whole: tuple[ProofLab, OpenedTask, dict[str, Any]]) -> None:
    lab, _, values = whole
    made = copy.deepcopy(values)
    made["approvals"][0]["args"]["id"] = 3
    with pytest.raises(ProofBroken, match="what approvers were shown of a call"):
        verify(msgspec.json.encode(made), full_trust(lab))
    report = verify(msgspec.json.encode(values), full_trust(lab))
    assert [one.approvals[0].signers for one in report.decisions if one.approvals] == [("cara",)]
    stranger = full_trust(lab)
    unnamed = msgspec.structs.replace(
        stranger, principals=tuple([one for one in stranger.principals if one[0] != "cara"])
    )
    report = verify(msgspec.json.encode(values), unnamed)
    assert [one.approvals[0].signers for one in report.decisions if one.approvals] == [(CARA.public,)]


def test_an_approval_that_the_chain_does_not_demand_is_told(lab: ProofLab) -> None:
    task, body = lab.short()
    honest, proof = ProofLab(lab.folder / "other"), None
    honest.folder.mkdir()
    try:
        _, proof = honest.whole()
    finally:
        honest.close()
    approvals = next(
        found["approvals"]
        for event in proof.sources[0].events
        if event.kind == "decision" and "approvals" in (found := msgspec.json.decode(event.body))
    )
    found = lab.contradictions(task, body | {"approvals": approvals})
    assert any("answers no demand of the chain" in why for why in found), found
    assert any("was allowed with an approval that does not count" in why for why in found), found


def test_disclosed_arguments_are_those_of_their_decision(lab: ProofLab) -> None:
    task, planner = lab.started()
    one = lab.call(planner, "crm.read", {"id": 1, "deck": "Ä"})
    two = lab.call(planner, "crm.read", {"id": 1, "deck": "Ä"})
    lab.authority.flush()
    with pytest.raises(InvalidRequest, match="these are not the arguments"):
        export(lab.authority, task.id, disclose={one.id: {"id": 2, "deck": "Ä"}}, now=NOW)
    made = as_values(export(lab.authority, task.id, disclose={one.id: {"deck": "Ä", "id": 1}}, now=NOW))
    report = verify(msgspec.json.encode(made), lab.trust())
    assert [each.args for each in report.decisions] == [{"id": 1, "deck": "Ä"}, None]
    for change in ({"decision": two.id}, {"salt": b64u(bytes(32))}, {"args": {"id": "1", "deck": "Ä"}}):
        bad = copy.deepcopy(made)
        bad["disclosed"][0].update(change)
        with pytest.raises(ProofBroken, match="are not those of a call here"):
            verify(msgspec.json.encode(bad), lab.trust())
    bad = copy.deepcopy(made)
    bad["disclosed"][0]["decision"] = "d.AGsGroDsiCyyJPwyOg2dnQ"
    with pytest.raises(ProofBroken, match="are not those of a call here"):
        verify(msgspec.json.encode(bad), lab.trust())


def test_nobody_guesses_arguments_without_the_key(lab: ProofLab) -> None:
    _, planner = lab.started()
    lab.call(planner, "crm.read", {"id": 1})
    lab.call(planner, "crm.read", {"id": 1})
    lab.authority.flush()
    bodies = [msgspec.json.decode(one.body) for one in lab.authority.log() if one.kind == "decision"]
    # Equal arguments have unequal commitments: a table of guesses is of no use.
    assert bodies[0]["args"] != bodies[1]["args"]


def test_a_minting_whose_chain_was_left_out_is_a_contradiction(lab: ProofLab) -> None:
    """Without its chain nobody can see whether a capability fits the task that was opened."""
    task, _ = lab.short()
    whole = export(lab.authority, task.id, now=int(lab.clock.now))
    silent = [
        (at, kind, {**body, "chain": None} if kind == "capability_minted" else body) for at, kind, body in told(whole)
    ]
    assert read(lab.rewritten(whole, *told(whole)), lab.trust()).contradictions == ()
    contradictions = read(lab.rewritten(whole, *silent), lab.trust()).contradictions
    assert any("has no chain in the log" in why for why in contradictions)
