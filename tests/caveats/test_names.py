"""Names are labels, and one that reads like other words is quoted."""

import pytest

from capx_caveats import (
    Hop,
    InvalidCaveat,
    Pair,
    Tenant,
    action,
    allow,
    anything,
    where,
)


def test_names_are_labels() -> None:
    for name in ("a" * 129, "a\u2028b", "\ufeffa", "a\u202eb"):
        with pytest.raises(InvalidCaveat):
            Tenant(name)
        with pytest.raises(InvalidCaveat):
            Hop(name, "AgICAgICAgI")
        with pytest.raises(InvalidCaveat):
            Pair(name, anything())


def test_a_name_that_reads_like_other_words_is_quoted() -> None:
    sly = "id is 1 and every other argument is absent; crm.export where x"
    assert allow(action("a.read", args={sly: 1})).sentence() == f'allows only a.read where "{sly}" is 1'
    assert allow(action("a.read", args={"any other argument": 1})).sentence().endswith('"any other argument" is 1')
    assert where(f"args.{sly}", 1).sentence() == f'"args.{sly}" is 1'
    assert where("args.x-y", 1).sentence() == "args.x-y is 1"
