"""What a resource reports about the graph of a task: a decision that it recorded.

Law: a resource may write anything into its decisions. A report is read only if a token could have led to it: it is of a
task and its own root, and its path is no deeper than any token. A path without nonces is a claim: it begins at the node
of this root, and passes it once.
"""

import re
from typing import Final

from capx.store.decision_query import DEEPEST, Recorded

# The canonical base64url of 16 bytes.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")


class Reported(Recorded, frozen=True, kw_only=True, gc=False):
    """A recorded decision, as far as it says where the call happened."""

    audience: str

    def is_possible(self, *, task: str, root: str, root_node: str) -> bool:
        """Whether such a call can have happened in this task with this root, whose node is `root_node` (base64url)."""
        if self.task != task or self.root != root or len(self.hops) >= DEEPEST:
            return False
        if not self.is_claim:
            return len(self.hops) == len(self.nonces or ())
        path = self.path
        # A root has no label: it is nobody's sub-agent.
        return path[0] == root_node and root_node not in path[1:] and len(self.hops) == len(path) - 1


def is_node_id(text: str) -> bool:
    """Whether this can be the id of a node or capability."""
    return _ID.fullmatch(text) is not None
