"""Asking while a task runs, for more or for the approval of one call: the ask, and its answers.

    Granted(capability)   a capability for exactly what was asked, with the restrictions of the asker
    Approved(discharge)   the approval of the very call
    Pending               a person has to answer; make the same ask again to get the answer
    Refused(reasons)      not granted, now or later, unless the reasons change

Laws:

- An ask names one action at one audience, never a pattern.
- With `args`, even empty ones, it is for a call with these arguments. The grant is pinned to all of them, or to those
  that the policy lists.
- The same ask with the same token, on the same offer of the policy, is one request with one answer, however often it is
  made. If the policy lists arguments to pin, only these count.
- An ask for an approval names the demand that the approval is to answer, and all arguments of the call.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from capx.crypto import hashing
from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.errors import CapxError, InvalidRequest
from capx.tokens.approval_caveat import read_approval_caveat
from capx.tokens.approval_request import approvable
from capx.tokens.capability import Capability
from capx.tokens.discharge import Discharge
from capx.tokens.grants import ASK, ASK_APPROVAL, audience_of, demand_audience
from capx.tokens.lineage import AUTHORITY
from capx.tokens.pins import pinned_entry
from capx.tokens.wording import sentence
from capx_caveats import JSON, Call, Entry, InvalidCaveat, Refusal, demand_dict, is_action, shown, shown_instant
from capx_caveats.names import told_name
from capx_caveats.values import holds_more

MAX_ARGS: Final = 16 * 1024
"""The most bytes of canonical JSON that the arguments of an ask may have. A grant is pinned to less."""


class Ask(Struct, frozen=True, kw_only=True):
    """One ask: an action at an audience, and the arguments of the call; None if it is for any arguments.

    With `demand`, the cid of one, it asks people to approve this one call. InvalidRequest for a pattern, a
    reserved audience, or arguments that no call, or no approval, can have.
    """

    audience: str
    action: str
    args: Mapping[str, JSON] | None = None
    demand: str | None = None

    def __post_init__(self) -> None:
        # Nothing can be granted at the authority itself, but a call there may need an approval.
        if self.demand is None or self.audience != AUTHORITY:
            demand_audience(self.audience)
        if not is_action(self.action):
            raise InvalidRequest(f"{self.action!r:.80} is not an action: ask for one action by its full name")
        if self.args is not None:
            try:
                demand_dict(self.args)
                # First by the length of any JSON text of them, because to check a huge value takes long.
                if _is_huge(self.args):
                    raise self._too_large()
                # A copy that cannot change: the id of the request is computed from it later.
                force_setattr(self, "args", MappingProxyType(dict(self.args)))
                Call(self.action, self.args)
                size = len(canonical(dict(self.args)))
            except InvalidCaveat as error:
                raise InvalidRequest(f"no call of {self.action} can have these arguments: {error}") from None
            if size > MAX_ARGS:
                raise self._too_large()
        if self.demand is not None:
            self._demand_approvable(self.demand)

    def _demand_approvable(self, cid: str) -> None:
        if read_approval_caveat(cid) is None:
            raise InvalidRequest("this is no demand for an approval: name one of those that the token has")
        if self.args is None:
            raise InvalidRequest(f"a person approves one call: name the arguments of {self.action}, or {{}} for none")
        approvable(self.action, self.args)

    def _too_large(self) -> InvalidRequest:
        return InvalidRequest(f"the arguments of {self.action} are more than {MAX_ARGS // 1024} KiB")

    @classmethod
    def of(
        cls,
        action: str,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        demand: str | None = None,
    ) -> "Ask":
        """An ask at this audience; without one, at the audience that the action's first label names."""
        at = audience_of(action) if audience is None else audience
        return cls(audience=at, action=action, args=args, demand=demand)

    def __reduce__(self) -> tuple[Any, ...]:
        return _ask, (self.audience, self.action, None if self.args is None else dict(self.args), self.demand)

    @property
    def canonical_args(self) -> bytes | None:
        """The arguments as canonical JSON; None if the ask is for any arguments."""
        return None if self.args is None else canonical(dict(self.args))

    def entry(self, names: Iterable[str] | None = None) -> Entry:
        """The entry of an allowlist for this ask, pinned to its arguments, or only to those in `names`.

        InvalidRequest if no entry can hold an argument.
        """
        return Entry(self.action) if self.args is None else pinned_entry(self.action, self.args, names)

    def only(self, names: Iterable[str]) -> "Ask":
        """The same ask with only those of its arguments that have these names."""
        named = self.args or {}
        args = {name: named[name] for name in names if name in named}
        return Ask(audience=self.audience, action=self.action, args=args)

    def arguments(self) -> dict[str, JSON]:
        """The arguments of the call at the authority that makes this ask: `grant.request` or `approval.request`."""
        named: dict[str, JSON] = {"audience": self.audience, "action": self.action}
        if self.args is not None:
            named["args"] = dict(self.args)
        return named if self.demand is None else {**named, "demand": self.demand}

    @property
    def own_action(self) -> str:
        """The action at the authority that makes this ask."""
        return ASK if self.demand is None else ASK_APPROVAL

    @property
    def key(self) -> tuple[str, str, bytes | None, str | None]:
        """Equal for equal asks: the audience, the action, the arguments and the demand."""
        return self.audience, self.action, self.canonical_args, self.demand

    def request(self, token: bytes, offer: str | None = None) -> str:
        """The id of this ask's request, when the capability with the id `token` (16 bytes) makes it.

        `offer` is the digest of what the policy offers for it (capx.tokens.pins). Otherwise an agent could make asks
        that different rules decide, and each would replace the request of the other. None for an approval.
        """
        args = self.canonical_args
        label, by = (b"capx/1/request", offer) if self.demand is None else (b"capx/1/approval-request", self.demand)
        parts = (token, self.audience, self.action, by or "", *(() if args is None else (args,)))
        return b64u(hashing.digest(label, *[one.encode() if isinstance(one, str) else one for one in parts])[:16])

    def sentence(self) -> str:
        """`billing.refund at billing, with amount 20 and ticket "T-1"`."""
        named = f"{self.action} at {self.audience}"
        if self.args is None:
            return named
        if not self.args:
            return f"{named}, without arguments"
        return f"{named}, with {' and '.join(f'{told_name(name)} {shown(value)}' for name, value in self.args.items())}"


def _is_huge(args: Mapping[str, JSON]) -> bool:
    try:
        return len(msgspec.json.encode(dict(args))) > 4 * MAX_ARGS
    except (TypeError, ValueError, OverflowError, RecursionError):
        # It is refused whatever it holds. Only if that is little, it is looked at for the reason.
        return holds_more(args, MAX_ARGS, MAX_ARGS)


class Approved(Struct, frozen=True):
    """People have approved the call. Keep the discharge with the asker's capabilities: `bundle.holding(discharge)`."""

    discharge: Discharge


class Granted(Struct, frozen=True):
    """The ask is granted. The capability is a secret; keep it with the asker's other ones."""

    capability: Capability


NOT_PINNED: Final = "not_pinned"
"""The code of a refusal by which the authority demands an ask with arguments, or with others."""


class Refused(Struct, frozen=True):
    """The ask is refused, with every reason; `capx.authority.requests.offering` defines their codes."""

    reasons: tuple[Refusal, ...]

    def __str__(self) -> str:
        return "; ".join(map(sentence, self.reasons))


class Pending(CapxError):
    """A person has to answer `request` by `until` (Unix seconds); any one of `approvers` can.

    It is an answer, and also the error that an agent raises when it stops waiting. Its text says to a model what to do.
    """

    def __init__(self, ask: Ask, *, request: str, until: int, approvers: tuple[str, ...]) -> None:
        super().__init__(request)
        self.ask = ask
        self.request = request
        self.until = until
        self.approvers = approvers

    def __reduce__(self) -> tuple[Any, ...]:
        return _pending, (self.ask, self.request, self.until, self.approvers), vars(self)

    def __str__(self) -> str:
        needs = "consent" if self.ask.demand is None else "approval"
        return (
            f"{self.ask.sentence()} needs the {needs} of a person ({' or '.join(map(shown, self.approvers))}), who was "
            f"asked: request {self.request}. Nothing was done. Go on with other work, and try the very same call again "
            f"later; nobody can answer after {shown_instant(self.until)}."
        )


Answer = Granted | Approved | Pending | Refused
"""The answer to an ask."""


def _ask(audience: str, action: str, args: Mapping[str, JSON] | None, demand: str | None = None) -> Ask:
    return Ask(audience=audience, action=action, args=args, demand=demand)


def _pending(ask: Ask, request: str, until: int, approvers: tuple[str, ...]) -> Pending:
    return Pending(ask, request=request, until=until, approvers=approvers)
