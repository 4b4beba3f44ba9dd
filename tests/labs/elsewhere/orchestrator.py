"""An orchestrator in a place of its own: it opens a task on an intent that names it, and has a sub-agent do the work.

python -m tests.labs.elsewhere.orchestrator AUTHORITY EPOCH-ID BILLING COUNT    with key and intent in its folder

It says, for each refund, when the call went through (Unix seconds).
"""

import sys
import time
from pathlib import Path

from capx.agent import httpx_client
from capx.agent.agent import Agent
from capx.authority.people.client import PersonClient
from capx.intents.intent import SignedIntent
from capx.intents.principal_key import PrincipalKey
from capx.tokens.bundle import Bundle
from tests.bench.authority.child import say


def main(authority: str, trust: str, billing: str, count: str) -> None:
    """Open, delegate, and refund so many times."""
    key = PrincipalKey.load("robot.key")
    signed = SignedIntent.parse(Path("refund.intent").read_bytes())
    with PersonClient(authority, key, known="known", trust=trust) as me:
        bundle = me.open(signed).bundle
    assert isinstance(bundle, Bundle)
    with Agent(bundle, authority=authority, wait=60) as lead:
        clerk = lead.delegate(to="clerk", may_ask=["billing.refund"])
        with httpx_client.client({billing: "billing"}, clerk, base_url=billing, timeout=90) as http:
            # It holds nothing for this service yet. Later refunds are asked for when they are denied.
            clerk.ask("billing.refund", args={"amount": 1})
            for amount in range(1, int(count) + 1):
                answer = http.post("/refunds", json={"amount": amount})
                passed = time.time()
                assert answer.status_code == 200, answer.text
                say({"amount": amount, "passed": passed})
        lead.complete()


if __name__ == "__main__":
    main(*sys.argv[1:])
