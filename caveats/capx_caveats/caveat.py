"""What a caveat is: one demand on a call.

Law: it sees the call, the time and the age of what is known about deaths, never other caveats. It answers
satisfied or a refusal; it never raises, does no I/O and reads no clock.
"""

from msgspec import UNSET, Struct, UnsetType

from capx_caveats.call import Facts
from capx_caveats.constraint import Wire
from capx_caveats.values import JSON


class Refusal(Struct, frozen=True, omit_defaults=True):
    """Why a call may not be: one stable code, one sentence, what was wanted and what was given.

    `given` is only ever what the bearer sent (or a default of the action): a resource's own data is not told.
    `hop` and `hop_name` say whose restriction it is: 0 is the authority's block.
    """

    code: str
    sentence: str
    wanted: str = ""
    given: JSON | UnsetType = UNSET
    hop: int | None = None
    hop_name: str | None = None


class Caveat(Wire, frozen=True):
    """One element of a block, with a permanent `tag`."""

    def refusal(self, facts: Facts) -> Refusal | None:
        """None when the call satisfies this caveat."""
        raise NotImplementedError

    def sentence(self) -> str:
        """The demand in plain words."""
        raise NotImplementedError
