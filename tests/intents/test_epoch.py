"""What is no epoch names no authority."""

import json

import pytest

from capx.errors import InvalidRequest
from capx.intents.intent import parse_intent
from tests.labs.intents import DOCUMENT


@pytest.mark.parametrize("authority", ["X", "X.", "X.01", "X.1.2", ".1", "X.1\n", "https://authority"])
def test_what_is_no_epoch_names_no_authority(authority: str) -> None:
    with pytest.raises(InvalidRequest, match="epoch of its store"):
        parse_intent(json.dumps({**DOCUMENT, "authority": authority}).encode())
