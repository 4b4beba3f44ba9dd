"""Notes, cosignatures and paths are checked before anything in a proof counts."""

import pytest
from msgspec.structs import replace

from capx.ledger.note_keys import WitnessKey
from capx.proof import ProofBroken, Trust
from capx.proof.sources import check_sources, two_roots
from tests.proof.conftest import Told


def test_the_log_of_the_authority_comes_first(told: Told) -> None:
    turned = replace(told.proof, sources=tuple(reversed(told.proof.sources)))
    sources = check_sources(turned, told.trust)
    assert [one.is_authority for one in sources] == [True, False]
    assert [one.name for one in sources[0].witnesses] == ["witness.example"]


def test_as_many_witnesses_as_the_quorum_must_have_signed(told: Told) -> None:
    with pytest.raises(ProofBroken, match="0 witnesses have cosigned its note, and 1 must"):
        check_sources(told.proof, replace(told.trust, quorum=1))
    stranger = WitnessKey.generate("witness.example").note_key
    assert check_sources(told.proof, replace(told.trust, witnesses=(stranger,)))[0].witnesses == ()


def test_a_proof_has_exactly_one_log_of_an_authority(told: Told) -> None:
    with pytest.raises(ProofBroken, match="no log of an authority that the trust file names"):
        check_sources(told.proof, replace(told.trust, authorities=frozenset()))
    both = frozenset({one.origin for one in told.report.sources})
    with pytest.raises(ProofBroken, match="no key that the trust file names for this log"):
        check_sources(told.proof, replace(told.trust, authorities=both))
    with pytest.raises(ProofBroken, match="no log of an authority"):
        check_sources(replace(told.proof, sources=()), Trust())


def test_events_stand_in_the_order_of_their_log(told: Told) -> None:
    source = told.proof.sources[0]
    turned = replace(source, events=(source.events[1], source.events[0], *source.events[2:]))
    with pytest.raises(ProofBroken, match="event 1 stands behind event 2"):
        check_sources(replace(told.proof, sources=(turned, *told.proof.sources[1:])), told.trust)


def test_a_source_is_of_the_task_of_the_proof(told: Told) -> None:
    with pytest.raises(ProofBroken, match="it is of task"):
        check_sources(replace(told.proof, task="A" * 22), told.trust)


def test_two_roots_for_one_size_are_evidence(told: Told) -> None:
    source = told.report.sources[0]
    assert two_roots(source, source.size, source.root) is None
    assert two_roots(source, source.size + 1, bytes(32)) is None
    assert "keep both notes" in (two_roots(source, source.size, bytes(32)) or "")
