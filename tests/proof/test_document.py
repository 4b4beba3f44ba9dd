"""The file of a proof is read strictly, and written privately."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from capx.errors import InvalidRequest
from capx.proof import Proof, ProofBroken, verify
from capx.proof.document import extract_message, proof_schema
from tests.labs.proving import as_values
from tests.proof.conftest import Told


def test_a_proof_is_read_as_it_was_written(told: Told, tmp_path: Path) -> None:
    path = tmp_path / "qbr.proof"
    told.proof.save(path)
    assert Proof.load(path) == told.proof
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidRequest, match=r"qbr\.proof"):
        told.proof.save(path)
    told.proof.save(path, over=True)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot read"):
        Proof.load(tmp_path / "none")


@pytest.mark.parametrize("field", ["before", "sig", "salt"])
def test_a_hash_has_one_spelling(told: Told, field: str) -> None:
    text = told.proof.dump().decode()
    at = text.index(f'"{field}":"') + len(field) + 4
    end = text.index('"', at)
    # The last letter of a base64url text has bits that no byte uses.
    other = text[end - 1].translate(str.maketrans("AEIMQUYcgkosw048", "BFJNRVZdhlptx159"))
    with pytest.raises(InvalidRequest):
        Proof.parse((text[: end - 1] + other + text[end:]).encode())


def test_the_message_of_an_extract_binds_all_its_parts() -> None:
    one = bytes(32)
    parts: list[tuple[str, int, str, list[bytes]]] = [
        ("t", 1, "note", [one]),
        ("u", 1, "note", [one]),
        ("t", 2, "note", [one]),
        ("t", 1, "Note", [one]),
        ("t", 1, "note", []),
        ("t", 1, "note", [one, one]),
        ("t1", 0, "note", [one]),
    ]
    assert len({extract_message(*each) for each in parts}) == len(parts)


def test_a_proof_has_the_form_of_its_schema(told: Told) -> None:
    schema = proof_schema()
    Draft202012Validator.check_schema(schema)
    validator: Any = Draft202012Validator(schema)
    values = as_values(told.proof)
    validator.validate(values)
    assert not validator.is_valid(values | {"more": 1})
    values["sources"][0]["events"][0]["before"] = "A"
    assert not validator.is_valid(values)


def test_a_made_up_file_is_refused_before_its_parts_are_read(told: Told) -> None:
    # 24 MiB of lists took 20 s and 1 GB. No log has signed them, so the logs are checked first.
    values = as_values(told.proof)
    disclosed = values["disclosed"][0]
    flood: list[Any] = [[] for _ in range(150_000)]
    many = [disclosed | {"args": {"id": flood}} for _ in range(len(values["sources"][0]["events"]))]
    unsigned = [values["sources"][0] | {"sig": "A" * 86}]
    began = time.process_time()
    with pytest.raises(ProofBroken, match="the signature over all its events is not good"):
        verify(msgspec.json.encode(values | {"sources": unsigned, "disclosed": many}), told.trust)
    with pytest.raises(InvalidRequest, match="a part of this proof has more than 512 KiB"):
        Proof.parse(msgspec.json.encode(values | {"disclosed": [disclosed | {"args": {"id": flood * 2}}]}))
    with pytest.raises(InvalidRequest, match="more parts beside its events"):
        Proof.parse(msgspec.json.encode(values | {"disclosed": many * 3}))
    assert time.process_time() - began < 2
