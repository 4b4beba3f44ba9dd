"""An authority over a real store whose clock stands still until a test moves it."""

from capx.authority.authority import Authority
from capx.tokens.capability import Capability

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
