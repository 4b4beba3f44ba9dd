import pytest

from capx.tokens import wire
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.lineage import TokenRefused, unverified_lineage
from capx_caveats import allow, expires
from tests.labs.lab import NOW, minted

CRM = minted().delegate(to="sub", allow=["crm.read"], now=NOW)


def test_a_presentation_says_of_itself_what_its_capability_says() -> None:
    presented = CRM.present(ToolCall("crm.read"), now=NOW)
    lineage = unverified_lineage(presented)
    assert lineage == unverified_lineage(CRM)
    assert (lineage.hops, lineage.ids, lineage.path) == (CRM.hops, CRM.ids, CRM.path)
    assert presented.id not in lineage.ids


def test_a_presentation_that_is_narrowed_on_is_refused() -> None:
    presented = CRM.present(ToolCall("crm.read"), now=NOW)
    narrowed = Capability(wire.decode(presented.text), presented.text).attenuate(expires(NOW + 60), allow("crm.read"))
    with pytest.raises(TokenRefused) as refused:
        unverified_lineage(narrowed)
    assert refused.value.refusal.code == "misplaced"
