"""The verifier's answers: `Allowed`, `Denied` with every reason, and `Decision`, the record of either.

Laws:

- A denial shows the bearer no secret, and no value except those that the bearer sent.
- A Decision has no truth value: `if decision:` raises TypeError, so nobody can mistake a denial for a yes.
- A Decision holds ids and facts, never a token. The log keeps it.
- Only the Allowed that `judge` returned can give back what its call spent. A copy equals it, and cannot.
"""

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from capx.background import in_pool
from capx.crypto.base64url import b64u, is_bytes
from capx.errors import CapxError, InvalidRequest
from capx.tokens.approval_request import ApprovalRequest, CallToApprove
from capx.tokens.bundle import Bundle
from capx.tokens.lineage import Lineage
from capx.tokens.wording import sentence
from capx.verify.disclosure import disclosed
from capx.verify.evidence import Evidence
from capx.verify.problem_details import problem_details
from capx.verify.spending import Spent
from capx_caveats import JSON, Call, Refusal, is_id, is_label

if TYPE_CHECKING:
    from capx.verify.ask import Ask

NOTHING_COUNTED: Final[Mapping[str, str]] = MappingProxyType({})
"""`remaining` of a call that no budget counts."""

STATUS: Final = {
    **dict.fromkeys(
        (
            "no_token",
            "malformed",
            "truncated",
            "too_large",
            "unknown_version",
            "wrong_audience",
            "not_authentic",
            "bearer_refused",
            "call_mismatch",
            "call_window",
            "replayed",
        ),
        401,
    ),
    **dict.fromkeys(
        (
            "incomplete_authority",
            "misplaced",
            "not_understood",
            "revoked",
            "task_completed",
            "task_withdrawn",
            "task_expired",
            "expired",
            "not_yet",
            "wrong_tenant",
            "action_not_allowed",
            "argument_refused",
            "argument_not_named",
            "attribute_missing",
            "budget_exhausted",
            "too_many_hops",
            "hop_unsigned",
            "hop_signature",
            "needs_discharge",
            "bad_discharge",
        ),
        403,
    ),
    **dict.fromkeys(("unknown_liveness", "stale_liveness", "no_meter", "unavailable"), 503),
}
"""The HTTP status of each reason: 401 present properly, 403 not allowed, 503 cannot say now."""


_PREFIX: Final = "d."
NO_TOKEN: Final = Refusal("no_token", "no token was presented", "Authorization: Capx <presentation>")
"""The refusal of a call that came without a token."""

NO_VALUES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        **dict.fromkeys(("action", "task", "tenant", "intent", "root", "key", "presentation", "args_digest")),
        **dict.fromkeys(("path", "hops", "nonces", "ids", "spent", "reasons"), ()),
    }
)
"""The members that the body of a decision may leave out, with the value that stands for nothing; not the evidence."""


def decision_id(at: int) -> str:
    """A new id of a decision of that second (Unix): `d.` and 16 bytes in base64url. Nothing else has such an id.

    The first five bytes are the time, the others are random. So ids of one time are near to each other in an index, and
    to record decisions takes little longer when the log is long.
    """
    return f"{_PREFIX}{b64u((at % 2**40).to_bytes(5) + os.urandom(11))}"


def is_decision_id(text: str) -> bool:
    """Whether this is the id of a decision, and of nothing else."""
    return text.startswith(_PREFIX) and is_bytes(text.removeprefix(_PREFIX), 16)


def may_name_decision(text: str) -> bool:
    """Whether a decision may have this id: one as capx makes them, or another id, which another program may record."""
    return is_decision_id(text) or is_id(text)


class Decision(Struct, frozen=True, kw_only=True):
    """One decision, as it is recorded; `at` in Unix seconds. Fields that could not be read are None or empty.

    `lineage` and all properties read from it are authentic where they are set.
    """

    id: str
    at: int
    allowed: bool
    audience: str
    action: str | None = None
    refusals: tuple[Refusal, ...] = ()
    lineage: Lineage | None = None
    signed: bool = False
    """Whether the keys that the token is bound to, if any, have signed all of it, this presentation included.

    If not, `lineage` ends above the first block that nobody is known to have signed.
    """
    presented: bytes | None = None
    """The id of the presentation, 16 bytes; None for a bare token."""
    spent: tuple[Spent, ...] = ()
    """The amounts that the call has spent, each from one counter."""
    args_digest: str | None = None
    """The digest of the arguments, as in capx.verify.args_digest; None if they were not known."""
    shown_args: dict[str, JSON] | None = None
    """The arguments that the operator wants in the clear (`Verifier(record=…)`), as far as there are any."""
    args: str | None = None
    """The commitment to all arguments, as in capx.verify.evidence; None if they were not known."""
    evidence: Evidence | None = None
    """What lets others check the decision later; None if the token was not authentic and signed as it must be."""

    @property
    def task(self) -> str | None:
        """The task of the token; None if the token could not be read."""
        return self.lineage.task if self.lineage else None

    @property
    def path(self) -> tuple[str, ...]:
        """The nodes from the root to the acting agent, base64url."""
        return tuple(map(b64u, self.lineage.path)) if self.lineage else ()

    @property
    def hops(self) -> tuple[str, ...]:
        """The labels of the steps of the path."""
        return self.lineage.hops if self.lineage else ()

    @property
    def nonces(self) -> tuple[str, ...]:
        """The nonces of the steps of the path. With the root, they give the path, so nobody has to believe it."""
        return self.lineage.nonces if self.lineage else ()

    @property
    def key(self) -> str | None:
        """The public key of the acting agent (`ed25519:` and 43 characters), which has signed this very call.

        None for a token of a bearer, and for a call that the key is not known to have signed.
        """
        if self.lineage is None or not (self.signed and self.lineage.keys):
            return None
        from capx.crypto.ed25519 import public_text  # slow to import, and only keyed tokens need it

        return public_text(self.lineage.keys[-1])

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the chain, from what was minted to what was held, base64url."""
        return tuple(map(b64u, self.lineage.ids)) if self.lineage else ()

    @property
    def presentation(self) -> str | None:
        """The id of the presentation, base64url."""
        return None if self.presented is None else b64u(self.presented)

    @property
    def outcome(self) -> str:
        """`allowed` or `denied`."""
        return "allowed" if self.allowed else "denied"

    @property
    def code(self) -> str:
        """The stable code of the first reason; empty if the call is allowed."""
        return self.refusals[0].code if self.refusals else ""

    def body(self) -> dict[str, Any]:
        """The decision as JSON values, as the log holds it. What has no value is left out, because a log is long.

        The path is left out, too: it follows from the root and the nonces.
        """
        lineage = self.lineage
        members = {
            "id": self.id,
            "at": self.at,
            "outcome": self.outcome,
            "audience": self.audience,
            "action": self.action,
            "task": self.task,
            "tenant": lineage.tenant if lineage else None,
            "intent": lineage.intent if lineage else None,
            "root": lineage.root if lineage else None,
            "hops": list(self.hops),
            "nonces": list(self.nonces),
            "key": self.key,
            "ids": list(self.ids),
            "presentation": self.presentation,
            "args_digest": self.args_digest,
            "shown_args": self.shown_args,
            "args": self.args,
            **_members(self.evidence),
            "spent": [msgspec.to_builtins(one) for one in self.spent],
            "reasons": [reason(refusal) for refusal in self.refusals],
        }
        return {name: value for name, value in members.items() if value not in (None, [])}

    def __bool__(self) -> NoReturn:
        raise TypeError("a Decision is neither true nor false: read its `allowed`")


def _members(evidence: Evidence | None) -> dict[str, Any]:
    if evidence is None:
        return {}
    members: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(evidence))
    return members


def reason(refusal: Refusal) -> dict[str, Any]:
    """One refusal as JSON values; its sentence names the hop."""
    values: dict[str, Any] = msgspec.to_builtins(replace(refusal, general="", detail=""))
    return {**values, "sentence": sentence(refusal)}


class Denied(CapxError):
    """The call is denied; `code` and `status` are those of the first reason.

    The service must not execute the call, nor any part of it. `decision` is for the service and its log. Everything
    else is for the bearer. `refusals` are the reasons as the bearer may see them: those of `told` if it is given, else
    those of the decision. They have values of arguments only if `sent` is true. `ask` is what the agent may ask
    the authority for so that the call is allowed; None if no grant at run time could change the denial. `approve` is
    the call that somebody has to approve; None if no approval could change the denial. `advice` says
    to the agent what the ask cannot say; it is not recorded. `notes` say what an agent asked for after the denial, and
    why that did not help. `str` of the denial has the sentences of the reasons, the advice and the notes.
    """

    def __init__(
        self,
        decision: Decision,
        ask: "Ask | None" = None,
        advice: str = "",
        sent: bool = False,
        told: tuple[Refusal, ...] | None = None,
        *,
        approve: CallToApprove | None = None,
    ) -> None:
        # Not the decision: `repr` of an error shows its arguments, and is often shown to a model.
        super().__init__(decision.id)
        self.decision = decision
        self.refusals = disclosed(decision.refusals if told is None else told, sent=sent)
        self.ask = ask
        self.approve = approve
        self.advice = advice
        self.notes: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return Denied, (self.decision,), vars(self)

    def __repr__(self) -> str:
        return f"Denied({self.code!r}, decision {self.decision.id})"

    @property
    def code(self) -> str:
        """The stable code of the first reason."""
        return self.refusals[0].code

    @property
    def status(self) -> int:
        """401 present properly, 403 not allowed (also what a service's own caveat says), 503 cannot say."""
        return STATUS.get(self.code, 403)

    def approval_request(self, bundle: Bundle, *, now: int | None = None) -> ApprovalRequest:
        """The request for the approval that this call lacks, for the agent that holds this bundle.

        A person answers it: `PrincipalKey.approve`. InvalidRequest if no approval would help, or if the bundle demands
        none.
        """
        if self.approve is None:
            raise InvalidRequest("no approval of a person would change this denial: read its reasons")
        needed = self.approve
        return bundle.approval_request(needed.action, needed.args, audience=needed.audience, now=now)

    def problem(self) -> dict[str, Any]:
        """Problem details for HTTP (RFC 9457)."""
        reasons = [reason(refusal) for refusal in self.refusals]
        more: dict[str, Any] = {"decision": self.decision.id, "reasons": reasons}
        if self.ask is not None:
            more["ask"] = self.ask.arguments()
        if self.approve is not None:
            more["approve"] = self.approve.arguments()
        if self.advice:
            more["advice"] = self.advice
        return problem_details("reason", self.status, self.code, self._told(), **more)

    def _told(self) -> str:
        """The text for the bearer: the sentences of the reasons, and the advice."""
        return "; ".join([*map(sentence, self.refusals), *filter(None, [self.advice])])

    def __str__(self) -> str:
        return "; ".join((self._told(), *self.notes))


class Allowed(Struct, frozen=True, kw_only=True, dict=True):
    """This call may be made, now, and no other. Task, tenant, intent and root are the authority's claims.

    `decision` is what is recorded, as in `Denied`. `hops` are labels that delegators chose: show them, but do not
    decide by them. `expires` is the earliest expiry of the chain, in Unix seconds. `spent` is what this presentation
    has spent, each from one counter. `remaining` is what is left in each unit that a budget counts, as decimal text.
    `call` may hold the very dicts and lists that an endpoint gets: if the endpoint changes one, `call` shows it.
    """

    decision: Decision
    call: Call
    task: str
    tenant: str | None
    intent: str | None
    root: str
    node: bytes
    hops: tuple[str, ...]
    expires: int
    spent: tuple[Spent, ...] = ()
    remaining: Mapping[str, str] = NOTHING_COUNTED

    def give_back(self, reason: str) -> dict[str, str]:
        """Give back what this call has spent, because it had no effect and will have none.

        Returns what was given back in each unit, as decimal text. Call it only if you know that nothing happened: after
        a timeout you do not. `reason` says for people why, in 1 to 128 characters, none of them hidden; the log keeps
        it. All that the presentation spent is given back, also for other checks of the same request, and the
        presentation stays used. To call it again changes nothing. It writes to the meter, so async code uses
        `give_back_async`.

        If the token has no budget, nothing was spent, and nothing happens. InvalidRequest, and nothing is given back,
        if the token has expired or is revoked, this object is a copy, or the reason has another form. StoreProblem if
        the meter cannot be written, or refuses: its text says whether to try again.
        """
        if not is_label(reason):
            raise InvalidRequest("give a reason of 1 to 128 characters, none of them hidden: it goes into the log")
        # Whether the token has a budget is not the tool's affair: it may always give back.
        if not self.spent:
            return {}
        how: Callable[[str], dict[str, str]] | None = vars(self).get(_GIVES_BACK)
        if how is None:
            raise InvalidRequest("this is a copy of a decision: only the one that `judge` returned can give back")
        return how(reason)

    async def give_back_async(self, reason: str) -> dict[str, str]:
        """`give_back` for async code: it runs in a thread, because a disk or a database may be slow."""
        return await in_pool(lambda: self.give_back(reason))


# Beside the fields, so that it is no part of what an Allowed equals and shows, and no copy has it.
_GIVES_BACK: Final = "gives_back"


def giving_back(allowed: Allowed, how: Callable[[str], dict[str, str]]) -> Allowed:
    """The same object, which now gives back by calling `how` with the reason."""
    vars(allowed)[_GIVES_BACK] = how
    return allowed
