"""Events are kept byte by byte, and found by position, task, kind and id."""

import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from capx.crypto.base64url import b64u
from capx.crypto.keys import RootKey
from capx.errors import StoreProblem
from capx.proof.recorded import events_schema
from capx.store import events
from capx.store.events import (
    FACTS,
    TASK_ENDS,
    BudgetLimit,
    By,
    CapabilityMinted,
    Fact,
    GivenBack,
    IntentWithdrawn,
    RequestApproved,
    RequestDenied,
    RequestExpired,
    Revoked,
    TaskEnded,
    TaskOpened,
    TaskWithdrawn,
    revoked_agent_keys,
)
from capx.store.log import START, following
from capx.store.protocols import Store
from capx.store.records import DecisionRecord, Unwritable
from capx.tokens.capability import mint
from capx.tokens.revocation_key import RevocationKey, of_public
from capx_caveats import allow, budget
from tests.labs.proving import ProofLab
from tests.labs.store_writes import decision, note, verified
from tests.store.conftest import Places

NOW = 1_800_000_000
ID = b"i" * 16
KEY = "ed25519:A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"


@pytest.mark.parametrize(
    "body", [b"{}", b'{ "a" :\t1.50 }', '{"name":"Zoë 🜂"}'.encode(), b'{"x":"\\u0000","\\u0000":"\\\\u0000"}']
)
def test_a_body_is_kept_byte_by_byte(store: Store, body: bytes) -> None:
    note(store, body)
    store.record([DecisionRecord("dec-1", NOW, b'{"id":"dec-1","given":' + body + b"}")])
    with store.read() as reading:
        noted, recorded = reading.events()
    assert noted.body == body
    assert recorded.body == b'{"id":"dec-1","given":' + body + b"}"
    assert verified(store).position == 2


def test_events_come_by_position_and_limit(store: Store) -> None:
    with store.write() as transaction:
        for _ in range(2_500):
            transaction.append("noted", b"{}", at=NOW)
    with store.read() as reading:
        assert [event.position for event in reading.events(after=10, limit=3)] == [11, 12, 13]
        assert len(list(reading.events(after=1, limit=2_000))) == 2_000
        assert list(reading.events(limit=0)) == []
        assert list(reading.events(after=2_500)) == []
    assert verified(store).position == 2_500


def test_events_come_by_task_and_kind(store: Store) -> None:
    bodies = [b'{"task":"a"}', b'{"task":"b"}', b'{"task":null}', b'{"task":7}', b'{"of":{"task":"a"}}']
    with store.write() as transaction:
        for body in bodies:
            transaction.append("opened", body, at=NOW)
            transaction.append("closed", body, at=NOW)
    store.record([decision("dec-1", b',"task":"a"'), decision("dec-2", b',"task":"b"')])
    with store.read() as reading:

        def found(task: str | None = None, kind: str | None = None) -> list[int]:
            return [event.position for event in reading.events(task=task, kind=kind)]

        assert found(task="a") == [1, 2, 11]
        assert found(task="c") == []
        assert found(kind="opened") == [1, 3, 5, 7, 9]
        assert found(kind="decision") == [11, 12]
        assert found(task="b", kind="closed") == [4]
        assert found(task="b", kind="decision") == [12]
        assert [event.position for event in reading.events(kind="closed", after=4, limit=2)] == [6, 8]


@pytest.mark.parametrize("body", [b'{"x":', b"never JSON", b'{"id":"dec-1"}}'])
def test_what_is_no_json_can_never_be_written(store: Store, body: bytes) -> None:
    with pytest.raises(Unwritable), store.write() as transaction:
        transaction.append("decision", body, at=NOW)
    with pytest.raises(Unwritable):
        store.record([decision("dec-0"), DecisionRecord("dec-1", NOW, body)])
    assert note(store) == 1


def test_nesting_without_end_can_never_be_written(store: Store) -> None:
    body = b'{"id":"dec-1","x":%s%s}' % (b"[" * 100_000, b"]" * 100_000)
    with pytest.raises(Unwritable), store.write() as transaction:
        transaction.append("decision", body, at=NOW)
    with pytest.raises(Unwritable):
        store.record([DecisionRecord("dec-1", NOW, body)])
    assert note(store) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events WHERE position = 2",
        "UPDATE events SET body = '{\"x\":1}' WHERE position = 2",
        "UPDATE events SET at = at + 1 WHERE position = 2",
        "UPDATE events SET position = 99 WHERE position = 2",
    ],
)
def test_an_event_edited_or_taken_out_is_found(store: Store, places: Places, statement: str) -> None:
    for _ in range(4):
        note(store)
    places.tamper(store, statement)
    with pytest.raises(StoreProblem, match="broken at position 2"):
        verified(store)


def test_decisions_are_events_found_by_their_id(store: Store) -> None:
    with store.write() as transaction:
        transaction.append("noted", b'{"id":"dec-1"}', at=NOW)
        recorded = transaction.append("decision", b'{"id":"dec-1","outcome":"denied"}', at=NOW)
    with store.read() as reading:
        assert reading.decision("dec-1") == recorded
        assert reading.decision("dec-2") is None


def test_an_id_taken_first_elsewhere_hides_no_decision(store: Store) -> None:
    first, true = (
        decision("dec-1"),
        DecisionRecord("dec-1", NOW, b'{"id":"dec-1","audience":"slides","outcome":"denied"}'),
    )
    unnamed = DecisionRecord("dec-1", NOW, b'{"id":"dec-1"}')
    store.record([first, true, unnamed])
    # What an audience says again of an id was said.
    store.record([true, decision("dec-1", b',"outcome":"allowed"'), unnamed])
    with store.read() as reading:
        assert [event.body for event in reading.events()] == [first.body, true.body, unnamed.body]
        found = reading.decision("dec-1")
    assert found is not None
    assert found.position == 1
    assert verified(store).position == 3


def test_a_decision_is_recorded_once_in_the_order_it_came(store: Store) -> None:
    note(store)
    store.record([decision("dec-2"), decision("dec-1"), decision("dec-2")])
    store.record([decision("dec-1"), decision("dec-3")])
    store.record([])
    with store.read() as reading:
        bodies = [event.read(dict[str, str])["id"] for event in reading.events(kind="decision")]
        assert bodies == ["dec-2", "dec-1", "dec-3"]
        assert [event.at for event in reading.events(kind="decision")] == [NOW] * 3
    assert verified(store).position == 4
    assert note(store) == 5


def test_a_task_that_names_only_its_root_is_read() -> None:
    event = following(START, at=NOW, kind="task_opened", body=b'{"task":"t","root":"r","expires":10}')
    assert event.read(TaskOpened) == TaskOpened(task="t", root="r", expires=10)


ANA = By("ana", KEY)
SAYS_WHO: list[tuple[Fact, Fact, str, str]] = [
    (
        TaskOpened(task="t", root="r", expires=10),
        TaskOpened(task="t", root="r", expires=10, by=ANA),
        (
            '{"task":"t","root":"r","node":null,"tenant":null,"purpose":null,"expires":10,"principal":null,'
            '"intent":null,"agent":null,"policy":null,"holder":null,"attested":null}'
        ),
        "by",
    ),
    (TaskWithdrawn("t"), TaskWithdrawn("t", by=ANA), '{"task":"t"}', "by"),
    (IntentWithdrawn("i"), IntentWithdrawn("i", by=ANA), '{"intent":"i"}', "by"),
    (Revoked(id="i", task="t"), Revoked(id="i", task="t", person=ANA), '{"id":"i","task":"t"}', "person"),
    (Revoked(id="i", by="n"), Revoked(id="i", by="n", person=ANA), '{"id":"i","by":"n"}', "person"),
]


@pytest.mark.parametrize(("silent", "says", "body", "member"), SAYS_WHO)
def test_an_event_says_who_asked_for_it_if_somebody_did(
    store: Store, silent: Fact, says: Fact, body: str, member: str
) -> None:
    who = f',"{member}":{{"principal":"ana","key":"{KEY}"}}}}'
    with store.write() as transaction:
        written = [fact.write(transaction, at=NOW) for fact in (silent, says)]
    assert [event.body.decode() for event in written] == [body, body.removesuffix("}") + who]
    with store.read() as reading:
        assert [event.read(type(silent)) for event in reading.events()] == [silent, says]


def test_an_older_reader_reads_the_end_of_a_task_that_says_who(store: Store) -> None:
    with store.write() as transaction:
        event = TaskWithdrawn("t", by=ANA).write(transaction, at=NOW)
    assert event.read(TaskEnded) == TaskEnded("t")


def test_a_mint_says_what_its_capability_says() -> None:
    root = RootKey.generate()
    key = root.audience_key("crm")
    capability = mint(key, (allow("crm.read"), budget("calls", 3, counter="c")), now=NOW)
    minted = CapabilityMinted.of("task-1", capability, allow=("crm.read",), expires=NOW + 60)
    assert (minted.task, minted.audience, minted.kid, minted.expires) == ("task-1", "crm", root.kid, NOW + 60)
    assert minted.allow == ("crm.read",)
    assert minted.ids == tuple(map(b64u, capability.ids))
    assert minted.budgets == (BudgetLimit("c", "calls", "3"),)
    assert (minted.request, minted.path, minted.asker) == (None, (), ())


def test_the_kinds_of_answers_and_of_ends_stay_apart() -> None:
    assert [RequestApproved.kind, RequestDenied.kind] == ["request_approved", "request_denied"]
    ends: list[type[TaskEnded]] = list(TASK_ENDS.values())
    assert [end.kind for end in ends] == ["task_completed", "task_withdrawn", "task_expired"]


@pytest.mark.parametrize(
    ("revoked", "key"),
    [
        (Revoked(id=b64u(ID)), ID),
        (Revoked(kid="k1"), "kid:k1"),
        (Revoked(issued=5), "issued:5"),
        (Revoked(key=KEY), of_public(KEY)),
        (Revoked(id="no id"), None),
        (Revoked(key="no key"), None),
        (Revoked(key=f"ed25519:{b64u(bytes(32))}"), None),
        (Revoked(), None),
    ],
)
def test_a_revocation_names_the_key_that_it_killed(revoked: Revoked, key: RevocationKey | None) -> None:
    assert revoked.revocation_key == key


def test_a_revocation_of_many_names_them_in_their_order() -> None:
    revoked = Revoked(id=b64u(ID), others=(b64u(bytes(16)), "no id"))
    assert revoked.revocation_keys == (ID, bytes(16), None)
    assert Revoked(kid="k1").revocation_keys == ("kid:k1",)


def test_a_fact_is_written_under_its_kind_as_json(store: Store) -> None:
    with store.write() as transaction:
        event = RequestExpired(request="r", task="t", because="unanswered").write(transaction, at=NOW)
    body = b'{"request":"r","task":"t","because":"unanswered"}'
    assert (event.kind, event.at, event.body) == ("request_expired", NOW, body)
    with store.read() as reading:
        assert list(reading.events()) == [event]


@pytest.mark.parametrize(
    ("audience", "decision", "presentation", "is_of"),
    [
        ("crm", "dec-1", "pay-1", True),
        ("crm", "dec-1", "pay-2", True),
        ("crm", "dec-1", None, True),
        # Another decision about the same presentation.
        ("crm", "dec-2", "pay-1", True),
        ("crm", "dec-2", "pay-2", False),
        ("crm", "dec-2", None, False),
        ("mail", "dec-1", "pay-1", False),
    ],
)
def test_what_is_given_back_is_of_decisions_that_paid_it(
    audience: str, decision: str, presentation: str | None, is_of: bool
) -> None:
    given = GivenBack(task=None, audience="crm", decision="dec-1", presentation="pay-1", given=(), reason="x")
    assert given.is_of(audience, decision, presentation) is is_of


def test_the_revoked_keys_of_agents_are_found(store: Store) -> None:
    with store.write() as transaction:
        for fact in (
            Revoked(id=b64u(ID), by="ed25519:"),
            Revoked(key=KEY),
            # No key of an agent, and no revocation, though its text has one.
            Revoked(key="ed25519:short"),
            Revoked(kid="k", person=ANA),
            Revoked(key=KEY, again=True),
        ):
            fact.write(transaction, at=NOW)
        transaction.append("noted", b'{"key":"%s"}' % KEY.encode(), at=NOW)
    with store.read() as reading:
        assert list(revoked_agent_keys(reading)) == [KEY, KEY]


def test_each_kind_of_event_has_a_schema_and_a_row(checkout: Path) -> None:
    page = (checkout / "docs" / "spec" / "events.md").read_text("utf-8")
    first = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    rows = {kind for cell in first for kind in re.findall(r"`(\w+)`", cell)}
    schema = events_schema()
    Draft202012Validator.check_schema(schema)
    assert rows == {*schema["properties"]}
    beside = (checkout / "docs" / "spec" / "proof.md").read_text("utf-8")
    named = set(re.findall(r"`(\w+)`", page + beside))
    for kind, of in schema["properties"].items():
        members = set(schema["$defs"][of["$ref"].rsplit("/", 1)[1]]["properties"])
        assert members <= named, (kind, members - named)


def test_what_happens_has_the_form_of_the_schema(tmp_path: Path) -> None:
    lab = ProofLab(tmp_path)
    schema = events_schema()
    lab.whole()
    kinds = set[str]()
    for event in lab.authority.log():
        Draft202012Validator({"$defs": schema["$defs"], **schema["properties"][event.kind]}).validate(event.facts())
        kinds.add(event.kind)
    lab.close()
    assert len(kinds) > 6


def test_all_events_are_facts() -> None:
    classes = [one for one in vars(events).values() if isinstance(one, type) and issubclass(one, Fact)]
    assert {one for one in classes if hasattr(one, "kind")} == set(FACTS)
