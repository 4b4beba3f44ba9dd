"""A witness cosigns over HTTP, and is believed nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem, StoreProblem
from capx.ledger.checkpoint import opened
from capx.ledger.note import BadNote, Note
from capx.ledger.note_keys import WitnessKey
from capx.ledger.witness_client import cosignatures
from tests.labs.witnesses import Witness


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority.temporary() as made:
        yield made


@pytest.fixture
def witness(authority: Authority, tmp_path: Path) -> Iterator[Witness]:
    made = Witness(tmp_path, authority.checkpoints.public_keys())
    yield made
    made.close()


def test_a_witness_cosigns_over_http(authority: Authority, witness: Witness) -> None:
    for nth in range(3):
        authority.open(allow=["crm.read"])
        made = authority.checkpoints.make()
        cosigned = authority.checkpoints.send(witness.url, [witness.key.note_key])
        ((_, line),) = Note.parse(cosigned.note).signed_by([witness.key.note_key])
        assert (line.time, cosigned.size) == (1_800_000_000, made.size)
        assert opened(cosigned.note, authority.checkpoints.public_keys()).size == made.size
        assert authority.checkpoints.last() == cosigned
        # The first request begins at nothing, and the witness says where it is.
        assert witness.answers[-2:] == ([409, 200] if nth else [200])


def test_a_witness_that_is_another_or_away_changes_nothing(authority: Authority, witness: Witness) -> None:
    made = authority.checkpoints.make()
    with pytest.raises(BadNote, match="none of these witnesses has signed"):
        authority.checkpoints.send(witness.url, [WitnessKey.generate("witness.example/w1").note_key])
    with pytest.raises(StoreProblem, match="does not cosign this checkpoint: 404"):
        authority.checkpoints.send(f"{witness.url}/elsewhere", [witness.key.note_key])
    witness.close()
    with pytest.raises(StoreProblem, match="does not answer"):
        authority.checkpoints.send(witness.url, [witness.key.note_key])
    assert authority.checkpoints.last() == made


def _always(status: int, body: bytes) -> Callable[..., tuple[int, bytes]]:
    def answered(*_: object) -> tuple[int, bytes]:
        return status, body

    return answered


@pytest.mark.parametrize("answer", ["", "x", "-1", "9" * 40, "12 "])
def test_a_conflict_that_names_no_size_ends_the_asking(
    authority: Authority, witness: Witness, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    authority.checkpoints.make()
    monkeypatch.setattr(witness, "answered", _always(409, answer.encode()))
    with pytest.raises(StoreProblem, match="names no size"):
        authority.checkpoints.send(witness.url, [witness.key.note_key])


def test_a_witness_that_always_conflicts_is_given_up(
    authority: Authority, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.checkpoints.make()
    monkeypatch.setattr(witness, "answered", _always(409, b"0\n"))
    with pytest.raises(StoreProblem, match="names no size"):
        authority.checkpoints.send(witness.url, [witness.key.note_key])


def test_what_is_no_url_is_told() -> None:
    for url in ("", "witness.example", "ftp://witness.example"):
        with pytest.raises(ConfigurationProblem, match="is no URL"):
            cosignatures(url, lambda _: pytest.fail("asked"))


def test_a_url_that_leads_nowhere_is_told(authority: Authority) -> None:
    authority.checkpoints.make()
    for url in ("http://[", "http://127.0.0.1:1"):
        with pytest.raises(StoreProblem, match="does not answer"):
            cosignatures(url, authority.checkpoints.request)
