"""The public bytes of a chain say who held it and what it allowed; nothing in them is a token."""

import msgspec
import pytest

from capx.proof.chains import BadChain, ProvenChain, ProvenPresentation
from capx.tokens.chain_text import ChainText
from tests.labs.proving import PLANNER, ProofLab
from tests.proof.conftest import Told


def chain_of(body: dict[str, object]) -> ChainText:
    return msgspec.convert(body["chain"], ChainText)


def test_a_chain_says_who_held_it_and_what_it_permits(lab: ProofLab) -> None:
    _, body = lab.short()
    chain = ProvenChain.read(chain_of(body))
    assert chain.keys == (PLANNER.public,)
    assert chain.permits("slides.write")
    assert not chain.permits("crm.read")
    assert chain.ids == tuple(body["ids"])
    assert chain.unsigned == ()


def test_a_presentation_is_signed_for_one_chain(lab: ProofLab) -> None:
    _, body = lab.short()
    _, other = lab.short()
    presented = body["presented"]
    assert ProvenPresentation.read(ProvenChain.read(chain_of(body)), presented).is_signed
    assert not ProvenPresentation.read(ProvenChain.read(chain_of(other)), presented).is_signed
    with pytest.raises(BadChain):
        ProvenPresentation.read(ProvenChain.read(chain_of(body)), body["chain"]["blocks"][0])
    with pytest.raises(BadChain):
        ProvenPresentation.read(ProvenChain.read(chain_of(body)), "nothing")


@pytest.mark.parametrize(
    "text",
    [
        ChainText("nothing", ()),
        ChainText("\xe4", ()),
        ChainText('[1,"QNwz2HGDO9c","slides","KPOeJlRzB31zfmNDmU5-Pg",1795600000]', ()),
        ChainText('[1,"QNwz2HGDO9c","slides","KPOeJlRzB31zfmNDmU5-Pg",1795600000]', ('[["hop","x","A"]]',)),
        ChainText('[1,"QNwz2HGDO9c","slides","KPOeJlRzB31zfmNDmU5-Pg",1795600000]', ("\ud800",)),
        ChainText('[1,"QNwz2HGDO9c","slides","KPOeJlRzB31zfmNDmU5-Pg",1795600000]', (("A", "A", "A"),)),
    ],
)
def test_what_is_no_chain_is_refused(text: ChainText) -> None:
    with pytest.raises(BadChain):
        ProvenChain.read(text)


def test_a_proof_holds_no_token(told: Told) -> None:
    text = told.proof.dump().decode()
    assert "capx1_" not in text
    assert "capxd1_" not in text
    for capability in told.task.bundle:
        assert capability.text not in text
        # The signature of a chain is its key: whoever has it can go on.
        assert capability.text.removeprefix("capx1_")[-43:] not in text
