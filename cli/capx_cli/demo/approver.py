"""A scripted person elsewhere: Bo reads his inbox, and signs an answer to each request with his own key.

Laws: Bo signs exactly what was shown: a verdict over a grant, or the approval of one call. Bo agrees to asks of the
first agent, and denies those of agents below it.

`python -m capx_cli.demo.approver` reads its key file and the URL of the authority from the first line on stdin. It
knows nothing else but the file `known` beside the key. Each further line makes it look into the inbox.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capx import ApprovalRequest, PersonClient
from capx.authority.people.known import FILE
from capx.authority.requests.inquiry import Inquiry
from capx.intents.principal_key import PrincipalKey
from capx_cli.demo.process import heard, say

_PATIENCE = 5.0


def agrees(inquiry: Inquiry) -> bool:
    """Whether this person agrees."""
    return not inquiry.request.labels


def answers(authority: PersonClient) -> Iterator[dict[str, Any]]:
    """Answer all requests that ask this person; return for each who asked, for what, and the answer."""
    for waiting in authority.inbox().items:
        if not waiting.mine:
            continue
        inquiry = authority.inquiry(waiting.id).inquiry
        request = inquiry.request
        yes, what = agrees(inquiry), f"{request.action} at {request.audience}"
        if yes and request.to_approve is not None:
            call = ApprovalRequest.parse(request.to_approve)
            authority.approve(request.id, authority.key.approve(call))
            what += f", only with {' and '.join(f'{name} {value}' for name, value in call.args.items())}"
        else:
            authority.answer(inquiry, yes=yes)
        yield {"who": request.labels[-1] if request.labels else "the orchestrator", "what": what, "yes": yes}


def main() -> None:
    """Look into the inbox at each line on stdin, until a request was approved, or for a few seconds."""
    job = heard()
    if job is None:
        return
    file = Path(job["key"])
    key, known = PrincipalKey.load(file), file.with_name(FILE)
    with PersonClient(job["authority"], key, known=known, trust_env=False) as authority:
        while heard() is not None:
            ends = time.monotonic() + _PATIENCE
            # The orchestrator asks only now, so its request may come after the first look.
            answered = list(answers(authority))
            while not any(answer["yes"] for answer in answered) and time.monotonic() < ends:
                time.sleep(0.05)
                answered += answers(authority)
            say({"answered": answered})


if __name__ == "__main__":
    main()
