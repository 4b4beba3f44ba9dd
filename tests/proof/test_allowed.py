"""What chains allow is told in words, and all chains of a proof share one bound of work."""

from capx.proof.allowed import Allowed
from capx.proof.chains import ProvenChain
from capx_caveats import Allow, Anything, Entry, Glob, Pair
from tests.labs.proving import PLANNER, ProofLab


def heavy(lab: ProofLab, count: int, lists: int) -> list[ProvenChain]:
    """Chains with `lists` allowlists of four globs each: combined, they are as many entries as four to that power."""
    _, planner = lab.started()
    held = next(one for one in planner if one.audience == "crm").with_key(PLANNER)
    found: list[ProvenChain] = []
    for nth in range(count):
        narrowed = held
        for at in range(lists):
            globs = [Glob(f"*{at}*{nth}*{each}*") for each in range(4)]
            entries = [Entry("crm.a", (Pair("p", one), Pair("*", Anything()))) for one in globs]
            narrowed = narrowed.attenuate(Allow(tuple(entries)))
        found.append(ProvenChain.read(narrowed.chain_text))
    return found


def test_a_chain_says_what_it_allowed(lab: ProofLab) -> None:
    _, planner = lab.started()
    chain = ProvenChain.read(next(one for one in planner if one.audience == "slides").chain_text)
    allowed = Allowed([chain])
    assert allowed.actions(chain) == ("slides.*",)
    assert allowed.sentences(chain) == ("slides: slides.*",)


def test_many_heavy_chains_share_one_bound_of_work(lab: ProofLab) -> None:
    (alone,) = heavy(lab, 1, 4)
    assert len(Allowed([alone]).sentences(alone)) == 4**4
    many = heavy(lab, 60, 4)
    allowed = Allowed(many)
    told = [allowed.sentences(one) for one in many]
    assert sum(map(len, told)) < len(many) * 4**4 // 3
    for said in told:
        # Nothing is lost: what was not combined is a further condition.
        assert said[0].startswith("crm: crm.a where p (matches")
        assert any(one.startswith("only where the token's first holder allows only crm.a where p") for one in said)


def test_a_light_chain_behind_heavy_ones_is_combined(lab: ProofLab) -> None:
    many = [*heavy(lab, 100, 4), *heavy(lab, 1, 1)]
    assert len(Allowed(many).sentences(many[-1])) == 4
