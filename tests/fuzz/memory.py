"""What a verifier remembers of presentations while one input of a fuzzer is tried."""

from capx.resource.replay import Replay


class Memory(Replay):
    """Presentations seen, until a new input begins."""

    blocking = False

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        """Whether it is new."""
        new = presentation not in self.seen
        self.seen.add(presentation)
        return new
