"""A resource that is asked again and again for a call whose capability is revoked meanwhile: a process of its own.

It is told its settings, then one capability after the other. Of each it says that it allowed a call, and then by the
monotonic clock, which all processes of a machine share, when it had refused one, and how many it was asked.
"""

import time
from typing import Any, Final

from capx import AudienceKeys, Capability, ToolCall, Verifier
from capx.verify.decision import Decision
from capx_caveats import Call
from tests.bench.authority.child import heard, say
from tests.bench.authority.source import Source, remembering

PACE: Final = 0.005
"""Seconds between two calls."""
ACTION: Final = "crm.read"
_PATIENCE: Final = 10.0


class _Resource:
    """A verifier, and calls for it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        source = Source.told(settings)
        keys = AudienceKeys.load(source.keys)
        self._verifier = Verifier(keys.audience, keys, liveness=source.view(), replay=remembering())

    def decide(self, capability: Capability) -> Decision:
        call = ToolCall(ACTION)
        return self._verifier.decide(capability.present(call).text, call, Call(ACTION))

    def allowing(self, capability: Capability) -> None:
        """Ask until a call is allowed."""
        until = time.monotonic() + _PATIENCE
        while not (decision := self.decide(capability)).allowed:
            if time.monotonic() > until:
                raise LookupError(f"not allowed in {_PATIENCE:g} seconds: {decision.refusals[0].sentence}")
            time.sleep(PACE)

    def refusing(self, capability: Capability) -> dict[str, float]:
        """Ask until a call is refused."""
        until, asked = time.monotonic() + _PATIENCE, 1
        while (decision := self.decide(capability)).allowed:
            if time.monotonic() > until:
                raise LookupError(f"not refused in {_PATIENCE:g} seconds after it was allowed")
            time.sleep(PACE)
            asked += 1
        at = time.monotonic()
        if decision.refusals[0].code != "revoked":
            raise LookupError(f"refused for another reason: {decision.refusals[0].sentence}")
        return {"refused": at, "asked": asked}


def main() -> None:
    """Be asked until there is nobody who asks."""
    told = heard()
    try:
        resource = _Resource(next(told))
        say("ready")
        for text in told:
            capability = Capability.parse(text)
            resource.allowing(capability)
            say("allowed")
            say(resource.refusing(capability))
    except LookupError as problem:
        say({"problem": str(problem)})


if __name__ == "__main__":
    main()
