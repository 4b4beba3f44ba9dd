"""An authority for an agent in the same process. It answers as it would over HTTP.

Law: also here, the agent may only do what its capability for the authority allows.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from capx.agent.agent_authority import AgentAuthority
from capx.api.messages.agents import AgentStatus
from capx.api.messages.outcomes import Ended, Revocation
from capx.store.protocols import Store
from capx.store.records import TaskRecord
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.bundle import Bundle, hops_between
from capx.tokens.lineage import AUTHORITY
from capx.verify.admitted import Admitted
from capx.verify.ask import Answer, Ask, Pending
from capx.verify.decision import Denied
from capx.verify.verifier import Authentic, Verifier
from capx_caveats import JSON, Call

_PAUSE: Final = 0.1
"""Seconds between two looks for the answer of a person."""


class LocalAuthority(Protocol):
    """The methods of `Authority` that an agent in the same process needs."""

    store: Store

    def own_verifier(self) -> Verifier:
        """A verifier of the authority itself."""
        ...

    def answer_holder(self, bundle: Bundle, ask: Ask) -> Answer:
        """Answer the ask of the agent that holds this bundle."""
        ...

    def state_for_holder(self, bundle: Bundle, audience: str, call: ToolCall, request: HttpRequest | None) -> str:
        """State that the holder of this bundle may make one call at an audience."""
        ...

    def complete(self, task_id: str) -> Ended:
        """End a task because its work is done."""
        ...

    def task(self, task_id: str) -> TaskRecord:
        """The task with this id."""
        ...

    def revoke_below(self, task_id: str, path: Sequence[bytes], hops: Sequence[str]) -> Revocation:
        """Revoke the node that the hop nonces lead to from the last node of this path."""
        ...


class InProcess(AgentAuthority):
    """The same as `AuthorityClient`, without HTTP."""

    def __init__(self, authority: LocalAuthority, bundle: Bundle) -> None:
        self._authority = authority
        self._bundle = bundle
        self._verifier = authority.own_verifier()

    def answer(self, ask: Ask, wait: float) -> Answer:
        """Answer an ask. If a person has to answer, wait for that up to `wait` seconds."""
        ends = time.monotonic() + wait
        while True:
            answer = self._authority.answer_holder(self._bundle, ask)
            if not isinstance(answer, Pending) or not self._decided(answer, ends):
                return answer

    def state(self, audience: str, call: ToolCall, request: HttpRequest | None) -> str:
        """Return a statement for one call at an audience."""
        return self._authority.state_for_holder(self._bundle, audience, call, request)

    def complete(self) -> object:
        """End the task because its work is done."""
        return self._authority.complete(self._admitted("task.complete", {}).task)

    def status(self) -> AgentStatus:
        """The state of the task."""
        task = self._authority.task(self._admitted("task.status", {}).task)
        return AgentStatus(task.id, task.state, task.opened, task.expires, task.tenant, task.purpose)

    def revoke(self, child: Bundle, /) -> object:
        """Revoke the node of the child, and everything below it."""
        hops = hops_between(self._bundle, child)
        admitted = self._admitted("node.revoke", {"hops": hops})
        return self._authority.revoke_below(admitted.task, admitted.path, hops)

    def acting_for(self, bundle: Bundle, /) -> "InProcess":
        """The same authority, for the agent that holds another bundle."""
        return InProcess(self._authority, bundle)

    def close(self) -> None:
        """Do nothing: the code that opened the authority closes it."""

    def _admitted(self, action: str, args: Mapping[str, JSON]) -> Admitted:
        """Check that the bundle allows this call; Denied says why it does not."""
        _, admitted = present_and_judge(self._verifier, self._bundle, ToolCall(action, args))
        return admitted

    def _decided(self, pending: Pending, ends: float) -> bool:
        """Whether the request was decided before `ends`."""
        # Look at the record. To ask again would present a capability each time, and each presentation is a write.
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, _PAUSE))
            with self._authority.store.read() as reading:
                request = reading.request(pending.request)
            if request is None or request.state != "pending":
                return True
        return False


def present_and_judge(
    verifier: Verifier, bundle: Bundle, call: ToolCall, *, now: int | None = None
) -> tuple[Authentic, Admitted]:
    """Call the authority with the capabilities of a bundle in turn, the newest first, until one allows the call.

    If none does, raises the Denied of the newest.
    """
    denials: list[Denied] = []
    for capability in bundle.candidates(AUTHORITY, call):
        try:
            authentic = verifier.authenticate(bundle.present_capability(capability, call, now=now).text)
            admitted = verifier.admit(authentic, call)
            admitted.judge(Call(call.action, call.args, tenant=admitted.tenant), sent=True)
        except Denied as denied:
            denials.append(denied)
        else:
            return authentic, admitted
    raise denials[0]
