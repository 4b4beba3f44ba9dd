"""The errors of capx, and who is at fault for each.

    CapxError
    ├── Denied               the bearer's: an answer, with every reason (capx.verify.decision)
    ├── MalformedToken       the bearer's: bytes that are not a token; says where
    ├── InvalidCaveat        the caller's: a caveat, constraint or call that makes no sense
    ├── InvalidRequest       the caller's: a delegation, presentation or target that makes no sense
    │   ├── UnknownTask      there is no task with this id
    │   ├── UnknownRequest   there is no request with this id
    │   └── NotThere         over HTTP: there is no other object with this id (capx.api.problems)
    ├── Pending              nobody's: a person has to answer first (capx.verify.ask)
    ├── Redirected           the resource's: an answer that sends the agent elsewhere (capx.agent.redirected)
    ├── HttpRefusal          the client's: an HTTP request that the authority does not serve (capx.api.problems)
    ├── UnreadableMessage    the sender's: a message of JSON-RPC that is not served (capx.api.jsonrpc)
    ├── TooLong              the sender's: a line of more bytes than are read (capx.api.relay.lines)
    ├── UnprovenPerson       the person's: a request that no key of theirs has proven (capx.api.person_auth)
    ├── Unserved             the client's: a request of MCP that no guard serves (capx.guard.mcp.requested_call)
    ├── Gone, NotAnswered    the other side's: a peer of a proxy that has ended, or gave no answer (capx.api.relay)
    ├── NotTaken             the receiver's: a hook that has not taken a notice (capx.server.notify.webhook)
    ├── UnreadableHead       the bearer's: a head without a readable credential (capx.guard.asgi.messages)
    ├── Withheld             the service's: its code may not answer this request (capx.guard.asgi.response_gate)
    ├── ConfigurationProblem the operator's: keys, homes, guards set up so that they cannot work
    │   ├── KeyProblem       a key file or key that may not be used
    │   ├── OtherAuthority   a place has another authority than a person knows (capx.authority.people.known)
    │   └── InvalidFile      a policy file that cannot be used; says where (capx.policy.toml_reader)
    └── StoreProblem         the store's: gone, full, locked, of another version, rolled back
        ├── BrokenLog        the log was changed after it was written; says where
        ├── ChangedRow       one row from which nothing is minted (capx.store.row_marks)
        ├── Unwritable       one row that no store of this kind can hold (capx.store.records)
        └── Unavailable      no slot, no memory, no answer in time: try again later

An error has its evidence as attributes, and a sentence with which a person can act. It can be pickled, so it also comes
out of another process.
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
    """The text or bytes are not a capx token.

    `code` is `malformed`, `truncated`, `too_large` or `unknown_version`; the message says where.
    """

    def __init__(self, message: str, code: str = "malformed") -> None:
        super().__init__(message)
        self.code = code


class InvalidRequest(CapxError, ValueError):
    """A delegation, presentation, grant or target makes no sense; says why, and what to give instead."""


class UnknownTask(InvalidRequest):
    """There is no task with this id."""


class UnknownRequest(InvalidRequest):
    """There is no request with this id."""


class ConfigurationProblem(CapxError):
    """Something was set up so that it cannot work safely; says what to change."""


class KeyProblem(ConfigurationProblem):
    """A key, or the file that holds it, may not be used; says why, and never shows the key."""


class StoreProblem(CapxError):
    """The store cannot read or write now; says what to look at."""


class Unavailable(StoreProblem):
    """There is no room, or no answer, right now; nothing was done, so try again later."""


class BrokenLog(StoreProblem):
    """The log was changed after it was written; `position` is the first event that does not fit, `why` says how."""

    def __init__(self, position: int, why: str) -> None:
        super().__init__(f"the log is broken at position {position}: {why}")
        self.position = position
        self.why = why
