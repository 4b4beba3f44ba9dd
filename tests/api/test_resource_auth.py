"""How a resource proves that a request is its own."""

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.api import resource_auth
from capx.api.resource_auth import AuthenticReport, UnauthenticatedReport
from capx.crypto.base64url import b64u
from capx.crypto.hashing import digest, mac
from capx.crypto.keys import AudienceKey, KeyRing, RootKey
from capx.errors import InvalidRequest
from capx.tokens.capability import mint
from capx.tokens.wire import Identifier, decode
from tests.labs.lab import grant

NOW = 1_800_000_000
ROOT = RootKey(bytes(range(32)))
RING = KeyRing(ROOT)
KEY = ROOT.audience_key("crm")
HASHED = sha256(b'{"a":1}').digest()
BODY = b64u(HASHED)


def proof(key: AudienceKey = KEY, at: int = NOW) -> str:
    return resource_auth.prove(key, method="POST", target="/decisions?wait=1", body=b'{"a":1}', at=at)


def verified(
    header: str,
    ring: KeyRing = RING,
    *,
    method: str = "POST",
    target: str = "/decisions?wait=1",
    body: bytes = b'{"a":1}',
    now: int = NOW,
) -> AuthenticReport:
    found = resource_auth.verify(header, ring, method=method, target=target, now=now)
    found.demand_body(body)
    return found


def refused(header: str, ring: KeyRing = RING, **changes: Any) -> str:
    with pytest.raises(UnauthenticatedReport) as caught:
        verified(header, ring, **changes)
    return str(caught.value)


def test_a_report_names_the_audience_whose_key_made_it() -> None:
    header = proof()
    assert header.startswith(f"Capx-Resource audience=crm, kid={ROOT.kid}, at={NOW}, body={BODY}, mac=")
    assert verified(header) == AuthenticReport("crm", ROOT.kid, HASHED)
    assert verified(proof(ROOT.audience_key("slides"))) == AuthenticReport("slides", ROOT.kid, HASHED)


def test_any_live_key_proves_a_report_and_a_retired_one_does_not() -> None:
    other = RootKey(bytes(range(1, 33)))
    header = proof(other.audience_key("crm"))
    assert "live key" in refused(header)
    assert verified(header, KeyRing(ROOT, [other])) == AuthenticReport("crm", other.kid, HASHED)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"target": "/decisions"},
        {"target": "/decisions?wait=2"},
        {"target": "/decisions?wait=1#"},
        {"body": b""},
        {"body": b'{"a":2}'},
        {"body": b'{"a":1}\n'},
        {"method": "", "target": "POST/decisions?wait=1"},
        {"target": "/decisions?wait=1\u00fc"},
        {"target": "/\ud800"},
    ],
    ids=str,
)
def test_a_report_is_good_for_what_it_was_made_for_alone(changes: dict[str, Any]) -> None:
    assert refused(proof(), **changes)


def test_a_report_of_one_audience_is_none_of_another() -> None:
    assert "live key" in refused(proof().replace("audience=crm", "audience=slides"))
    forged = proof(AudienceKey(ROOT.kid, "slides", bytes(range(3, 35))))
    assert "live key" in refused(forged)


def test_the_time_of_a_report_is_of_what_is_proven() -> None:
    assert "live key" in refused(proof().replace(f"at={NOW}", f"at={NOW + 1}"), now=NOW + 1)


def test_a_report_is_good_for_exactly_a_minute_to_either_side() -> None:
    for apart in (-60, 60):
        assert verified(proof(), now=NOW + apart) == AuthenticReport("crm", ROOT.kid, HASHED)
    for apart in (-61, 61):
        assert "set the clock" in refused(proof(), now=NOW + apart)


def test_a_report_that_nobody_made_says_nothing_of_clocks() -> None:
    assert "clock" not in refused(proof(RootKey(bytes(range(5, 37))).audience_key("crm")), now=NOW + 10_000)


def test_any_character_changed_is_refused() -> None:
    header = proof()
    for at, character in enumerate(header):
        for other in ("A", "0", "z", "_", " ", "=", "\n", "ü"):
            if other != character:
                refused(header[:at] + other + header[at + 1 :])
        refused(header[:at])
        refused(header[:at] + header[at + 1 :])
        refused(header[:at] + character + header[at:])


def test_a_report_has_one_spelling() -> None:
    header = proof()
    scheme, *parts = header.split(", ")
    for other in (
        "",
        header + "\n",
        " " + header,
        header + "=",
        header + ", mac=" + "A" * 43,
        header.replace(f"body={BODY}, ", ""),
        header.replace(", ", ","),
        header.replace(", ", ",  "),
        header.replace("Capx-Resource", "capx-resource"),
        header.replace(f"at={NOW}", f"at=0{NOW}"),
        header.replace(f"at={NOW}", "at=" + "9" * 5000),
        header.replace(f"at={NOW}", "at=" + "9" * 16),
        header.replace("audience=crm", 'audience="crm"'),
        header.replace("audience=crm, kid", "kid"),
        ", ".join([scheme, *reversed(parts)]),
    ):
        assert other != header
        refused(other)


@given(st.text(max_size=300))
def test_any_header_at_all_is_refused_in_one_way(junk: str) -> None:
    refused(junk)
    refused(f"Capx-Resource {junk}")


def test_no_report_makes_a_token_and_no_token_a_report() -> None:
    nonce = b64u(bytes(16))
    identifier = Identifier(ROOT.kid, "crm", nonce, NOW).encode()
    tail = b64u(mac(KEY.mac_key, identifier))
    refused(f"Capx-Resource audience=crm, kid={ROOT.kid}, at={NOW}, body={BODY}, mac={tail}")
    capability = mint(KEY, grant(), now=NOW)
    signature = b64u(decode(capability.text).signature)
    refused(f"Capx-Resource audience=crm, kid={ROOT.kid}, at={NOW}, body={BODY}, mac={signature}")
    # What the MAC of a report is over begins with its label, and that of a token with a bracket.
    assert identifier.startswith(b"[")
    parts = b"crm", b"POST", b"/decisions?wait=1", NOW.to_bytes(8), HASHED
    over = b"capx/1/report" + digest(b"capx/1/report", *parts)
    assert proof().endswith(f", mac={b64u(mac(KEY.mac_key, over))}")


@pytest.mark.parametrize(
    ("method", "target", "at"),
    [
        ("post", "/x", NOW),
        ("POST\n", "/x", NOW),
        ("", "/x", NOW),
        ("POST", "x", NOW),
        ("POST", "", NOW),
        ("POST", "/x y", NOW),
        ("POST", "/ü", NOW),
        ("POST", "/x\n", NOW),
        ("POST", "/" + "x" * 9000, NOW),
        ("POST", "/x", -1),
        ("POST", "/x", 1 << 53),
    ],
)
def test_what_cannot_be_sent_is_not_proven(method: str, target: str, at: int) -> None:
    with pytest.raises(InvalidRequest):
        resource_auth.prove(KEY, method=method, target=target, body=b"", at=at)
