"""An authority over a real store whose clock stands still until a test moves it."""

from capx.authority.authority import Authority
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx_caveats import (
    Call,
)

NOW = 1_800_000_000


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now + 0.7


def kinds(authority: Authority) -> list[str]:
    return [event.kind for event in authority.log()]


def only(capabilities: list[Capability]) -> Capability:
    (capability,) = capabilities
    return capability


def refused(authority: Authority, bundle: Bundle, at: str = "crm") -> list[str]:
    """The reasons why a call of `crm.read` is refused now."""
    received = ToolCall("crm.read")
    token = bundle.present(at, received, now=int(authority._clock())).text
    return [refusal.code for refusal in authority.verifier(at).decide(token, received, Call("crm.read")).refusals]
