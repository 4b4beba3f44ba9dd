"""What a discharge says: its shape, and what of it fits a token."""

from typing import Any

from capx.crypto.hashing import digest
from capx.tokens.approval import Approval, read_approval
from capx.tokens.approval_caveat import read_approval_caveat
from capx.tokens.discharge import Discharge
from capx.tokens.lineage import Lineage, unverified_lineage
from capx.tokens.revocation_key import of_key
from capx_caveats import (
    CALLS,
    DEFAULT,
    Approved,
    Budget,
    Expires,
    Holder,
    Intent,
    Signed,
    Task,
    UntilCompleted,
    encode_block,
    where,
)
from capx_caveats.texts import MAX_PATTERNS
from tests.labs.approving import ARGS, BEN, CLEO, KEY, LEA, approved, demanding, keyed, put_together, request
from tests.labs.lab import NONCES, NOW

TOKEN = demanding()


def read(discharge: Discharge) -> Approval | None:
    caveat = read_approval_caveat(discharge.cid)
    assert caveat is not None
    return read_approval(caveat, discharge.blocks, DEFAULT)


def good(discharge: Discharge) -> Approval:
    found = read(discharge)
    assert found is not None
    return found


def lineage(token: Any = TOKEN) -> Lineage:
    return unverified_lineage(token)


def misfits(discharge: Discharge, token: Any = TOKEN, audience: str = "crm", now: int = NOW) -> list[str]:
    return list(good(discharge).misfits(lineage(token), audience, now))


def test_it_says_what_the_approver_signed() -> None:
    discharge = approved(TOKEN, lasts=60, uses=3)
    found = good(discharge)
    assert (found.task, found.intent, found.expires, found.ends) == ("T1", None, NOW + 60, NOW + 60)
    assert (found.stated.audience, found.stated.at) == ("crm", NOW)
    assert (found.id, found.ids, found.last) == (discharge.id, discharge.ids, discharge.digests[-1])
    assert found.message == digest(b"capx/1/approval", discharge.digests[1])
    assert found.size == sum(map(len, discharge.blocks))
    assert [number for number, _ in found.signed] == [0]
    assert [(one.budget.limit, one.hop, one.name) for one in found.allotments] == [("3", 0, "an approval")]


def test_its_count_is_that_of_the_statement() -> None:
    found = good(approved(TOKEN).attenuate(Budget(CALLS, "7"), now=NOW))
    own, narrower = found.allotments
    assert own.counter != narrower.counter
    assert (own.counter, narrower.counter) == (_text(found.ids[1]), _text(found.ids[3]))


def _text(id_: bytes) -> str:
    from capx.crypto.base64url import b64u

    return b64u(id_)


def test_the_earliest_expiry_counts() -> None:
    found = good(approved(TOKEN, lasts=60).attenuate(Expires(NOW + 5), now=NOW))
    assert (found.expires, found.ends) == (NOW + 60, NOW + 5)


def test_what_restricts_is_judged_and_signatures_are_not() -> None:
    discharge = approved(demanding(keyed(LEA, BEN, count=2)), LEA, BEN).attenuate(where("region", "eu"), now=NOW)
    found = good(discharge)
    assert [len(one.caveats) for one in found.sections] == [len(discharge.caveats[0]), 1]
    assert {(one.hop, one.name) for one in found.sections} == {(0, "an approval")}


def test_it_dies_with_its_ids_its_signers_and_other_tasks() -> None:
    discharge = approved(TOKEN, caveats=[UntilCompleted("T7")])
    found = good(discharge)
    key = found.caveat.keys[0]
    assert found.signers == (key,)
    assert found.revocation_keys == ("T7", *discharge.ids, of_key(key))


def test_a_number_without_a_key_signs_nothing() -> None:
    strange = put_together(approved(TOKEN).blocks[0], encode_block((Signed(7, "A" * 86),)))
    assert good(strange).signers == ()
    assert list(good(strange).bad_signatures()) == []
    assert misfits(strange) == ["is not signed by different people of those whom the token names"]


def test_the_first_number_without_a_key_signs_nothing() -> None:
    strange = put_together(approved(TOKEN).blocks[0], encode_block((Signed(1, "A" * 86),)))
    assert list(good(strange).bad_signatures()) == []
    assert misfits(strange) == ["is not signed by different people of those whom the token names"]


def test_it_names_the_intent_of_the_token() -> None:
    on_intent = demanding(None, Intent("A" * 43))
    found = approved(on_intent)
    assert good(found).intent == "A" * 43
    assert misfits(found, on_intent) == []
    assert misfits(found) == misfits(approved(TOKEN), on_intent) == ["is for another intent"]


def test_a_good_one_fits() -> None:
    assert misfits(approved(TOKEN)) == []
    assert list(good(approved(TOKEN)).bad_signatures()) == []


def test_everything_that_does_not_fit_is_told() -> None:
    claim = Approved("erp", request(demanding(root="R2")).node, "A" * 43, NOW + 9)
    statement = encode_block((claim, Task("T2"), *approved(TOKEN).caveats[0][2:3], Expires(NOW + 2000)))
    strange = put_together(statement, (0, BEN))
    assert misfits(strange) == [
        "is for erp, and this service is crm",
        "is for another task",
        "is for another agent: neither for this one, nor for one above it",
        "is good for longer than the 900 s that the token permits",
        "was given in the future, by the clock here",
    ]
    assert list(good(strange).bad_signatures()) == [f"has a signature that {LEA.public} did not make"]


def test_it_is_for_the_asker_and_those_below() -> None:
    child = TOKEN.delegate(to="a", nonce=NONCES[0])
    assert misfits(approved(TOKEN), child) == []
    assert misfits(approved(child), child) == []
    assert misfits(approved(child)) == ["is for another agent: neither for this one, nor for one above it"]


def test_its_time_counts_to_the_second() -> None:
    found = approved(TOKEN, lasts=900)
    assert misfits(found, now=NOW - 5) == []
    assert len(misfits(found, now=NOW - 6)) == 1


def test_two_of_three_must_be_two() -> None:
    cid = keyed(LEA, BEN, CLEO, count=2).cid
    statement = approved(TOKEN).blocks[0]
    assert read(put_together(statement, (0, LEA), cid=cid)) is None
    assert good(put_together(statement, (2, CLEO), (0, LEA), cid=cid)).signers
    twice = put_together(statement, (0, LEA), (0, LEA), cid=cid)
    assert misfits(twice) == ["is not signed by different people of those whom the token names"]


def test_no_statement_is_no_approval() -> None:
    whole = approved(TOKEN).caveats[0]
    for strange in ((), whole[1:], whole[:1], (whole[0], *whole[2:])):
        if strange:
            assert read(put_together(strange, (0, LEA))) is None
    assert read(put_together(b"[]", (0, LEA))) is None
    assert read(put_together(b"not json", (0, LEA))) is None


def test_a_statement_says_all_of_it_once() -> None:
    whole = approved(TOKEN).caveats[0]
    ends = [one for one in whole if isinstance(one, Expires)]
    others = tuple(one for one in whole if not isinstance(one, Expires))
    assert read(put_together((*others, *ends), (0, LEA))) is not None
    strange = (others, (*whole, *ends), (*whole, Holder("A" * 43)), (*whole, Task("T1")))
    assert [read(put_together(one, (0, LEA))) for one in strange] == [None] * 4


def test_a_signature_stands_alone_in_its_block() -> None:
    statement = approved(TOKEN).blocks[0]
    for beside in ((Signed(0, "A" * 86), Expires(NOW)), (Expires(NOW),)):
        assert read(put_together(statement, encode_block(beside))) is None


def test_too_large_a_block_is_no_approval() -> None:
    long = put_together(approved(TOKEN).blocks[0], (0, LEA), b'["",' + b"[" * 300)
    many = put_together(approved(TOKEN).blocks[0], (0, LEA), b"[" + b",".join([b'["fresh",1]'] * 65) + b"]")
    assert read(long) is None
    assert read(many) is None


def test_patterns_have_an_eighth_of_a_tokens_room() -> None:
    def with_patterns(number: int) -> Discharge:
        rules = [where("args.note", _glob(f"{one:03}*")) for one in range(number)]
        return put_together(approved(TOKEN).blocks[0], (0, LEA), *(encode_block((rule,)) for rule in rules))

    assert read(with_patterns(3)) is not None
    assert read(put_together(approved(TOKEN).blocks[0], (0, LEA), _many_patterns(63))) is None
    assert MAX_PATTERNS // 8 == 4096


def _glob(text: str) -> Any:
    from capx_caveats import Glob

    return Glob(text)


def _many_patterns(number: int) -> bytes:
    from capx_caveats import Regex

    return encode_block(tuple(where("args.note", Regex(f"{one}[a-z]{{20}}")) for one in range(number)))


def test_the_arguments_of_the_lab_are_those_of_its_calls() -> None:
    assert ARGS == {"amount": 40}
    assert KEY
