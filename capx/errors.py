"""The errors of capx, by whose fault they are.

    CapxError
    ├── Denied               the bearer's: an answer, with every reason (capx.verify.decision)
    ├── MalformedToken       the bearer's: bytes that are no token; says where
    ├── InvalidCaveat        the caller's: a caveat, constraint or call that cannot be meant
    ├── InvalidRequest       the caller's: a delegation, presentation or target that cannot be meant
    │   ├── UnknownTask      there is no task with this id
    │   ├── UnknownRequest   nobody made a request with this id
    │   └── NotThere         over HTTP: there is nothing else of this id either (capx.api.problems)
    ├── Pending              nobody's: a person has to answer first (capx.verify.ask)
    ├── Redirected           the resource's: an answer that sends the agent elsewhere (capx.agent.httpx_client)
    ├── HttpRefusal          the client's: a request over HTTP that is none of the authority's (capx.api.problems)
    ├── UnreadableHead       the bearer's: a head without a credential that can be read (capx.guard.asgi.messages)
    ├── Withheld             the service's: set up so that nothing may be answered (capx.guard.asgi.response_gate)
    ├── ConfigurationProblem the operator's: keys, homes, guards set up so that they cannot work
    │   ├── KeyProblem       a key file or key that may not be used
    │   └── InvalidFile      a policy file that cannot be used; says where (capx.policy.toml_reader)
    └── StoreProblem         the store's: gone, full, locked, of another version, rolled back
        ├── BrokenLog        a log that is not what was written; says where
        ├── Unwritable       one row that no store of this kind can hold (capx.store.records)
        └── Unavailable      no slot, no memory, no answer in time: try again later

Errors carry evidence as attributes, and a sentence a person can act on.
"""

from capx_caveats import CapxError, InvalidCaveat

__all__ = [
    "BrokenLog",
    "CapxError",
    "ConfigurationProblem",
    "InvalidCaveat",
    "InvalidRequest",
    "KeyProblem",
    "MalformedToken",
    "StoreProblem",
    "Unavailable",
    "UnknownRequest",
    "UnknownTask",
]


class MalformedToken(CapxError, ValueError):
    """Text or bytes that are no token of ours.

    `code` is `malformed`, `truncated`, `too_large` or `unknown_version`; the message says where.
    """

    def __init__(self, message: str, code: str = "malformed") -> None:
        super().__init__(message)
        self.code = code


class InvalidRequest(CapxError, ValueError):
    """A delegation, presentation, grant or target that cannot be meant; says why and what would do."""


class UnknownTask(InvalidRequest):
    """There is no task with this id."""


class UnknownRequest(InvalidRequest):
    """There is no request with this id."""


class ConfigurationProblem(CapxError):
    """Something was set up so that it cannot work safely; says what to change."""


class KeyProblem(ConfigurationProblem):
    """A key, or the file it stands in, may not be used; says why, never shows the key."""


class StoreProblem(CapxError):
    """The store cannot answer or accept; says what to look at."""


class Unavailable(StoreProblem):
    """There is no room or answer right now; nothing was done."""


class BrokenLog(StoreProblem):
    """The log is not what was written; `position` is the first event that does not fit, `why` says how."""

    def __init__(self, position: int, why: str) -> None:
        super().__init__(f"the log is broken at position {position}: {why}")
        self.position = position
        self.why = why
