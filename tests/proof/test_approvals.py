"""An approval says in a proof what people agreed to, and for which action."""

import pytest

from capx.proof import ProofBroken, Trust
from capx.proof.approvals import call_approved, caveats_in, documents_in, permits_action, shown_in
from capx.proof.chains import Chains
from capx.proof.recorded import decisions_in
from capx_caveats import Allow
from tests.labs.granting_lab import CARA
from tests.proof.conftest import Told


def test_an_approval_permits_what_it_says(told: Told) -> None:
    logged, _ = decisions_in(told.report.sources)
    (approval,) = Chains(told.report.sources, logged).approvals.values()
    assert permits_action(approval, "crm.read")
    assert not permits_action(approval, "crm.export")
    assert [one.sentence() for one in caveats_in(approval) if isinstance(one, Allow)] == [
        "allows only crm.read where id is 2"
    ]
    said = call_approved(approval, told.trust, is_shown=True, faults=())
    assert (said.signers, said.of, said.calls) == (("cara",), ("crm.read where id is 2",), "1")
    assert call_approved(approval, Trust(), is_shown=True, faults=()).signers == (CARA.public,)
    assert shown_in(one.recorded for one in logged) == set(documents_in(told.proof.approvals))


def test_a_document_stands_once_and_is_one(told: Told) -> None:
    (document,) = told.proof.approvals
    with pytest.raises(ProofBroken, match="stands in the proof twice"):
        documents_in([document, document])
    with pytest.raises(ProofBroken, match="is no request"):
        documents_in([{**document, "more": 1}])
