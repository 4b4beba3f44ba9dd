"""The message that proves a request of a person: the vector of the specification, and what it covers."""

from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from capx.crypto.ed25519 import Signer
from capx.intents.person_message import PersonRequest
from capx.intents.principal_key import PrincipalKey

KEY = PrincipalKey("ana", Signer(bytes(range(32))))
REQUEST = PersonRequest(
    principal="ana",
    origin="https://capx.example",
    epoch="OYZ7VqUQJ9PBa0YXjDBPsw.1795500000",
    method="POST",
    target="/people/tasks",
    body_digest=sha256(b"{}").digest(),
    at=1_795_600_000,
    nonce=bytes(range(16)),
)


def test_the_signature_is_that_of_the_specification() -> None:
    signature = "wgbqXEDd9CCPIXbTBnUfUGfOgtPQJGZ-JQ-p6P8MVVa8znrUlZ-rulndyXMfl8WeMb1qlmMGmnxJapXm-iV7DA"
    assert KEY.sign(REQUEST.message()) == signature


@pytest.mark.parametrize(
    "other",
    [
        {"principal": "ben"},
        {"origin": "https://capx.example:8443"},
        {"epoch": "OYZ7VqUQJ9PBa0YXjDBPsw.1795500001"},
        {"method": "GET"},
        {"target": "/people/tasks?limit=1"},
        {"body_digest": bytes(32)},
        {"at": 1_795_600_001},
        {"nonce": bytes(16)},
    ],
)
def test_every_part_of_a_request_is_signed(other: dict[str, Any]) -> None:
    assert replace(REQUEST, **other).message() != REQUEST.message()
