"""What a chain of blocks claims: where marks may stand, what the authority's block needs, whose each restriction is."""

from pathlib import Path

import pytest

from capx.crypto.base64url import b64u
from capx.errors import ConfigurationProblem
from capx.store.sqlite.store import SQLiteStore
from capx.tokens import chain, wire
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.lineage import (
    FIRST_HOLDER,
    MAX_BUDGETS,
    Allotment,
    Section,
    TokenRefused,
    sections_of,
    unverified_lineage,
)
from capx.tokens.revocation_key import of_kid
from capx.verify.decision import Denied
from capx_caveats import (
    DEFAULT,
    Allow,
    Budget,
    Call,
    Caveat,
    Expires,
    Facts,
    Holder,
    Hop,
    Intent,
    MaxHops,
    NotBefore,
    Presented,
    Refusal,
    Root,
    Sig,
    Step,
    Task,
    Tenant,
    TooLarge,
    UntilCompleted,
    Vocabulary,
    action,
    allow,
    anything,
    each,
    encode_block,
    expires,
    max_hops,
    one_of,
    regex,
    where,
)
from capx_caveats.vocabulary import MAX_BRACKETS, MAX_CAVEATS
from tests.labs.approving import LEA, demanding
from tests.labs.lab import NONCES, NOW, Lab, appended, codes, grant, holding, minted, raw

READ = ToolCall("a.read")
CALL = Call("a.read")
CRM = minted().delegate(to="sub", allow=["crm.read"], now=NOW)


def unheard(lab: Lab, capability: Capability) -> Capability:
    lab.deaths.years = 100.0
    return capability


# Shape: marks and the authority's block
MARKS: dict[str, Caveat] = {
    "task": Task("T1"),
    "another task": Task("T2"),
    "root": Root("R1"),
    "another root": Root("R2", (Step("a", NONCES[3]),)),
    "intent": Intent("A" * 43),
    "call": Presented("tool", READ.digest(), NOW, "A" * 16),
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=list(MARKS))
@pytest.mark.parametrize("bearer", [False, True])
def test_a_mark_of_others_in_a_holders_block_is_refused(mark: Caveat, bearer: bool) -> None:
    lab = Lab(bearer=bearer)
    for block in ([mark, Expires(NOW + 9)], [Expires(NOW + 9), mark], [Hop("a", NONCES[0]), mark]):
        for capability in (holding(block), holding(block, [Expires(NOW + 9)])):
            assert lab.codes(capability) == ("misplaced",)
            assert not bearer or codes(lab.decide(capability.text)) == ("misplaced",)


@pytest.mark.parametrize("mark", [*MARKS.values(), Hop("a", NONCES[0]), MaxHops(5)], ids=[*MARKS, "hop", "max_hops"])
def test_no_mark_stands_twice_in_one_block(mark: Caveat) -> None:
    lab = Lab()
    assert lab.codes(raw(encode_block(grant(mark, mark)))) == ("misplaced",)
    assert lab.codes(holding([mark, mark])) == ("misplaced",)


def test_a_hop_stands_first_in_a_holders_block_and_nowhere_else() -> None:
    lab = Lab()
    hop = Hop("a", NONCES[0])
    assert lab.codes(holding([hop, Expires(NOW + 9)])) == ()
    assert lab.codes(holding([Expires(NOW + 9), hop])) == ("misplaced",)
    assert lab.codes(holding([max_hops(9), hop])) == ("misplaced",)
    assert lab.codes(raw(encode_block((hop, *grant())))) == ("misplaced",)
    assert lab.codes(raw(encode_block(grant(hop)))) == ("misplaced",)


def test_max_hops_may_recur_further_down() -> None:
    assert Lab().codes(holding([max_hops(3)], [max_hops(2)], [max_hops(5), Expires(NOW + 9)])) == ()


COMPLETE: dict[str, Caveat] = dict(zip(("task", "root", "until_completed", "expires", "allow"), grant(), strict=True))


@pytest.mark.parametrize("missing", COMPLETE)
def test_what_the_authoritys_block_lacks_no_holder_can_append(missing: str) -> None:
    lab = Lab()
    rest = raw(encode_block(tuple(caveat for name, caveat in COMPLETE.items() if name != missing)))
    assert lab.codes(rest) == ("incomplete_authority",)
    for block in ([COMPLETE[missing]], [Hop("a", NONCES[0]), COMPLETE[missing]], grant()):
        cured = appended(rest, encode_block(tuple(block)))
        assert lab.codes(cured) in {("incomplete_authority",), ("misplaced",)}
    assert lab.codes(raw(encode_block(tuple(COMPLETE.values())))) == ()


@pytest.mark.parametrize(("required", "caveat"), [("tenant", Tenant("Acme")), ("intent", Intent("A" * 43))])
def test_what_a_verifier_requires_besides_no_holder_can_append(required: str, caveat: Caveat) -> None:
    lab = Lab(require=[required])
    assert lab.codes(minted()) == ("incomplete_authority",)
    assert not lab.decide(lab.present(holding([caveat])), tenant="Acme").allowed
    assert lab.decide(lab.present(minted(caveat)), tenant="Acme" if required == "tenant" else None).allowed


def test_what_cannot_be_required_is_a_configuration_error() -> None:
    for required in (["sig"], ["unheard of"], "tenant"):
        with pytest.raises(ConfigurationProblem):
            Lab(require=required)


def test_the_task_must_be_the_one_it_ends_with() -> None:
    other = (Task("T1"), Root("R1"), UntilCompleted("T2"), Expires(NOW + 9), allow("a.read"))
    assert Lab().codes(raw(encode_block(other))) == ("incomplete_authority",)


@pytest.mark.parametrize("block", [b"", b"[]", b"junk", b"{}", b"null", b"[" * 10, b'[["task","T1"]'])
def test_an_authoritys_block_not_understood_is_refused(block: bytes) -> None:
    assert Lab().codes(raw(block)) == ("incomplete_authority",)


def test_a_third_party_caveat_in_an_authoritys_block_is_refused() -> None:
    assert Lab().codes(raw(chain.ThirdParty(b"v", b"c"))) == ("incomplete_authority",)
    assert Lab().codes(raw(chain.ThirdParty(b"v", b"c"), encode_block(grant()))) == ("misplaced",)


def test_a_token_without_any_block_grants_nothing() -> None:
    assert not Lab(bearer=True).decide(raw().text).allowed
    assert not Lab().decide(raw().text).allowed


def test_every_refusal_is_told_with_whose_it_is() -> None:
    capability = minted(Tenant("Acme")).delegate(
        to="research", nonce=NONCES[0], allow=["a.write"], caveats=[NotBefore(NOW + 1)]
    )
    capability = capability.attenuate(max_hops(0)).delegate(to="slides", nonce=NONCES[1], allow=["a.x"])
    lab = Lab()
    decision = lab.decide(lab.present(capability), tenant="Globex")
    assert [(refusal.code, refusal.hop, refusal.hop_name) for refusal in decision.refusals] == [
        ("too_many_hops", 1, "research"),
        ("wrong_tenant", 0, None),
        ("action_not_allowed", 1, "research"),
        ("not_yet", 1, "research"),
        ("action_not_allowed", 2, "slides"),
    ]
    assert str(Denied(decision)) == (
        'hop 1 ("research") allows at most 0 more delegations, but 1 followed; '
        """the task's grant is for tenant "Acme", not for this call's; """
        'hop 1 ("research") allows only a.write; '
        'hop 1 ("research") is not valid before 2026-11-25T09:46:41Z; '
        'hop 2 ("slides") allows only a.x'
    )


def test_hop_numbers_go_on_from_the_path_of_the_root() -> None:
    steps = (Step("a", NONCES[0]), Step("b", NONCES[1]))
    block = (Task("T1"), Root("R1", steps), UntilCompleted("T1"), Expires(NOW + 9), allow("a.*"), max_hops(1))
    capability = raw(encode_block(block)).delegate(to="c", nonce=NONCES[2], allow=["a.write"])
    lab = Lab()
    (refusal,) = lab.decide(lab.present(capability)).refusals
    assert (refusal.code, refusal.hop, refusal.hop_name) == ("action_not_allowed", 3, "c")
    below = capability.delegate(to="d", nonce=NONCES[3])
    assert lab.codes(below, "a.write") == ("too_many_hops",)
    assert lab.codes(capability, "a.write") == ()


def test_a_counter_is_named_by_the_authority_alone() -> None:
    shared = Budget("calls", "20", "C1")
    assert Lab().codes(minted(shared)) == ("no_meter",)
    assert Lab().codes(appended(minted(), encode_block((shared,)))) == ("misplaced",)


def test_a_token_has_so_many_budgets_and_no_more() -> None:
    budgets = [Budget("calls", str(n)) for n in range(9)]
    assert Lab().codes(holding(budgets, budgets[:7])) == ("no_meter",) * 16
    assert Lab().codes(holding(budgets, budgets[:8])) == ("too_large",)


SIGNED = Sig("A" * 86)


def test_signatures_stand_where_they_may_be() -> None:
    assert Lab().codes(appended(minted(), encode_block((SIGNED, Expires(NOW + 9))))) == ("misplaced",)
    assert Lab().codes(minted(SIGNED)) == ("misplaced",)
    assert Lab().codes(appended(minted(), encode_block((Holder("A" * 43),)))) == ("misplaced",)


def test_a_signature_before_a_presentation_is_refused() -> None:
    mark = Presented("tool", READ.digest(), NOW, "A" * 16)
    assert codes(Lab().decide(appended(minted(), encode_block((SIGNED, mark))).text)) == ("misplaced",)


# At the authority itself
class Strict(Caveat, frozen=True, tag="acme.strict"):
    """A service's own caveat that lets nothing through; one about "broken" cannot even be read."""

    what: str

    def __post_init__(self) -> None:
        if self.what == "broken":
            raise LookupError(self.what)

    def refusal(self, facts: Facts) -> Refusal | None:
        return Refusal("strict", "lets nothing through", "nothing")

    def sentence(self) -> str:
        return f"strict about {self.what}"


@pytest.mark.parametrize("vocabulary", [DEFAULT, DEFAULT.extended(Strict)], ids=["unknown", "known"])
@pytest.mark.parametrize("block", [b'[["acme.strict","x"]]', b'[["acme.strict","broken"]]', b'[["acme.strict"]]'])
def test_an_own_caveat_is_not_judged_at_the_authority(vocabulary: Vocabulary, block: bytes) -> None:
    capability = appended(minted(audience="authority"), block)
    lab = Lab("authority", vocabulary=vocabulary)
    assert lab.codes(capability) == ()
    assert lab.verifier.explain(capability.text, CALL).allowed
    assert len(Lab(vocabulary=vocabulary).codes(appended(minted(), block))) == 1


def test_a_known_own_caveat_is_left_out_however_it_is_spelt() -> None:
    capability = appended(minted(audience="authority"), b'[ [ "acme\\u002estrict" , "x" ] ]')
    assert Lab("authority", vocabulary=DEFAULT.extended(Strict)).codes(capability) == ()
    assert Lab("authority").codes(capability) == ("not_understood",)


def test_at_the_authority_a_budget_is_neither_judged_nor_spent(tmp_path: Path) -> None:
    store = SQLiteStore.create(tmp_path / "capx.db")
    lab = Lab("authority", meter=store)
    capability = minted(Budget("calls", "0"), Budget("eur", "1"), audience="authority")
    assert lab.codes(capability) == ()
    assert not lab.verifier.admit(lab.present(capability), READ).spends
    with store.read() as reading:
        assert reading.counters() == []
    store.close()


def test_a_presentation_says_of_itself_what_its_capability_says() -> None:
    presented = CRM.present(ToolCall("crm.read"), now=NOW)
    lineage = unverified_lineage(presented)
    assert lineage == unverified_lineage(CRM)
    assert (lineage.hops, lineage.ids, lineage.path) == (CRM.hops, CRM.ids, CRM.path)
    assert (lineage.node, lineage.minted) == (CRM.node, CRM.ids[1])
    assert presented.id not in lineage.ids


def test_a_presentation_that_is_narrowed_on_is_refused() -> None:
    presented = CRM.present(ToolCall("crm.read"), now=NOW)
    narrowed = Capability(wire.decode(presented.text), presented.text).attenuate(expires(NOW + 60), allow("crm.read"))
    with pytest.raises(TokenRefused) as refused:
        unverified_lineage(narrowed)
    assert refused.value.refusal.code == "misplaced"


def refused(capability: Capability) -> Refusal:
    """Why a capability has no lineage."""
    with pytest.raises(TokenRefused) as caught:
        unverified_lineage(capability)
    assert str(caught.value) == caught.value.refusal.code
    return caught.value.refusal


# What is told


@pytest.mark.parametrize("missing", COMPLETE)
def test_the_lack_of_an_authoritys_block_is_named(missing: str) -> None:
    rest = raw(encode_block(tuple(caveat for name, caveat in COMPLETE.items() if name != missing)))
    lack = refused(rest)
    assert lack.wanted
    assert lack.wanted.startswith(missing)
    assert lack.wanted in lack.sentence


@pytest.mark.parametrize("required", ["tenant", "intent"])
def test_what_a_verifier_requires_in_vain_is_named(required: str) -> None:
    lab = Lab(require=[required])
    (lack,) = lab.decide(lab.present(minted())).refusals
    assert lack.wanted == required


def test_a_misplaced_mark_is_named() -> None:
    assert Task("T2").sentence() in refused(holding([Task("T2")])).sentence


def test_the_number_of_budgets_is_named() -> None:
    refusal = refused(holding([Budget("calls", str(n)) for n in range(MAX_BUDGETS + 1)]))
    assert str(MAX_BUDGETS) in refusal.sentence


@pytest.mark.parametrize("block", [b'[["acme.x"]' + b',["acme.x"]' * MAX_CAVEATS + b"]", b"[" * (MAX_BRACKETS + 1)])
def test_a_block_beyond_the_limits_is_too_large(block: bytes) -> None:
    refusal = refused(appended(minted(), block))
    with pytest.raises(TooLarge) as caught:
        DEFAULT.decode(block)
    assert (refusal.code, refusal.sentence) == ("too_large", str(caught.value))


def test_patterns_that_are_too_large_together_are_refused() -> None:
    capability = minted()
    for at in (980, 990):
        patterns = (regex(f"[a-z]{{{count}}}x") for count in range(at, at + 10))
        capability = capability.attenuate(*(where("args.x", pattern) for pattern in patterns))
    assert refused(capability) == Refusal("too_large", "its patterns are too large together", "fewer patterns")


def test_too_many_hops_say_how_many_were_allowed() -> None:
    (refusal,) = unverified_lineage(minted(max_hops(0)).delegate(to="a", now=NOW)).standing
    assert (refusal.code, refusal.wanted) == ("too_many_hops", max_hops(0).sentence())
    assert "1" in refusal.sentence


def test_a_key_that_is_not_safe_is_explained() -> None:
    (refusal,) = unverified_lineage(minted(Holder("A" * 43))).unsigned
    assert (refusal.code, "A" * 43 in refusal.sentence) == ("hop_signature", True)


def test_an_approval_that_is_missing_is_asked_for() -> None:
    (missing,) = unverified_lineage(demanding()).undischarged
    refusal = missing.refusal()
    assert (refusal.code, refusal.wanted) == ("needs_discharge", f"the approval of {LEA.public}")
    assert "approval" in refusal.sentence


def test_what_asks_others_is_not_understood() -> None:
    (missing,) = unverified_lineage(appended(minted(), chain.ThirdParty(b"v", b"c"))).undischarged
    assert missing.refusal().code == "not_understood"


def test_a_token_without_blocks_is_refused_not_read() -> None:
    assert refused(raw()).code == "incomplete_authority"


# What is known of a chain


def test_a_lineage_tells_what_its_authority_claims() -> None:
    lineage = unverified_lineage(minted(Tenant("Acme"), Intent("A" * 43)))
    assert (lineage.task, lineage.root, lineage.tenant, lineage.intent) == ("T1", "R1", "Acme", "A" * 43)


def test_a_lineage_claims_no_tenant_and_no_intent_by_itself() -> None:
    lineage = unverified_lineage(minted())
    assert (lineage.tenant, lineage.intent) == (None, None)


def test_a_lineage_ends_with_its_first_end() -> None:
    lineage = unverified_lineage(minted().attenuate(expires(NOW + 60), now=NOW).attenuate(expires(NOW + 90), now=NOW))
    assert (lineage.expires, lineage.issued) == (NOW + 60, NOW)


def test_a_lineage_keeps_the_digest_of_its_last_block() -> None:
    frame = wire.decode(CRM.attenuate(expires(NOW + 60), now=NOW).text)
    digest = chain.digests(frame.identifier_bytes, frame.blocks)[-1]
    assert unverified_lineage(Capability(frame, CRM.attenuate(expires(NOW + 60), now=NOW).text)).digest == digest


def test_a_lineage_knows_the_nonces_of_its_path_and_its_size() -> None:
    block = (Task("T1"), Root("R1", (Step("a", NONCES[0]),)), UntilCompleted("T1"), Expires(NOW + 9), allow("a.*"))
    capability = raw(encode_block(block)).delegate(to="b", nonce=NONCES[1])
    lineage = unverified_lineage(capability)
    assert (lineage.hops, lineage.nonces) == (("a", "b"), NONCES[:2])
    assert lineage.size == sum(len(block) for block in capability.blocks if isinstance(block, bytes))


def test_a_lineage_dies_by_its_tasks_nodes_ids_and_key() -> None:
    capability = minted(UntilCompleted("T0")).delegate(to="a", now=NOW)
    lineage = unverified_lineage(capability)
    kid = wire.decode(capability.text).identifier.kid
    assert lineage.revocation_keys == ("T1", "T0", *lineage.path, *lineage.ids, of_kid(kid))


SMALL = Budget("calls", "9")


def only_allotment(capability: Capability) -> Allotment:
    """The one budget of a capability."""
    (allotment,) = unverified_lineage(capability).allotments
    return allotment


def test_a_budget_of_the_grant_counts_for_its_block() -> None:
    capability = minted(SMALL)
    allotment = only_allotment(capability)
    assert allotment == Allotment(0, None, b64u(capability.ids[1]), SMALL)


def test_a_shared_budget_counts_where_the_authority_says() -> None:
    assert only_allotment(minted(Budget("calls", "9", "C1"))).counter == "C1"


def test_a_budget_of_a_hop_counts_for_its_node() -> None:
    child = minted().delegate(to="a", caveats=[SMALL], now=NOW)
    assert only_allotment(child) == Allotment(1, "a", b64u(child.path[1]), SMALL)


def test_a_budget_below_a_hop_counts_for_its_block() -> None:
    child = minted().delegate(to="a", now=NOW).attenuate(SMALL, now=NOW)
    assert only_allotment(child) == Allotment(1, "a", b64u(child.ids[3]), SMALL)


def test_the_first_holders_restrictions_are_its_own() -> None:
    lineage = unverified_lineage(minted().attenuate(expires(NOW + 60), now=NOW).attenuate(SMALL, now=NOW))
    assert [(section.hop, section.name) for section in lineage.sections] == [
        (0, None),
        (0, FIRST_HOLDER),
        (0, FIRST_HOLDER),
    ]


def test_at_the_authority_restrictions_keep_their_owners() -> None:
    lineage = unverified_lineage(minted(audience="authority").delegate(to="a", allow=["task.status"], now=NOW))
    assert [(section.hop, section.name) for section in lineage.sections] == [(0, None), (1, "a")]


def test_marks_and_what_ends_a_task_refuse_no_call() -> None:
    lineage = unverified_lineage(minted(Tenant("Acme")).delegate(to="a", allow=["a.read"], now=NOW))
    told = [(demand.hop, demand.name, type(demand.caveat)) for demand in lineage.demands]
    assert told == [(0, None, Expires), (0, None, Allow), (0, None, Tenant), (1, "a", Allow)]


def test_the_work_of_the_caveats_of_a_token_adds_up() -> None:
    narrow = minted(allowed=allow(action("a.read", x=each(one_of(*range(1, 90))))))
    one = unverified_lineage(narrow).most_work
    twice = narrow.delegate(to="a", allow=[action("a.read", x=each(one_of(*range(1, 90))))], now=NOW)
    assert one.each > 0
    assert unverified_lineage(twice).most_work == tuple(2 * part for part in one)


def test_a_call_may_be_too_much_work_for_all_caveats_together() -> None:
    rule = action("a.read", x=each(one_of(*range(1, 90))), y=anything())
    once = minted(allowed=allow(rule))
    twice = once.delegate(to="a", allow=[rule], now=NOW)
    judged = [Call("a.read", {"x": [1] * count, "y": "long" * 1000}) for count in (1, 2000, 4000)]
    assert [unverified_lineage(once).is_too_much_work(call) for call in judged] == [False, False, True]
    assert [unverified_lineage(twice).is_too_much_work(call) for call in judged] == [False, True, True]


def test_a_presentation_of_no_grant_is_incomplete() -> None:
    mark = Presented("tool", READ.digest(), NOW, "A" * 16)
    assert refused(raw(encode_block((mark,)))).code == "incomplete_authority"


def test_no_first_block_is_another_holders() -> None:
    hop = Hop("a", NONCES[0])
    assert list(sections_of([(hop,)], 0)) == [Section(0, None, (hop,))]
