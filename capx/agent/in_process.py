"""An authority of this process, for whoever holds one bundle: it answers as it would over HTTP.

Law: here, too, an agent may do at its authority what its authority capability says, and no more.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from capx.asking import Answer, Pending
from capx.authority import Authority, presented
from capx.bundle import Bundle
from capx.delegation import hops_between
from capx.present import ToolCall
from capx.remote.forms.agents import AgentStatus
from capx_caveats import JSON

if TYPE_CHECKING:
    from capx.admitted import Admitted

_PAUSE: Final = 0.1
"""Seconds after which the store is asked again what a person answered."""


class InProcess:
    """What `AuthorityClient` is, without HTTP."""

    def __init__(self, authority: Authority, bundle: Bundle) -> None:
        self._authority = authority
        self._bundle = bundle
        self._verifier = authority.own_verifier()

    def ask(
        self, action: str, *, audience: str | None = None, args: Mapping[str, JSON] | None = None, wait: float = 0.0
    ) -> Answer:
        """What becomes of an ask; while a person has to answer it, wait for that up to `wait` seconds."""
        ends = time.monotonic() + wait
        while True:
            answer = self._authority.ask(self._bundle, action, audience=audience, args=args)
            if not isinstance(answer, Pending) or not self._decided(answer, ends):
                return answer

    def complete(self) -> object:
        """End the task because its work is done."""
        return self._authority.complete(self._admitted("task.complete", {}).task)

    def status(self) -> AgentStatus:
        """How the task stands."""
        task = self._authority.task(self._admitted("task.status", {}).task)
        return AgentStatus(task.id, task.state, task.opened, task.expires, task.tenant, task.purpose)

    def revoke(self, child: Bundle, /) -> object:
        """Kill the child's node, and everything below it."""
        hops = hops_between(self._bundle, child)
        admitted = self._admitted("node.revoke", {"hops": hops})
        return self._authority.revoke_below(admitted.task, admitted.path, hops)

    def acting_for(self, bundle: Bundle, /) -> "InProcess":
        """The same authority for whoever holds another bundle."""
        return InProcess(self._authority, bundle)

    def close(self) -> None:
        """Nothing: whoever made the authority closes it."""

    def _admitted(self, action: str, args: Mapping[str, JSON]) -> "Admitted":
        """Who asks, once they may; Denied says why not."""
        _, admitted = presented(self._verifier, self._bundle, ToolCall(action, args))
        return admitted

    def _decided(self, pending: Pending, ends: float) -> bool:
        """Whether somebody has answered by then."""
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, _PAUSE))
            with self._authority.store.read() as reading:
                request = reading.request(pending.request)
            if request is None or request.state != "pending":
                return True
        return False
