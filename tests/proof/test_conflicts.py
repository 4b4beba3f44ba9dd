"""What a capability was minted with is what its task was opened with. tests/attacks/test_proofs.py has the logs."""

from msgspec.structs import replace

from capx.proof.chains import ProvenChain
from capx.proof.conflicts import mint_faults
from capx.store.events import CapabilityMinted, TaskOpened
from tests.proof.conftest import Told


def test_a_minting_that_does_not_fit_its_task_is_told(told: Told) -> None:
    events = told.report.sources[0].events
    opened = next(event.read(TaskOpened) for event in events if event.kind == TaskOpened.kind)
    minted = next(event.read(CapabilityMinted) for event in events if event.kind == CapabilityMinted.kind)
    assert minted.chain is not None
    chain = ProvenChain.read(minted.chain)
    assert list(mint_faults(opened, minted, chain)) == []
    for changed, says in (
        (replace(opened, tenant="Globex"), "claims another tenant"),
        (replace(opened, intent="A" * 43), "claims another intent"),
        (replace(opened, root="A" * 22), "claims another root"),
        (replace(opened, expires=opened.expires - 1), "lives longer than the task"),
        (replace(opened, holder=None), "names another first holder"),
    ):
        assert any(says in why for why in mint_faults(changed, minted, chain)), says
    for other in (replace(minted, audience="hr"), replace(minted, ids=("A" * 22,)), replace(minted, kid="A" * 11)):
        assert any("has another chain than its ids" in why for why in mint_faults(opened, other, chain))
    assert any(
        "without the key that the task demands" in why
        for why in mint_faults(replace(opened, holder=None), replace(minted, request="r"), chain)
    )
