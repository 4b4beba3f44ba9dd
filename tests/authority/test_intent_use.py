"""Tasks opened on intents: once each, here, now, by whom it is said, and never after they were withdrawn."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import Signer
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.intents.intent import Intent, SignedIntent, parse_intent
from capx.intents.principal_key import PrincipalKey
from capx.policy.file import FILE, read_policy
from capx.policy.policy import NO_POLICY, Policy
from capx.store.events import CapabilityMinted, IntentWithdrawn, TaskOpened
from capx.store.factory import create_store, open_store
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import MAX_TOKENS
from capx.verify.decision import Denied
from capx_caveats import Allow, Budget, Call, budget, tenant
from capx_caveats import Intent as IntentMark
from tests.labs.commands import plain_environment, warm_python
from tests.labs.postgres import postgres_database, postgres_server, postgres_url
from tests.labs.timed_authority import Clock

__all__ = ["postgres_database", "postgres_server", "postgres_url"]

NOW = 1_800_000_000
ANA = PrincipalKey("ana@our.example", Signer(bytes(range(32))))
BO = PrincipalKey("bo@our.example", Signer(bytes(range(1, 33))))
POLICY = f"""
[principal."{ANA.name}"]
key = "{ANA.public}"
tenants = ["Acme", "Initech"]
purposes = ["qbr", "refund", "long"]
[principal."{BO.name}"]
key = "{BO.public}"
tenants = ["Umbrella"]
purposes = ["qbr"]
[principal.kim]
tenants = ["Acme"]
purposes = ["qbr"]

[purpose.qbr]
ttl = "2h"
[[purpose.qbr.grant]]
how = "at_open"
allow = ["crm.accounts.read", "support.tickets.read"]

[purpose.refund]
ttl = "1h"
require = ["tenant", "ticket"]
[[purpose.refund.grant]]
how = "at_open"
allow = ["crm.accounts.read"]
[[purpose.refund.grant]]
how = "at_open"
budget = {{ refunds = 1 }}
allow."billing.refund" = {{ ticket = "{{intent.ticket}}" }}
[[purpose.refund.grant]]
how = "at_open"
budget = {{ calls = 3 }}
allow = ["crm.*", "mail.send"]
[[purpose.refund.grant]]
how = "on_request"
allow = ["warehouse.stock.read"]

[purpose.long]
ttl = "3d"
[[purpose.long.grant]]
how = "at_open"
allow = ["crm.accounts.read"]
"""


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store can be made, or is."""
    return str(request.getfixturevalue("postgres_url") if request.param == "postgres" else tmp_path / "capx.db")


@pytest.fixture
def authority(clock: Clock) -> Iterator[Authority]:
    with Authority.temporary(policy=read_policy(POLICY), clock=clock) as made:
        yield made


def meant(authority: Authority, /, **members: Any) -> Intent:
    """An intent for this authority: of Ana, for a review for Acme, unless something else is said."""
    written = Intent.written(
        principal=ANA.name,
        authority=authority.epoch(),
        purpose="qbr",
        statement="Prepare the quarterly review for Acme.",
        tenant="Acme",
        now=NOW,
    )
    return msgspec.structs.replace(written, **members)


def signed(authority: Authority, key: PrincipalKey = ANA, /, **members: Any) -> SignedIntent:
    return key.sign_intent(meant(authority, principal=key.name, **members))


def refused(authority: Authority, intent: SignedIntent | Intent, **options: Any) -> str:
    """Why it opens nothing, and that nothing came of it."""
    before = authority.end(), authority.intents(), authority.tasks()
    with pytest.raises(InvalidRequest) as caught:
        authority.open(intent, **options)
    assert (authority.end(), authority.intents(), authority.tasks()) == before
    return str(caught.value)


def events(authority: Authority, kind: str) -> list[Any]:
    kinds = {fact.kind: fact for fact in (TaskOpened, CapabilityMinted, IntentWithdrawn)}
    return [event.read(kinds[kind]) for event in authority.log() if event.kind == kind]


# What it opens


def test_a_task_on_an_intent_gets_what_its_policy_says(authority: Authority) -> None:
    intent = signed(authority)
    opened = authority.open(intent)
    assert opened.bundle.audiences == ("crm", "support", "authority")
    assert (opened.principal, opened.intent) == (ANA.name, intent.intent.digest)
    assert (opened.tenant, opened.purpose, opened.expires) == ("Acme", "qbr", NOW + 7200)
    task = authority.task(opened.id)
    assert (task.principal, task.intent, task.tenant) == (ANA.name, intent.intent.digest, "Acme")
    (record,) = authority.intents()
    assert (record.opened, record.withdrawn, record.proof) == (1, None, intent.signature)
    assert parse_intent((record.document or "").encode()) == intent.intent
    (event,) = events(authority, "task_opened")
    assert (event.principal, event.intent, event.agent) == (ANA.name, intent.intent.digest, None)
    assert event.policy == authority.policy.digest != ""
    authority.check()


def test_a_purpose_may_last_as_long_as_a_task_may(clock: Clock) -> None:
    policy = read_policy(POLICY)
    ttl = policy.purposes["qbr"].ttl
    with Authority.temporary(policy=policy, clock=clock, max_ttl=ttl) as authority:
        assert authority.open(signed(authority)).expires == NOW + ttl
    with Authority.temporary(policy=policy, clock=clock, max_ttl=ttl - 1) as authority:
        assert "shorten the ttl in the policy" in refused(authority, signed(authority))


def test_an_intent_without_an_agent_is_logged_without_one(authority: Authority) -> None:
    authority.open(signed(authority))
    (opened,) = [event for event in authority.log() if event.kind == "task_opened"]
    assert opened.facts()["agent"] is None


def test_the_digest_stands_in_every_token_of_the_task(authority: Authority) -> None:
    opened = authority.open(signed(authority))
    more = authority.mint(opened.id, allow=["warehouse.read"])
    child = opened.bundle.delegate(to="reader", may_ask=["warehouse.stock.read"])
    for capability in (*opened.bundle, *more, *child):
        assert [one.digest for one in capability.caveats[0] if isinstance(one, IntentMark)] == [opened.intent]
    by_hand = authority.open(allow=["crm.read"])
    assert not any(isinstance(one, IntentMark) for capability in by_hand.bundle for one in capability.caveats[0])


def test_a_task_without_a_required_intent_is_refused() -> None:
    with Authority.temporary(policy=read_policy(POLICY)) as authority:
        now = int(time.time())
        opened = authority.open(signed(authority, issued=now, not_after=now + 60))
        verifier = authority.verifier("crm", require={"intent"})
        received, call = ToolCall("crm.accounts.read"), Call("crm.accounts.read", tenant="Acme")
        allowed = verifier.verify(opened.bundle.present("crm", received).text, received, call)
        assert allowed.intent == opened.intent
        by_hand = authority.open(allow=["crm.accounts.read"], tenant="Acme")
        with pytest.raises(Denied) as denied:
            verifier.verify(by_hand.bundle.present("crm", received).text, received, call)
        assert denied.value.code == "incomplete_authority"


def test_a_budget_counts_what_its_rule_gives_and_nothing_else(authority: Authority) -> None:
    opened = authority.open(signed(authority, purpose="refund", parameters={"ticket": "T-1"}))
    found = [(one.audience, _allowed(one), _budgets(one)) for one in opened.bundle if one.audience != "authority"]
    assert found == [
        # What the first rule gives stands last at its audience: it is tried first, and costs nothing.
        ("crm", ["crm.*"], [("calls", "3", opened.id)]),
        ("crm", ["crm.accounts.read"], []),
        ("billing", ["billing.refund"], [("refunds", "1", opened.id)]),
        ("mail", ["mail.send"], [("calls", "3", opened.id)]),
    ]
    first = opened.bundle.candidates("crm", ToolCall("crm.accounts.read"))[0]
    assert not _budgets(first)


def _allowed(capability: Any) -> list[str]:
    return [entry.pattern for one in capability.caveats[0] if isinstance(one, Allow) for entry in one.entries]


def _budgets(capability: Any) -> list[tuple[str, str, object]]:
    return [(one.unit, one.limit, one.counter) for one in capability.caveats[0] if isinstance(one, Budget)]


def test_rules_of_equal_budgets_at_one_audience_are_one(clock: Clock) -> None:
    rules = "".join(
        f'[[purpose.qbr.grant]]\nhow = "at_open"\nbudget = {{ calls = {limit} }}\nallow = ["crm.{name}"]\n'
        for name, limit in (("a", 1), ("b", 2), ("c", 1), ("a", 1))
    )
    with Authority.temporary(policy=_policy(rules), clock=clock) as authority:
        opened = authority.open(signed(authority))
    found = [(_allowed(one), _budgets(one)[0][1]) for one in opened.bundle if one.audience == "crm"]
    assert found == [(["crm.b"], "2"), (["crm.a", "crm.c"], "1")]


def _policy(rules: str) -> Policy:
    return read_policy(
        f'[principal."{ANA.name}"]\nkey = "{ANA.public}"\ntenants = ["Acme"]\npurposes = ["qbr"]\n'
        f'[purpose.qbr]\nttl = "1h"\n{rules}'
    )


def test_a_purpose_that_gives_as_much_as_a_bundle_holds_opens(clock: Clock) -> None:
    def rules(count: int) -> str:
        actions = ", ".join(f'"a{number}.read"' for number in range(count))
        return f'[[purpose.qbr.grant]]\nhow = "at_open"\nallow = [{actions}]\n'

    with Authority.temporary(policy=_policy(rules(MAX_TOKENS - 1)), clock=clock) as authority:
        assert len(authority.open(signed(authority)).bundle) == MAX_TOKENS
    with pytest.raises(ConfigurationProblem, match=f"needs {MAX_TOKENS} capabilities at open"):
        _policy(rules(MAX_TOKENS))


def test_an_intent_does_not_burn_on_what_nobody_would_take(clock: Clock) -> None:
    limits = "".join(f"u{number} = 1\n" for number in range(16))
    policy = _policy(
        f'[[purpose.qbr.grant]]\nhow = "at_open"\nallow = ["crm.read"]\n[purpose.qbr.grant.budget]\n{limits}'
    )
    with Authority.temporary(policy=policy, clock=clock) as authority:
        intent = signed(authority)
        why = refused(authority, intent, caveats=[Budget("more", "1")])
        assert why == (
            "cannot mint the capability for crm, because no service would accept it: a token has at most 16 budgets"
        )
        assert authority.open(intent).intent == intent.intent.digest


def test_an_intents_value_too_long_is_refused_by_key_path(clock: Clock) -> None:
    policy = _policy('[[purpose.qbr.grant]]\nhow = "at_open"\nallow."crm.read" = { note = "{intent.note}" }\n')
    with Authority.temporary(policy=policy, clock=clock) as authority:
        long = signed(authority, parameters={"note": "x" * 4000})
        why = refused(authority, long)
        assert re.match(r"purpose\.qbr\.grant\[1\]\.allow: a block has at most 4096 bytes", why)
        authority.open(signed(authority, parameters={"note": "x" * 3000}))


def test_a_purpose_without_grants_gives_the_authority_alone(clock: Clock) -> None:
    policy = _policy('[[purpose.qbr.grant]]\nhow = "on_request"\nallow = ["crm.read"]\n')
    with Authority.temporary(policy=policy, clock=clock) as authority:
        assert authority.open(signed(authority)).bundle.audiences == ("authority",)


def test_the_agent_and_a_purpose_without_tenant_are_in_the_log(clock: Clock) -> None:
    policy = read_policy(
        f'[principal."{ANA.name}"]\nkey = "{ANA.public}"\npurposes = ["tidy"]\n'
        '[purpose.tidy]\nttl = "1h"\ntenant = "none"\n[[purpose.tidy.grant]]\nhow = "at_open"\nallow = ["disk.tidy"]\n'
    )
    with Authority.temporary(policy=policy, clock=clock) as authority:
        opened = authority.open(signed(authority, purpose="tidy", tenant=UNSET, agent="tidier"))
        assert opened.tenant is None
        assert events(authority, "task_opened")[0].agent == "tidier"


# Until when


def test_a_task_ends_at_the_earlier_of_its_ttl_and_intent(authority: Authority) -> None:
    assert authority.open(signed(authority, not_after=NOW + 600)).expires == NOW + 600
    assert authority.open(signed(authority, not_after=NOW + 7201)).expires == NOW + 7200
    assert authority.open(signed(authority), expires="5m").expires == NOW + 300
    assert authority.open(signed(authority), expires=NOW + 7200).expires == NOW + 7200
    for intent, expires in ((signed(authority), NOW + 7201), (signed(authority, not_after=NOW + 600), "601s")):
        assert "at the latest" in refused(authority, intent, expires=expires)
    assert "has passed" in refused(authority, signed(authority), expires=NOW)


def test_a_ttl_beyond_what_lives_here_names_its_purpose(authority: Authority) -> None:
    said = refused(authority, signed(authority, purpose="long", not_after=NOW + 300_000))
    assert "purpose long has a ttl of 3d" in said
    assert "lasts at most 1d" in said


def test_caveats_narrow_what_the_policy_gives(authority: Authority) -> None:
    opened = authority.open(signed(authority), caveats=[budget("calls", 2)])
    assert all(_budgets(one) == [("calls", "2", opened.id)] for one in opened.bundle)
    assert "only the authority writes" in refused(authority, signed(authority), caveats=[IntentMark("A" * 43)])


@pytest.mark.parametrize(
    "options",
    [{"allow": ["hr.read"]}, {"tenant": "Umbrella"}, {"tenant": "Acme"}, {"purpose": "refund"}, {"purpose": "qbr"}],
    ids=str,
)
def test_an_opener_is_refused_what_intent_and_policy_say(authority: Authority, options: dict[str, Any]) -> None:
    assert "the intent names purpose and tenant" in refused(authority, signed(authority), **options)


def test_a_tenant_among_the_caveats_takes_away_and_does_not_move() -> None:
    with Authority.temporary(policy=read_policy(POLICY)) as authority:
        now = int(time.time())
        opened = authority.open(signed(authority, issued=now, not_after=now + 60), caveats=[tenant("Umbrella")])
        assert opened.tenant == "Acme"
        for name in ("Acme", "Umbrella"):
            assert not allowed(authority, opened, tenant=name)


def allowed(authority: Authority, opened: OpenedTask, **facts: Any) -> bool:
    """Whether reading accounts with what was opened is allowed now."""
    received, call = ToolCall("crm.accounts.read"), Call("crm.accounts.read", **facts)
    return authority.verifier("crm").decide(opened.bundle.present("crm", received).text, received, call).allowed


# What it does not open


def test_an_intent_opened_twice_is_refused(authority: Authority) -> None:
    once, twice = signed(authority), signed(authority, max_tasks=2)
    authority.open(once)
    assert "was opened once, which is its limit" in refused(authority, once)
    assert authority.open(twice).id != authority.open(twice).id
    assert "was opened 2 times" in refused(authority, twice)
    assert [record.opened for record in authority.intents()] == [1, 2]


def test_an_intent_is_used_up_though_its_task_has_ended(authority: Authority) -> None:
    intent = signed(authority)
    authority.complete(authority.open(intent).id)
    assert "was opened once" in refused(authority, intent)


def test_an_intent_is_used_up_in_any_layout_or_attestation(authority: Authority) -> None:
    intent = signed(authority)
    authority.open(intent)
    turned = json.dumps(dict(reversed(json.loads(intent.text()).items()))).encode()
    for again in (SignedIntent.parse(turned), ANA.sign_intent(intent.intent)):
        assert "was opened once" in refused(authority, again)
    assert "was opened once" in refused(authority, intent.intent, attested="the login of our.example")


def test_an_opening_that_fails_counts_nothing(authority: Authority) -> None:
    intent = signed(authority)
    assert "at the latest" in refused(authority, intent, expires="3h")
    assert authority.intents() == []
    authority.open(intent)


def test_an_intent_for_elsewhere_is_refused_under_the_same_keys(clock: Clock) -> None:
    ring = KeyRing(RootKey.generate())
    policy = read_policy(POLICY)
    with (
        Authority.temporary(policy=policy, clock=clock) as staging,
        Authority.temporary(policy=policy, clock=clock) as production,
    ):
        staging.rekey(ring)
        production.rekey(ring)
        intent = signed(staging)
        assert f"is for authority {staging.epoch()}, and this one is {production.epoch()}" in refused(
            production, intent
        )
        assert staging.open(intent).intent == intent.intent.digest


def test_a_withdrawn_intent_is_refused_and_its_tasks_are_dead(authority: Authority) -> None:
    intent, other = signed(authority, max_tasks=5), signed(authority, max_tasks=5)
    first, second, done = authority.open(intent), authority.open(intent), authority.open(intent)
    kept = authority.open(other)
    authority.complete(done.id)
    withdrawn = authority.withdraw_intent(intent)
    assert [(end.task, end.end, end.again) for end in withdrawn.tasks] == [
        (first.id, "withdrawn", False),
        (second.id, "withdrawn", False),
    ]
    assert not withdrawn.again
    assert (withdrawn.at, withdrawn.position) == (NOW, authority.end() - 2)
    assert [one.intent for one in events(authority, "intent_withdrawn")] == [intent.intent.digest]
    states = {task.id: task.state for task in authority.tasks()}
    assert states == {first.id: "withdrawn", second.id: "withdrawn", done.id: "completed", kept.id: "active"}
    assert "this intent was withdrawn at" in refused(authority, intent)
    authority.open(other)
    authority.check()


def test_what_a_withdrawn_intent_opened_is_refused_at_once() -> None:
    with Authority.temporary(policy=read_policy(POLICY)) as authority:
        now = int(time.time())
        intent = signed(authority, issued=now, not_after=now + 60)
        opened = authority.open(intent)
        assert allowed(authority, opened, tenant="Acme")
        authority.withdraw_intent(intent.intent.digest)
        received = ToolCall("crm.accounts.read")
        decision = authority.verifier("crm").decide(
            opened.bundle.present("crm", received).text, received, Call("crm.accounts.read", tenant="Acme")
        )
        assert [one.code for one in decision.refusals] == ["task_withdrawn"]


def test_an_intent_withdrawn_before_it_was_seen_never_opens(authority: Authority) -> None:
    intent = signed(authority)
    withdrawn = authority.withdraw_intent(intent.intent.digest)
    assert (withdrawn.tasks, withdrawn.again) == ((), False)
    assert "this intent was withdrawn at" in refused(authority, intent)
    assert "this intent was withdrawn at" in refused(authority, intent.intent, attested="the login")
    (record,) = authority.intents()
    assert (record.digest, record.principal, record.opened, record.withdrawn) == (intent.intent.digest, None, 0, NOW)


def test_withdrawing_twice_changes_nothing_and_says_when_it_was(authority: Authority, clock: Clock) -> None:
    intent = signed(authority)
    authority.open(intent)
    first = authority.withdraw_intent(intent)
    clock.now += 60
    end = authority.end()
    second = authority.withdraw_intent(intent.intent)
    assert second.again
    assert (second.at, second.tasks) == (first.at, ())
    assert authority.end() == end


def test_a_dry_run_of_withdrawing_tells_and_changes_nothing(authority: Authority) -> None:
    intent = signed(authority)
    opened = authority.open(intent)
    before = authority.end(), authority.intents()
    tried = authority.withdraw_intent(intent, dry_run=True)
    assert [(end.task, end.end, end.position) for end in tried.tasks] == [(opened.id, "withdrawn", None)]
    assert tried.dying is not None
    assert set(tried.dying.capabilities) == {b64u(one.id) for one in opened.bundle}
    assert (authority.end(), authority.intents()) == before
    assert authority.withdraw_intent(b64u(bytes(32)), dry_run=True).tasks == ()
    assert authority.end() == before[0]
    authority.withdraw_intent(intent)
    again = authority.withdraw_intent(intent, dry_run=True)
    assert (again.again, again.tasks) == (True, ())


def test_a_task_whose_time_ran_out_was_not_withdrawn(authority: Authority, clock: Clock) -> None:
    intent = signed(authority, not_after=NOW + 60)
    opened = authority.open(intent)
    clock.now = NOW + 60
    assert authority.withdraw_intent(intent, dry_run=True).tasks[0].end == "expired"
    assert [(end.task, end.end) for end in authority.withdraw_intent(intent).tasks] == [(opened.id, "expired")]


@pytest.mark.parametrize("text", ["", "x", "A" * 42, "A" * 44, "../../etc/passwd", "A" * 42 + "B", "ä" * 43])
def test_what_is_no_digest_withdraws_nothing(authority: Authority, text: str) -> None:
    for dry_run in (True, False):
        with pytest.raises(InvalidRequest, match="is not an intent: give its digest"):
            authority.withdraw_intent(text, dry_run=dry_run)
    assert authority.intents() == []


def test_an_intent_opens_before_its_end_and_not_at_it(authority: Authority, clock: Clock) -> None:
    early, late = (signed(authority, not_after=NOW + 60) for _ in range(2))
    clock.now = NOW + 59
    assert authority.open(early).expires == NOW + 60
    clock.now = NOW + 60
    assert "this intent ended at" in refused(authority, late)


def test_an_intent_not_issued_yet_is_refused_beyond_clock_skew(authority: Authority) -> None:
    assert "which is in the future" in refused(authority, signed(authority, issued=NOW + 6))
    authority.open(signed(authority, issued=NOW + 5))


def test_revoking_up_to_an_instant_leaves_an_intents_count(authority: Authority, clock: Clock) -> None:
    used, unused = signed(authority), signed(authority)
    authority.open(used)
    clock.now = NOW + 6
    authority.revoke(issued=NOW)
    assert "was opened once" in refused(authority, used)
    assert authority.open(unused).intent == unused.intent.digest


# Who asked


def test_the_signature_of_another_principal_does_not_count(authority: Authority) -> None:
    intent = meant(authority)
    posing = PrincipalKey(ANA.name, Signer(bytes(range(1, 33))))
    assert posing.public == BO.public
    assert "that the policy accepts" in refused(authority, posing.sign_intent(intent))


def test_the_signature_of_another_document_does_not_count(authority: Authority) -> None:
    one, other = signed(authority), signed(authority)
    assert "has no signature by" in refused(authority, SignedIntent(one.intent, other.signature))
    for members in ({"tenant": "Initech"}, {"max_tasks": 9}, {"not_after": NOW + 80_000}, {"statement": "x"}):
        changed: Any = members
        wider = Intent(**{**msgspec.structs.asdict(one.intent), **changed})
        assert "has no signature by" in refused(authority, SignedIntent(wider, one.signature))


def test_a_signature_made_for_anything_else_does_not_count(authority: Authority) -> None:
    intent = meant(authority)
    for message in (intent.digest.encode(), b"", intent.message()[:31], json.dumps(intent.document()).encode()):
        assert "has no signature by" in refused(authority, SignedIntent(intent, ANA.sign(message)))


def test_whoever_cannot_sign_learns_nothing(authority: Authority) -> None:
    forged = [
        SignedIntent(meant(authority, **members), b64u(bytes(range(64))))
        for members in (
            {},
            {"purpose": "nonsense"},
            {"tenant": "Umbrella"},
            {"authority": "elsewhere.1"},
            {"issued": NOW - 60, "not_after": NOW - 1},
            {"issued": NOW + 3600},
            {"parameters": {"x": 1}},
        )
    ]
    withdrawn = signed(authority)
    authority.withdraw_intent(withdrawn)
    forged.append(SignedIntent(withdrawn.intent, b64u(bytes(64))))
    said = {refused(authority, one) for one in forged}
    nobody = {
        refused(authority, SignedIntent(meant(authority, principal=name), b64u(bytes(64)))).replace(name, ANA.name)
        for name in ("kim", "nobody")
    }
    assert len(said | nobody) == 1


def test_a_weak_key_in_a_policy_by_hand_signs_nothing(clock: Clock) -> None:
    point = bytes([1, *bytes(31)])
    with pytest.raises(ConfigurationProblem):
        read_policy(f'[principal.ana]\nkey = "ed25519:{b64u(point)}"\n')
    made = read_policy(POLICY)
    ana = msgspec.structs.replace(made.principals[ANA.name], key=point)
    policy = msgspec.structs.replace(made, principals={ANA.name: ana})
    with Authority.temporary(policy=policy, clock=clock) as authority:
        # R of small order and S = 0: what verifies under such a key wherever that is not refused.
        assert "has no signature by" in refused(authority, SignedIntent(meant(authority), b64u(point + bytes(32))))


def test_an_intent_of_another_tenants_principal_is_refused(authority: Authority) -> None:
    assert "may not ask for the tenant" in refused(authority, signed(authority, BO))
    assert authority.open(signed(authority, BO, tenant="Umbrella")).tenant == "Umbrella"
    assert "Umbrella" in refused(authority, signed(authority, tenant="Umbrella"))
    assert refused(authority, signed(authority, tenant=UNSET))


def test_an_intent_for_a_purpose_of_others_is_refused(authority: Authority) -> None:
    refund = {"purpose": "refund", "parameters": {"ticket": "T-1"}}
    assert "refund" in refused(authority, signed(authority, BO, tenant="Umbrella", **refund))
    assert "nonsense" in refused(authority, signed(authority, purpose="nonsense"))
    authority.open(signed(authority, **refund))


def test_a_principal_without_a_key_cannot_sign_but_be_attested(authority: Authority) -> None:
    kim = PrincipalKey.generate("kim")
    assert "has no signature by" in refused(authority, signed(authority, kim))
    opened = authority.open(meant(authority, principal="kim"), attested="the login of our.example")
    assert opened.principal == "kim"
    assert authority.intents()[0].proof == "attested: the login of our.example"


def test_an_intent_that_nobody_signed_or_attested_is_refused(authority: Authority) -> None:
    assert "is not signed" in refused(authority, meant(authority))
    assert "leave out attested" in refused(authority, signed(authority), attested="the login")
    for attested in ("", "a\nb", "x" * 129):
        assert "is not the name of an attester" in refused(authority, meant(authority), attested=attested)
    assert "no principal" in refused(authority, meant(authority, principal="nobody"), attested="the login")
    with pytest.raises(InvalidRequest, match="goes with an intent that has no signature"):
        authority.open(allow=["crm.read"], attested="the login")


def test_a_signature_is_kept_over_who_attested_another_opening(authority: Authority) -> None:
    intent = signed(authority, max_tasks=3)
    openings: list[tuple[SignedIntent | Intent, str | None]] = [
        (intent.intent, "the login"),
        (intent, None),
        (intent.intent, "the login"),
    ]
    proofs: list[str | None] = []
    for given, attested in openings:
        authority.open(given, attested=attested)
        proofs.append(authority.intents()[0].proof)
    assert proofs == ["attested: the login", intent.signature, intent.signature]


def test_only_a_new_signature_replaces_one_of_a_replaced_key(clock: Clock) -> None:
    replaced = PrincipalKey(ANA.name, Signer(bytes(range(2, 34))))
    policies = [read_policy(POLICY)]
    with Authority.temporary(policy=lambda: policies[-1], clock=clock) as authority:
        intent = meant(authority, max_tasks=3)
        authority.open(ANA.sign_intent(intent))
        policies.append(read_policy(POLICY.replace(ANA.public, replaced.public)))
        assert "that its principal no longer has" in refused(authority, intent, attested="the login")
        again = replaced.sign_intent(intent)
        authority.open(again)
        assert authority.intents()[0].proof == again.signature


def test_an_authority_without_a_policy_opens_no_intent(clock: Clock) -> None:
    with Authority.temporary(clock=clock) as authority:
        assert authority.policy is NO_POLICY
        assert "has no signature by" in refused(authority, signed(authority))
        assert "has no purposes" in refused(authority, meant(authority), attested="the login")


def test_a_key_taken_out_of_the_policy_is_refused(tmp_path: Path) -> None:
    with Authority.create_home(tmp_path / "home") as authority:
        file = tmp_path / "home" / FILE
        file.touch(0o600)
        file.write_text(POLICY)
        now = int(time.time())
        first, second, third = (signed(authority, issued=now, not_after=now + 60) for _ in range(3))
        authority.open(first)
        file.write_text(POLICY.replace(ANA.public, PrincipalKey.generate("ana").public))
        assert "has no signature by" in refused(authority, second)
        file.write_text("[purpose")
        with pytest.raises(ConfigurationProblem, match="not TOML"):
            authority.open(second)
        file.unlink()
        assert "has no signature by" in refused(authority, second)
        file.touch(0o600)
        file.write_text(POLICY)
        authority.open(third)


# What a key that leaked is worth


def test_the_tasks_of_a_principal_are_revoked_together(authority: Authority) -> None:
    mine = [authority.open(signed(authority)) for _ in range(2)]
    theirs = authority.open(signed(authority, BO, tenant="Umbrella"))
    by_hand = authority.open(allow=["crm.read"], tenant="Acme")
    foreseen = authority.revoke(where={"principal": ANA.name}, dry_run=True)
    killed = authority.revoke(where={"principal": ANA.name})
    roots = [b64u(one.bundle.node or b"") for one in mine]
    assert [one.key for one in foreseen.killed] == [one.key for one in killed.killed] == roots
    assert all(one.is_root for one in killed.killed)
    assert authority.revoke(where={"principal": ANA.name}).killed == ()
    assert authority.revoke(where={"principal": BO.name, "tenant": "Acme"}).killed == ()
    both = authority.revoke(where={"principal": BO.name, "tenant": "Umbrella"})
    assert [one.key for one in both.killed] == [b64u(theirs.bundle.node or b"")]
    assert authority.task(by_hand.id).state == "active"
    authority.check()


# Races


OPENS = """
import sys
from pathlib import Path
from capx.authority.authority import Authority
from capx.errors import InvalidRequest
from capx.intents.intent import SignedIntent
from capx.crypto.keys import KeyRing
from capx.policy.file import read_policy
from capx.store.factory import open_store

place, keys, policy, intent = sys.argv[1:]
signed = SignedIntent.parse(Path(intent).read_bytes())
with Authority(
    open_store(place), KeyRing.load(Path(keys)), policy=read_policy(Path(policy).read_bytes())
) as authority:
    print("ready", flush=True)
    sys.stdin.readline()
    opened = 0
    for _ in range(3):
        try:
            authority.open(signed)
        except InvalidRequest:
            continue
        opened += 1
    print(opened)
"""


def test_an_intent_opens_as_often_as_it_says_for_16_racers(place: str, tmp_path: Path) -> None:
    if "://" not in place:
        create_store(place).close()
    ring, policy, file = KeyRing(RootKey.generate()), tmp_path / FILE, tmp_path / "qbr.intent"
    policy.write_text(POLICY)
    with Authority(open_store(place), ring, policy=read_policy(POLICY)) as authority:
        authority.keyring.save(tmp_path / "root.keys")
        now = int(time.time())
        intent = signed(authority, max_tasks=7, issued=now, not_after=now + 600)
        file.write_bytes(intent.text())
        command = (warm_python(), "-c", OPENS, place, str(tmp_path / "root.keys"), str(policy), str(file))
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        racing = [subprocess.Popen(command, env=plain_environment(), **pipes) for _ in range(16)]
        try:
            for one in racing:
                assert one.stdout is not None
                assert one.stdout.readline() == "ready\n"
            counts = [int(one.communicate("go\n", timeout=60)[0]) for one in racing]
        finally:
            for one in racing:
                one.kill()
                one.wait()
        assert sum(counts) == 7
        assert len(authority.tasks()) == 7
        assert [record.opened for record in authority.intents()] == [7]
        assert len(events(authority, "task_opened")) == 7
        authority.check()
