"""A statement says to a third party that a call is permitted: a JWT that common libraries verify."""

import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from joserfc import jwt as jose
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from capx.authority.authority import Authority
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest
from capx.tokens.binding import HttpRequest, ToolCall
from capx.verify.decision import Denied
from capx_caveats import JSON, action, budget, fresh, where
from tests.labs.stating import ORIGIN, Partner, StatementRefused, partner_of, stating

CALL: dict[str, JSON] = {"sku": "A-7", "count": 2}


@pytest.fixture
def authority() -> Iterator[Authority]:
    with stating() as made:
        yield made


@pytest.fixture
def partner(authority: Authority) -> Partner:
    return partner_of(authority)


def test_a_statement_says_who_may_do_what(authority: Authority, partner: Partner) -> None:
    key = AgentKey.generate("planner")
    task = authority.open(allow=["partner.quote"], tenant="Acme", purpose="qbr", agent_key=key.public, expires="10m")
    held = task.bundle.with_key(key)
    request = HttpRequest(method="POST", target="/quotes", content_type="application/json", body=b"{}")
    stated = authority.statement(held, "partner.quote", args=CALL, request=request)
    claims = partner.take(stated, "partner.quote", CALL, request)
    assert claims["aud"] == ORIGIN
    assert (claims["txn"], claims["tenant"], claims["purpose"]) == (task.id, "Acme", "qbr")
    assert claims["exp"] == claims["iat"] + 60
    assert claims["sub"] == claims["path"][-1] == b64u(held.node or b"")
    assert claims["cnf"]["jwk"]["x"] == key.public.removeprefix("ed25519:")
    assert claims["hops"] == []
    assert {"root", "until", "jti"} <= set(claims)
    assert not {"intent", "principal"} & set(claims)
    authority.flush()
    (decision,) = [event.facts() for event in authority.log() if event.kind == "decision"]
    assert (decision["id"], decision["outcome"], decision["stated"]) == (claims["jti"], "allowed", True)


# It knows the name of RFC 9864, which PyJWT does not know yet.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated:joserfc.errors.SecurityWarning")
def test_two_libraries_verify_it(authority: Authority) -> None:
    task = authority.open(allow=["partner.quote"])
    stated = authority.statement(task.bundle, "partner.quote", args=CALL)
    published: Any = authority.statements.jwks()
    keys = KeySet.import_key_set(published)
    found = jose.decode(stated, keys, algorithms=["EdDSA"])
    with Authority.temporary() as other:
        strange: Any = other.statements.jwks()
    with pytest.raises(JoseError, match="key"):
        jose.decode(stated, KeySet.import_key_set(strange), algorithms=["EdDSA"])
    jose.JWTClaimsRegistry(aud={"essential": True, "value": ORIGIN}).validate(found.claims)
    assert found.header["typ"] == "capx-statement+jwt"


def test_it_ends_with_its_token(authority: Authority, partner: Partner) -> None:
    task = authority.open(allow=["partner.quote"], expires="20s")
    claims = partner.take(authority.statement(task.bundle, "partner.quote"), "partner.quote", {})
    assert claims["exp"] == claims["until"] <= int(time.time()) + 20


def test_a_delegate_gets_what_it_was_left(authority: Authority, partner: Partner) -> None:
    task = authority.open(allow=["partner.*"])
    child = task.bundle.delegate(to="buyer", allow=[action("partner.quote", sku="A-7")])
    claims = partner.take(
        authority.statement(child, "partner.quote", args={"sku": "A-7"}), "partner.quote", {"sku": "A-7"}
    )
    assert claims["hops"] == ["buyer"]
    for refused in ({"sku": "A-8"}, {}):
        with pytest.raises(Denied):
            authority.statement(child, "partner.quote", args=refused)


def test_budgets_of_calls_are_spent_and_others_refuse(authority: Authority) -> None:
    counted = authority.open(allow=["partner.quote"], caveats=[budget("calls", 2)]).bundle
    for _ in range(2):
        authority.statement(counted, "partner.quote")
    with pytest.raises(Denied) as denied:
        authority.statement(counted, "partner.quote")
    assert denied.value.code == "budget_exhausted"
    euros = authority.open(allow=["partner.quote"], caveats=[budget("eur", 2)]).bundle
    with pytest.raises(Denied):
        authority.statement(euros, "partner.quote")


def test_what_needs_a_fact_of_the_service_refuses(authority: Authority) -> None:
    known = authority.open(allow=["partner.quote"], caveats=[where("args.sku", "A-7"), fresh("30s")]).bundle
    authority.statement(known, "partner.quote", args={"sku": "A-7"})
    unknown = authority.open(allow=["partner.quote"], caveats=[where("region", "eu")]).bundle
    with pytest.raises(Denied) as denied:
        authority.statement(unknown, "partner.quote")
    assert denied.value.code == "attribute_missing"


def test_one_presentation_gets_one_statement(authority: Authority) -> None:
    bundle = authority.open(allow=["partner.quote"]).bundle
    received = ToolCall("partner.quote", {})
    presented = bundle.present("partner", received).text
    verifier = authority.statements.verifier("partner")
    authority.statements.make(verifier.authenticate(presented), received)
    with pytest.raises(Denied) as denied:
        authority.statements.make(verifier.authenticate(presented), received)
    assert denied.value.code == "replayed"


def test_a_rotated_key_signs_and_the_old_one_is_still_known(authority: Authority) -> None:
    from capx.crypto.keys import RootKey

    bundle = authority.open(allow=["partner.quote"]).bundle
    before = authority.statement(bundle, "partner.quote")
    fresh_key = RootKey.generate()
    authority.rekey(authority.keyring.added(fresh_key).activated(fresh_key.kid))
    after = authority.statement(authority.open(allow=["partner.quote"]).bundle, "partner.quote")
    partner = partner_of(authority)
    assert {jwt.get_unverified_header(each)["kid"] for each in (before, after)} == set(partner.keys)
    partner.take(before, "partner.quote", {})
    partner.take(after, "partner.quote", {})


@pytest.mark.parametrize("audience", ["crm", "hr", "authority"])
def test_there_are_statements_only_for_who_is_listed(authority: Authority, audience: str) -> None:
    bundle = authority.open(allow=["crm.read"]).bundle
    with pytest.raises(InvalidRequest, match="there are no statements for"):
        authority.statement(bundle, "crm.read", audience=audience)


def test_the_key_of_such_an_audience_stays_here(authority: Authority) -> None:
    with pytest.raises(InvalidRequest, match="its key is never exported"):
        authority.export_keys("partner")
    assert authority.export_keys("crm").audience == "crm"


def test_who_is_dead_gets_none(authority: Authority) -> None:
    task = authority.open(allow=["partner.quote"])
    child = task.bundle.delegate(to="buyer", allow=["partner.quote"])
    authority.revoke(child)
    with pytest.raises(Denied) as denied:
        authority.statement(child, "partner.quote")
    assert denied.value.code == "revoked"
    authority.complete(task.id)
    with pytest.raises(Denied) as denied:
        authority.statement(task.bundle, "partner.quote")
    assert denied.value.code == "task_completed"


def forged(stated: str, header: dict[str, Any] | None = None, claims: dict[str, Any] | None = None) -> str:
    """The statement with another head or other claims, under its old signature."""
    import base64
    import json

    parts = stated.split(".")
    for at, change in ((0, header), (1, claims)):
        if change is not None:
            values = json.loads(base64.urlsafe_b64decode(parts[at] + "=="))
            parts[at] = b64u(json.dumps(values | change).encode())
    return ".".join(parts)


def test_the_partner_refuses_what_is_forged(authority: Authority, partner: Partner) -> None:
    stated = authority.statement(authority.open(allow=["partner.quote"]).bundle, "partner.quote", args=CALL)
    (kid,) = partner.keys
    public = bytes(partner.keys[kid].key.public_bytes_raw())
    claims = jwt.decode(stated, options={"verify_signature": False})
    head = {"typ": "capx-statement+jwt", "kid": kid}
    hostile = [
        forged(stated, header={"alg": "none"}).rsplit(".", 1)[0] + ".",
        forged(stated, header={"typ": "JWT"}),
        forged(stated, header={"kid": "A" * 11}),
        forged(stated, claims={"aud": "https://other.example"}),
        forged(stated, claims={"exp": claims["exp"] + 600}),
        forged(stated, claims={"action": "partner.buy"}),
        # HS256 under the public key, which everybody has.
        jwt.encode(claims, public, algorithm="HS256", headers=head),
        jwt.encode(claims, "", algorithm="none", headers=head),
    ]
    for each in hostile:
        with pytest.raises(StatementRefused):
            partner.take(each, "partner.quote", CALL)
    with pytest.raises(StatementRefused, match="another call"):
        partner.take(stated, "partner.quote", CALL | {"count": 3})
    with pytest.raises(StatementRefused, match="another call"):
        partner.take(stated, "partner.buy", CALL)
    partner.take(stated, "partner.quote", CALL)
    with pytest.raises(StatementRefused, match="used before"):
        partner.take(stated, "partner.quote", CALL)


def test_the_partner_refuses_it_later_and_elsewhere(authority: Authority, partner: Partner) -> None:
    bundle = authority.open(allow=["partner.quote"]).bundle
    request = HttpRequest(method="POST", target="/quotes", body=b"1")
    stated = authority.statement(bundle, "partner.quote", request=request)
    for other in (None, HttpRequest(method="POST", target="/quotes", body=b"2")):
        with pytest.raises(StatementRefused, match="another request"):
            partner.take(stated, "partner.quote", {}, other)
    key = authority.keyring.active.statement_signer()
    late = jwt.decode(stated, options={"verify_signature": False})
    late |= {"iat": late["iat"] - 120, "exp": late["exp"] - 120}
    import json

    head = jwt.get_unverified_header(stated)
    text = ".".join(b64u(json.dumps(each).encode()) for each in (head, late))
    with pytest.raises(StatementRefused, match="ExpiredSignatureError"):
        partner.take(f"{text}.{b64u(key.sign(text.encode()))}", "partner.quote", {}, request)
    stranger = Partner(authority.statements.jwks(), "capx/another")
    with pytest.raises(StatementRefused, match="InvalidIssuerError"):
        stranger.take(stated, "partner.quote", {}, request)
