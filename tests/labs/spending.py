"""Calls that are admitted and spend, over a real store."""

from typing import Any

import pytest

from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.verify.admitted import Admitted
from capx.verify.decision import Allowed, Denied
from capx_caveats import Call
from tests.labs.lab import Lab, codes

READ = ToolCall("a.read")


def admitted(lab: Lab, capability: Capability) -> Admitted:
    return lab.verifier.admit(lab.present(capability), READ)


def spend(lab: Lab, capability: Capability, **cost: Any) -> Allowed:
    """The verdict on one more call, freshly presented, that costs this much."""
    return admitted(lab, capability).judge(Call("a.read", cost=cost))


def refused(lab: Lab, capability: Capability, **cost: Any) -> tuple[str, ...]:
    with pytest.raises(Denied) as denied:
        spend(lab, capability, **cost)
    return codes(denied.value)
