"""A person, scripted: reads the inbox of the authority, and signs an answer to each request with a key of their own.

Laws: what is signed is what was shown. Bo agrees to what the first agent asks, and to nothing that an agent below it
does, which nobody told him of.

`python -m capx_cli.demo.approver` is told its key file and the operators' socket, then to look, on stdin.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capx import RemoteAuthority
from capx.authority.requests.verdict import Inquiry, Verdict
from capx.intents.principal_key import PrincipalKey
from capx_cli.demo.process import heard, say

_PATIENCE = 5.0


def agrees(inquiry: Inquiry) -> bool:
    """What a person makes of what they are shown."""
    return not inquiry.request.labels


def answers(authority: RemoteAuthority, key: PrincipalKey) -> Iterator[dict[str, Any]]:
    """Answer all that waits, and tell of each who asked, for what, and what was said."""
    for request in authority.requests(pending=True):
        inquiry = authority.inquiry(request.id)
        verdict = Verdict.sign(inquiry, key, yes=agrees(inquiry), at=int(time.time()))
        authority.answer(verdict)
        who = request.labels[-1] if request.labels else "the orchestrator"
        yield {"who": who, "what": f"{request.action} at {request.audience}", "yes": verdict.yes}


def main() -> None:
    """Look into the inbox whenever told to, until there is something to agree to, or for a while."""
    job = heard()
    if job is None:
        return
    key = PrincipalKey.load(Path(job["key"]))
    with RemoteAuthority(job["authority"]) as authority:
        while heard() is not None:
            ends = time.monotonic() + _PATIENCE
            answered = list(answers(authority, key))
            while not any(answer["yes"] for answer in answered) and time.monotonic() < ends:
                time.sleep(0.05)
                answered += answers(authority, key)
            say({"answered": answered})


if __name__ == "__main__":
    main()
