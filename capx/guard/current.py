"""The decision on which the running tool was allowed.

Law: it follows the execution (a context variable), so concurrent tasks and threads do not see each other's. It is gone
when the tool has returned, also for what the tool has started.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING

from capx.agent.context_block import ContextBlock, innermost

if TYPE_CHECKING:
    from capx.verify.decision import Allowed


_allowed: ContextVar["ContextBlock[Allowed] | None"] = ContextVar("capx_allowed", default=None)


def allowed_by(allowed: "Allowed") -> "ContextBlock[Allowed]":
    """Set the decision while a tool runs; afterwards the decision of the tool around it is current again."""
    return ContextBlock(_allowed, allowed, what="block of a running tool")


def current_allowed() -> "Allowed | None":
    """Return the decision that allowed the innermost running tool, or None outside of one.

    It says for whom the tool runs, until when, and what is left of the budgets. If the tool cannot do its work, it can
    give back what its call has spent.
    """
    block = innermost(_allowed)
    return None if block is None or block.is_left else block.value
