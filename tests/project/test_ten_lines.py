"""The smallest example there is, and what it must say."""

import pytest

import capx


def test_the_ten_lines_end_in_a_refusal_that_names_the_hop() -> None:
    lab = capx.Authority.temporary()
    task = lab.open(tenant="Acme", allow=["slides.write", "crm.export"])
    sub = task.bundle.delegate(to="slides-agent", allow=["slides.write"])

    @lab.tool("crm.export")
    def export() -> None:
        pytest.fail("the export ran")

    with capx.acting(sub), pytest.raises(capx.Denied) as refused:
        export()
    assert str(refused.value) == 'hop 1 ("slides-agent") allows only slides.write'
    lab.close()
