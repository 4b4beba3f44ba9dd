"""The base class of caveats. A caveat is one demand on a call.

Law: a caveat sees the call, the time, and how old the news of revocations is. It never sees other caveats. It is
satisfied, or it gives a refusal. It never raises, does no I/O and reads no clock.
"""

from msgspec import UNSET, Struct, UnsetType

from capx_caveats.call import Facts
from capx_caveats.constraint import Wire
from capx_caveats.values import JSON


class Refusal(Struct, frozen=True, omit_defaults=True):
    """The reason why a caveat denies a call: a stable code, a sentence, what was wanted and what was given.

    `given` and `sentence` may hold arguments of the call, and nothing else of it. `general` is the sentence without
    them, for a bearer who did not send the arguments; empty if the sentence holds none. `detail` is for the log alone.
    `hop` and `hop_name` say whose restriction denied the call. Hop 0 is the authority's block.
    """

    code: str
    sentence: str
    wanted: str = ""
    given: JSON | UnsetType = UNSET
    hop: int | None = None
    hop_name: str | None = None
    general: str = ""
    detail: str = ""


class Caveat(Wire, frozen=True):
    """One element of a block. Each subclass has a permanent `tag`."""

    def refusal(self, facts: Facts) -> Refusal | None:
        """Return None if the call satisfies this caveat, otherwise the reason why it does not."""
        raise NotImplementedError

    def sentence(self) -> str:
        """Return the demand in plain words."""
        raise NotImplementedError
