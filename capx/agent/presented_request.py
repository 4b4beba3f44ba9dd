"""One request to one audience: with which capabilities it is presented, and what the actor asks for when it is denied.

Laws: no I/O. The request is presented with the exact bytes that were digested. A newer capability is tried before one
that passed earlier. One request is presented with at most MAX_ATTEMPTS capabilities, and once with each grant that the
actor gets for it.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Final

import httpx

from capx.agent.actor import Actor, bundle_of, demand_open_block
from capx.agent.call_asks import CallAsks
from capx.agent.next_asks import AskOutcome, DenialSummary, NextAsks
from capx.api.problems import from_denial
from capx.errors import InvalidRequest
from capx.tokens.binding import HttpRequest
from capx.tokens.bundle import is_ruled_out, permits
from capx.tokens.capability import Capability, Presentation
from capx.tokens.discharge import Discharge
from capx.tokens.held_approvals import choose
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Approved, Granted
from capx.verify.decision import Denied
from capx_caveats import Call

ASK_EXTENSION: Final = "capx_ask"
"""The extension of a 403 response that says why nothing was granted: capx.Refused, or the error of the ask."""

GRANTED_EXTENSION: Final = "capx_granted"
"""The extension of a 403 response with the asks that were granted and not enough: a tuple of capx.verify.Ask."""

NOTES_EXTENSION: Final = "capx_notes"
"""The extension of a 403 response with the sentences that `Denied.notes` has: a tuple of texts."""

MAX_ATTEMPTS: Final = 8
"""With how many capabilities a client presents one request, besides what is granted for it."""

_MAX_KINDS: Final = 256
"""For how many kinds of requests a client remembers which capability passed."""


class PassedCapabilities:
    """Remembers which capability passed for the last request of a kind, to try it first, after all newer ones.

    Requests are of one kind if they have the same audience and method, and the same path except segments with a digit.
    """

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], tuple[bytes, bytes]] = {}

    def order(self, kind: tuple[str, ...], newest_first: Sequence[Capability]) -> list[Capability]:
        """Return the capabilities in the order in which to try them."""
        ids = [capability.id for capability in newest_first]
        newest, passed = self._ids.get(kind, (b"", b""))
        newer = ids.index(newest) if newest in ids else len(ids)
        rest = sorted(newest_first[newer:], key=lambda capability: capability.id != passed)
        return [*newest_first[:newer], *rest]

    def remember(self, kind: tuple[str, ...], newest: bytes, passed: bytes) -> None:
        """Remember which capability passed, and the newest one at that time."""
        # Forgetting all is enough: the only cost is one more denied attempt for each kind.
        if len(self._ids) >= _MAX_KINDS:
            self._ids.clear()
        self._ids[kind] = newest, passed


class PresentedRequest:
    """One request to one audience: the denials that it got, and what the actor asks for because of them."""

    def __init__(
        self, request: httpx.Request, audience: str, body: bytes, actor: Actor, passed: PassedCapabilities
    ) -> None:
        self._request = request
        self._received = HttpRequest(
            method=request.method,
            target=_target(request.url),
            content_type=_single(request, "content-type"),
            content_encoding=_single(request, "content-encoding"),
            body=body,
        )
        self._audience = audience
        self._actor = actor
        self._passed = passed
        self._kind = (audience, request.method, *filter(_is_fixed, request.url.path.split("/")))
        self.asks = CallAsks(actor, audience)
        self._tried: list[Capability] = []
        self._again: Capability | None = None
        """What to present after the actor has gained something."""
        self._call: Call | None = None
        """The call, once a denial has named it: before that, nobody here knows what the request does."""
        self._approvals: tuple[Discharge, ...] = ()
        self._approvable: Capability | None = None
        self._newest = b""
        self._denials: list[Denied] | None = []
        self._told = 0
        self.refusal: httpx.Response | None = None
        """The most informative refusal of those that were read whole."""

    def attempts(self) -> Iterator[httpx.Request]:
        """Yield the request, presented with each capability in turn that may allow it.

        After a grant, with that one; after an approval, with the capability that lacked it.
        """
        # After a grant, only a refusal that says more replaces the one before.
        self._denials, self._told = [], min(self._told, 1)
        newest_first = bundle_of(self._actor).candidates(self._audience, self._received)
        self._newest = newest_first[0].id
        if self._again is not None:
            yield self._attempt(self._again)
            return
        untried = self._passed.order(self._kind, newest_first)
        while untried and (left := MAX_ATTEMPTS - len(self._tried)) > 0:
            # Too many to try all: half of those tried are the newest, and half the oldest, which often allow most.
            capability = untried.pop(-1 if len(untried) > left <= MAX_ATTEMPTS // 2 else 0)
            yield self._attempt(capability)
            # The service has named the call: now another approval may be the one for it.
            if self._approvable is capability and self._chosen(capability) not in ((), self._approvals):
                yield self._attempt(capability)
            # The service has named the action now, and perhaps the arguments.
            untried = [one for one in untried if _may_allow(one, self._denials)]
        if untried:
            self.asks.note(f"{len(untried)} more capabilities for {self._audience} were not tried")

    def answered(self, response: httpx.Response) -> httpx.Response:
        """Note which capability the request passed with."""
        if response.is_success:
            self._passed.remember(self._kind, self._newest, self._tried[-1].id)
            self.asks.passed(self._tried[-1])
        return response

    def refused(self, response: httpx.Response, problem: bytes | None) -> None:
        """Note what a denial says.

        A body that was not read whole is not kept, and the agent then asks for nothing.
        """
        if problem is None:
            self._denials = None
            return
        denied = from_denial(problem, self._audience)
        told = 0 if denied is None else 1 if DenialSummary.of(denied).of_action_only else 2
        if self.refusal is None or told > self._told:
            self.refusal, self._told = response, told
        if denied is not None and self._denials is not None:
            self._denials.append(denied)
        if denied is not None and (needed := denied.approve) is not None:
            self._approvable, self._call = self._tried[-1], Call(needed.action, needed.args)

    def next_asks(self, response: httpx.Response) -> NextAsks | None:
        """Return what to ask for after a response; None if there is nothing to ask for."""
        if not is_refusal(response) or not self._denials:
            return None
        return self.asks.next(self._denials)

    def gained(self, outcome: AskOutcome | None, response: httpx.Response) -> bool:
        """Return whether there is a new capability to present; if not, note the reason on the response.

        Raises Unavailable if the authority has not answered.
        """
        # Before the asks are counted: a call that has ended has not failed.
        self._demand_open_block()
        gained = self.asks.gained(outcome, self._tried)
        self._again = self.asks.grant or (self._approvable if gained else None)
        if outcome is not None and not isinstance(outcome.answer, Granted | Approved):
            response.extensions[ASK_EXTENSION] = outcome.answer
        return gained

    def ended(self, response: httpx.Response) -> httpx.Response:
        """Return the response of the call; a denial gets the notes why the call stays denied."""
        if is_refusal(response):
            self.asks.failed()
            if self.asks.granted:
                response.extensions[GRANTED_EXTENSION] = self.asks.granted
            if self.asks.notes:
                response.extensions[NOTES_EXTENSION] = self.asks.notes
        return response

    def raise_denial(self, content: bytes | None) -> None:
        """Raise the error with which a denied call ends; return if this is no denial."""
        denied = None if content is None else from_denial(content, self._audience)
        if denied is not None:
            self.asks.raise_denied(denied)

    def _attempt(self, capability: Capability) -> httpx.Request:
        self._demand_open_block()
        self._tried.append(capability)
        self._approvals = self._chosen(capability)
        presentation = capability.present(self._received, approvals=self._approvals)
        return _presented(self._request, presentation, self._received)

    def _chosen(self, capability: Capability) -> tuple[Discharge, ...]:
        """The approvals that go with a capability."""
        return tuple(choose(capability, bundle_of(self._actor).approvals, self._call, int(time.time())))

    def _demand_open_block(self) -> None:
        # The caller may have been cancelled while a person decided. At the authority it must still clean up: revoke its
        # sub-agents, and end its task.
        if self._audience != AUTHORITY:
            demand_open_block()


def is_refusal(response: httpx.Response) -> bool:
    """Whether capx denied the request. A 403 of the service itself may come after effects: never repeat that."""
    return response.status_code == 403 and response.headers.get("www-authenticate") == "Capx"


def is_denial(response: httpx.Response) -> bool:
    """Whether the head of a response looks like a denial of capx; its body decides."""
    return response.status_code in (401, 403, 503) and response.headers.get("www-authenticate") == "Capx"


def _presented(request: httpx.Request, presentation: Presentation, received: HttpRequest) -> httpx.Request:
    headers = request.headers.copy()
    # The service has its own use for Authorization: do not change it.
    if "authorization" in headers:
        headers["Capx-Token"] = presentation.text
    else:
        headers["Authorization"] = presentation.authorization
    return httpx.Request(
        request.method,
        request.url,
        headers=headers,
        stream=httpx.ByteStream(received.body),
        extensions=request.extensions,
    )


def _may_allow(capability: Capability, denials: Sequence[Denied] | None) -> bool:
    """Whether a capability may allow what the last denial names. A service that lies wastes only its own answer."""
    ask = denials[-1].ask if denials else None
    if ask is None:
        return True
    if ask.args is None:
        return permits(capability, ask.action)
    return not is_ruled_out(capability, Call(ask.action, ask.args))


def _is_fixed(segment: str) -> bool:
    """Whether a segment of a path may be the same for all requests of a kind: one with a digit names one row."""
    return not any(map(str.isdigit, segment))


def _single(request: httpx.Request, name: str) -> str | None:
    wanted = name.encode()
    values = [value for key, value in request.headers.raw if key.lower() == wanted]
    if len(values) > 1:
        raise InvalidRequest(f"cannot present a request with several {name} headers: send one")
    return values[0].decode("latin-1").strip(" \t") if values else None


def _target(url: httpx.URL) -> str:
    # A service sees no difference between an empty query and none, so the presentation must not have one either.
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return f"{path}?{query}" if query else path
