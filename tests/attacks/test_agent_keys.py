"""Attacks on who holds what an authority gave: grants that lose their key, and keys that were revoked."""

from collections.abc import Callable, Iterator

import pytest

from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest
from capx.policy.policy import MAX_TTL
from capx.resource.feed.page import FeedCursor, sign_page
from capx.store.records import KEPT_BEYOND_TTL
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.revocation_key import of_public
from capx.verify.decision import Denied
from capx_caveats import Holder, expires
from tests.labs.granting_lab import ANA, BOB, GrantingLab, rule

READ, QUERY, SEND = "crm.read", "warehouse.query", "mail.send"
RULES = (rule("at_open", READ), rule("on_request", QUERY), rule("ask", SEND))
LEAD, CHILD, GRANDCHILD, THIEF = map(AgentKey.generate, ("lead", "child", "grandchild", "thief"))
DAY = 86_400


class Family:
    """A task of a lead, its child and its grandchild, each with a key of its own."""

    def __init__(self, lab: GrantingLab) -> None:
        self.lab = lab
        self.task = lab.open(agent_key=LEAD.public)
        self.lead = self.task.bundle.with_key(LEAD)
        self.child = self.delegated(self.lead, CHILD)
        self.grandchild = self.delegated(self.child, GRANDCHILD)
        self.sibling = self.delegated(self.lead, THIEF)

    def delegated(self, parent: Bundle, key: AgentKey) -> Bundle:
        return parent.delegate(to=key.name, to_key=key, may_ask=[QUERY, SEND], now=int(self.lab.clock.now))

    def codes(self, bundle: Bundle) -> tuple[str, ...]:
        (crm,) = bundle.candidates("crm")
        return self.lab.codes(crm, READ)


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(*RULES)
    yield made
    made.authority.close()


@pytest.fixture
def family(lab: GrantingLab) -> Family:
    return Family(lab)


def own(bundle: Bundle) -> Bundle:
    """The bundle without the key of its holder."""
    return Bundle.parse(bundle.text)


def signed_by(bundle: Bundle, key: AgentKey, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The bundle, held by somebody who signs with another key under the name of the right one."""
    named = bundle.holder
    monkeypatch.setattr(AgentKey, "public", property(lambda _: named))
    held = own(bundle).with_key(key)
    monkeypatch.undo()
    return held


def holders(capability: Capability) -> list[str]:
    return [f"ed25519:{one.key}" for one in capability.caveats[0] if isinstance(one, Holder)]


def test_a_key_that_is_named_twice_asks_like_any_other(lab: GrantingLab, family: Family) -> None:
    again = family.delegated(family.delegated(family.child, LEAD), CHILD)
    granted = lab.granted(again, QUERY)
    assert holders(granted) == [CHILD.public]
    lab.authority.check()
    lab.authority.revoke(key=LEAD.public)
    lab.authority.check()
    assert family.codes(again) == ("revoked",)


def test_an_approver_who_holds_the_agents_key_may_not_consent(lab: GrantingLab) -> None:
    # Bob uses his own key as that of an agent, under a label that is not his name.
    helper = AgentKey("helper", BOB._signer)
    task = lab.open(agent_key=LEAD.public)
    child = task.bundle.with_key(LEAD).delegate(to="helper", to_key=helper, may_ask=[SEND], now=int(lab.clock.now))
    request = lab.pending(child, SEND).request
    with pytest.raises(InvalidRequest, match="has the same name or key as one of its agents"):
        lab.decide(request, BOB)
    with pytest.raises(InvalidRequest, match='is the key of "bob" in the policy, and no agent'):
        lab.open(agent_key=helper.public)


# A grant at run time goes to who asked.


@pytest.mark.parametrize("depth", range(3))
def test_a_grant_names_the_key_of_its_asker_and_no_other(family: Family, depth: int) -> None:
    asker = (family.lead, family.child, family.grandchild)[depth]
    granted = family.lab.granted(asker, QUERY, {})
    assert granted.path == asker.path
    assert holders(granted) == [asker.holder]
    assert family.lab.codes(granted.with_key((LEAD, CHILD, GRANDCHILD)[depth]), QUERY) == ()
    for stranger in {LEAD, CHILD, GRANDCHILD, THIEF} - {(LEAD, CHILD, GRANDCHILD)[depth]}:
        with pytest.raises(InvalidRequest, match="is bound to"):
            granted.with_key(stranger)
    (request,) = family.lab.authority.requests()
    assert request.keys == tuple(key.public for key in (LEAD, CHILD, GRANDCHILD)[: depth + 1])
    family.lab.authority.check()


def test_a_parent_cannot_use_the_grant_of_its_child(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    granted = family.lab.granted(family.child, QUERY, {})
    (stolen,) = signed_by(Bundle([granted]), LEAD, monkeypatch)
    assert family.lab.codes(stolen, QUERY) == ("hop_signature",)


@pytest.mark.parametrize("thief", [LEAD, GRANDCHILD, THIEF], ids=["parent", "child", "stranger"])
def test_nobody_asks_with_a_key_of_somebody_else(
    family: Family, thief: AgentKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Denied) as refused:
        family.lab.ask(signed_by(family.child, thief, monkeypatch), QUERY, {})
    assert refused.value.code == "hop_signature"
    assert family.lab.authority.requests() == []


def test_nobody_asks_with_a_keyed_token_and_no_signature(family: Family) -> None:
    (asking,) = own(family.child).candidates("authority")
    verifier = family.lab.authority.own_verifier(bearer=True)
    call = ToolCall("task.status", {})
    with pytest.raises(Denied) as refused:
        verifier.admit(verifier.authenticate(asking.text), call)
    assert refused.value.code == "hop_unsigned"
    with pytest.raises(InvalidRequest, match="only the holder of the key"):
        family.lab.ask(own(family.child), QUERY, {})


def test_no_restriction_brings_the_key_of_a_grant_away(family: Family) -> None:
    narrowed = family.child.attenuate(expires("10m"), now=int(family.lab.clock.now))
    granted = family.lab.granted(narrowed, QUERY, {})
    assert holders(granted) == [CHILD.public]


# An operator has the intent, and not the key that it names.


def test_an_operator_opens_no_intent_for_a_key_of_his_own(lab: GrantingLab) -> None:
    signed = ANA.sign_intent(lab.intent(agent_key=LEAD.public))
    with pytest.raises(InvalidRequest, match="names the key"):
        lab.authority.open(signed, agent_key=THIEF.public)
    changed = type(signed)(lab.intent(agent_key=THIEF.public), signed.signature)
    with pytest.raises(InvalidRequest, match="no signature by ana"):
        lab.authority.open(changed)
    opened = lab.authority.open(signed)
    assert opened.holder == LEAD.public
    with pytest.raises(InvalidRequest, match="is bound to"):
        opened.bundle.with_key(THIEF)


def test_what_an_operator_opens_for_a_key_he_cannot_use(lab: GrantingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = lab.open(agent_key=LEAD.public)
    held = signed_by(opened.bundle, THIEF, monkeypatch)
    assert lab.codes(held.candidates("crm")[0], READ) == ("hop_signature",)
    more = signed_by(lab.authority.mint(opened.id, allow=["crm.write"]), THIEF, monkeypatch)
    assert lab.codes(next(iter(more)), "crm.write") == ("hop_signature",)


# A dead key.


DEAD: dict[str, tuple[AgentKey, dict[str, bool]]] = {
    "the holder's": (LEAD, {"lead": False, "child": False, "grandchild": False, "sibling": False}),
    "a hop's": (CHILD, {"lead": True, "child": False, "grandchild": False, "sibling": True}),
    "the last hop's": (GRANDCHILD, {"lead": True, "child": True, "grandchild": False, "sibling": True}),
    "one beside": (THIEF, {"lead": True, "child": True, "grandchild": True, "sibling": False}),
}


@pytest.mark.parametrize(("key", "alive"), DEAD.values(), ids=DEAD)
def test_a_dead_key_kills_what_names_it_and_nothing_else(family: Family, key: AgentKey, alive: dict[str, bool]) -> None:
    for bundle in (family.lead, family.child, family.grandchild, family.sibling):
        assert family.codes(bundle) == ()
    family.lab.authority.revoke(key=key.public)
    for name, lives in alive.items():
        assert family.codes(getattr(family, name)) == (() if lives else ("revoked",))


@pytest.mark.parametrize("key", [LEAD, CHILD, GRANDCHILD], ids=["the holder's", "above", "its own"])
def test_a_grant_dies_with_each_key_of_its_asker(family: Family, key: AgentKey) -> None:
    granted = family.lab.granted(family.grandchild, QUERY, {}).with_key(GRANDCHILD)
    beside = family.lab.granted(family.sibling, QUERY, {}).with_key(THIEF)
    assert holders(granted) == [GRANDCHILD.public]
    foreseen = family.lab.authority.revoke(key=key.public, dry_run=True)
    family.lab.authority.revoke(key=key.public)
    assert "revoked" in family.lab.codes(granted, QUERY)
    assert (family.lab.codes(beside, QUERY) == ()) == (key is not LEAD)
    assert foreseen.dying is not None
    assert b64u(granted.ids[-1]) in foreseen.dying.capabilities
    assert (b64u(beside.ids[-1]) in foreseen.dying.capabilities) == (key is LEAD)
    family.lab.authority.check()


@pytest.mark.parametrize("key", [LEAD, CHILD, GRANDCHILD], ids=["the holder's", "above", "its own"])
def test_nobody_asks_below_a_dead_key(family: Family, key: AgentKey) -> None:
    family.lab.authority.revoke(key=key.public)
    with pytest.raises(Denied) as refused:
        family.lab.ask(family.grandchild, QUERY, {})
    assert refused.value.code == "revoked"


def test_nobody_consents_for_an_asker_whose_key_died(family: Family) -> None:
    waiting = family.lab.pending(family.grandchild, SEND)
    verdict = family.lab.verdict(waiting.request)
    family.lab.authority.revoke(key=CHILD.public)
    assert family.lab.authority.inquiry(waiting.request).asker_revoked
    with pytest.raises(InvalidRequest, match="can no longer be answered"):
        family.lab.authority.answer(verdict)


def test_a_new_key_of_one_agent_gets_what_the_dead_one_had(family: Family) -> None:
    granted = family.lab.granted(family.child, QUERY, {})
    family.lab.authority.revoke(key=CHILD.public)
    fresh = AgentKey.generate("child")
    again = family.delegated(family.lead, fresh)
    assert holders(family.lab.granted(again, QUERY, {})) == [fresh.public]
    assert "revoked" in family.lab.codes(granted.with_key(CHILD), QUERY)


# Named again.


def forget(lab: GrantingLab) -> None:
    """Let everything that happened so far be forgotten."""
    lab.clock.now += MAX_TTL + KEPT_BEYOND_TTL + 1
    lab.open(agent_key=LEAD.public)
    lab.clock.now += DAY
    assert lab.authority.prune().deaths > 0


def leave(_: GrantingLab) -> None:
    """Do nothing."""


@pytest.mark.parametrize("later", [leave, forget])
def test_a_dead_key_is_named_in_nothing_any_more(lab: GrantingLab, later: Callable[[GrantingLab], None]) -> None:
    lab.authority.revoke(key=CHILD.public)
    later(lab)
    with pytest.raises(InvalidRequest, match="was revoked, and nothing is bound or sealed to it"):
        lab.authority.open(allow=[READ], agent_key=CHILD.public)
    for key in (CHILD.public, None):
        with pytest.raises(InvalidRequest, match="was revoked, and nothing is bound or sealed to it"):
            lab.authority.open(ANA.sign_intent(lab.intent(agent_key=key)), agent_key=CHILD.public)
    # By an agent: the authority does not see it, and every service does.
    fresh = Family(lab)
    assert fresh.codes(fresh.child) == fresh.codes(fresh.grandchild) == ("revoked",)
    assert fresh.codes(fresh.lead) == fresh.codes(fresh.sibling) == ()
    with pytest.raises(Denied) as refused:
        lab.ask(fresh.grandchild, QUERY, {})
    assert refused.value.code == "revoked"


def test_a_page_of_the_feed_tells_a_dead_key_as_an_id(lab: GrantingLab) -> None:
    lab.authority.revoke(key=CHILD.public)
    with lab.authority.store.read() as reading:
        signer = lab.authority.keyring.active.feed_signer()
        page = sign_page(reading, signer, FeedCursor(), now=lab.clock.now)
        assert next(reading.deaths()).key == of_public(CHILD.public)
    assert "ed25519:" not in page.text
    assert '[\\"id:' in page.text
